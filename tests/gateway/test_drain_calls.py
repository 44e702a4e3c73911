"""Who asks for a drain and waits for it: a second call, a caller that leaves, the loops of several threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from tests.gateway.drain_world import Client, World, near, turns

from gatekit.core.events import DrainBegan, DrainEnded, Events
from gatekit.errors import ResponseTruncated
from gatekit.gateway.drain import TICK, Drain, DrainReport
from gatekit.testing import FixedRandom


async def test_a_second_call_joins_the_first() -> None:
    world = World()
    client = world.begin("/slow")
    await turns(5)
    first = asyncio.ensure_future(world.drained())
    await turns(2)
    second = asyncio.ensure_future(world.drained(grace=500.0, timeout=500.0))
    assert await first == await second
    assert (await first).seconds == near(35.0)
    assert await world.drained() == await first
    assert [type(event) for event in world.events] == [DrainBegan, DrainEnded]
    assert client.sent[0]["status"] == 503


async def test_a_second_call_shortens_the_first() -> None:
    world = World(FixedRandom(0.9))
    client, stream = world.begin("/slow"), world.begin("/events", "websocket")
    await turns(5)
    second: list[asyncio.Future[DrainReport]] = []
    world.time.at(2.0, lambda: second.append(asyncio.ensure_future(world.drained(grace=1.0, timeout=4.0))))
    report = await world.drained()
    assert report == await second[0]
    assert (report.seconds, report.cut, report.ended) == (near(7.0), 1, 1)
    assert client.sent[0]["status"] == 503
    assert stream.ended_at == pytest.approx(4.8, abs=3 * TICK)


async def test_who_stops_waiting_does_not_stop_the_drain() -> None:
    world = World()
    first = asyncio.ensure_future(world.drained(grace=1.0))
    await turns(2)
    first.cancel()
    await asyncio.wait((first,))
    assert (await world.drained()).seconds == near(1.0)


async def test_a_wrong_call_begins_nothing() -> None:
    world = World()
    with pytest.raises(ValueError, match="negative"):
        await world.drained(grace=-1.0)
    assert not world.drain.begun


async def test_an_exchange_that_asks_for_the_drain_is_not_waited_for() -> None:
    reports: list[DrainReport] = []

    async def admin(scope: Any, receive: Any, send: Any) -> None:
        reports.append(await world.drained())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"drained"})

    world = World(app=admin)
    client = world.begin("/drain")
    await client.task
    assert [(one.seconds, one.cut) for one in reports] == [(near(5.0), 0)]
    assert client.body == b"drained"


async def test_what_goes_wrong_is_told_to_who_waits() -> None:
    def broken() -> float:
        raise ZeroDivisionError

    world = World()
    world.drain = Drain(
        world.driver.flights, now=world.time.now, random=broken, events=Events(), pause=world.time.pause
    )
    client = world.begin("/events", "websocket")
    await turns(5)
    with pytest.raises(ZeroDivisionError):
        await world.drained()
    client.leave()
    await client.task


async def test_a_drain_whose_loop_ends_is_over() -> None:
    world = World()
    client = world.begin("/slow")
    await turns(5)
    waiting = asyncio.ensure_future(world.drained())
    await turns(2)
    for task in asyncio.all_tasks():
        if task.get_name() == "gatekit drain":
            task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    world.slow.gate.set_result(None)
    await client.task


async def test_a_real_pause_takes_its_time() -> None:
    """One short drain on the loop's own clock."""
    world = World()
    loop = asyncio.get_running_loop()
    drain = Drain(world.driver.flights, now=loop.time, random=lambda: 0.5, events=Events())
    began = loop.time()
    async with asyncio.timeout(10):
        report = await drain.join(grace=0.02, timeout=1.0)
    assert 0.02 <= report.seconds <= loop.time() - began + 0.001


# -- several loops


class Thread:
    """A loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


async def test_other_loops_are_counted_and_cut() -> None:
    world = World()
    begun = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        begun.set()
        await asyncio.get_running_loop().create_future()

    world = World(FixedRandom(0.5), app=app)
    thread = Thread()
    clients: list[Client] = []

    async def serve(kind: str) -> None:
        client = world.begin("/", kind)
        clients.append(client)
        await asyncio.wait((client.task,))
        client.failed = client.task.exception()

    try:
        served = [asyncio.run_coroutine_threadsafe(serve(kind), thread.loop) for kind in ("http", "websocket")]
        assert await asyncio.to_thread(begun.wait, 10)
        async with asyncio.timeout(10):
            while world.driver.active < 2:
                await turns(1)
        drain = Drain(world.driver.flights, now=asyncio.get_running_loop().time, random=lambda: 0.5, events=Events())
        async with asyncio.timeout(20):
            report = await drain.join(grace=0.0, timeout=0.3)
            for one in served:
                await asyncio.wrap_future(one)
    finally:
        thread.stop()
    assert (report.cut, report.ended) == (1, 1)
    by_kind = {client.kind: client for client in clients}
    assert by_kind["websocket"].sent[-1]["code"] == 1012
    assert isinstance(by_kind["http"].failed, ResponseTruncated)
    assert world.driver.active == 0


async def test_two_loops_may_wait_for_the_same_drain() -> None:
    world = World()
    thread = Thread()
    drain = Drain(world.driver.flights, now=asyncio.get_running_loop().time, random=lambda: 0.5, events=Events())
    try:
        other = asyncio.run_coroutine_threadsafe(drain.join(grace=0.1, timeout=1.0), thread.loop)
        async with asyncio.timeout(10):
            mine = await drain.join(grace=0.1, timeout=1.0)
            assert mine == await asyncio.wrap_future(other)
    finally:
        thread.stop()


class Left:
    """An exchange of that loop, seen from outside."""

    status = 200
    stream = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.task = self
        self.get_loop = lambda: loop


async def test_what_a_closed_loop_left_behind_is_forgotten() -> None:
    """A server's loop that was closed under its exchanges: nobody will ever end them."""
    world = World()
    loop = asyncio.new_event_loop()
    loop.close()
    left: Any = Left(loop)
    world.driver.flights.under_way.add(left)
    report = await world.drained(grace=0.0, timeout=1.0)
    assert (world.driver.active, report.cut) == (0, 0)
