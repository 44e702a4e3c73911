"""`AsgiApp`: an ASGI application in this process as a destination.

The app gets a copy of the server's scope with the canonical path and the headers any upstream would get. It runs in a
task of its own, so that a background task after the response can go on while the connection serves the next request.

When the attempt is given up before the head (a timeout, a client that left) the task is cancelled. When the response
is closed before its end the app is told: `receive` gives `http.disconnect`, `send` raises OSError (ASGI 2.4), and after
`GRACE` seconds its task is cancelled. A task whose response was complete is never cancelled.

What an app raises before its response begins is a 502 here, after that a broken response: it is logged, not re-raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gatekit.core.destination import WebSocketSession
from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import RawHeaders
from gatekit.core.paths import canonical
from gatekit.core.plan import ClusterPlan
from gatekit.errors import BodyRefused, ClientDisconnected, UpstreamError
from gatekit.upstream.forward import (
    CHUNKED,
    add_framing,
    body_length,
    forward_headers,
    request_target,
    response_headers,
    websocket_headers,
)
from gatekit.upstream.inflow import HIGH_WATER, Inflow
from gatekit.upstream.pool import Pools
from gatekit.upstream.sweep import Sweeper

_log = logging.getLogger("gatekit.upstream")

Message = MutableMapping[str, Any]
App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]

GRACE = 5.0
"""Seconds an app has to end after its client has gone."""
MAX_DENIAL = 64 * 1024
"""Bytes of body in an app's refusal of a WebSocket."""
_NOT_COPIED = ("extensions", "method")


class Run(Inflow):
    """One call of an app: its `receive` and `send`, and what it sent."""

    __slots__ = ("_asked", "_drained", "_exchange", "_expected", "_left", "_length", "_sent", "gone", "no_body", "task")

    task: asyncio.Task[None]

    def __init__(self, exchange: Exchange, loop: asyncio.AbstractEventLoop, sweeper: Sweeper, length: int) -> None:
        super().__init__(loop, sweeper)
        self._exchange = exchange
        self._length = length
        self._asked = False
        self._left = length
        self._drained: asyncio.Future[None] | None = None
        self._expected: int | None = None
        self._sent = 0
        self.gone = False
        self.no_body = exchange.method == "HEAD"

    @property
    def over_for_client(self) -> bool:
        """Whether the client has gone or got everything."""
        return self.gone or self.ended

    async def receive(self) -> Message:
        if self.over_for_client:
            return {"type": "http.disconnect"}
        if self._left == 0 and not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if not self._asked:
            try:
                data = await self._exchange.body.read()
            except ClientDisconnected:
                self.gone = True
                return {"type": "http.disconnect"}
            except BodyRefused as refused:
                self.error = self.error or refused
                self.gone = True
                self.wake()
                return {"type": "http.disconnect"}
            if self._length != CHUNKED:
                self._left -= len(data)
            more = bool(data) and self._left != 0
            self._asked = not more
            return {"type": "http.request", "body": data, "more_body": more}
        while not self.over_for_client:
            await self._until_room_or_end()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.gone:
            raise OSError("the client has gone")
        kind = message["type"]
        if kind == "http.response.start" and not self.began:
            self._start(message)
        elif kind == "http.response.body" and self.began and not self.ended:
            self._part(message.get("body", b""), message.get("more_body", False))
            while self.buffered > HIGH_WATER and not self.gone:
                await self._until_room_or_end()
            if self.gone:
                raise OSError("the client has gone")
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    def over(self, error: BaseException | None) -> None:
        """The app has returned or raised."""
        if not self.ended and self.error is None:
            if not self.began:
                self.error = UpstreamError("upstream.app_failed", f"the app gave no answer: {error!r}", sent=True)
            else:
                self.error = UpstreamError("upstream.truncated", f"the app broke off: {error!r}", sent=True, began=True)
        self.wake()

    def leave(self, grace: float) -> None:
        """Nobody reads any more: tell the app, unless all it had to say was said."""
        if self.ended:
            return
        self.gone = True
        self._room()
        if not self.task.done():
            handle = self.loop.call_later(grace, self.task.cancel)
            self.task.add_done_callback(lambda _: handle.cancel())

    def resume(self) -> None:
        self._room()

    def expire(self) -> None:
        reason = "upstream.idle_timeout" if self.began else "upstream.timeout"
        self.error = UpstreamError(reason, "the app did not answer in time", status=504, sent=True, began=self.began)
        self.wake()

    def _start(self, message: Message) -> None:
        status = int(message["status"])
        raw = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
        self.headers = response_headers(status, raw)
        self.status = status
        self.no_body = self.no_body or status in (204, 304)
        if not self.no_body:
            for name, value in self.headers:
                if name == b"content-length":
                    self._expected = int(value)
        self.began = True
        self.wake()

    def _part(self, body: bytes, more: bool) -> None:
        if body and not self.no_body:
            self._sent += len(body)
            if self._expected is not None and self._sent > self._expected:
                raise RuntimeError("the response is longer than its Content-Length")
            self.chunks.append(bytes(body))
            self.buffered += len(body)
            self.paused = self.buffered > HIGH_WATER
        if not more:
            if self._expected is not None and self._sent < self._expected:
                raise RuntimeError("the response is shorter than its Content-Length")
            self.ended = True
            self._room()
        self.wake()

    async def _until_room_or_end(self) -> None:
        """Sleep until `_room`. More than one coroutine of the app may: they share the future."""
        if self._drained is None:
            self._drained = self.loop.create_future()
        await asyncio.shield(self._drained)

    def _room(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.set_result(None)


class AppResponse:
    """An app's answer. Closing it before its end tells the app that the client has gone."""

    __slots__ = ("_grace", "_idle_timeout", "_run", "headers", "status", "trailers")

    def __init__(self, run: Run, idle_timeout: float, grace: float) -> None:
        self.status = run.status
        self.headers: RawHeaders = run.headers
        self.trailers: RawHeaders = []
        self._run = run
        self._idle_timeout = idle_timeout
        self._grace = grace

    def take(self) -> tuple[bytes, bool]:
        return self._run.take()

    async def read(self) -> bytes:
        return await self._run.read(self._idle_timeout)

    def close(self) -> None:
        self._run.leave(self._grace)


class AsgiApp:
    """The destination over an ASGI application. Its lifespan is whose who owns the app."""

    def __init__(self, plan: ClusterPlan, pools: Pools, *, grace: float = GRACE) -> None:
        self.name = plan.name
        self._app: App = plan.app
        self._plan = plan
        self._pools = pools
        self._grace = grace
        self.tasks: set[asyncio.Task[None]] = set()

    async def open(self, exchange: Exchange) -> AppResponse:
        exchange.backend = self.name
        exchange.attempts += 1
        loop = asyncio.get_running_loop()
        length = body_length(exchange)
        run = Run(exchange, loop, self._pools.on(loop).sweeper, length)
        headers = forward_headers(exchange, exchange.authority.encode("latin-1"))
        if length != CHUNKED:
            add_framing(exchange, headers, length)
        scope = _scope(exchange, "http", headers)
        scope["method"] = exchange.method
        task = run.task = loop.create_task(self._call(scope, run))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        try:
            await run.wait_for_head(self._plan.timeout)
        except BaseException:
            run.leave(self._grace)
            task.cancel()
            raise
        return AppResponse(run, self._plan.idle_timeout, self._grace)

    async def websocket(self, exchange: Exchange, session: WebSocketSession) -> None:
        """Runs the app in the caller's task. Raises UpstreamError when it fails before it answered."""
        exchange.backend = self.name
        exchange.attempts += 1
        scope = _scope(exchange, "websocket", websocket_headers(exchange, exchange.authority.encode("latin-1")))
        scope["subprotocols"] = list(session.subprotocols)
        scope["extensions"] = {"websocket.http.response": {}}
        channel = Channel(session)
        try:
            await self._app(scope, channel.receive, channel.send)
        except ClientDisconnected:
            return
        except Exception as error:
            if not isinstance(error, OSError) or not channel.gone:
                _log.error("the app of cluster %s raised in a WebSocket", self.name, exc_info=error)
            if not channel.answered:
                raise UpstreamError("upstream.app_failed", f"{error!r}", sent=True) from error
            if not channel.closed and not channel.gone:
                await session.close(1011, "")
            return
        if not channel.answered and not channel.gone:
            raise UpstreamError("upstream.app_failed", "the app neither accepted nor refused", sent=True)
        if not channel.closed and not channel.gone:
            await session.close(1000, "")

    async def _call(self, scope: MutableMapping[str, Any], run: Run) -> None:
        try:
            await self._app(scope, run.receive, run.send)
        except asyncio.CancelledError:
            run.over(None)
            raise
        except Exception as error:
            if not run.gone:
                _log.error("the app of cluster %s raised", self.name, exc_info=error)
            run.over(error)
        else:
            run.over(None)


class Channel:
    """An app's `receive` and `send` on a WebSocket session."""

    __slots__ = ("_body", "_connected", "_denial", "_session", "answered", "closed", "gone")

    def __init__(self, session: WebSocketSession) -> None:
        self._session = session
        self._connected = False
        self._denial: ResponseHead | None = None
        self._body = b""
        self.answered = False
        self.closed = False
        self.gone = False

    async def receive(self) -> Message:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        message = None if self.closed or self.gone else await self._session.receive()
        if message is None:
            self.gone = True
            return {
                "type": "websocket.disconnect",
                "code": self._session.close_code,
                "reason": self._session.close_reason,
            }
        if isinstance(message, str):
            return {"type": "websocket.receive", "text": message}
        return {"type": "websocket.receive", "bytes": message}

    async def send(self, message: Message) -> None:
        kind = message["type"]
        session = self._session
        if self.gone:
            raise OSError("the client has gone")
        if self.closed:
            raise RuntimeError(f"unexpected ASGI message {kind!r} after the end")
        if not self.answered:
            await self._answer(kind, message)
        elif kind == "websocket.send":
            text = message.get("text")
            await session.send(message["bytes"] if text is None else text)
        elif kind == "websocket.close":
            self.closed = True
            await session.close(message.get("code", 1000), message.get("reason") or "")
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    async def _answer(self, kind: str, message: Message) -> None:
        session = self._session
        if kind == "websocket.http.response.body" and self._denial is not None:
            self._body += message.get("body", b"")
            if len(self._body) > MAX_DENIAL:
                raise RuntimeError("the refusal is too long")
            if not message.get("more_body", False):
                self.answered = self.closed = True
                await session.deny(self._denial, self._body)
        elif self._denial is not None:
            raise RuntimeError(f"unexpected ASGI message {kind!r} in a refusal")
        elif kind == "websocket.accept":
            raw = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
            self.answered = True
            await session.accept(message.get("subprotocol"), response_headers(200, raw))
        elif kind == "websocket.close":
            self.answered = self.closed = True
            await session.deny(ResponseHead(403, [(b"content-length", b"0")]), b"")
        elif kind == "websocket.http.response.start":
            raw = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
            self._denial = ResponseHead(message["status"], response_headers(message["status"], raw))
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r} before an answer")


def _scope(exchange: Exchange, kind: str, headers: RawHeaders) -> dict[str, Any]:
    """The scope the app gets: the server's, with what the gateway settled in place of what the client said."""
    outer = exchange.scope
    scope: dict[str, Any] = {}
    if "type" in outer and "headers" in outer:
        scope = {key: value for key, value in outer.items() if key not in _NOT_COPIED}
    else:
        peer = exchange.peer
        scope["client"] = None if peer is None else (peer, 0)
        scope["server"] = (exchange.host, exchange.port or (443 if exchange.scheme == "https" else 80))
    target, _, query = request_target(exchange).partition(b"?")
    scope.update(
        type=kind,
        asgi={"version": "3.0", "spec_version": "2.4"},
        http_version=exchange.http_version,
        scheme=exchange.scheme,
        path=canonical(target, merge_slashes=False).path if exchange.rewritten else exchange.path,
        raw_path=target,
        query_string=query,
        headers=headers,
        root_path="",
        gatekit=exchange,
        state={**outer.get("state", {}), "gatekit": (*outer.get("state", {}).get("gatekit", ()), exchange)},
    )
    if exchange.identity is not None:
        # What Starlette's `request.user` and `request.auth.scopes` read, by duck typing.
        scope["user"] = scope["auth"] = exchange.identity
    return scope
