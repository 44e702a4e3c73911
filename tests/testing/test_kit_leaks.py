"""The leak check must find what is left, or its silence means nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest

@pytest.fixture(autouse=True)
def nothing_left(gatekit_leaks):
    pass
"""

LEAVES = """
import asyncio, threading
from gatekit.core.policy import Job
from gatekit.gateway.loop_thread import LoopThread
from gatekit.gateway.runtime import LoopRuntime

kept = []

async def never():
    pass

async def test_task():
    runtime = LoopRuntime(asyncio.get_running_loop())
    runtime.want([Job("job", never, lambda: 60.0, 60.0)])
    kept.append(runtime)

def test_thread():
    thread = LoopThread()
    thread.loop
    kept.append(thread)

def test_clean(manual_clock, gatekit_ports):
    assert gatekit_ports.clock is manual_clock

class Ours(asyncio.Protocol):
    pass

Ours.__module__ = "gatekit.upstream.connection"

async def test_transport():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(Ours, "127.0.0.1", server.sockets[0].getsockname()[1])
    kept.append(transport)
    server.close()

def test_stop():
    next(one for one in kept if isinstance(one, LoopThread)).stop()
"""


def test_it_finds_a_task_a_thread_and_a_transport(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(LEAVES)
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-o", "asyncio_mode=auto"]
    result = pytester.runpytest_subprocess(*arguments, *_plugin_arguments())
    result.assert_outcomes(passed=5, errors=3)
    result.stdout.fnmatch_lines(
        ["*left behind: *_repeat*", "*left behind: thread gatekit-loop*", "*left behind: transport*"]
    )


def _plugin_arguments() -> list[str]:
    """The plugin by name where the installed distribution does not register it."""
    from importlib.metadata import entry_points

    registered = any(one.value == "gatekit.testing.plugin" for one in entry_points(group="pytest11"))
    return [] if registered else ["-p", "gatekit.testing.plugin"]


def test_loading_the_plugin_imports_nothing_that_coverage_should_measure() -> None:
    code = "import sys, gatekit.testing.plugin; print(*sorted(m for m in sys.modules if m.startswith('gatekit')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["gatekit", "gatekit.testing", "gatekit.testing.plugin"]


def test_the_shelf_has_every_name_it_promises() -> None:
    import gatekit.testing as kit

    assert all(hasattr(kit, name) for name in kit.__all__)
    assert set(kit.__all__) <= set(dir(kit))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kit.nothing  # noqa: B018
