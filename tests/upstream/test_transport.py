"""Any httpx transport as a destination."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gatekit.core.plan import Endpoint
from gatekit.errors import ClientDisconnected, UpstreamError
from gatekit.upstream import HttpxTransport

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def over(world: Any, transport: httpx.AsyncBaseTransport, **fields: Any) -> HttpxTransport:
    return HttpxTransport(
        world.plan(transport=transport, **{"endpoints": (Endpoint("up.test", 8080),), **fields}), world.pools
    )


class Stream(httpx.AsyncByteStream):
    """A response body from a list; an exception in it is raised, an event waited for."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, asyncio.Event):
                await part.wait()
            else:
                yield part

    async def aclose(self) -> None:
        self.closed += 1


async def test_the_request_as_a_transport_sees_it(world: Any) -> None:
    seen: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        assert b"".join([part async for part in request.stream]) == b"inbody"  # type: ignore[union-attr]
        return httpx.Response(
            201,
            headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Connection", "x")],
            stream=Stream(b"o", b"", b"k"),
        )

    destination = over(world, httpx.MockTransport(answer), endpoints=(Endpoint("up.test", 8443, tls=True),))
    exchange = world.request("POST", "https://shop.test/a%2Db?x=%20", body=[b"in", b"body"], headers={"x-a": "1"})
    response = await destination.open(exchange)
    assert (response.status, response.headers) == (201, [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])
    assert await world.body(response) == b"ok"
    response.close()
    response.close()
    await world.until(lambda: not destination.closing)
    request = seen[0]
    assert str(request.url).startswith("https://up.test:8443/a-b")
    assert request.extensions["target"] == b"/a-b?x=%20"
    raw = dict(request.headers.raw)
    assert raw[b"host"] == b"up.test:8443"
    assert raw[b"content-length"] == b"6"
    assert raw[b"x-forwarded-proto"] == b"https"
    assert (exchange.backend, exchange.attempts) == ("c", 1)


async def test_a_buffered_body_and_an_endpoint(world: Any) -> None:
    seen: list[tuple[str, bytes, str]] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        body = b"".join([part async for part in request.stream])  # type: ignore[union-attr]
        seen.append((str(request.url), body, request.headers["host"]))
        return httpx.Response(200, stream=Stream())

    endpoint = Endpoint("up.test", 8443, tls=True)
    for host_header, host in (("endpoint", "up.test:8443"), ("client", "gateway.test")):
        exchange = world.request("PUT", "/x", body=b"whole")
        await exchange.body.buffer(100)
        destination = over(world, httpx.MockTransport(answer), endpoints=(endpoint,), host_header=host_header)
        response = await destination.open(exchange)
        response.close()
        await world.until(lambda: not destination.closing)  # noqa: B023
        assert seen.pop() == ("https://up.test:8443/x", b"whole", host)


async def test_no_redirect_no_cookie_no_decoding(world: Any) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        assert "cookie" not in request.headers
        headers = {"location": "/b", "set-cookie": "a=1", "content-encoding": "gzip"}
        return httpx.Response(302, headers=headers, stream=Stream(b"\x1f\x8b raw"))

    destination = over(world, httpx.MockTransport(answer))
    for _ in range(2):
        response, body = await world.get(destination)
        assert (response.status, body) == (302, b"\x1f\x8b raw")
    await world.until(lambda: not destination.closing)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_no_body(world: Any, method: str, status: int) -> None:
    destination = over(world, httpx.MockTransport(lambda _: httpx.Response(status, stream=Stream(b"x"))))
    response = await destination.open(world.request(method))
    assert response.take() == (b"", True)
    assert await response.read() == b""
    response.close()
    await world.until(lambda: not destination.closing)


@pytest.mark.parametrize(
    ("error", "reason", "status", "sent"),
    [
        (httpx.ConnectTimeout("x"), "upstream.connect_timeout", 504, False),
        (httpx.ConnectError("x"), "upstream.connect_failed", 502, False),
        (httpx.PoolTimeout("x"), "upstream.overloaded", 503, False),
        (httpx.ReadTimeout("x"), "upstream.timeout", 504, True),
        (httpx.RemoteProtocolError("x"), "upstream.bad_response", 502, True),
        (httpx.ReadError("x"), "upstream.closed", 502, True),
        (ValueError("x"), "upstream.closed", 502, True),
    ],
)
async def test_errors(world: Any, error: Exception, reason: str, status: int, sent: bool) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(UpstreamError) as caught:
        await over(world, httpx.MockTransport(answer)).open(world.request())
    assert (caught.value.reason, caught.value.status, caught.value.sent) == (reason, status, sent)


async def test_a_client_that_leaves_in_its_body(world: Any) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        async for _ in request.stream:  # type: ignore[union-attr]
            pass
        raise AssertionError("unreachable")

    stream = world.Body(b"a", length=2)
    stream.put(None)
    with pytest.raises(ClientDisconnected):
        await over(world, httpx.MockTransport(answer)).open(world.request("POST", stream=stream))


async def test_a_status_that_cannot_be_closes_the_response(world: Any) -> None:
    stream = Stream(b"x")
    destination = over(world, httpx.MockTransport(lambda _: httpx.Response(101, stream=stream)))
    with pytest.raises(UpstreamError, match="bad_response"):
        await destination.open(world.request())
    await world.until(lambda: stream.closed == 1 and not destination.closing)


async def test_a_body_that_breaks_off(world: Any) -> None:
    stream = Stream(b"a", httpx.ReadError("x"))
    destination = over(world, httpx.MockTransport(lambda _: httpx.Response(200, stream=stream)))
    with pytest.raises(UpstreamError) as caught:
        await world.get(destination)
    assert (caught.value.reason, caught.value.began) == ("upstream.truncated", True)
    await world.until(lambda: stream.closed == 1 and not destination.closing)


async def test_timeouts(world: Any) -> None:
    never = asyncio.Event()

    async def hangs(request: httpx.Request) -> httpx.Response:
        await never.wait()
        raise AssertionError("unreachable")

    opening = asyncio.ensure_future(over(world, httpx.MockTransport(hangs), timeout=15.0).open(world.request()))
    await world.settle()
    world.clock.advance(16.0)
    with pytest.raises(UpstreamError, match=r"upstream\.timeout"):
        await opening

    destination = over(
        world, httpx.MockTransport(lambda _: httpx.Response(200, stream=Stream(never))), idle_timeout=60.0
    )
    response = await destination.open(world.request())
    reading = asyncio.ensure_future(response.read())
    await world.settle()
    world.clock.advance(61.0)
    with pytest.raises(UpstreamError, match=r"upstream\.idle_timeout"):
        await reading
    response.close()
    await world.until(lambda: not destination.closing)


async def test_a_real_transport(world: Any) -> None:
    async def script(peer: Any) -> None:
        while True:
            head, body = await peer.request()
            assert head.startswith(b"POST /a-b?x=%20y HTTP/1.1\r\n")
            assert body == b"in"
            await peer.send(OK)

    server = await world.serve(script)
    async with httpx.AsyncHTTPTransport() as transport:
        destination = over(world, transport, endpoints=(Endpoint("127.0.0.1", server.port),))
        for _ in range(2):
            assert (await world.get(destination, "POST", "/a%2Db?x=%20y", body=b"in"))[1] == b"ok"
        stream = world.Body(b"i", b"n", ended=True)
        assert (await world.get(destination, "POST", "/a-b?x=%20y", stream=stream))[1] == b"ok"
        await world.until(lambda: not destination.closing)
    assert server.connections == 1
