"""What is under way in a driver, and what a drain does to it: `Connection: close`, ended WebSockets, the cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Fault, Grade, Outcome
from gatekit.core.policy import Spec
from gatekit.core.verdict import Reply
from gatekit.drivers.flights import cut, end
from gatekit.errors import ResponseTruncated

CLOSE = (b"connection", b"close")
TEXT = [(b"content-type", b"text/plain")]


class Waiting(Spec):
    """Decides once `gate` is done."""

    kind = "waiting"
    gate: Any

    async def decide(self, exchange: Exchange) -> Reply | None:
        await self.gate
        return None


class Inside(Spec):
    """Stands behind `Waiting` and must not see what did not reach it."""

    kind = "inside"
    log: Any

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        self.log.append(("inside", head.status))

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        self.log.append(("inside", outcome))


def never() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


async def turns(count: int = 5) -> None:
    """So many turns of the loop."""
    for _ in range(count):
        turned = never()
        asyncio.get_running_loop().call_soon(turned.set_result, None)
        await turned


def outcomes(log: list[Any]) -> list[Outcome]:
    return [entry[2] for entry in log if entry[0] == "observe"]


def told(log: list[Any]) -> list[tuple[Any, ...]]:
    return [(one.status, one.reason, one.fault, one.grade, one.complete) for one in outcomes(log)]


CUT = ("gateway.draining", Fault.GATEWAY, Grade.IGNORE)
ENDED = ("gateway.draining", Fault.NOBODY, Grade.IGNORE)


# -- counting


async def test_what_is_under_way_is_counted(driver: Any, fake: Any, server: Any) -> None:
    gate = never()
    one = driver(fake(wait=gate))
    assert one.active == 0
    running = [asyncio.ensure_future(server().run(one)) for _ in range(3)]
    await turns()
    assert one.active == 3
    gate.set_result(None)
    await asyncio.gather(*running)
    assert one.active == 0


@pytest.mark.parametrize("error", [None, ValueError("no")], ids=["answered", "raised"])
async def test_an_app_is_under_way_until_it_returns(driver: Any, server: Any, error: Exception | None) -> None:
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        seen.append(one.active)
        if error is not None:
            raise error

    one = driver(app=app)
    if error is None:
        await server().run(one)
    else:
        with pytest.raises(ValueError, match="no"):
            await server().run(one)
    assert (seen, one.active) == ([1], 0)


async def test_a_websocket_is_under_way_until_it_ends(driver: Any, server: Any) -> None:
    got = server(kind="websocket")
    one = driver(Socket(pushing))
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert one.active == 1
    got.gone.set()
    await running
    assert one.active == 0


# -- Connection: close


@pytest.mark.parametrize(
    ("version", "closes", "expected"),
    [("1.1", True, True), ("1.0", True, True), ("1.1", False, False), ("2", True, False), ("3", True, False)],
)
@pytest.mark.parametrize("began", ["before", "during"])
@pytest.mark.parametrize("app", [False, True], ids=["forwarded", "embedded"])
async def test_a_response_closes_its_connection(
    driver: Any, fake: Any, server: Any, version: str, closes: bool, expected: bool, began: str, app: bool
) -> None:
    gate = never()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await gate
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]})
        await send({"type": "http.response.body", "body": b"hello"})

    one = driver(app=inner) if app else driver(fake(headers=[(b"x-a", b"1")], wait=gate))
    got = server()
    if began == "during":
        one.flights.begin(lambda: closes)
    running = asyncio.ensure_future(got.run(one, http_version=version))
    await turns()
    if began == "before":
        one.flights.begin(lambda: closes)
    gate.set_result(None)
    await running
    assert got.sent[0]["headers"] == [(b"x-a", b"1"), *([CLOSE] if expected else [])]
    assert got.body == b"hello"


async def test_each_response_is_asked_about_once(driver: Any, fake: Any, server: Any) -> None:
    asked: list[bool] = []

    def closes() -> bool:
        asked.append(True)
        return len(asked) % 2 == 0

    one = driver(fake([b"a", b"b"]))
    one.flights.begin(closes)
    heads = [(await server().run(one)).sent[0]["headers"] for _ in range(4)]
    assert heads == [[], [CLOSE], [], [CLOSE]]
    assert len(asked) == 4


async def test_an_error_reply_closes_too(driver: Any, server: Any) -> None:
    one = driver()
    one.flights.begin(lambda: True)
    got = await server().run(one)
    assert (got.status, CLOSE in got.sent[0]["headers"]) == (500, True)


async def test_an_app_that_says_keep_alive_is_overruled(plan_of: Any, server: Any) -> None:
    """`close` counts wherever it stands; without hooks the app's messages pass all the same."""
    from gatekit.drivers.asgi import AsgiDriver

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"keep-alive")]})
        await send({"type": "http.response.body", "body": b"x"})

    one = AsgiDriver(plan_of(), now=lambda: 0.0, app=app)
    one.flights.begin(lambda: True)
    got = await server().run(one)
    assert got.sent[0]["headers"] == [(b"connection", b"keep-alive"), CLOSE]


# -- the cut, over HTTP


async def test_what_has_not_begun_gets_503(driver: Any, fake: Any, server: Any, log: Any) -> None:
    destination = fake(wait=never())
    one, got = driver(destination), server()
    running = asyncio.ensure_future(got.run(one))
    await turns()
    one.flights.begin(lambda: True)
    assert [cut(out) for out in one.flights.now()] == [True]
    assert [cut(out) for out in one.flights.now()] == [False]
    await running
    assert (got.status, b'"code":"gateway.draining"' in got.body, got.sent[-1]["more_body"]) == (503, True, False)
    assert CLOSE in got.sent[0]["headers"]
    assert destination.cancelled
    assert told(log) == [(503, *CUT, True)]
    assert [entry for entry in log if entry[0] == "response"] == [("response", "record", 503)]
    assert one.active == 0


async def test_what_a_policy_has_not_let_through_gets_503_past_those_outside(
    driver: Any, fake: Any, server: Any, log: Any
) -> None:
    one, got = driver(fake(), Waiting(gate=never()), Inside(log=log)), server()
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [cut(out) for out in one.flights.now()] == [True]
    await running
    assert got.status == 503
    assert told(log) == [(503, *CUT, True)]
    assert not [entry for entry in log if entry[0] == "inside"]


async def test_what_has_begun_is_cut(driver: Any, fake: Any, server: Any, log: Any) -> None:
    destination = fake([b"part", never()], headers=TEXT)
    one, got = driver(destination), server()
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [cut(out) for out in one.flights.now()] == [True]
    with pytest.raises(ResponseTruncated):
        await running
    assert [(m["type"], m.get("more_body")) for m in got.sent] == [
        ("http.response.start", None), ("http.response.body", True),
    ]  # fmt: skip
    assert destination.responses[0].closed == 1
    assert told(log) == [(200, *CUT, False)]
    assert one.active == 0


async def test_a_stream_inside_an_event_is_cut(driver: Any, fake: Any, server: Any, log: Any) -> None:
    destination = fake([b"data: 1\n", never()], headers=[(b"content-type", b"text/event-stream")])
    one, got = driver(destination), server()
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [end(out) for out in one.flights.now()] == [False]
    assert [cut(out) for out in one.flights.now()] == [True]
    with pytest.raises(ResponseTruncated):
        await running
    assert got.sent[-1] == {"type": "http.response.body", "body": b"data: 1\n", "more_body": True}
    assert told(log) == [(200, *CUT, False)]


async def test_an_embedded_app_that_has_not_answered_gets_503(driver: Any, server: Any, log: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await never()

    one, got = driver(app=app), server()
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [cut(out) for out in one.flights.now()] == [True]
    await running
    assert got.status == 503
    assert told(log) == [(503, *CUT, True)]


async def test_an_embedded_app_in_the_middle_of_its_answer_is_cut(driver: Any, server: Any, log: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await never()

    one, got = driver(app=app), server()
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [cut(out) for out in one.flights.now()] == [True]
    with pytest.raises(ResponseTruncated):
        await running
    assert got.sent[-1]["more_body"] is True
    assert told(log) == [(200, *CUT, False)]


async def test_an_app_that_works_on_after_its_answer_is_stopped_and_costs_no_client(
    driver: Any, server: Any, log: Any
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all"})
        await never()

    one, got = driver(app=app), server()
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [cut(out) for out in one.flights.now()] == [False]
    await running
    assert (got.body, told(log)) == (b"all", [(200, None, Fault.NOBODY, Grade.GOOD, True)])


@pytest.mark.parametrize("began", ["before", "during"])
async def test_an_app_that_sends_by_itself(plan_of: Any, server: Any, began: str) -> None:
    """Where no policy sees the response it is the app's own `send`. Whether it has begun only the server knows then, and
    an exception tells it to do what is right; a request that began during the drain is known about."""
    from gatekit.drivers.asgi import AsgiDriver

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await never()

    one, got = AsgiDriver(plan_of(), now=lambda: 0.0, app=app), server()
    if began == "during":
        one.flights.begin(lambda: True)
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [cut(out) for out in one.flights.now()] == [True]
    if began == "during":
        await running
        assert got.status == 503
    else:
        with pytest.raises(ResponseTruncated):
            await running
        assert not got.sent


@pytest.mark.parametrize("part", [never, lambda: b"part"], ids=["waiting", "begun"])
async def test_a_server_that_cancels_at_the_same_time_is_heard(
    driver: Any, fake: Any, server: Any, log: Any, part: Callable[[], Any]
) -> None:
    one, got = driver(fake([part(), never()])), server()
    running = asyncio.ensure_future(got.run(one))
    await turns()
    assert [cut(out) for out in one.flights.now()] == [True]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [outcome.status for outcome in outcomes(log)] == [499]
    assert one.active == 0


async def test_a_client_that_leaves_at_the_same_time(driver: Any, fake: Any, server: Any, log: Any) -> None:
    destination = fake(wait=never())
    one, got = driver(destination), server()
    running = asyncio.ensure_future(got.run(one))
    async with asyncio.timeout(5):
        while not got.waiting:
            await turns(1)
    got.on_send = None
    got.gone.set()
    turned = never()
    asyncio.get_running_loop().call_soon(lambda: turned.set_result([cut(out) for out in one.flights.now()]))
    await turned
    await running
    assert len(outcomes(log)) == 1
    assert outcomes(log)[0].grade is Grade.IGNORE


async def test_a_cancelled_task_that_was_not_cut_is_the_clients_leaving(
    driver: Any, fake: Any, server: Any, log: Any
) -> None:
    one = driver(fake(), Waiting(gate=never()))
    running = asyncio.ensure_future(server().run(one))
    await turns()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [outcome.status for outcome in outcomes(log)] == [499]


# -- WebSockets


class Socket:
    """A destination that takes WebSockets and does what `script` says with the session."""

    name = "socket"

    def __init__(self, script: Any) -> None:
        self.script = script

    async def open(self, exchange: Exchange) -> Any:
        raise AssertionError

    async def websocket(self, exchange: Exchange, session: Any) -> None:
        await self.script(session)


async def pushing(session: Any) -> None:
    await session.accept(None, [])
    while (message := await session.receive()) is not None:
        await session.send(message)


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
