"""WebSockets through the driver: the same policies on the handshake, then messages both ways.

A refusal before the handshake is a whole HTTP response where the server can send one (the denial extension), else a
close, which servers turn into 403.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import Any

from gatekit.core.destination import Destination, WebSocketDestination
from gatekit.core.head import ResponseHead
from gatekit.core.headers import RawHeaders
from gatekit.core.outcome import Fault, client_gone, finished, raised, unfinished
from gatekit.core.verdict import Reply, render
from gatekit.drivers.answer import Answer
from gatekit.drivers.embed import inner_scope
from gatekit.drivers.flights import DRAINING, RESTARTING, finish_cut, finish_ended
from gatekit.drivers.forward import broken
from gatekit.drivers.steps import decide
from gatekit.errors import ClientDisconnected, UpstreamError

_log = logging.getLogger("gatekit")

DENIAL = "websocket.http.response"
POLICY_VIOLATION = 1008
ABNORMAL = 1006
SERVICE_RESTART = 1012
"""The close code of a server that restarts: come again (IANA WebSocket close code registry)."""
SETTLE = 2.0
"""Seconds that a client has to answer such a close, once all the rest is over."""


async def websocket(out: Answer, app: Any, scope: Any, receive: Any, prefix: str) -> None:
    """Take one WebSocket scope through its pipeline."""
    exchange, pipeline = out.exchange, out.pipeline
    try:
        reply, out.entered = await decide(exchange, pipeline)
    except asyncio.CancelledError:
        out.entered = exchange.cursor + 1
        raise
    destination = pipeline.destination
    if reply is None and destination is None and app is not None:
        await _embed(app, out, scope, receive, prefix)
        return
    message = await receive()
    if message["type"] != "websocket.connect":
        out.finish(client_gone())
        return
    if reply is None and destination is None:
        reply = Reply(500, "router.no_destination")
    if reply is not None:
        await deny(out, *render(reply, exchange, pipeline.shape))
    elif destination is not None:
        await _forward(destination, out, Session(out, receive))


async def cut_websocket(out: Answer) -> None:
    """The end of one that was cut: a refusal (503) where the handshake has not been answered. One that has been
    accepted was closed first."""
    if out.over:
        return
    if out.status is None:
        out.exchange.reason = DRAINING
        out.exchange.fault = Fault.GATEWAY
        await deny(out, *render(Reply(503, DRAINING), out.exchange, out.pipeline.shape))
    else:
        finish_cut(out)


async def deny(out: Answer, head: ResponseHead, body: bytes) -> None:
    """Refuse the handshake with this response, once its hooks have seen it."""
    replaced = out.settle(head)
    if replaced is not None:
        head, body = replaced
    await _refuse(out, head, body)


async def _refuse(out: Answer, head: ResponseHead, body: bytes) -> None:
    try:
        if DENIAL in (out.exchange.scope.get("extensions") or ()):
            await out.send({"type": f"{DENIAL}.start", "status": head.status, "headers": head.raw})
            body = out.filtered(body, True)
            out.exchange.sent += len(body)
            await out.send({"type": f"{DENIAL}.body", "body": body, "more_body": False})
        else:
            await out.send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})
    except OSError:
        out.finish(client_gone())
        return
    out.complete()


def _ended(out: Answer, code: int) -> None:
    """The client ended it. Whatever code it gave was its word to the app; without a close frame it just went away."""
    out.finish(client_gone() if code == ABNORMAL else finished(101, reason=out.exchange.reason, ours=False))


class Restart:
    """The gateway's own close of a WebSocket, with which a drain ends it. It has a task of its own, since some servers'
    `send` waits for the client's answer."""

    __slots__ = ("_out", "_task")

    def __init__(self, out: Answer) -> None:
        self._out = out
        finish_ended(out)
        self._task = asyncio.get_running_loop().create_task(self._close(), context=Context())

    async def _close(self) -> None:
        try:
            await self._out.send({"type": "websocket.close", "code": SERVICE_RESTART, "reason": RESTARTING})
        except Exception as error:
            # The client was quicker, and the server says so in its own way.
            _log.debug("a WebSocket could not be closed: %r", error)

    async def settle(self) -> None:
        """Let it come to its end."""
        await asyncio.wait((self._task,), timeout=SETTLE)
        if self._task.cancel():
            await asyncio.wait((self._task,))


class Session:
    """`core.destination.WebSocketSession` over the server's callables, and `drivers.flights.Stream`."""

    __slots__ = (
        "_out", "_receive", "_waiting", "accepted", "closed", "code", "ended", "reason", "restart", "subprotocols",
    )  # fmt: skip

    def __init__(self, out: Answer, receive: Any) -> None:
        self._out = out
        self._waiting: asyncio.Task[Any] | None = None
        self.restart: Restart | None = None
        self.ended = False
        self._receive = receive
        self.subprotocols: list[str] = list(out.exchange.scope.get("subprotocols") or ())
        self.accepted = False
        self.closed = False
        self.code = ABNORMAL
        self.reason = ""

    async def accept(self, subprotocol: str | None, headers: RawHeaders) -> None:
        head = ResponseHead(101, list(headers))
        replaced = self._out.settle(head)
        if replaced is not None:
            self.closed = True
            await _refuse(self._out, *replaced)
            raise ClientDisconnected("the handshake was refused by a response hook")
        self.accepted = True
        self._out.stream = self
        await self._out.send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": head.raw})

    async def deny(self, head: ResponseHead, body: bytes) -> None:
        self.closed = True
        await deny(self._out, head, body)

    def end(self) -> bool:
        """Close it to the client; the destination is told that the client has, with the same code."""
        if self.closed:
            return False
        self.closed = self.ended = True
        self.code, self.reason = SERVICE_RESTART, RESTARTING
        self.restart = Restart(self._out)
        if self._waiting is not None:
            self._waiting.cancel()
        return True

    async def receive(self) -> str | bytes | None:
        if self.ended:
            return None
        self._waiting = waiting = asyncio.current_task()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if not self.ended or waiting is None or waiting.uncancel():
                raise
            return None
        finally:
            self._waiting = None
        if message["type"] == "websocket.disconnect":
            self.code = message.get("code", 1005) or 1005
            self.reason = message.get("reason") or ""
            self.closed = True
            _ended(self._out, self.code)
            return None
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    async def send(self, message: str | bytes) -> None:
        if self.ended:
            raise ClientDisconnected("the gateway has closed the WebSocket")
        key = "text" if isinstance(message, str) else "bytes"
        self._out.exchange.sent += len(message)
        await self._out.send({"type": "websocket.send", key: message})

    async def close(self, code: int, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        await self._out.send({"type": "websocket.close", "code": code, "reason": reason})
        self._out.finish(finished(101, reason=self._out.exchange.reason, ours=False))

    @property
    def close_code(self) -> int:
        return self.code

    @property
    def close_reason(self) -> str:
        return self.reason


async def _forward(destination: Destination, out: Answer, session: Session) -> None:
    if not isinstance(destination, WebSocketDestination):
        await deny(out, *render(Reply(501, "upstream.no_websocket"), out.exchange, out.pipeline.shape))
        return
    try:
        await destination.websocket(out.exchange, session)
    except ClientDisconnected:
        out.finish(client_gone())
    except Exception as error:
        reply = broken(out, error)
        if session.accepted:
            out.finish(unfinished(101, reason=reply.reason, fault=Fault.UPSTREAM))
            if not session.closed:
                session.closed = True
                # 1014: a gateway got no proper answer from its upstream (IANA WebSocket close code registry).
                await out.send({"type": "websocket.close", "code": 1014, "reason": ""})
            if not isinstance(error, UpstreamError):
                raise
        elif not session.closed:
            await deny(out, *render(reply, out.exchange, out.pipeline.shape))
    else:
        if not session.closed:
            await session.close(1000, "")
    finally:
        if session.restart is not None:
            await session.restart.settle()


class _Outgoing:
    """`send` for an app that serves the WebSocket itself, and `drivers.flights.Stream`."""

    __slots__ = ("_accepted", "_closed", "_out", "_send", "ended", "refused", "restart")

    def __init__(self, out: Answer) -> None:
        self._out = out
        self._send = out.send
        self._accepted = False
        self._closed = False
        self.restart: Restart | None = None
        self.ended = False
        self.refused = False

    def end(self) -> bool:
        """Close it to the client. The server then tells the app."""
        if self._closed:
            return False
        self._closed = self.ended = True
        self.restart = Restart(self._out)
        return True

    async def __call__(self, message: Any) -> None:
        if self.refused:
            return
        kind = message["type"]
        out = self._out
        if self.ended:
            if kind == "websocket.close":
                return
            # What a server's own `send` raises once there is nobody to send to (ASGI specification, WebSocket 2.4).
            raise OSError("the gateway has closed the WebSocket")
        if kind == "websocket.accept" and not self._accepted:
            await self._accept(out, message)
        elif kind == f"{DENIAL}.start":
            head = ResponseHead(message["status"], list(message.get("headers", ())))
            replaced = out.settle(head)
            if replaced is not None:
                self.refused = True
                await _refuse(out, *replaced)
            else:
                await self._send({**message, "status": head.status, "headers": head.raw})
        elif kind == f"{DENIAL}.body":
            last = not message.get("more_body", False)
            await self._send({**message, "body": out.filtered(message.get("body", b""), last)})
            if last:
                out.complete()
        elif kind == "websocket.close" and not self._accepted:
            # The server answers 403 by itself; the hooks see the head that it will send, though they cannot change it.
            out.settle(ResponseHead(403))
            await self._send(message)
            out.complete()
        else:
            self._closed = self._closed or kind == "websocket.close"
            await self._send(message)
            if kind == "websocket.close":
                out.finish(finished(101, reason=out.exchange.reason, ours=False))
            elif kind == "websocket.send":
                out.exchange.sent += len(message.get("bytes") or message.get("text") or b"")

    async def _accept(self, out: Answer, message: Any) -> None:
        head = ResponseHead(101, list(message.get("headers", ())))
        replaced = out.settle(head)
        if replaced is not None:
            self.refused = True
            await _refuse(out, *replaced)
            return
        self._accepted = True
        out.stream = self
        await self._send({**message, "headers": head.raw})


async def _embed(app: Any, out: Answer, scope: Any, receive: Any, prefix: str) -> None:
    inner = inner_scope(out.exchange, scope, prefix, filters=False)
    outgoing = _Outgoing(out)

    async def incoming() -> Any:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            _ended(out, message.get("code", 1005) or 1005)
        return message

    try:
        await app(inner, incoming, outgoing)
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        out.finish(raised(out.status, error))
        raise
    finally:
        if outgoing.restart is not None:
            await outgoing.restart.settle()
    out.finish(unfinished(out.status, reason="app.incomplete", fault=Fault.APP))
