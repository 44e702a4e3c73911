"""ASGI applications in this process as destinations."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatekit.errors import UpstreamError
from gatekit.upstream import AsgiApp
from gatekit.upstream.inflow import HIGH_WATER

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"Content-Type", b"text/plain"), (b"connection", b"x")],
}


def asgi(world: Any, app: Any, **fields: Any) -> AsgiApp:
    grace = fields.pop("grace", 5.0)
    return AsgiApp(world.plan(app=app, endpoints=(), **fields), world.pools, grace=grace)


async def none_left(world: Any, destination: AsgiApp) -> None:
    await world.until(lambda: not destination.tasks)


async def test_an_asgi_app_gets_what_the_gateway_settled(world: Any) -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        seen["message"] = await receive()
        await send(START)
        await send({"type": "http.response.body", "body": b"hi"})

    destination = asgi(world, app)
    exchange = world.request("POST", "/a//b/../c?x=1", body=b"in", headers={"connection": "x-hop", "x-hop": "1"})
    exchange.scope["state"] = {"gatekit": [1], "db": 2}
    exchange.scope["extensions"] = {"http.response.push": {}}
    before = dict(exchange.scope)
    response = await destination.open(exchange)
    assert (response.status, response.headers) == (200, [(b"content-type", b"text/plain")])
    assert response.take() == (b"hi", True)
    response.close()
    assert exchange.scope == before
    assert (seen["type"], seen["method"], seen["path"], seen["raw_path"]) == ("http", "POST", "/a/c", b"/a/c")
    assert seen["query_string"] == b"x=1"
    assert seen["state"] == {"db": 2, "gatekit": (1, exchange)}
    assert seen["gatekit"] is exchange
    assert "user" not in seen
    assert "extensions" not in seen
    headers = dict(seen["headers"])
    assert headers[b"host"] == b"gateway.test"
    assert headers[b"content-length"] == b"2"
    assert headers[b"x-forwarded-for"] == b"192.0.2.1"
    assert b"x-hop" not in headers
    assert seen["message"] == {"type": "http.request", "body": b"in", "more_body": False}
    assert (exchange.backend, exchange.attempts) == ("c", 1)
    await none_left(world, destination)


async def test_a_rewritten_path_and_a_scope_of_another_kind(world: Any) -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await send(START)
        await send({"type": "http.response.body"})

    exchange = world.request("GET", "https://shop.test:8443/a")
    exchange.rewrite(path=b"/caf%C3%A9", host="inner.test")
    exchange.scope = {"wsgi.version": (1, 0)}
    await (await asgi(world, app).open(exchange)).read()
    assert (seen["path"], seen["raw_path"]) == ("/café", b"/caf%C3%A9")
    assert (seen["client"], seen["server"], seen["scheme"]) == (("192.0.2.1", 0), ("shop.test", 8443), "https")
    assert dict(seen["headers"])[b"host"] == b"inner.test"


async def test_an_asgi_body_comes_in_parts(world: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages = [await receive()]
        while messages[-1]["more_body"]:
            messages.append(await receive())
        await send(START)
        for message in messages:
            await send({"type": "http.response.body", "body": message["body"] + b"|", "more_body": True})
        await send({"type": "http.response.body"})
        assert (await receive())["type"] == "http.disconnect"

    destination = asgi(world, app)
    assert (await world.get(destination, "POST", body=[b"a", b"b"]))[1] == b"a|b|"
    stream = world.Body(b"a", b"b", ended=True)
    assert (await world.get(destination, "POST", stream=stream))[1] == b"a|b||"
    assert (await world.get(destination))[1] == b"|"
    await none_left(world, destination)


async def test_a_slow_reader_holds_an_asgi_app_up(world: Any) -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(START)
        for _ in range(64):
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            sent += 65_536
        await send({"type": "http.response.body"})

    destination = asgi(world, app)
    response = await destination.open(world.request())
    await world.settle(20)
    assert sent <= HIGH_WATER + 65_536
    assert len(await world.body(response)) == 64 * 65_536
    response.close()
    await none_left(world, destination)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 304])
async def test_a_body_where_none_belongs(world: Any, method: str, status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"hi"})

    _, body = await world.get(asgi(world, app), method)
    assert body == (b"hi" if (method, status) == ("GET", 200) else b"")


async def raises(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("secret")


async def returns(scope: Any, receive: Any, send: Any) -> None:
    pass


async def bad_status(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 99, "headers": []})


async def body_first(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.body", "body": b"x"})


@pytest.mark.parametrize("app", [raises, returns, bad_status, body_first])
async def test_an_asgi_app_that_gives_no_answer(world: Any, app: Any, caplog: pytest.LogCaptureFixture) -> None:
    destination = asgi(world, app)
    with pytest.raises(UpstreamError) as caught:
        await world.get(destination)
    assert (caught.value.reason, caught.value.status) == ("upstream.app_failed", 502)
    assert bool(caplog.records) is (app is not returns)
    await none_left(world, destination)


@pytest.mark.parametrize("case", ["raises", "returns", "short", "long"])
async def test_an_asgi_app_that_breaks_off(world: Any, case: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"3")] if case in ("short", "long") else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        more = (
            {"body": b"longer", "more_body": False} if case == "long" else {"body": b"ab", "more_body": case != "short"}
        )
        await send({"type": "http.response.body", **more})
        if case == "raises":
            raise ValueError("secret")

    destination = asgi(world, app)
    with pytest.raises(UpstreamError) as caught:
        await world.get(destination)
    assert (caught.value.reason, caught.value.began) == ("upstream.truncated", True)
    await none_left(world, destination)


async def test_a_background_task_goes_on_after_the_response(world: Any) -> None:
    go, done = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"now"})
        await go.wait()
        done.set()

    destination = asgi(world, app)
    assert (await world.get(destination))[1] == b"now"
    assert len(destination.tasks) == 1
    go.set()
    await none_left(world, destination)
    assert done.is_set()


@pytest.mark.parametrize("how", ["receive", "send"])
async def test_an_asgi_app_is_told_that_its_client_has_gone(world: Any, how: str) -> None:
    ended: list[object] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        if how == "receive":
            ended.append((await receive())["type"])
            return
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        except OSError as error:
            ended.append(type(error))
            raise

    destination = asgi(world, app)
    response = await destination.open(world.request())
    assert await response.read()
    await world.settle()
    response.close()
    await none_left(world, destination)
    assert ended == ["http.disconnect" if how == "receive" else OSError]


async def test_an_asgi_app_that_does_not_listen_is_cancelled_after_a_while(world: Any) -> None:
    cancelled = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    destination = asgi(world, app, grace=0.01)
    response = await destination.open(world.request())
    response.close()
    assert destination.tasks
    await none_left(world, destination)
    assert cancelled.is_set()


@pytest.mark.parametrize("how", ["cancel", "timeout", "client"])
async def test_giving_up_before_the_head_cancels_the_app(world: Any, how: str) -> None:
    entered = asyncio.Event()
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        message = await receive()
        told.append(message["type"])
        if how != "client":
            await asyncio.Event().wait()

    destination = asgi(world, app, timeout=15.0)
    stream: Any = world.Body(length=3) if how == "client" else None
    opening = asyncio.ensure_future(destination.open(world.request("POST", stream=stream)))
    await entered.wait()
    if how == "cancel":
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    elif how == "timeout":
        world.clock.advance(16.0)
        with pytest.raises(UpstreamError, match=r"upstream\.timeout"):
            await opening
    else:
        stream.put(None)
        with pytest.raises(UpstreamError, match="app_failed"):
            await opening
        assert told == ["http.disconnect"]
    await none_left(world, destination)


async def test_an_asgi_app_that_stalls(world: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        await receive()

    destination = asgi(world, app, idle_timeout=60.0)
    response = await destination.open(world.request())
    reading = asyncio.ensure_future(response.read())
    await world.settle()
    world.clock.advance(61.0)
    with pytest.raises(UpstreamError) as caught:
        await reading
    assert (caught.value.reason, caught.value.began) == ("upstream.idle_timeout", True)
    response.close()
    await none_left(world, destination)
