"""The ASGI driver: one request or WebSocket from the server's three callables to the last byte, policies included.

It never decides anything: it makes the exchange, runs the compiled pipeline in order, performs the verdict, and says
once how it ended. The plan is read once, at the door, and kept to the last byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import unquote

from gatekit.core.exchange import NO_BODY, Exchange, NoBody
from gatekit.core.headers import Headers
from gatekit.core.outcome import Fault, client_gone, unfinished
from gatekit.core.paths import encode
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import Plan
from gatekit.core.verdict import Reply
from gatekit.drivers.answer import Answer, answer
from gatekit.drivers.body import AsgiBody, declared_length
from gatekit.drivers.embed import embed
from gatekit.drivers.flights import Flights, cut_short, was_cut
from gatekit.drivers.forward import forward
from gatekit.drivers.steps import decide
from gatekit.drivers.watch import Watches
from gatekit.drivers.websocket import cut_websocket, websocket
from gatekit.errors import ClientDisconnected


class PlanSource(Protocol):
    """Whoever holds the plan in force. Reading it is one attribute; a reload replaces it in one assignment."""

    @property
    def plan(self) -> Plan: ...


class AsgiDriver:
    """An ASGI application that runs a plan; behind it `app`, or the plan's destinations.

    `now` is a monotonic clock; `enter` is called for each exchange with the loop that serves it, before anything else.
    `flights` has what is under way, for a drain.
    """

    __slots__ = ("_enter", "_now", "_source", "_watches", "app", "flights")

    def __init__(
        self,
        source: PlanSource,
        *,
        now: Callable[[], float],
        app: Callable[..., Awaitable[None]] | None = None,
        enter: Callable[[asyncio.AbstractEventLoop], None] | None = None,
    ) -> None:
        self._source = source
        self._now = now
        self._enter = enter
        self._watches: Watches | None = None
        self.flights = Flights()
        self.app = app

    @property
    def active(self) -> int:
        """How many exchanges, requests and WebSockets, are under way, over all loops."""
        return len(self.flights.under_way)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one scope. Every coroutine between the server and the wait for the upstream is resumed once for every
        answer, so there are as few of them as the text allows."""
        if scope["type"] != "http":
            await self.other(scope, receive, send)
            return
        plan = self._source.plan
        watches = self._watches
        loop = asyncio.get_running_loop()
        if watches is None or watches.loop is not loop:
            watches = self._watches = Watches(loop)
        if self._enter is not None:
            self._enter(loop)
        # A list of our own: uvicorn (httptools) appends the trailers of a request that is under way to the server's.
        headers = Headers(list(scope["headers"]), shared=True)
        version = scope["http_version"]
        method = scope["method"]
        length, declared = declared_length(headers, method, version)
        body: AsgiBody | NoBody = NO_BODY
        if length != 0 or not declared:
            body = AsgiBody(receive, length, declared, plan.door.min_body_rate)
        client = scope.get("client")
        exchange = Exchange(
            "http", method, scope["scheme"], headers, client[0] if client else None, version, scope,
            plan.door, body, self._now(),
        )  # fmt: skip
        prefix, pipeline = _admit(plan, exchange, scope)
        # What the exchange needs of it, it has. A stream that lasts for days must not hold thousands of routes.
        del plan
        out = Answer(exchange, pipeline, send)
        out.entered = pipeline.size
        out.task = asyncio.current_task(loop)
        flights = self.flights
        flights.under_way.add(out)
        if flights.closes is not None:
            flights.close_after(out)
        try:
            if pipeline.decides or exchange.refusal is not None:
                try:
                    reply, out.entered = await decide(exchange, pipeline)
                except ClientDisconnected:
                    out.entered = exchange.cursor + 1
                    out.finish(client_gone())
                    return
                except asyncio.CancelledError:
                    out.entered = exchange.cursor + 1
                    raise
                if reply is not None:
                    await answer(out, reply)
                    return
            destination = pipeline.destination
            if destination is not None:
                await forward(destination, out, receive, body, watches)
            elif self.app is not None:
                if isinstance(body, NoBody):
                    # The app is handed the server's empty message, like any other.
                    body = AsgiBody(receive, 0)
                    exchange.body = body
                await embed(self.app, out, scope, receive, body, prefix, watches)
            else:
                await answer(out, Reply(500, "router.no_destination"))
        except asyncio.CancelledError:
            if not was_cut(out):
                raise
            await cut_short(out)
        finally:
            flights.under_way.discard(out)
            if not out.over and pipeline.observes:
                out.finish(unfinished(out.status, reason="gateway.failed", fault=Fault.GATEWAY))

    async def other(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a scope that is no HTTP request."""
        kind = scope["type"]
        if kind == "websocket":
            await self._websocket(scope, receive, send)
        elif self.app is not None:
            await self.app(scope, receive, send)
        else:
            raise RuntimeError(f"this gateway does not serve scopes of type {kind!r}")

    async def _websocket(self, scope: Any, receive: Any, send: Any) -> None:
        plan = self._source.plan
        if self._enter is not None:
            self._enter(asyncio.get_running_loop())
        client = scope.get("client")
        body = AsgiBody(receive, 0)
        body.done = True
        exchange = Exchange(
            "websocket", "GET", scope.get("scheme", "ws"), Headers(list(scope["headers"]), shared=True),
            client[0] if client else None, scope.get("http_version", "1.1"), scope, plan.door, body, self._now(),
        )  # fmt: skip
        prefix, pipeline = _admit(plan, exchange, scope)
        # What the exchange needs of it, it has. A stream that lasts for days must not hold thousands of routes.
        del plan
        out = Answer(exchange, pipeline, send)
        out.task = asyncio.current_task()
        flights = self.flights
        flights.under_way.add(out)
        try:
            await websocket(out, self.app, scope, receive, prefix)
        except asyncio.CancelledError:
            if not was_cut(out):
                raise
            await cut_websocket(out)
        finally:
            flights.under_way.discard(out)
            if not out.over and pipeline.observes:
                out.finish(unfinished(out.status, reason="gateway.failed", fault=Fault.GATEWAY))


def _admit(plan: Plan, exchange: Exchange, scope: Any) -> tuple[str, Pipeline]:
    """Take the exchange through the plan's door. The prefix is where a framework mounted us: routes do not see it, and
    an app behind us gets it back."""
    outer = scope.get("gatekit")
    if outer is not None:
        exchange.inherit(outer)
    raw = scope.get("raw_path")
    path = scope["path"]
    # A middleware outside of us may have changed `path` alone: then what it wrote is what is meant.
    if raw is None or (unquote(raw.decode("latin-1")) != path if b"%" in raw or not path.isascii() else
                       raw != path.encode("latin-1")):  # fmt: skip
        raw = encode(path)
    prefix = scope.get("root_path", "")
    if prefix:
        mounted = encode(prefix)
        if raw.startswith(mounted) and raw[len(mounted) : len(mounted) + 1] in (b"/", b""):
            raw = raw[len(mounted) :] or b"/"
        else:
            prefix = ""
    return prefix, plan.admit(exchange, raw, scope.get("query_string", b""))
