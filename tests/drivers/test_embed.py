"""The ASGI driver in front of an app: what is passed on, what the app may send, and who notices a client that leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Fault
from gatekit.core.policy import Spec
from gatekit.errors import ResponseTruncated

START = {"type": "http.response.start", "status": 200, "headers": []}


class Rewriting(Spec):
    kind = "rewriting"

    def decide(self, exchange: Exchange) -> None:
        exchange.rewrite(path=b"/other//x", query=b"a=1", host="other.example")


class Filtering(Spec):
    kind = "filtering"

    def body_filter(self, exchange: Exchange, head: ResponseHead) -> Filtering:
        return self

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class NeedsBody(Spec):
    kind = "needs_body"

    def bind_to(self, ports: Any) -> Any:
        class Bound:
            needs_body = 100

            def decide(self, exchange: Exchange) -> None:
                assert exchange.body.data == b"abc"

        return Bound()


async def test_an_app_gets_the_request_as_it_was_rewritten(driver: Any, server: Any) -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await send(START)
        await send({"type": "http.response.body"})

    await server().run(driver(None, Rewriting(), app=app))
    assert (seen["path"], seen["raw_path"], seen["query_string"]) == ("/other/x", b"/other/x", b"a=1")
    assert dict(seen["headers"])[b"host"] == b"other.example"


async def test_a_file_that_the_server_sends_is_a_whole_answer(driver: Any, server: Any, log: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert "http.response.pathsend" in scope["extensions"]
        await send({"type": "http.response.early_hint", "links": []})
        await send(START)
        await send({"type": "http.response.pathsend", "path": "/x"})

    got = await server().run(driver(None, app=app), extensions={"http.response.pathsend": {}})
    assert [message["type"] for message in got.sent] == [
        "http.response.early_hint", "http.response.start", "http.response.pathsend",
    ]  # fmt: skip
    assert (log[-1][2].status, log[-1][2].complete) == (200, True)


async def test_behind_a_filter_an_app_is_not_offered_to_send_files(driver: Any, server: Any) -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope["extensions"])
        await send(START)
        await send({"type": "http.response.body"})

    extensions: dict[str, Any] = {"http.response.pathsend": {}, "http.response.trailers": {}}
    await server().run(driver(None, Filtering(), app=app), extensions=extensions)
    assert list(seen) == ["http.response.trailers"]


async def test_trailers_end_an_answer(driver: Any, server: Any, log: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})
        assert len(log) == 1
        await send({"type": "http.response.trailers", "headers": [(b"a", b"1")], "more_trailers": True})
        assert len(log) == 1
        await send({"type": "http.response.trailers", "headers": [(b"b", b"2")]})

    await server().run(driver(None, app=app))
    assert log[-1][2].complete


async def test_an_app_that_asks_after_the_watch_began_is_told_all_the_same(driver: Any, server: Any, log: Any) -> None:
    """Somebody else listened while it worked: the request, then the disconnect, as often as it asks."""
    heard: list[str] = []
    got = server()
    working = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await working
        heard.extend([(await receive())["type"] for _ in range(3)])

    running = asyncio.create_task(got.run(driver(None, app=app)))
    while not got.waiting:
        await asyncio.wait([running], timeout=0.005)
    working.set_result(None)
    await asyncio.wait([running], timeout=0.01)
    got.gone.set()
    await running
    assert heard == ["http.request", "http.disconnect", "http.disconnect"]
    assert log[-1][2].status == 499


async def test_the_body_is_the_apps_even_when_it_takes_its_time(driver: Any, server: Any) -> None:
    """A watch that began before the body was read would take it away."""
    got = server({"type": "http.request", "body": b"abc", "more_body": False})
    bodies: list[bytes] = []
    working = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await working
        bodies.append((await receive())["body"])
        await send(START)
        await send({"type": "http.response.body"})

    running = asyncio.create_task(got.run(driver(None, app=app), "POST", [(b"content-length", b"3")]))
    await asyncio.wait([running], timeout=0.03)
    assert got.to_app
    working.set_result(None)
    await running
    assert bodies == [b"abc"]


async def test_a_body_that_a_policy_read_is_replayed(driver: Any, plan_of: Any, server: Any) -> None:
    from gatekit.drivers.asgi import AsgiDriver

    bodies: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append(await receive())
        await send(START)
        await send({"type": "http.response.body"})

    parts = [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"c", "more_body": False},
    ]
    await server(*parts).run(
        AsgiDriver(plan_of(NeedsBody()), now=lambda: 0.0, app=app), "POST", [(b"content-length", b"3")]
    )
    assert bodies == [{"type": "http.request", "body": b"abc", "more_body": False}]


@pytest.mark.parametrize("leaves", ["disconnect", "cancel"])
async def test_a_client_that_leaves_while_a_policy_reads(driver: Any, server: Any, log: Any, leaves: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    first = {"type": "http.request", "body": b"a", "more_body": True}
    parts = [first, {"type": "http.disconnect"}] if leaves == "disconnect" else [first]
    got = server(*parts)
    running = asyncio.create_task(got.run(driver(None, NeedsBody(), app=app), "POST", [(b"content-length", b"3")]))
    if leaves == "cancel":
        while not got.waiting:
            await asyncio.wait([running], timeout=0.005)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    else:
        await running
    assert got.sent == []
    assert log[-1][2].status == 499


async def test_a_cancelled_app_is_observed(driver: Any, server: Any, log: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.get_running_loop().create_future()

    running = asyncio.create_task(server().run(driver(None, app=app)))
    await asyncio.wait([running], timeout=0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert log[-1][2].status == 499


async def test_a_server_that_says_the_client_is_gone(driver: Any, server: Any, log: Any) -> None:
    got = server()

    def gone(message: Any) -> None:
        raise OSError("gone")

    got.on_send = gone

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(OSError, match="gone"):
            await send(START)

    await got.run(driver(None, app=app))
    assert log[-1][2].status == 499


async def test_an_answer_that_an_inner_gateway_cut_stays_cut(driver: Any, server: Any, log: Any) -> None:
    """The inner driver has observed it and the error goes on up: the outer one does not call it the app's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        scope["gatekit"].fault = Fault.UPSTREAM
        raise ResponseTruncated("cut")

    with pytest.raises(ResponseTruncated):
        await server().run(driver(None, app=app))
    outcome = log[-1][2]
    assert (outcome.complete, outcome.fault) == (False, Fault.UPSTREAM)
