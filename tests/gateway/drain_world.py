"""A driver before a slow destination or an app, and its drain, in virtual time: no second passes that the test does not make."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gatekit.core.door import Door
from gatekit.core.events import Event, Events
from gatekit.core.exchange import Exchange
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import FixedPlan
from gatekit.drivers.asgi import AsgiDriver
from gatekit.gateway.drain import TICK, Drain, DrainReport
from gatekit.gateway.system import SystemRandom
from gatekit.testing import FixedRandom, ManualClock

STREAM = [(b"content-type", b"text/event-stream")]


class VirtualTime:
    """A clock that is moved by whoever pauses. `at` has something done once so many seconds have passed."""

    def __init__(self) -> None:
        self.clock = ManualClock(monotonic=0.0)
        self.now = self.clock.monotonic
        self._due: list[tuple[float, Callable[[], object]]] = []

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        self._due.append((seconds, act))

    async def pause(self, seconds: float) -> None:
        await turns(10)
        self.clock.advance(seconds)
        for one in [one for one in self._due if one[0] <= self.now() + 1e-9]:
            self._due.remove(one)
            one[1]()
        await turns(10)


async def turns(count: int) -> None:
    for _ in range(count):
        turned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turned.set_result, None)
        await turned


class Slow:
    """A destination whose answer comes when the test says so, or never; events are one part and then nothing."""

    name = "slow"
    status = 200

    def __init__(self) -> None:
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = 0
        self.trailers: list[tuple[bytes, bytes]] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.first = b"data: 1\n\n"

    async def open(self, exchange: Exchange) -> Any:
        if exchange.path != "/events":
            await self.gate
            return _Whole()
        self.headers = list(STREAM)
        return self

    async def websocket(self, exchange: Exchange, session: Any) -> None:
        await session.accept(None, [])
        while await session.receive() is not None:
            pass

    def take(self) -> tuple[bytes, bool]:
        first, self.first = self.first, b""
        return first, False

    async def read(self) -> bytes:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    def close(self) -> None:
        self.closed += 1


class _Whole:
    status = 200

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []

    def take(self) -> tuple[bytes, bool]:
        return b"whole", True

    async def read(self) -> bytes:
        return b""

    def close(self) -> None:
        """Nothing is held."""


class Client:
    """One exchange with the driver, and when it ended."""

    def __init__(self, world: World, path: str, kind: str) -> None:
        self.world = world
        self.sent: list[dict[str, Any]] = []
        self.ended_at: float | None = None
        self.failed: BaseException | None = None
        self._first = True
        self._gone = asyncio.Event()
        scope = {
            "type": kind, "method": "GET", "scheme": "http", "http_version": "1.1", "path": path,
            "raw_path": path.encode(), "query_string": b"", "headers": [(b"host", b"h")], "client": None,
        }  # fmt: skip
        self.kind = kind
        self.task = asyncio.ensure_future(self._run(scope))

    async def _run(self, scope: Any) -> None:
        try:
            await self.world.driver(scope, self._receive, self._send)
        finally:
            self.ended_at = self.world.time.now()

    async def _receive(self) -> Any:
        if self._first:
            self._first = False
            return {"type": "websocket.connect" if self.kind == "websocket" else "http.request", "body": b""}
        await self._gone.wait()
        return {"type": f"{self.kind}.disconnect", "code": 1000}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self._gone.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


class World:
    """A driver before a slow destination or an app, and its drain in virtual time."""

    def __init__(self, random: Any = None, app: Any = None) -> None:
        self.time = VirtualTime()
        self.slow = Slow()
        self.events: list[Event] = []
        bus = Events()
        bus.subscribe(Event, self.events.append)
        pipeline = Pipeline([], events=bus, destination=None if app is not None else self.slow)
        self.plan = FixedPlan(Door(SystemRandom()), pipeline)
        self.driver = AsgiDriver(self, now=self.time.now, app=app)
        random = random or FixedRandom(0.5)
        self.drain = Drain(
            self.driver.flights, now=self.time.now, random=random.random, events=bus, pause=self.time.pause
        )

    def begin(self, path: str, kind: str = "http") -> Client:
        return Client(self, path, kind)

    async def drained(self, grace: float = 5.0, timeout: float = 30.0) -> DrainReport:
        async with asyncio.timeout(20):
            return await self.drain.join(grace=grace, timeout=timeout)


def near(seconds: float) -> Any:
    return pytest.approx(seconds, abs=TICK + 1e-6)
