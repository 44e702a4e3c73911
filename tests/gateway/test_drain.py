"""A whole drain over a driver, in virtual time."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from tests.gateway.drain_world import STREAM, Client, World, near, turns

from gatekit.core.events import DrainBegan, DrainEnded
from gatekit.drivers.event_stream import COMMENT
from gatekit.gateway.drain import SETTLE, TICK, DrainReport
from gatekit.testing import FixedRandom, SeededRandom


async def test_with_nothing_under_way_it_takes_the_grace() -> None:
    world = World()
    assert not world.drain.begun
    report = await world.drained(grace=5.0)
    assert (report.seconds, report.cut, report.ended) == (near(5.0), 0, 0)
    assert world.drain.begun
    assert world.events == [DrainBegan(5.0, 30.0, 0), DrainEnded(report.seconds, 0, 0)]


async def test_without_a_grace_and_with_nothing_under_way_it_is_over_at_once() -> None:
    assert await World().drained(grace=0.0) == DrainReport(0.0, 0, 0)


async def test_readiness_is_false_at_once() -> None:
    world = World()
    began: list[bool] = []
    world.time.at(0.0, lambda: began.append(world.drain.begun))
    await world.drained()
    assert began == [True]


async def test_it_waits_for_a_request_that_ends() -> None:
    world = World()
    client = world.begin("/slow")
    await turns(5)
    world.time.at(12.0, lambda: world.slow.gate.set_result(None))
    report = await world.drained()
    assert (report.seconds, report.cut) == (near(12.0), 0)
    assert world.events[0] == DrainBegan(5.0, 30.0, 1)
    assert client.body == b"whole"
    assert (b"connection", b"close") in client.sent[0]["headers"]


async def test_a_request_that_begins_after_the_grace_is_served() -> None:
    world = World()
    held = world.begin("/slow")
    late: list[Client] = []
    await turns(5)
    world.time.at(20.0, lambda: late.append(world.begin("/slow")))
    world.time.at(21.0, lambda: world.slow.gate.set_result(None))
    report = await world.drained()
    assert (report.seconds, report.cut) == (near(21.0), 0)
    assert [one.body for one in (held, *late)] == [b"whole"] * 2


async def test_what_does_not_end_is_cut_at_the_end() -> None:
    world = World()
    client = world.begin("/slow")
    await turns(5)
    report = await world.drained(grace=5.0, timeout=30.0)
    assert (report.seconds, report.cut, report.ended) == (near(35.0), 1, 0)
    assert client.sent[0]["status"] == 503
    assert client.ended_at == near(35.0)
    assert world.driver.active == 0


async def test_an_app_that_will_not_be_cancelled_holds_it_up_for_a_moment_only() -> None:
    over = asyncio.Event()

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue

    world = World(app=stubborn)
    client = world.begin("/slow")
    await turns(5)
    try:
        report = await world.drained()
        assert world.driver.active == 1
    finally:
        over.set()
        await client.task
    assert report.cut == 1
    assert report.seconds == pytest.approx(35.0 + 2 * SETTLE, abs=4 * TICK)


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_streams_are_ended_one_after_the_other(kind: str) -> None:
    world = World(SeededRandom(7))
    clients = [world.begin("/events", kind) for _ in range(40)]
    await turns(5)
    report = await world.drained(grace=5.0, timeout=30.0)
    assert (report.cut, report.ended) == (0, 40)
    ends = sorted(client.ended_at or 0.0 for client in clients)
    assert ends[0] >= 5.0
    assert ends[-1] <= 20.0 + 2 * TICK
    assert len(set(ends)) > 25
    assert max(b - a for a, b in pairwise(ends)) < 3.0
    assert report.seconds == near(ends[-1])
    for client in clients:
        if kind == "http":
            assert client.body == b"data: 1\n\n" + COMMENT or client.body == COMMENT
            assert client.sent[-1]["more_body"] is False
        else:
            assert client.sent[-1]["code"] == 1012


async def test_a_stream_that_begins_late_is_given_a_moment() -> None:
    world = World(FixedRandom(0.5))
    held = world.begin("/slow")
    late: list[Client] = []
    await turns(5)
    world.time.at(25.0, lambda: late.append(world.begin("/events", "websocket")))
    world.time.at(34.0, lambda: world.slow.gate.set_result(None))
    report = await world.drained()
    assert late[0].ended_at == pytest.approx(30.0, abs=3 * TICK)
    assert (report.cut, report.ended, held.body) == (0, 1, b"whole")


async def test_a_stream_that_is_there_at_the_very_end_is_ended_not_cut() -> None:
    world = World(FixedRandom(0.999999))
    late: list[Client] = []
    held = world.begin("/slow")
    await turns(5)
    world.time.at(34.97, lambda: late.append(world.begin("/events", "websocket")))
    report = await world.drained()
    assert (report.cut, report.ended) == (1, 1)
    assert late[0].sent[-1]["code"] == 1012
    assert held.sent[0]["status"] == 503


async def test_an_app_keeps_nobody_after_its_websocket_was_ended() -> None:
    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.get_running_loop().create_future()

    world = World(app=deaf)
    client = world.begin("/", "websocket")
    await turns(5)
    report = await world.drained()
    assert client.sent[-1]["code"] == 1012
    # Its client was told in time: the cut cost nobody anything.
    assert (report.cut, report.ended, report.seconds) == (0, 1, near(35.0))


async def test_an_embedded_stream_runs_on_and_is_cut() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.get_running_loop().create_future()

    world = World(app=app)
    client = world.begin("/")
    await turns(5)
    report = await world.drained()
    assert (report.cut, report.ended) == (1, 0)
    assert client.sent[-1]["more_body"] is True
    assert client.task.exception() is not None


# -- Connection: close, by probability


async def test_more_and_more_responses_close_until_all_do() -> None:
    seconds: dict[int, list[bool]] = {}

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    world = World(SeededRandom(3), app=inner)

    def crowd(second: int) -> None:
        clients = [world.begin("/") for _ in range(200)]

        async def look() -> None:
            await asyncio.wait([client.task for client in clients])
            seconds[second] = [bool(client.sent[0]["headers"]) for client in clients]

        looking.append(asyncio.ensure_future(look()))

    looking: list[asyncio.Future[None]] = []
    for second in range(9):
        world.time.at(second, lambda second=second: crowd(second))  # type: ignore[misc]
    await world.drained(grace=8.0, timeout=2.0)
    await asyncio.gather(*looking)
    shares = [sum(seconds[second]) / 200 for second in range(9)]
    assert shares[0] <= 0.05
    assert shares[8] == 1.0
    for second, share in enumerate(shares):
        assert share == pytest.approx(second / 8, abs=0.12)


async def test_at_the_very_beginning_none_closes_and_at_the_end_all_do() -> None:
    closed: list[bool] = []
    world = World(FixedRandom(0.0, 0.999999))
    held = world.begin("/slow")
    await turns(5)

    def ask() -> None:
        closes = world.driver.flights.closes
        assert closes is not None
        closed.extend((closes(), closes()))

    draining = asyncio.ensure_future(world.drained(grace=5.0))
    await turns(1)
    ask()
    world.time.at(5.0, ask)
    world.time.at(6.0, lambda: world.slow.gate.set_result(None))
    await draining
    assert closed == [False, False, True, True]
    assert held.body == b"whole"
