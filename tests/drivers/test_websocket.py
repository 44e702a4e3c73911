"""WebSockets through the driver: handshake, denial, messages, ends; before an app and before a destination."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.policy import Spec
from gatekit.core.verdict import Reply
from gatekit.errors import UpstreamError

DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}


class Refuse(Spec):
    kind = "refuse"

    def decide(self, exchange: Exchange) -> Reply:
        return Reply(401, "test.refused")


class FailOnResponse(Spec):
    kind = "fail"

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        if head.status in (101, 418):
            raise ValueError("no")


class Socket:
    """A destination that takes WebSockets and does what `script` says with the session."""

    name = "socket"

    def __init__(self, script: Any) -> None:
        self.script = script

    async def open(self, exchange: Exchange) -> Any:
        raise AssertionError

    async def websocket(self, exchange: Exchange, session: Any) -> None:
        await self.script(session)


async def echo(session: Any) -> None:
    assert session.subprotocols == ["chat"]
    await session.accept("chat", [(b"x-up", b"1")])
    while (message := await session.receive()) is not None:
        await session.send(message)


def messages(*more: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "websocket.connect"}, *more]


async def test_messages_pass_both_ways(driver: Any, server: Any, log: Any) -> None:
    got = server(
        *messages(
            {"type": "websocket.receive", "text": "a"},
            {"type": "websocket.receive", "bytes": b"b", "text": None},
            {"type": "websocket.disconnect", "code": 1000},
        ),
        kind="websocket",
    )
    await got.run(driver(Socket(echo)), subprotocols=["chat"])
    assert got.sent == [
        {"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-up", b"1")]},
        {"type": "websocket.send", "text": "a"},
        {"type": "websocket.send", "bytes": b"b"},
    ]
    assert [entry[:3] for entry in log[:1]] == [("response", "record", 101)]
    assert (log[-1][2].status, log[-1][2].complete) == (101, True)
    assert len(log) == 2


async def test_a_client_that_vanishes_is_499(driver: Any, server: Any, log: Any) -> None:
    got = server(*messages({"type": "websocket.disconnect", "code": 1006}), kind="websocket")
    await got.run(driver(Socket(echo)), subprotocols=["chat"])
    assert log[-1][2].status == 499


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1011, 3000, 4999])
async def test_a_client_that_closes_has_ended_it_whatever_its_code(
    driver: Any, server: Any, log: Any, code: int
) -> None:
    told: list[tuple[int, str]] = []

    async def listening(session: Any) -> None:
        await session.accept(None, [])
        await session.receive()
        told.append((session.close_code, session.close_reason))

    got = server(*messages({"type": "websocket.disconnect", "code": code, "reason": "done"}), kind="websocket")
    await got.run(driver(Socket(listening)))
    assert (log[-1][2].status, log[-1][2].complete) == (101, True)
    assert told == [(code, "done")]


async def test_a_destination_that_returns_closes(driver: Any, server: Any, log: Any) -> None:
    async def brief(session: Any) -> None:
        await session.accept(None, [])
        assert session.close_code == 1006

    got = await server(kind="websocket").run(driver(Socket(brief)))
    assert got.sent[-1] == {"type": "websocket.close", "code": 1000, "reason": ""}
    assert log[-1][2].complete


async def test_closing_twice_sends_one_close(driver: Any, server: Any) -> None:
    async def twice(session: Any) -> None:
        await session.accept(None, [])
        await session.close(4000, "bye")
        await session.close(4001, "again")

    got = await server(kind="websocket").run(driver(Socket(twice)))
    assert [m["code"] for m in got.sent if m["type"] == "websocket.close"] == [4000]


@pytest.mark.parametrize("extension", [True, False])
async def test_a_policy_refuses_the_handshake(driver: Any, server: Any, log: Any, extension: bool) -> None:
    got = await server(kind="websocket").run(driver(Socket(echo), Refuse()), **(DENIAL if extension else {}))
    if extension:
        assert [m["type"] for m in got.sent] == ["websocket.http.response.start", "websocket.http.response.body"]
        assert got.status == 401
        assert b"test.refused" in got.body
    else:
        assert got.sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    assert log[-1][2].status == 401


async def test_the_upstream_denies(driver: Any, server: Any, log: Any) -> None:
    async def denying(session: Any) -> None:
        await session.deny(ResponseHead(403, [(b"x-why", b"no")]), b"go away")

    got = await server(kind="websocket").run(driver(Socket(denying)), **DENIAL)
    assert (got.status, got.body) == (403, b"go away")
    assert log[-1][2].status == 403


async def test_an_upstream_that_cannot_be_reached_is_a_denial(driver: Any, server: Any, log: Any) -> None:
    async def failing(session: Any) -> None:
        raise UpstreamError("upstream.connect_failed", "10.0.0.1")

    got = await server(kind="websocket").run(driver(Socket(failing)), **DENIAL)
    assert got.status == 502
    assert log[-1][2].reason == "upstream.connect_failed"


@pytest.mark.parametrize("error", [UpstreamError("upstream.truncated", "x"), ValueError("a bug")])
async def test_an_upstream_that_breaks_off_closes_with_1014(
    driver: Any, server: Any, log: Any, error: Exception
) -> None:
    async def breaking(session: Any) -> None:
        await session.accept(None, [])
        raise error

    got = server(kind="websocket")
    if isinstance(error, UpstreamError):
        await got.run(driver(Socket(breaking)))
    else:
        with pytest.raises(ValueError, match="a bug"):
            await got.run(driver(Socket(breaking)))
    assert got.sent[-1]["code"] == 1014
    assert not log[-1][2].complete


async def test_a_destination_without_websockets_is_501(driver: Any, fake: Any, server: Any) -> None:
    got = await server(kind="websocket").run(driver(fake()), **DENIAL)
    assert got.status == 501


@pytest.mark.parametrize("extension", [True, False])
async def test_a_hook_that_fails_on_the_accept_refuses_it(driver: Any, server: Any, log: Any, extension: bool) -> None:
    got = await server(kind="websocket").run(
        driver(Socket(echo), FailOnResponse()), subprotocols=["chat"], **(DENIAL if extension else {})
    )
    assert got.sent[0]["type"] == ("websocket.http.response.start" if extension else "websocket.close")
    assert log[-1][2].status == 500
    assert not any(m["type"] == "websocket.accept" for m in got.sent)


async def test_cancelling_a_session_is_observed(driver: Any, server: Any, log: Any) -> None:
    running = asyncio.create_task(server(kind="websocket").run(driver(Socket(echo)), subprotocols=["chat"]))
    await asyncio.wait([running], timeout=0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert log[-1][2].status == 499


async def test_a_client_that_leaves_before_the_handshake(driver: Any, server: Any, log: Any) -> None:
    got = await server({"type": "websocket.disconnect", "code": 1006}, kind="websocket").run(driver(Socket(echo)))
    assert got.sent == []
    assert log[-1][2].status == 499


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Does what the first message asks."""
    await receive()
    what = scope["subprotocols"][0]
    if what == "close":
        await send({"type": "websocket.close", "code": 1000})
    elif what in ("deny", "teapot"):
        await send({"type": "websocket.http.response.start", "status": 403 if what == "deny" else 418, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"n", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"o"})
    else:
        await send({"type": "websocket.accept"})
        if what == "raise":
            raise ValueError("app")
        await send({"type": "websocket.send", "text": "hello"})
        if what == "bye":
            await send({"type": "websocket.close", "code": 1000})
        elif what == "listen":
            await receive()


@pytest.mark.parametrize(
    ("what", "kinds", "status", "complete"),
    [
        ("close", ["websocket.close"], 403, True),
        ("deny", ["websocket.http.response.start", *["websocket.http.response.body"] * 2], 403, True),
        ("bye", ["websocket.accept", "websocket.send", "websocket.close"], 101, True),
        ("listen", ["websocket.accept", "websocket.send"], 101, True),
        ("nothing", ["websocket.accept", "websocket.send"], 101, False),
    ],
)
async def test_an_app_that_serves_it_itself(
    driver: Any, server: Any, log: Any, what: str, kinds: list[str], status: int, complete: bool
) -> None:
    got = server(*messages({"type": "websocket.disconnect", "code": 1001}), kind="websocket")
    await got.run(driver(None, app=app), subprotocols=[what], **DENIAL)
    assert [m["type"] for m in got.sent] == kinds
    assert log[0] == ("response", "record", status)
    assert (log[-1][2].status, log[-1][2].complete) == (status, complete)
    assert len(log) == 2


async def test_an_app_that_raises_is_heard_once_and_raises_on(driver: Any, server: Any, log: Any) -> None:
    with pytest.raises(ValueError, match="app"):
        await server(kind="websocket").run(driver(None, app=app), subprotocols=["raise"])
    assert log[-1][2].reason == "app.raised"


@pytest.mark.parametrize("what", ["bye", "teapot"])
async def test_a_hook_that_fails_silences_the_app(driver: Any, server: Any, log: Any, what: str) -> None:
    got = await server(kind="websocket").run(driver(None, FailOnResponse(), app=app), subprotocols=[what], **DENIAL)
    assert [m["type"] for m in got.sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert got.status == 500
    assert log[-1][2].status == 500
