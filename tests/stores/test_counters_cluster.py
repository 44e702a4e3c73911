"""Counters on a real Cluster, and through a failover that sentinels decide."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.servers.valkey_groups import ValkeyCluster, ValkeySentinels, valkey_cluster, valkey_sentinels

from gatekit.clients.redis import slot_of
from gatekit.core.counters import Limit
from gatekit.errors import StoreUnavailable
from gatekit.stores.counters_contact import FAILURES
from gatekit.stores.counters_redis import SECTORS
from gatekit.testing.counters import Case, Trial, cases

from .counting import PATIENT, ask, counters, one, serving, timed
from .scene import until

pytestmark = pytest.mark.servers

LIMIT = Limit(1_000, 1e9, "fixed_window")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    found = valkey_cluster(tmp_path_factory.mktemp("cluster"))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeySentinels]:
    found = valkey_sentinels(tmp_path_factory.mktemp("sentinels"))
    yield found
    found.stop()


@pytest.mark.parametrize("case", cases(moves_time=False, algorithms=["token_bucket", "concurrency"]), ids=str)
async def test_they_conform(cluster: ValkeyCluster, part: str, case: Case) -> None:
    store = counters(f"{cluster.url}?prefix={part}&{PATIENT}")
    await case(Trial(store))
    await store.aclose()


async def test_callers_are_spread_over_the_nodes_and_counted_exactly(cluster: ValkeyCluster, part: str) -> None:
    store = counters(f"{cluster.url}?prefix={part}&{PATIENT}")
    for caller in range(30):
        assert (await one(store, ask(Limit(10, 3600.0), tag=f"caller{caller}"))).remaining == 9
    for node in cluster.nodes:
        assert node.ask("DBSIZE") != b":0"
    answers = await asyncio.gather(
        *(one(store, ask(Limit(10, 3600.0), tag=f"caller{number % 30}")) for number in range(600))
    )
    assert sum(taken.allowed for taken in answers) == 30 * 9
    await store.aclose()


async def test_rl1_a_thousand_at_once_on_a_cluster_admit_exactly_a_hundred(cluster: ValkeyCluster, part: str) -> None:
    stores = [counters(f"{cluster.url}?prefix={part}&{PATIENT}") for _ in range(3)]
    limit = Limit(100, 1e9, "fixed_window")
    answers = await asyncio.gather(*(one(stores[number % 3], ask(limit)) for number in range(1000)))
    assert sum(taken.allowed for taken in answers) == 100
    for store in stores:
        await store.aclose()


@pytest.mark.parametrize("names", [("{a}x", "{b}x"), ("{a}x", "x"), ("x", "y")], ids=["two", "one", "none"])
async def test_counters_that_cannot_lie_together_are_refused_with_a_reason(
    cluster: ValkeyCluster, part: str, names: tuple[str, str]
) -> None:
    store = counters(f"{cluster.url}?prefix={part}&{PATIENT}")
    with pytest.raises(ValueError, match=r"the same tag: keys like \{tag\}rest"):
        await store.take([ask(LIMIT)._replace(key=name) for name in names])
    assert store.status()["failures"] == 0
    await store.aclose()


def test_a_probe_asks_about_every_part_of_the_slots() -> None:
    store = counters("redis+cluster://host")
    found = [slot_of(store._probe(number)) * SECTORS // 16384 for number in range(SECTORS)]
    assert found == list(range(SECTORS))


async def test_leases_on_a_cluster(cluster: ValkeyCluster, part: str) -> None:
    store = counters(f"{cluster.url}?prefix={part}&{PATIENT}&leases=on")
    for _ in range(900):
        assert (await one(store, ask(LIMIT))).allowed
    assert store.status()["operations"] <= 150
    await store.aclose()


async def test_rl5_a_lost_node_costs_the_others_nothing(tmp_path: Any, part: str) -> None:
    cluster = valkey_cluster(tmp_path)
    try:
        store = counters(f"{cluster.url}?prefix={part}")
        async with serving(store):
            here, there = (
                "a",
                next(
                    tag
                    for tag in map(str, range(100))
                    if cluster.owner(slot_of(tag)) is not cluster.owner(slot_of("a"))
                ),
            )
            # A cluster with a node missing goes on only where it is told so.
            for node in cluster.nodes:
                node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
            await until_answered(store, here)
            await until_answered(store, there)
            cluster.owner(slot_of(here)).kill()
            first = [await timed(store, [ask(LIMIT, tag=here)]) for _ in range(FAILURES)]
            then = [await timed(store, [ask(LIMIT, tag=here)]) for _ in range(200)]
            assert all(isinstance(error, StoreUnavailable) for _, error in first + then)
            assert sorted(took for took, _ in then)[int(0.99 * len(then))] <= 0.001
            assert (await until_answered(store, there)).allowed
            assert not store.status()["up"]
    finally:
        cluster.stop()


async def test_a_failover_is_gone_through_by_itself(sentinels: ValkeySentinels, part: str) -> None:
    store = counters(f"{sentinels.url}?prefix={part}")
    async with serving(store):
        await until_answered(store, "a")
        for _ in range(5):
            await until_answered(store, "a", cost=1)
        master = sentinels.servers[0]
        await until(lambda: sentinels.servers[1].ask("EXISTS", f"{part}:limits:{ask(LIMIT, tag='a').key}") == b":1")
        master.kill()
        longest = 0.0
        failures = 0
        end = time.monotonic() + 20
        while True:
            took, error = await timed(store, [ask(LIMIT, tag="a", cost=0)])
            longest = max(longest, took)
            if error is None:
                break
            assert isinstance(error, StoreUnavailable)
            failures += 1
            assert time.monotonic() < end, "nobody took over"
            await until(lambda: True)
            if failures > FAILURES:
                await until(lambda: store.status()["up"])
        assert failures >= FAILURES
        # No request waits until somebody has taken over, which takes more than a second.
        assert longest <= 0.3
        assert (await until_answered(store, "a")).remaining <= LIMIT.amount - 5


async def until_answered(store: Any, tag: str, cost: int = 0) -> Any:
    end = time.monotonic() + 20
    while True:
        try:
            return await one(store, ask(LIMIT, tag=tag, cost=cost))
        except StoreUnavailable:
            assert time.monotonic() < end, "it never answered"
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.01, future.set_result, None)
            await future
