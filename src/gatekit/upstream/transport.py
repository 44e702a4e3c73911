"""`HttpxTransport`: any httpx transport as a destination (HTTP/2, proxies, mocks), without httpx's client.

The transport is used bare, so nothing keeps cookies, follows redirects or decodes bodies. It is not the hot path.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx

from gatekit.core.exchange import Exchange
from gatekit.core.headers import RawHeaders
from gatekit.core.plan import ClusterPlan
from gatekit.errors import BodyRefused, ClientDisconnected, UpstreamError
from gatekit.upstream.forward import (
    add_framing,
    body_length,
    forward_headers,
    relocated,
    request_target,
    response_headers,
)
from gatekit.upstream.pool import Pools
from gatekit.upstream.sweep import Alarm, Sweeper

_REASONS: tuple[tuple[type[Exception], str, int, bool], ...] = (
    (httpx.ConnectTimeout, "upstream.connect_timeout", 504, False),
    (httpx.PoolTimeout, "upstream.overloaded", 503, False),
    (httpx.ConnectError, "upstream.connect_failed", 502, False),
    (httpx.TimeoutException, "upstream.timeout", 504, True),
    (httpx.ProtocolError, "upstream.bad_response", 502, True),
    (Exception, "upstream.closed", 502, True),
)


class TransportResponse:
    """What the transport answered. The body is read from its stream as it comes, undecoded."""

    __slots__ = ("_closing", "_ended", "_idle_timeout", "_no_body", "_parts", "_response", "_sweeper", "headers", "status",
                 "trailers")  # fmt: skip

    def __init__(
        self,
        response: httpx.Response,
        sweeper: Sweeper,
        idle_timeout: float,
        closing: set[asyncio.Task[None]],
        *,
        no_body: bool,
    ) -> None:
        self.status = response.status_code
        self.headers: RawHeaders = response_headers(
            self.status, [(name.lower(), value) for name, value in response.headers.raw]
        )
        self.trailers: RawHeaders = []
        self._response: httpx.Response | None = response
        self._sweeper = sweeper
        self._idle_timeout = idle_timeout
        self._closing = closing
        self._ended = no_body or self.status in (204, 304)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._parts: AsyncIterator[bytes] = aiter(response.stream)

    def take(self) -> tuple[bytes, bool]:
        return b"", self._ended

    async def read(self) -> bytes:
        while not self._ended:
            try:
                with Alarm(self._sweeper, self._idle_timeout):
                    part = await anext(self._parts, b"")
                    if not part:
                        part = await self._rest()
            except TimeoutError:
                raise UpstreamError(
                    "upstream.idle_timeout", "the body stalled", status=504, sent=True, began=True
                ) from None
            except Exception as error:
                raise UpstreamError("upstream.truncated", f"{error!r}", sent=True, began=True) from error
            if part:
                return part
            self._ended = True
            # The transport has its connection back only now.
            response, self._response = self._response, None
            if response is not None:
                await _close(response)
        return b""

    async def _rest(self) -> bytes:
        """The next part that is not empty: an empty one is no end."""
        async for part in self._parts:
            if part:
                return part
        return b""

    def close(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            close_later(response, self._closing)


class Upload(httpx.AsyncByteStream):
    """The exchange's body as httpx wants it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = self._exchange.body
        if body.data is not None:
            yield body.data
            return
        while data := await body.read():
            yield data


class HttpxTransport:
    """The destination over `plan.transport`, which carries requests to the plan's one endpoint."""

    def __init__(self, plan: ClusterPlan, pools: Pools) -> None:
        self.name = plan.name
        self._transport: httpx.AsyncBaseTransport = plan.transport
        self._plan = plan
        self._pools = pools
        self.closing: set[asyncio.Task[None]] = set()

    async def open(self, exchange: Exchange) -> TransportResponse:
        exchange.backend = self.name
        exchange.attempts += 1
        sweeper = self._pools.on(asyncio.get_running_loop()).sweeper
        request = self._request(exchange)
        try:
            with Alarm(sweeper, self._plan.timeout):
                response = await self._transport.handle_async_request(request)
        except TimeoutError:
            raise UpstreamError("upstream.timeout", "no response head in time", status=504, sent=True) from None
        except (BodyRefused, ClientDisconnected, UpstreamError):
            raise
        except Exception as error:
            raise _translated(error) from error
        try:
            answer = TransportResponse(
                response, sweeper, self._plan.idle_timeout, self.closing, no_body=exchange.method == "HEAD"
            )
            relocated(answer.status, answer.headers, request.headers.raw[0][1], exchange)
            return answer
        except UpstreamError:
            close_later(response, self.closing)
            raise

    def _request(self, exchange: Exchange) -> httpx.Request:
        plan = self._plan
        target = request_target(exchange)
        endpoint = plan.endpoints[0]
        own = (exchange.authority if plan.host_header == "client" else endpoint.authority).encode("latin-1")
        headers = forward_headers(exchange, own)
        length = body_length(exchange)
        add_framing(exchange, headers, length)
        scheme = "https" if endpoint.tls else "http"
        url = httpx.URL(scheme=scheme, host=endpoint.host, port=endpoint.port, raw_path=target)
        waits = {
            "connect": plan.connect_timeout,
            "pool": plan.connect_timeout,
            "read": plan.idle_timeout,
            "write": plan.idle_timeout,
        }
        return httpx.Request(
            exchange.method,
            url,
            headers=headers,
            stream=httpx.ByteStream(b"") if length == 0 else Upload(exchange),
            extensions={"timeout": waits, "target": target},
        )


def close_later(response: httpx.Response, closing: set[asyncio.Task[None]]) -> None:
    """Close without waiting: the task is kept until it is done, so that tests can see that none is left."""
    task = asyncio.get_running_loop().create_task(_close(response))
    closing.add(task)
    task.add_done_callback(closing.discard)


async def _close(response: httpx.Response) -> None:
    try:
        await response.aclose()
    except (httpx.HTTPError, OSError):
        # It was to be closed, and it is.
        pass


def _translated(error: Exception) -> UpstreamError:
    for kind, reason, status, sent in _REASONS:
        if isinstance(error, kind):
            return UpstreamError(reason, f"{error!r}", status=status, sent=sent)
    raise AssertionError("unreachable")
