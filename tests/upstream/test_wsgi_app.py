"""WSGI applications in this process as destinations."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gatekit.errors import ClientDisconnected, UpstreamError
from gatekit.testing import request as make_request
from gatekit.upstream import WsgiApp
from gatekit.upstream.inflow import HIGH_WATER


@pytest_asyncio.fixture
async def wsgi(world: Any) -> AsyncIterator[Any]:
    """Makes destinations and sees that their threads end."""
    made: list[WsgiApp] = []

    def make(app: Any, **fields: Any) -> WsgiApp:
        threads = fields.pop("threads", 4)
        plan = world.plan(app=app, app_interface="wsgi", endpoints=(), **fields)
        made.append(WsgiApp(plan, world.pools, threads=threads))
        return made[-1]

    yield make
    for one in made:
        await world.until(lambda one=one: one.calls == 0)
        one.close()
        one.close()
    for thread in threading.enumerate():
        if thread.name.startswith("gatekit-wsgi"):
            thread.join(5)
            assert not thread.is_alive()


async def test_a_wsgi_app_gets_what_the_gateway_settled(world: Any, wsgi: Any) -> None:
    seen: dict[str, Any] = {}

    def app(environ: Any, start_response: Any) -> Any:
        seen.update(environ)
        seen["body"] = environ["wsgi.input"].read()
        start_response("201 Made", [("Content-Type", "text/plain"), ("Connection", "x")])
        return [b"h", b"", b"i"]

    headers = [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-two", "1"),
        ("x-two", "2"),
        ("x_two", "evil"),
        ("content-type", "t"),
    ]
    exchange = world.request("POST", "/caf%C3%A9?x=1", body=[b"a", b"b"], headers=headers)
    response = await wsgi(app).open(exchange)
    assert (response.status, response.headers) == (201, [(b"content-type", b"text/plain")])
    assert await world.body(response) == b"hi"
    response.close()
    assert seen["body"] == b"ab"
    assert (seen["REQUEST_METHOD"], seen["PATH_INFO"]) == ("POST", "/caf\xc3\xa9")
    assert (seen["RAW_URI"], seen["REQUEST_URI"]) == ("/caf%C3%A9?x=1", "/caf%C3%A9?x=1")
    assert (seen["QUERY_STRING"], seen["CONTENT_LENGTH"], seen["CONTENT_TYPE"]) == ("x=1", "2", "t")
    assert (seen["HTTP_COOKIE"], seen["HTTP_X_TWO"], seen["HTTP_HOST"]) == ("a=1; b=2", "1,2", "gateway.test")
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"], seen["REMOTE_ADDR"]) == ("gateway.test", "80", "192.0.2.1")
    assert "HTTP_CONTENT_LENGTH" not in seen


class Parts:
    """An iterable whose `close` is counted."""

    def __init__(self, parts: Any) -> None:
        self.parts = parts
        self.closes = 0

    def __iter__(self) -> Any:
        yield from self.parts

    def close(self) -> None:
        self.closes += 1


async def test_a_wsgi_app_streams_and_is_closed(world: Any, wsgi: Any) -> None:
    go = threading.Event()

    def parts() -> Any:
        yield b"first"
        go.wait(5)
        yield b"second"

    result = Parts(parts())

    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        write(b"zero")
        return result

    response = await wsgi(app).open(world.request())
    got = await response.read()
    while got != b"zerofirst":
        got += await response.read()
    go.set()
    assert await world.body(response) == b"second"
    response.close()
    await world.until(lambda: result.closes == 1)


async def test_wsgi_input_line_by_line(world: Any, wsgi: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        stream = environ["wsgi.input"]
        return [stream.readline() + b"|", stream.read(2) + b"|", b"|".join(stream)]

    _, body = await world.get(wsgi(app), "POST", body=[b"on", b"e\ntw", b"o\nthree"])
    assert body == b"one\n|tw|o\n|three"
    stream = world.Body(b"on", b"e\ntwo", ended=True)
    _, body = await world.get(wsgi(app), "POST", stream=stream)
    assert body == b"one\n|tw|o"


@pytest.mark.parametrize("case", ["raises", "no-start", "twice", "status", "body-first"])
async def test_a_wsgi_app_that_gives_no_answer(
    world: Any, wsgi: Any, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        if case == "raises":
            raise ValueError("secret")
        if case == "no-start":
            return []
        if case == "body-first":
            return [b"x"]
        start_response("99 Odd" if case == "status" else "200 OK", [])
        start_response("200 OK", [])
        return []

    with pytest.raises(UpstreamError) as caught:
        await world.get(wsgi(app))
    assert (caught.value.reason, caught.value.status) == ("upstream.app_failed", 502)
    assert caplog.records


async def test_a_wsgi_app_that_breaks_off_is_closed_too(world: Any, wsgi: Any) -> None:
    def parts() -> Any:
        yield b"a"
        raise ValueError("secret")

    result = Parts(parts())

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return result

    with pytest.raises(UpstreamError) as caught:
        await world.get(wsgi(app))
    assert (caught.value.reason, caught.value.began) == ("upstream.truncated", True)
    assert result.closes == 1


@pytest.mark.parametrize("late", [False, True], ids=["in-time", "too-late"])
async def test_start_response_with_exc_info(world: Any, wsgi: Any, late: bool) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        import sys

        write = start_response("200 OK", [])
        if late:
            write(b"a")
        try:
            raise ValueError("secret")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())
        return [b"sorry"]

    if late:
        with pytest.raises(UpstreamError, match="truncated"):
            await world.get(wsgi(app))
    else:
        response, body = await world.get(wsgi(app))
        assert (response.status, body) == (500, b"sorry")


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No"), ("GET", "304 Same")])
async def test_a_wsgi_body_where_none_belongs(world: Any, wsgi: Any, method: str, status: str) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, [("content-length", "2")])
        return [b"h", b"i"]

    _, body = await world.get(wsgi(app), method)
    assert body == b""


async def test_a_slow_reader_holds_a_wsgi_app_up_and_leaving_ends_it(world: Any, wsgi: Any) -> None:
    made = 0

    def parts() -> Any:
        nonlocal made
        while True:
            made += 1
            yield b"x" * 65_536

    result = Parts(parts())

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return result

    destination = wsgi(app)
    response = await destination.open(world.request())
    await world.until(lambda: made == HIGH_WATER // 65_536 + 2)
    await world.settle(20)
    assert made == HIGH_WATER // 65_536 + 2
    assert len(response.take()[0]) > 0
    await world.until(lambda: made > HIGH_WATER // 65_536 + 2)
    response.close()
    await world.until(lambda: result.closes == 1 and destination.calls == 0)


async def test_a_wsgi_app_that_waits_for_a_client_that_leaves(world: Any, wsgi: Any) -> None:
    raised: list[type] = []

    def app(environ: Any, start_response: Any) -> Any:
        for _ in range(2):
            try:
                environ["wsgi.input"].read()
            except ClientDisconnected as error:
                raised.append(type(error))
        return []

    destination = wsgi(app)
    stream = world.Body(b"a", length=2)
    opening = asyncio.ensure_future(destination.open(world.request("POST", stream=stream)))
    await world.until(lambda: stream.reads == 2)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await world.until(lambda: destination.calls == 0)
    assert raised == [ClientDisconnected, ClientDisconnected]


async def test_a_wsgi_app_that_takes_too_long(world: Any, wsgi: Any) -> None:
    entered, go = threading.Event(), threading.Event()

    def app(environ: Any, start_response: Any) -> Any:
        entered.set()
        go.wait(5)
        start_response("200 OK", [])
        return [b"late"]

    destination = wsgi(app, timeout=15.0)
    opening = asyncio.ensure_future(destination.open(world.request()))
    await world.until(entered.is_set)
    world.clock.advance(16.0)
    with pytest.raises(UpstreamError, match=r"upstream\.timeout"):
        await opening
    assert destination.calls == 1
    go.set()
    await world.until(lambda: destination.calls == 0)


async def test_too_many_wsgi_calls(world: Any, wsgi: Any) -> None:
    go = threading.Event()

    def app(environ: Any, start_response: Any) -> Any:
        go.wait(5)
        start_response("200 OK", [])
        return [b"ok"]

    destination = wsgi(app, max_connections=2, threads=1)
    running = [asyncio.ensure_future(world.get(destination)) for _ in range(2)]
    await world.until(lambda: destination.calls == 2)
    with pytest.raises(UpstreamError) as caught:
        await world.get(destination)
    assert (caught.value.reason, caught.value.status) == ("upstream.overloaded", 503)
    go.set()
    assert [body for _, body in await asyncio.gather(*running)] == [b"ok", b"ok"]
    await world.until(lambda: destination.calls == 0)


async def test_a_rewritten_path_in_an_environ(world: Any, wsgi: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode("latin-1"), b" ", environ["SERVER_PORT"].encode()]

    exchange = make_request("GET", "https://a.test/x")
    exchange.rewrite(path=b"/a%20b")
    destination = wsgi(app)
    response = await destination.open(exchange)
    assert await world.body(response) == b"/a b 443"
    response.close()
    await world.until(lambda: destination.calls == 0)
