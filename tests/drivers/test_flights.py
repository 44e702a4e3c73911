"""What is under way in a driver, and what a drain does to its requests: `Connection: close`, and the cut."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
from tests.drivers.drained import CUT, Socket, Waiting, never, outcomes, pushing, told, turns

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Fault, Grade, Outcome
from gatekit.core.policy import Spec
from gatekit.drivers.answer import Answer
from gatekit.drivers.flights import cut, end
from gatekit.errors import ResponseTruncated

CLOSE = (b"connection", b"close")
TEXT = [(b"content-type", b"text/plain")]


class Inside(Spec):
    """Stands behind `Waiting` and must not see what did not reach it."""

    kind = "inside"
    log: Any

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        self.log.append(("inside", head.status))

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        self.log.append(("inside", outcome))


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


async def test_nothing_is_kept_of_what_is_over(driver: Any, fake: Any, server: Any) -> None:
    """Not even until the garbage collector comes: at twenty thousand requests a second that is much."""

    def count() -> int:
        return sum(type(thing) in (Answer, Exchange) for thing in gc.get_objects())

    one = driver(fake([b"a", b"b"]))
    gc.collect()
    gc.disable()
    try:
        before = count()
        for _ in range(3):
            await server().run(one)
        assert count() == before
    finally:
        gc.enable()


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


async def test_a_response_says_it_once(driver: Any, fake: Any, server: Any) -> None:
    """One that begins in another thread just as the drain does is met twice."""
    gate = never()
    one, got = driver(fake(wait=gate)), server()
    running = asyncio.ensure_future(got.run(one))
    await turns()
    one.flights.begin(lambda: True)
    one.flights.begin(lambda: True)
    gate.set_result(None)
    await running
    assert got.sent[0]["headers"] == [CLOSE]


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
