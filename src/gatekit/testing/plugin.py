"""The pytest plugin: a clock, ports, and the check that nothing of ours is left after a test.

pytest loads it by itself once the package is installed (entry point `pytest11`), before coverage is measured: so it
imports gatekit only where a fixture is used.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gatekit.core.ports import Ports
    from gatekit.testing.clock import ManualClock

# What the conformance kits assert shows its values, as in a test.
pytest.register_assert_rewrite("gatekit.testing.counters")


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that stands still until the test advances it."""
    from gatekit.testing.clock import ManualClock

    return ManualClock()


@pytest.fixture
def gatekit_ports(manual_clock: ManualClock) -> Ports:
    """Ports that need nothing from outside, over `manual_clock`."""
    from gatekit.testing.fakes import test_ports

    return test_ports(clock=manual_clock)


@pytest.fixture
def gatekit_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test when a thread, task, transport or socket of gatekit's is left once everything was torn down.

    Tasks are looked at where the test is async and runs under pytest-asyncio.
    """
    from gatekit.testing.leaks import open_sockets, threads_of_ours, transports_of_ours

    threads, sockets = threads_of_ours(), open_sockets()
    function = getattr(request.function, "hypothesis", None)
    if "_gatekit_tasks" in globals() and inspect.iscoroutinefunction(
        request.function if function is None else function.inner_test
    ):
        request.getfixturevalue("_gatekit_tasks")
    yield
    left = [f"thread {thread.name}" for thread in threads_of_ours() - threads]
    left += [f"transport {one!r}" for one in transports_of_ours(name for name, _ in open_sockets() - sockets)]
    if left:
        pytest.fail("left behind: " + ", ".join(left), pytrace=False)


if importlib.util.find_spec("pytest_asyncio") is not None:
    import pytest_asyncio

    @pytest_asyncio.fixture
    async def _gatekit_tasks() -> AsyncIterator[None]:
        from gatekit.testing.leaks import tasks_of_ours

        yield
        loop = asyncio.get_running_loop()
        left = tasks_of_ours(loop)
        if left:
            pytest.fail("left behind: " + ", ".join(map(repr, left)), pytrace=False)
