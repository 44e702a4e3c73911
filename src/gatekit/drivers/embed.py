"""Standing in front of an app: it gets the request as the policies left it, and its messages pass the hooks.

Its exceptions go up unchanged: its server and its own error middleware must see them, once. What it sends is passed on
message by message, as it comes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from typing import Any

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.identity import Identity
from gatekit.core.outcome import Fault, client_gone, raised, unfinished
from gatekit.core.paths import canonical, encode
from gatekit.drivers.answer import Answer, answer, refused_body, trailers_of, write
from gatekit.drivers.body import AsgiBody
from gatekit.drivers.watch import Watches
from gatekit.errors import BodyRefused, ResponseTruncated

_FILE_EXTENSIONS = ("http.response.pathsend", "http.response.zerocopysend")


def inner_scope(exchange: Exchange, scope: Any, prefix: str, *, filters: bool) -> dict[str, Any]:
    """A shallow copy of the scope as the app behind is to see it: canonical path, headers, identity, the exchange.

    `scope["state"]` is the server's own per-request copy (ASGI lifespan state), and what frameworks share through it
    must stay shared; so it gets our stack and is not copied.
    """
    inner = dict(scope)
    raw = exchange.target_path
    path = exchange.path if not exchange.rewritten else canonical(raw, merge_slashes=False).path
    if prefix:
        mounted = prefix.rstrip("/")
        path = mounted + path
        raw = encode(mounted) + raw
    inner["path"] = path
    inner["raw_path"] = raw
    inner["query_string"] = exchange.target_query
    host = exchange.target_host
    if host is not None:
        exchange.headers.set(b"host", host)
    inner["headers"] = exchange.headers.raw
    inner["gatekit"] = exchange
    state = inner.get("state")
    if state is None:
        state = inner["state"] = {}
    state["gatekit"] = (*state.get("gatekit", ()), exchange)
    identity = exchange.identity
    if identity is not None and ("user" not in scope or isinstance(scope["user"], Identity)):
        # What Starlette's `request.user` and `request.auth.scopes` read, by duck typing. Somebody else's stays.
        inner["user"] = identity
        inner["auth"] = identity
    if filters and "extensions" in scope and scope["extensions"]:
        inner["extensions"] = {
            name: value for name, value in scope["extensions"].items() if name not in _FILE_EXTENSIONS
        }
    return inner


class _Outgoing:
    """`send` for the app behind."""

    __slots__ = ("_body_in", "_out", "_replaced", "_trailers", "open")

    def __init__(self, out: Answer, body: AsgiBody) -> None:
        self._out = out
        self._body_in = body
        self._replaced = False
        self._trailers = False
        self.open = True

    async def __call__(self, message: Any) -> None:
        if self._replaced or (self._body_in.exceeded and self._out.status is None):
            # A hook failed and the client has been told so, or its body was too long and it is about to be told: what
            # the app still says is not for anyone.
            return
        kind = message["type"]
        out = self._out
        try:
            if kind == "http.response.body":
                await self._body(out, message)
            elif kind == "http.response.start":
                await self._start(out, message)
            elif kind == "http.response.trailers":
                await self._trail(out, message)
            else:
                await self._out.send(message)
                if kind in _FILE_EXTENSIONS and not message.get("more_body", False):
                    self._last(out)
        except OSError:
            out.finish(client_gone())
            raise
        except asyncio.CancelledError:
            out.left()
            raise

    async def _start(self, out: Answer, message: Any) -> None:
        # In lower case they should be, but Django sends them as they were written.
        raw = [(name.lower(), value) for name, value in message.get("headers", ())]
        head = ResponseHead(message["status"], raw)
        replaced = out.settle(head)
        if replaced is not None:
            self._replaced = True
            self.open = False
            await write(out, *replaced)
            return
        self._trailers = bool(message.get("trailers", False))
        await self._out.send({**message, "status": head.status, "headers": head.raw})

    async def _body(self, out: Answer, message: Any) -> None:
        last = not message.get("more_body", False)
        if out.filters:
            message = {**message, "body": out.filtered(message.get("body", b""), last)}
        out.exchange.sent += len(message.get("body", b""))
        if last and not self._trailers:
            self.open = False
            out.exchange.report()
            await self._out.send(message)
            out.complete()
        else:
            await self._out.send(message)

    async def _trail(self, out: Answer, message: Any) -> None:
        headers = trailers_of(out, list(message.get("headers", ())))
        await self._out.send({**message, "headers": headers})
        if not message.get("more_trailers", False):
            self._last(out)

    def _last(self, out: Answer) -> None:
        self.open = False
        out.complete()


class _Incoming:
    """`receive` for the app behind: replays what policies read, and notices a client that leaves too soon.

    An app that does not listen does not hear of it, and the server's `send` does not tell. So after a few milliseconds
    somebody else listens (`drivers.watch`), and what comes is kept for when the app asks.
    """

    __slots__ = ("_ahead", "_arrived", "_asked", "_body", "_out", "_watcher", "seen")

    def __init__(self, out: Answer, body: AsgiBody) -> None:
        self._out = out
        self._body = body
        self._ahead: deque[Any] = deque()
        self._arrived: asyncio.Event | None = None
        self._asked = False
        self._watcher: asyncio.Task[None] | None = None
        self.seen = False

    async def __call__(self) -> Any:
        self._asked = True
        try:
            if self._watcher is not None:
                return await self._from_watch()
            return await self._pull()
        finally:
            self._asked = False

    async def _pull(self) -> Any:
        message = await self._body.replay()
        if message["type"] == "http.disconnect":
            if not self._body.exceeded:
                self._out.finish(client_gone())
        elif not message.get("more_body", False):
            self._body.done = True
        return message

    async def _from_watch(self) -> Any:
        arrived = self._arrived
        while not self._ahead and arrived is not None:
            arrived.clear()
            await arrived.wait()
        message = self._ahead.popleft()
        if message["type"] == "http.disconnect":
            self._ahead.append(message)
        return message

    def ready(self) -> bool:
        return not self._asked and (self._body.done or self._body.length == 0)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._arrived = asyncio.Event()
        self._watcher = loop.create_task(self._listen(self._arrived), context=Context())

    async def _listen(self, arrived: asyncio.Event) -> None:
        while True:
            message = await self._pull()
            self._ahead.append(message)
            arrived.set()
            if message["type"] == "http.disconnect":
                return

    def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()


async def embed(app: Any, out: Answer, scope: Any, receive: Any, body: AsgiBody, prefix: str, watches: Watches) -> None:
    """Run `app` for this exchange."""
    pipeline = out.pipeline
    exchange = out.exchange
    inner = inner_scope(exchange, scope, prefix, filters=pipeline.filters)
    send: Any = out.send
    outgoing: _Outgoing | None = None
    # The server sees to it that no more comes than was declared, and that was compared at the door.
    limited = body.limit is not None and body.length is None
    hooked = pipeline.responds or pipeline.observes or pipeline.trailers or exchange.queue is not None
    if hooked or limited or out.closing:
        send = outgoing = _Outgoing(out, body)
    else:
        out.blind = True
    incoming: _Incoming | None = None
    if pipeline.observes:
        receive = incoming = _Incoming(out, body)
        watches.waiting.add(incoming)
        if not watches.armed:
            watches.arm()
    elif limited or not body.untouched:
        receive = body.replay
    try:
        await app(inner, receive, send)
    except ResponseTruncated:
        out.cut()
        raise
    except asyncio.CancelledError:
        out.left()
        raise
    except BaseException as error:
        if not body.exceeded or out.status is not None:
            out.finish(raised(out.status, error))
            raise
    finally:
        if incoming is not None:
            watches.waiting.discard(incoming)
            incoming.stop()
    if body.exceeded and out.status is None:
        await answer(out, refused_body(out, BodyRefused(413, "body.too_large")))
    elif outgoing is not None and outgoing.open:
        out.finish(unfinished(out.status, reason="app.incomplete", fault=Fault.APP))
