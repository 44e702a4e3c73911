"""WebSockets into an application in this process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatekit.errors import UpstreamError
from gatekit.upstream import AsgiApp


def opening(world: Any, destination: Any, session: Any) -> Any:
    exchange = world.request("GET", "ws://gateway.test/chat?x=1", kind="websocket")
    return asyncio.ensure_future(destination.websocket(exchange, session))


def app_of(world: Any, app: Any) -> AsgiApp:
    return AsgiApp(world.plan(app=app, endpoints=()), world.pools)


async def test_an_app_takes_a_session(world: Any) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        seen.append(await receive())
        await send({"type": "websocket.accept", "subprotocol": "v1", "headers": [(b"X-A", b"1")]})
        for _ in range(2):
            message = await receive()
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
        seen.append(await receive())

    session = world.Session("v1")
    running = opening(world, app_of(world, app), session)
    for said in ("a", b"b"):
        session.say(said)
        assert await session.got.get() == said
    session.leave(4000)
    await running
    assert session.accepted == ("v1", [(b"x-a", b"1")])
    assert (seen[0]["type"], seen[0]["path"], seen[0]["subprotocols"]) == ("websocket", "/chat", ["v1"])
    assert "method" not in seen[0]
    assert seen[1] == {"type": "websocket.connect"}
    assert (seen[2]["type"], seen[2]["code"]) == ("websocket.disconnect", 4000)
    assert session.closed is None


ACCEPT: dict[str, Any] = {"type": "websocket.accept"}
DENY: dict[str, Any] = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"X", b"1")]}


@pytest.mark.parametrize(
    ("messages", "denied", "closed"),
    [
        ([{"type": "websocket.close"}], (403, [(b"content-length", b"0")], b""), None),
        (
            [
                DENY,
                {"type": "websocket.http.response.body", "body": b"n", "more_body": True},
                {"type": "websocket.http.response.body", "body": b"o"},
            ],
            (401, [(b"x", b"1")], b"no"),
            None,
        ),
        ([ACCEPT], None, (1000, "")),
        ([ACCEPT, {"type": "websocket.close", "code": 4001, "reason": "r"}], None, (4001, "r")),
        ([ACCEPT, {"type": "websocket.close"}, {"type": "websocket.send", "text": "late"}], None, (1000, "")),
        ([ACCEPT, {"type": "nonsense"}], None, (1011, "")),
    ],
)
async def test_how_an_app_ends_a_session(world: Any, messages: Any, denied: Any, closed: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    session = world.Session()
    await opening(world, app_of(world, app), session)
    assert (session.denied, session.closed) == (denied, closed)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"type": "nonsense"}],
        [DENY],
        [DENY, ACCEPT],
        [DENY, {"type": "websocket.http.response.body", "body": b"x" * 70_000}],
        [{"type": "websocket.send", "text": "x"}],
    ],
)
async def test_an_app_that_does_not_answer(world: Any, messages: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    session = world.Session()
    with pytest.raises(UpstreamError) as caught:
        await opening(world, app_of(world, app), session)
    assert (caught.value.reason, caught.value.status) == ("upstream.app_failed", 502)


async def test_an_app_that_sends_to_a_client_that_has_gone(world: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        await send({"type": "websocket.send", "text": "late"})

    session = world.Session()
    session.leave(1006)
    await opening(world, app_of(world, app), session)
    assert session.closed is None
