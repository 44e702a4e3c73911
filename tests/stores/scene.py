"""What the tests of stores share: a clock that can be put forward, instances with their jobs running, and waiting."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gatekit.clients.disk import StateDirectory
from gatekit.clients.redis import RedisServer
from gatekit.core.ports import Ports
from gatekit.gateway.runtime import LoopRuntime
from gatekit.gateway.shared import Shared
from gatekit.gateway.system import SystemRandom
from gatekit.mechanisms.revocation import Revocation
from gatekit.stores import SystemStores
from gatekit.stores.revocation_log import RevocationLog

PATIENCE = 20.0
SOON = 1.0
"""Seconds within which a revocation is in force everywhere."""


class ShiftedClock:
    """The process's clocks, of which the wall clock may be put forward."""

    def __init__(self) -> None:
        self.shift = 0.0

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time() + self.shift


def ports_for(clock: ShiftedClock, disk: Path | None = None) -> Ports:
    return Ports(clock=clock, random=SystemRandom(), once=Shared(), disk=None if disk is None else StateDirectory(disk))


def opened(url: str, clock: ShiftedClock | None = None, disk: Path | None = None) -> Any:
    """A store, opened as an instance does it. Its type is the table's affair."""
    return SystemStores().revocations(url, ports_for(clock or ShiftedClock(), disk))


@asynccontextmanager
async def at_work(*stores: Any, wait: bool = True) -> AsyncIterator[None]:
    """Run the jobs of these, as a gateway does, and wait until each has been read."""
    runtime = LoopRuntime(asyncio.get_running_loop())
    runtime.want(job for store in stores for job in store.jobs())
    try:
        for store in stores if wait else ():
            pending = getattr(store, "loaded", lambda: None)()
            if pending is not None:
                await pending
        yield
    finally:
        await runtime.close()


async def told(answer: Any) -> Any:
    """What a method says, whether it waits for something or not."""
    return await answer if inspect.isawaitable(answer) else answer


async def until(condition: Callable[[], Any], patience: float = PATIENCE) -> float:
    """Until it holds; how many seconds that took. What it waits for is on its way."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while not condition():
        assert loop.time() < begun + patience, "it never came true"
        future = loop.create_future()
        loop.call_later(0.002, future.set_result, None)
        await future
    return loop.time() - begun


def later() -> float:
    return time.time() + 3600


def record(jti: str, **given: Any) -> Revocation:
    return Revocation("jti", jti, until=given.pop("until", int(later())), at=1, **given)


def log_of(url: str, prefix: str, most: int = 2_000_000) -> tuple[RedisServer, RevocationLog]:
    server = RedisServer(url)
    return server, RevocationLog(server, prefix, most)


def connected(store: Any) -> Callable[[], bool]:
    return lambda: bool(store.status()["connected"])


def save_of(store: Any) -> Any:
    return next(job for job in store.jobs() if job.key[-1] == "save").run
