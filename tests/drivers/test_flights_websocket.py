"""What a drain does to WebSockets: a close with 1012, and the cut of those that do not go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.drivers.drained import CUT, ENDED, Socket, Waiting, never, pushing, told, turns

from gatekit.core.outcome import Fault, Grade
from gatekit.drivers.flights import cut, end

RESTART = {"type": "websocket.close", "code": 1012, "reason": "the gateway is restarting"}


async def test_a_websocket_is_closed_with_1012(driver: Any, server: Any, log: Any) -> None:
    seen: list[Any] = []

    async def script(session: Any) -> None:
        await pushing(session)
        seen.extend((session.close_code, session.close_reason, await session.receive()))
        await session.close(1000, "")

    one, got = driver(Socket(script)), server(kind="websocket")
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [end(out) for out in one.flights.now()] == [True]
    assert [end(out) for out in one.flights.now()] == [False]
    await running
    assert [m["type"] for m in got.sent] == ["websocket.accept", "websocket.close"]
    assert got.sent[-1] == RESTART
    assert seen == [1012, "the gateway is restarting", None]
    assert told(log) == [(101, *ENDED, True)]
    assert one.active == 0


async def test_a_destination_that_only_sends_is_stopped_too(driver: Any, server: Any, log: Any) -> None:
    async def script(session: Any) -> None:
        await session.accept(None, [])
        while True:
            await session.send("tick")
            await turns(1)

    one, got = driver(Socket(script)), server(kind="websocket")
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [end(out) for out in one.flights.now()] == [True]
    await running
    assert got.sent[-1] == RESTART
    assert told(log) == [(101, *ENDED, True)]


async def test_a_handshake_under_way_is_not_ended_and_is_refused_by_the_cut(driver: Any, server: Any, log: Any) -> None:
    async def script(session: Any) -> None:
        await never()

    one, got = driver(Socket(script)), server(kind="websocket")
    running = asyncio.ensure_future(got.run(one, extensions={"websocket.http.response": {}}))
    await turns()
    assert [end(out) for out in one.flights.now()] == [False]
    assert [cut(out) for out in one.flights.now()] == [True]
    await running
    assert (got.sent[0]["type"], got.status) == ("websocket.http.response.start", 503)
    assert told(log) == [(503, *CUT, True)]


async def test_a_policy_that_has_not_decided_on_a_websocket(driver: Any, server: Any, log: Any) -> None:
    one, got = driver(Socket(pushing), Waiting(gate=never())), server(kind="websocket")
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [cut(out) for out in one.flights.now()] == [True]
    await running
    assert got.sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    assert told(log) == [(503, *CUT, True)]


async def test_a_destination_that_does_not_go_is_cancelled(driver: Any, server: Any, log: Any) -> None:
    async def script(session: Any) -> None:
        await pushing(session)
        await never()

    one, got = driver(Socket(script)), server(kind="websocket")
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [end(out) for out in one.flights.now()] == [True]
    await turns()
    assert one.active == 1
    # Its client has been told: nothing is lost by the cut.
    assert [cut(out) for out in one.flights.now()] == [False]
    await running
    assert got.sent[-1] == RESTART
    assert told(log) == [(101, *ENDED, True)]


async def test_a_close_that_is_under_way_is_cut(driver: Any, server: Any, log: Any) -> None:
    """A server may wait in `send` until the client has answered the close."""

    class Slow(server):  # type: ignore[misc]
        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "websocket.close":
                await never()

    async def script(session: Any) -> None:
        await session.accept(None, [])
        await session.close(4000, "bye")

    one, got = driver(Socket(script)), Slow(kind="websocket")
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [end(out) for out in one.flights.now()] == [False]
    assert [cut(out) for out in one.flights.now()] == [True]
    await running
    assert [m["type"] for m in got.sent] == ["websocket.accept", "websocket.close"]
    assert told(log) == [(101, *CUT, False)]


async def test_a_client_that_does_not_answer_the_close_is_not_waited_for(
    driver: Any, server: Any, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may wait in `send` for the client's half of the close, for longer than a drain has."""
    monkeypatch.setattr("gatekit.drivers.websocket.SETTLE", 0.01)

    class Deaf(server):  # type: ignore[misc]
        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "websocket.close":
                await never()

    one, got = driver(Socket(pushing)), Deaf(kind="websocket")
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [end(out) for out in one.flights.now()] == [True]
    async with asyncio.timeout(5):
        await running
    assert got.sent[-1] == RESTART
    assert told(log) == [(101, *ENDED, True)]


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("already closed")], ids=["gone", "too late"])
async def test_a_client_that_was_quicker(driver: Any, server: Any, log: Any, error: Exception) -> None:
    class Closed(server):  # type: ignore[misc]
        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "websocket.close":
                raise error

    one, got = driver(Socket(pushing)), Closed(kind="websocket")
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [end(out) for out in one.flights.now()] == [True]
    await running
    assert told(log) == [(101, *ENDED, True)]


async def test_the_servers_cancelling_counts_while_a_websocket_is_ended(driver: Any, server: Any) -> None:
    one, got = driver(Socket(pushing)), server(kind="websocket")
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [end(out) for out in one.flights.now()] == [True]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert one.active == 0


async def test_an_embedded_apps_websocket_is_closed_and_the_server_tells_the_app(
    driver: Any, server: Any, log: Any
) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await receive())
        await send({"type": "websocket.accept"})
        seen.append(await receive())
        await send({"type": "websocket.close", "code": 1000})
        with pytest.raises(OSError, match="closed"):
            await send({"type": "websocket.send", "text": "late"})

    one, got = driver(app=app), server(kind="websocket")
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [end(out) for out in one.flights.now()] == [True]
    assert [end(out) for out in one.flights.now()] == [False]
    await turns()
    assert got.sent[-1] == RESTART
    got.gone.set()
    await running
    assert [m["type"] for m in seen] == ["websocket.connect", "websocket.disconnect"]
    assert [m["type"] for m in got.sent] == ["websocket.accept", "websocket.close"]
    assert told(log) == [(101, *ENDED, True)]


@pytest.mark.parametrize("accepted", [False, True], ids=["handshake", "ended"])
async def test_an_embedded_app_that_does_not_go_is_cancelled(
    driver: Any, server: Any, log: Any, accepted: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if accepted:
            await send({"type": "websocket.accept"})
        await never()

    one, got = driver(app=app), server(kind="websocket")
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [end(out) for out in one.flights.now()] == [accepted]
    await turns()
    assert [cut(out) for out in one.flights.now()] == [not accepted]
    await running
    if accepted:
        assert got.sent[-1] == RESTART
        assert told(log) == [(101, *ENDED, True)]
    else:
        assert got.sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]
        assert told(log) == [(503, *CUT, True)]


async def test_an_app_that_has_closed_is_not_closed_again(driver: Any, server: Any, log: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4001})
        assert [end(out) for out in one.flights.now()] == [False]

    one, got = driver(app=app), server(kind="websocket")
    await got.run(one)
    assert [m["code"] for m in got.sent if m["type"] == "websocket.close"] == [4001]
    assert told(log) == [(101, None, Fault.NOBODY, Grade.GOOD, True)]
