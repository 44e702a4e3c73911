"""From plans to destinations, splits, and the sweeper underneath."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from gatekit.core.plan import SplitPlan
from gatekit.core.ports import Ports
from gatekit.errors import UpstreamError
from gatekit.testing import FixedRandom
from gatekit.upstream import AsgiApp, Cluster, HttpxTransport, WsgiApp, make_destination
from gatekit.upstream.balance import UnknownBalancer
from gatekit.upstream.sweep import Alarm, Sweeper


async def test_each_plan_has_its_destination(world: Any) -> None:
    def made(**fields: Any) -> object:
        return make_destination(world.plan(**{"endpoints": (), **fields}), world.ports, pools=world.pools)

    assert isinstance(made(), Cluster)
    assert isinstance(made(app=print), AsgiApp)
    assert isinstance(made(app=print, app_interface="wsgi"), WsgiApp)
    assert isinstance(made(transport=httpx.MockTransport(lambda _: httpx.Response(200))), HttpxTransport)
    with pytest.raises(UnknownBalancer):
        made(balance="fair")


class Named:
    """A destination that answers with its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def open(self, exchange: Any) -> Any:
        return self.name


class Talking(Named):
    async def websocket(self, exchange: Any, session: Any) -> None:
        session.append(self.name)


async def test_a_split(world: Any) -> None:
    plan = SplitPlan("s", ((Talking("a"), 1), (Named("b"), 3), (Named("never"), 0)))
    ports = Ports(random=FixedRandom(0.0, 0.24, 0.26, 0.99))
    split: Any = make_destination(plan, ports, pools=world.pools)
    assert split.name == "s"
    assert [await split.open(world.request()) for _ in range(4)] == ["a", "a", "b", "b"]
    session: list[str] = []
    await split.websocket(world.request(), session)
    assert session == ["a"]
    split = make_destination(plan, Ports(random=FixedRandom(0.5)), pools=world.pools)
    with pytest.raises(UpstreamError) as caught:
        await split.websocket(world.request(), session)
    assert (caught.value.reason, caught.value.status) == ("upstream.no_websocket", 501)


async def test_an_alarm_is_its_own_and_nobody_elses(world: Any) -> None:
    sweeper = Sweeper(asyncio.get_running_loop(), world.clock.monotonic, interval=0.001)

    async def too_long() -> None:
        with Alarm(sweeper, 1.0):
            world.clock.advance(1.0)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await too_long()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0

    async def wait() -> None:
        with Alarm(sweeper, 1.0) as alarm:
            waiting.set()
            try:
                await asyncio.Event().wait()
            finally:
                alarm.fire()
                alarm.fire()

    waiting = asyncio.Event()
    cancelled = asyncio.ensure_future(wait())
    await waiting.wait()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    with Alarm(sweeper, 1.0):
        pass
    await world.until(lambda: not sweeper.running)
    assert sweeper.watched == 0


async def test_entries_that_an_earlier_one_took_away_are_not_expired(world: Any) -> None:
    sweeper = Sweeper(asyncio.get_running_loop(), world.clock.monotonic, interval=60.0)
    expired: list[int] = []

    class Entry:
        deadline = 0.0
        other: Any = None

        def expire(self) -> None:
            expired.append(1)
            sweeper.forget(self)
            sweeper.forget(self.other)

    one, two = Entry(), Entry()
    one.other, two.other = two, one
    sweeper.watch(one)
    sweeper.watch(two)
    sweeper.sweep()
    assert expired == [1]
    assert not sweeper.running
