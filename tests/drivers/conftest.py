"""A destination, a server and a recording policy for driver tests, all in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gatekit.core.door import Door
from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Outcome
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import FixedPlan
from gatekit.core.policy import Spec, bound
from gatekit.core.ports import Ports
from gatekit.drivers.asgi import AsgiDriver
from gatekit.errors import UpstreamError
from gatekit.gateway.system import SystemRandom, system_ports

Raw = list[tuple[bytes, bytes]]


class FakeResponse:
    """Parts are given one by one; an exception among them is raised; a future among them is waited for."""

    def __init__(self, parts: Sequence[Any], status: int, headers: Raw, trailers: Raw) -> None:
        self.status = status
        self.headers = headers
        self.trailers = trailers
        self.closed = 0
        self._parts = list(parts)

    def take(self) -> tuple[bytes, bool]:
        if not self._parts:
            return b"", True
        if isinstance(self._parts[0], bytes):
            part = self._parts.pop(0)
            return part, not self._parts
        return b"", False

    async def read(self) -> bytes:
        part = self._parts.pop(0)
        if isinstance(part, asyncio.Future):
            return bytes(await part)
        if isinstance(part, Exception):
            raise part
        return bytes(part)

    def close(self) -> None:
        self.closed += 1


class FakeDestination:
    """Answers with `parts`, or raises `error`, after `wait` is done if there is one."""

    name = "fake"

    def __init__(
        self,
        parts: Sequence[Any] = (b"hello",),
        *,
        status: int = 200,
        headers: Raw | None = None,
        trailers: Raw | None = None,
        error: Exception | None = None,
        wait: asyncio.Future[None] | None = None,
    ) -> None:
        self.parts = parts
        self.status = status
        self.headers = headers or []
        self.trailers = trailers or []
        self.error = error
        self.wait = wait
        self.cancelled = False
        self.responses: list[FakeResponse] = []
        self.bodies: list[bytes] = []

    async def open(self, exchange: Exchange) -> FakeResponse:
        if exchange.method == "POST":
            while part := await exchange.body.read():
                self.bodies.append(part)
        try:
            if self.wait is not None:
                await self.wait
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.error is not None:
            raise self.error
        found = FakeResponse(self.parts, self.status, list(self.headers), list(self.trailers))
        self.responses.append(found)
        return found


class Record(Spec):
    """Notes what each hook saw."""

    kind = "record"
    log: Any
    name: str = "record"

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        self.log.append(("response", self.name, head.status))

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        self.log.append(("observe", self.name, outcome))


class Server:
    """The server's side of one exchange: what it gives by `receive`, what it got by `send`."""

    def __init__(self, *received: dict[str, Any], kind: str = "http") -> None:
        first = {"type": "http.request", "body": b"", "more_body": False}
        self.to_app = list(received) or ([first] if kind == "http" else [{"type": "websocket.connect"}])
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self.waiting = 0
        self.on_send: Callable[[dict[str, Any]], None] | None = None
        self.kind = kind

    async def receive(self) -> Any:
        if self.to_app:
            return self.to_app.pop(0)
        self.waiting += 1
        await self.gone.wait()
        return {"type": f"{self.kind}.disconnect", "code": 1006}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if self.on_send is not None:
            self.on_send(message)

    def scope(self, method: str = "GET", headers: Raw | None = None, **more: Any) -> dict[str, Any]:
        return {
            "type": self.kind, "method": method, "scheme": "http", "http_version": "1.1", "path": "/x",
            "raw_path": b"/x", "query_string": b"", "headers": [(b"host", b"h"), *(headers or [])],
            "client": ("192.0.2.1", 1), **more,
        }  # fmt: skip

    async def run(self, app: Any, method: str = "GET", headers: Raw | None = None, **more: Any) -> Server:
        await app(self.scope(method, headers, **more), self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


class Source:
    def __init__(self, plan: FixedPlan) -> None:
        self.plan = plan


@pytest.fixture
def log() -> list[Any]:
    return []


@pytest.fixture
def fake() -> type[FakeDestination]:
    return FakeDestination


@pytest.fixture
def server() -> type[Server]:
    return Server


@pytest.fixture
def plan_of() -> Callable[..., Source]:
    def build(*specs: Spec, destination: Any = None, ports: Ports | None = None) -> Source:
        given = system_ports() if ports is None else ports
        hooks = [bound(spec, given) for spec in specs]
        return Source(FixedPlan(Door(SystemRandom()), Pipeline(hooks, events=given.events, destination=destination)))

    return build


@pytest.fixture
def driver(log: list[Any], plan_of: Callable[..., Source]) -> Callable[..., AsgiDriver]:
    """A driver before a destination, with one recording policy (`log`) and whatever else is given."""

    def build(destination: Any = None, *specs: Spec, app: Any = None) -> AsgiDriver:
        source = plan_of(Record(log=log), *specs, destination=destination)
        return AsgiDriver(source, now=lambda: 0.0, app=app)

    return build


@pytest.fixture
def record() -> type[Record]:
    return Record


@pytest.fixture
def upstream_error() -> Callable[..., UpstreamError]:
    return UpstreamError
