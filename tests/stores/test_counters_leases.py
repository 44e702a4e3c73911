"""Leased counters on a real Valkey: hardly any round trips, hardly any waiting, and never more than there is."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest
import pytest_asyncio
from tests.servers.valkey import Valkey

from gatekit.core.counters import Limit
from gatekit.errors import StoreUnavailable
from gatekit.gateway.loop_thread import SHARED
from gatekit.mechanisms.leases import IDLE, LIFE
from gatekit.stores import counters_leases
from gatekit.stores.counters_leases import LeasedCounters
from gatekit.stores.kept import wait
from gatekit.testing.counters import Case, Trial, cases

from .counting import PATIENT, OwnClock, ask, counters, one, serving
from .scene import until

pytestmark = pytest.mark.servers

LARGE = Limit(100_000, 1e6, "fixed_window")
"""Leased, and large enough for nothing to run out."""
SMALL = Limit(50, 1e6, "fixed_window")


@pytest.fixture
def url(redis_url: str) -> str:
    return f"{redis_url}&{PATIENT}&leases=on"


@pytest.fixture
def clock() -> OwnClock:
    return OwnClock()


@pytest_asyncio.fixture
async def store(url: str, clock: OwnClock) -> Any:
    found = counters(url, clock, lock=threading.Lock)
    yield found
    await found.aclose()


def operations(store: Any) -> int:
    return int(store.status()["operations"])


def spent(valkey: Valkey, part: str, question: Any) -> int:
    """What the server says was spent of it."""
    text = valkey.text("GET", f"{part}:limits:{question.key}")
    return int(float(text.split()[1])) if text else 0


@pytest.mark.parametrize("case", cases(moves_time=False), ids=str)
async def test_they_conform(redis_url: str, case: Case) -> None:
    """The limits of the kit are small for this share, and counted exactly."""
    store = counters(f"{redis_url}&{PATIENT}&leases=0.04")
    await case(Trial(store))
    await store.aclose()


@pytest.mark.parametrize("options", ["leases=on", "leases=0.1"])
def test_the_option_makes_them(redis_url: str, options: str) -> None:
    store = counters(f"{redis_url}&{options}")
    assert isinstance(store, LeasedCounters)
    assert "redis://" in repr(store)
    assert not isinstance(counters(redis_url), LeasedCounters)


async def test_rl7_what_is_used_often_costs_hardly_any_round_trips(store: Any, valkey: Valkey, part: str) -> None:
    for _ in range(2000):
        assert (await one(store, ask(LARGE))).allowed
    assert operations(store) <= 200
    held = store.status()["held"]
    assert spent(valkey, part, ask(LARGE)) == 2000 + held
    assert store.status()["answered"] >= 1800


async def test_what_is_left_is_given_back_at_the_end(url: str, valkey: Valkey, part: str) -> None:
    store = counters(url)
    for _ in range(100):
        await one(store, ask(LARGE))
    assert store.status()["held"] > 0
    await store.aclose()
    assert spent(valkey, part, ask(LARGE)) == 100


async def test_what_becomes_too_old_is_given_back_by_the_job(
    store: Any, valkey: Valkey, part: str, clock: OwnClock
) -> None:
    async with serving(store):
        for _ in range(100):
            await one(store, ask(LARGE))
        assert spent(valkey, part, ask(LARGE)) > 100
        clock.shift += LIFE
        await until(lambda: spent(valkey, part, ask(LARGE)) == 100)
        assert store.status()["leases"] == 1
        clock.shift += IDLE
        await until(lambda: store.status()["leases"] == 0)


async def test_rl1_a_thousand_at_once_are_never_more_than_the_limit(url: str) -> None:
    stores = [counters(url) for _ in range(3)]
    limit = Limit(400, 1e6, "fixed_window")
    answers = await asyncio.gather(*(one(stores[number % 3], ask(limit)) for number in range(1500)))
    admitted = sum(taken.allowed for taken in answers)
    held = sum(store.status()["held"] for store in stores)
    assert admitted + held == 400
    assert admitted >= 340
    for store in stores:
        await store.aclose()


async def test_rl7_when_nothing_is_left_being_denied_costs_no_round_trip(store: Any) -> None:
    limit = Limit(200, 1e6, "fixed_window")
    while (await one(store, ask(limit))).allowed:
        pass
    before = operations(store)
    answers = [await one(store, ask(limit)) for _ in range(1000)]
    assert operations(store) - before <= 1
    assert not any(taken.allowed for taken in answers)
    assert {taken.remaining for taken in answers} == {0}
    assert all(0 < taken.retry_after <= 1e6 for taken in answers)


async def test_rl7_all_of_a_limit_can_be_used_by_one_busy_process(url: str) -> None:
    busy, idle = counters(url), counters(url)
    limit = Limit(1_000, 1e6, "fixed_window")
    assert (await one(idle, ask(limit))).allowed
    admitted = 0
    while (await one(busy, ask(limit))).allowed:
        admitted += 1
    assert admitted == 999
    await busy.aclose()
    await idle.aclose()


async def test_rl3_leased_and_exact_limits_together_are_all_or_nothing(store: Any, valkey: Valkey, part: str) -> None:
    for _ in range(50):
        assert all(taken.allowed for taken in await store.take([ask(LARGE), ask(SMALL, "b")]))
    denied = await store.take([ask(LARGE), ask(SMALL, "b")])
    assert [taken.allowed for taken in denied] == [True, False]
    other = Limit(300, 1e6, "fixed_window")
    while all(taken.allowed for taken in await store.take([ask(LARGE), ask(other, "c")])):
        pass
    await store.aclose()
    assert spent(valkey, part, ask(LARGE)) == 350
    assert spent(valkey, part, ask(other, "c")) == 300


async def test_a_cost_that_no_lease_covers_is_counted_on_the_server(store: Any, valkey: Valkey, part: str) -> None:
    for _ in range(100):
        await one(store, ask(LARGE))
    before = operations(store)
    assert (await one(store, ask(LARGE, cost=50_000))).allowed
    assert operations(store) - before <= 2
    assert not (await one(store, ask(LARGE, cost=50_000))).allowed


async def test_a_charge_is_covered_by_what_is_held(store: Any, valkey: Valkey, part: str) -> None:
    for _ in range(100):
        await one(store, ask(LARGE))
    await until(lambda: not store._tasks)
    before, held = operations(store), store.status()["held"]
    await store.charge([ask(LARGE, cost=3)])
    assert (operations(store), store.status()["held"]) == (before, held - 3)
    await store.charge([ask(LARGE, cost=90_000), ask(LARGE, "b", 7)])
    await store.charge([ask(LARGE, cost=-1)])
    assert operations(store) == before + 2
    await store.aclose()
    assert spent(valkey, part, ask(LARGE)) == 100 + 3 + 90_000 - 1


async def test_a_reset_forgets_what_is_held(store: Any) -> None:
    for _ in range(100):
        await one(store, ask(LARGE))
    await store.reset([ask(LARGE), ask(LARGE, "unused")])
    assert store.status()["held"] == 0
    await store.aclose()
    assert (await one(store, ask(LARGE, cost=0))).remaining == LARGE.amount


async def test_no_more_keys_are_leased_than_there_is_room_for(
    store: Any, clock: OwnClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters_leases, "MOST", 3)
    for name in "abcdef":
        assert (await one(store, ask(LARGE, name))).remaining == LARGE.amount - 1
    assert store.status()["leases"] == 3
    clock.shift += IDLE + 1
    await one(store, ask(LARGE, "g"))
    assert store.status()["leases"] == 1


async def test_rl7_a_lost_server_leaves_the_last_lease_and_then_an_outage(own_valkey: list[Valkey]) -> None:
    store = counters(f"{own_valkey[0].url}?leases=on")
    async with serving(store):
        while store.status()["held"] < 20:
            try:
                await one(store, ask(LARGE))
            except StoreUnavailable:
                await until(lambda: store.status()["up"])
        own_valkey[0].kill()
        assert 0 < await admitted_until_lost(store) <= LARGE.amount * 0.05
        for _ in range(100):
            assert await admitted_until_lost(store) == 0
        own_valkey.append(own_valkey[0].again())
        await until(lambda: store.status()["up"])
        await until_leased(store)


async def admitted_until_lost(store: Any) -> int:
    admitted = 0
    while True:
        try:
            taken = await one(store, ask(LARGE))
        except StoreUnavailable:
            return admitted
        admitted += taken.allowed


async def until_leased(store: Any) -> None:
    while not store.status()["held"]:
        try:
            assert (await one(store, ask(LARGE))).allowed
        except StoreUnavailable:
            await until(lambda: store.status()["up"])


def test_threads_without_a_loop_share_what_is_held(url: str) -> None:
    """Some of them while its job runs on the loop thread, which then renews for them."""
    store = counters(url, lock=threading.Lock)
    limit = Limit(2_000, 1e6, "fixed_window")
    admitted = []

    def many() -> None:
        count = 0
        for _ in range(800):
            asking = store.take([ask(limit)])
            try:
                asking.send(None)
            except StopIteration as stopped:
                count += stopped.value[0].allowed
            else:
                raise AssertionError("it was suspended")
        admitted.append(count)

    async def served() -> None:
        async with serving(store):
            await wait(0.0)
            threads = [threading.Thread(target=many) for _ in range(3)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                await wait(0.002)

    many()
    SHARED.run(served())
    assert sum(admitted) == 2_000
    assert operations(store) < 700
    SHARED.stop()


def test_a_thread_without_a_loop_may_reset(url: str) -> None:
    store = counters(url)
    for asking in (store.take([ask(LARGE)]), store.reset([ask(LARGE)])):
        with pytest.raises(StopIteration):
            asking.send(None)
    SHARED.run(store.aclose())
    SHARED.stop()


async def test_a_forked_child_has_nothing_of_what_its_parent_holds(store: Any) -> None:
    for _ in range(100):
        await one(store, ask(LARGE))
    await until(lambda: not store._tasks)
    assert store.status()["held"] > 0
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(store.status()["held"]).encode())
        os._exit(0)
    await asyncio.to_thread(os.waitpid, child, 0)
    assert os.read(read, 10) == b"0"
    assert store.status()["held"] > 0
    os.close(read)
    os.close(write)


async def test_what_cannot_be_given_back_is_lost(own_valkey: list[Valkey]) -> None:
    store = counters(f"{own_valkey[0].url}?leases=on&{PATIENT}")
    for _ in range(100):
        await one(store, ask(LARGE))
    own_valkey[0].kill()
    await store.aclose()
    assert store.status()["held"] == 0
