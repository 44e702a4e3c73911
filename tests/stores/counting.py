"""What the tests of shared counters share: instances on one server, each with a clock of its own, and their questions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gatekit.core.counters import Ask, Limit, Taken
from gatekit.core.ports import Ports
from gatekit.gateway.runtime import LoopRuntime
from gatekit.gateway.shared import Shared
from gatekit.gateway.system import SystemRandom
from gatekit.stores import SystemStores

PATIENT = "timeout=1"
"""For tests that are not about time: a machine that has much to do takes longer than a request would wait."""


class OwnClock:
    """The process's clocks, put forward or back."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift

    def monotonic(self) -> float:
        return time.monotonic() + self.shift

    def wall(self) -> float:
        return time.time() + self.shift


def counters(url: str, clock: OwnClock | None = None, **ports: Any) -> Any:
    """Counters as an instance opens them. Their type is the table's affair."""
    return SystemStores().counters(url, Ports(clock=clock or OwnClock(), random=SystemRandom(), once=Shared(), **ports))


@asynccontextmanager
async def serving(*stores: Any) -> AsyncIterator[None]:
    """Run the jobs of these, as a gateway does, and close them at the end."""
    runtime = LoopRuntime(asyncio.get_running_loop())
    runtime.want(job for store in stores for job in store.jobs())
    try:
        yield
    finally:
        await runtime.close()
        for store in stores:
            await store.aclose()


def ask(limit: Limit, name: str = "a", cost: int = 1, mark: int = 0, tag: str = "t") -> Ask:
    return Ask(f"{{{tag}}}{name}|{limit.id}", limit, cost, mark)


async def one(store: Any, question: Ask) -> Taken:
    """The answer to one question."""
    (taken,) = await store.take([question])
    assert isinstance(taken, Taken)
    return taken


async def timed(store: Any, questions: Sequence[Ask]) -> tuple[float, Exception | None]:
    """How long they took, and what was raised."""
    begun = time.perf_counter()
    try:
        await store.take(questions)
    except Exception as error:
        return time.perf_counter() - begun, error
    return time.perf_counter() - begun, None
