"""Counters on a real Valkey: exact whoever asks from wherever, by the server's clock, one round trip for many."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from tests.servers.valkey import Valkey

from gatekit.core.counters import Limit
from gatekit.errors import StoreUnavailable
from gatekit.gateway.loop_thread import SHARED
from gatekit.mechanisms.windows import ALGORITHMS
from gatekit.stores.counters_redis import CONNECTIONS
from gatekit.stores.counters_script import SCRIPT
from gatekit.testing.counters import Case, Trial, cases

from .counting import PATIENT, OwnClock, ask, counters, one, serving
from .scene import until

pytestmark = pytest.mark.servers

HOUR = Limit(100, 3600.0)


@pytest.fixture
def url(redis_url: str) -> str:
    return f"{redis_url}&{PATIENT}"


@pytest_asyncio.fixture
async def store(url: str) -> Any:
    found = counters(url)
    yield found
    await found.aclose()


def key(part: str, question: Any) -> str:
    return f"{part}:limits:{question.key}"


@pytest.mark.parametrize("case", cases(moves_time=False), ids=str)
async def test_they_conform(store: Any, case: Case) -> None:
    await case(Trial(store))


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
async def test_rl1_a_thousand_at_once_from_four_instances_admit_exactly_a_hundred(url: str, algorithm: str) -> None:
    stores = [counters(url) for _ in range(4)]
    limit = Limit(100, 3600.0, algorithm)
    answers = await asyncio.gather(*(one(stores[number % 4], ask(limit, mark=number)) for number in range(1000)))
    assert sum(taken.allowed for taken in answers) == 100
    for store in stores:
        await store.aclose()


async def test_rl3_questions_that_share_a_round_trip_are_all_or_nothing_each(store: Any) -> None:
    wide, narrow = Limit(60, 3600.0), Limit(40, 3600.0, "sliding_window")
    answers = await asyncio.gather(*(store.take([ask(wide), ask(narrow, "b")]) for _ in range(100)))
    assert sum(all(taken.allowed for taken in both) for both in answers) == 40
    assert [taken.remaining for taken in await store.take([ask(wide, cost=0), ask(narrow, "b", 0)])] == [20, 0]
    assert store.status()["operations"] <= 10


async def test_what_comes_at_once_shares_round_trips_and_connections(store: Any, valkey: Valkey, part: str) -> None:
    before = int(valkey.info("connected_clients"))
    limit = Limit(1_000, 3600.0)
    await asyncio.gather(*(one(store, ask(limit)) for _ in range(1000)))
    assert store.status()["operations"] <= 12
    assert int(valkey.info("connected_clients")) - before <= CONNECTIONS
    assert store.status()["questions"] == 1000
    assert not (await one(store, ask(limit))).allowed


async def test_a_decision_over_three_limits_is_one_round_trip(store: Any) -> None:
    limits = [Limit(5, 3600.0), Limit(6, 3600.0, "fixed_window"), Limit(7, 3600.0, "sliding_log")]
    for number in range(5):
        answers = await store.take([ask(limit, str(limit.amount)) for limit in limits])
        assert [taken.remaining for taken in answers] == [4 - number, 5 - number, 6 - number]
    assert store.status()["operations"] == 5


async def test_a_server_that_forgot_the_script_is_told_it_again(store: Any, valkey: Valkey) -> None:
    await one(store, ask(HOUR))
    valkey.ask("SCRIPT", "FLUSH")
    assert (await one(store, ask(HOUR))).remaining == 98


def test_every_algorithm_is_in_the_script() -> None:
    assert all(f'algorithms["{name}"]' in SCRIPT.text for name in ALGORITHMS)


# -- time


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
async def test_rl10_five_seconds_between_the_clocks_of_processes_change_nothing(url: str, algorithm: str) -> None:
    behind, ahead = counters(url, OwnClock(-5.0)), counters(url, OwnClock(5.0))
    # Its windows would be others five seconds on.
    limit = Limit(6, 8.0 if algorithm == "token_bucket" else 1e9 + 7, algorithm)
    asks = [((behind, ahead)[number % 2], ask(limit, mark=number)) for number in range(6)]
    left = [(await one(*asked)).remaining for asked in asks]
    if algorithm != "token_bucket":
        assert left == [5, 4, 3, 2, 1, 0]
    assert left[-1] <= 1
    await behind.aclose()
    await ahead.aclose()


@dataclass(frozen=True)
class TenSeconds:
    """A calendar whose windows are ten seconds long."""

    name: str = "ten"

    def window(self, moment: float) -> tuple[float, float]:
        begin = moment // 10 * 10
        return begin, begin + 10


async def test_rl10_the_server_picks_the_window_of_a_calendar(url: str, valkey: Valkey, part: str) -> None:
    """Five seconds before and after, one of the two processes is in another window by its own clock."""
    behind, ahead = counters(url, OwnClock(-5.0)), counters(url, OwnClock(5.0))
    limit = Limit(100, 10.0, "fixed_window", TenSeconds())
    for _ in range(3):
        before = float(valkey.text("EVAL", "return redis.call('TIME')[1]", "0"))
        answers = [await one(behind, ask(limit, cost=1)), await one(ahead, ask(limit, cost=1))]
        if before // 10 == float(valkey.text("EVAL", "return redis.call('TIME')[1]", "0")) // 10:
            break
    begin = float(valkey.text("GET", key(part, ask(limit))).split()[0])
    assert begin == before // 10 * 10
    assert answers[0].remaining - answers[1].remaining == 1
    assert all(0 < taken.reset_after <= 10 for taken in answers)
    await behind.aclose()
    await ahead.aclose()


async def test_what_is_said_of_a_calendar_is_as_old_as_its_window(url: str) -> None:
    clock = OwnClock()
    store = counters(url, clock)
    limit = Limit(5, 10.0, "fixed_window", TenSeconds())
    await one(store, ask(limit))
    # Two windows on by its own clock; the server is asked about the nearest that were told.
    clock.shift = 30.0
    assert (await one(store, ask(limit))).allowed
    known = store._writer._limits[limit]
    assert known[0] <= clock.wall() < known[1]
    await store.aclose()


# -- loops, threads, the end


def test_a_thread_without_a_loop_has_its_answer_without_suspending(redis_url: str) -> None:
    store = counters(f"{redis_url}&{PATIENT}")
    asking = store.take([ask(HOUR)])
    with pytest.raises(StopIteration) as stopped:
        asking.send(None)
    assert stopped.value.value[0].remaining == 99
    SHARED.run(store.aclose())
    SHARED.stop()


async def test_loops_have_lines_of_their_own(store: Any) -> None:
    def elsewhere() -> int:
        async def asked() -> int:
            taken = await one(store, ask(HOUR))
            await store.aclose()
            return taken.remaining

        return asyncio.run(asked())

    assert (await one(store, ask(HOUR))).remaining == 99
    assert await asyncio.to_thread(elsewhere) == 98
    assert (await one(store, ask(HOUR))).remaining == 97
    assert await asyncio.to_thread(elsewhere) == 96
    assert len(store._lines) == 1


async def test_a_loop_that_was_closed_is_forgotten(store: Any) -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    store._lines[closed] = None
    assert (await one(store, ask(HOUR))).remaining == 99
    assert list(store._lines) == [asyncio.get_running_loop()]


async def test_what_is_said_of_limits_is_remembered_within_bounds(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(store._writer), "MOST", 3)
    for amount in range(1, 9):
        assert (await one(store, ask(Limit(amount, 3600.0)))).remaining == amount - 1
    assert len(store._writer._limits) <= 3


async def test_one_who_gives_up_takes_nothing_from_the_others(store: Any) -> None:
    await one(store, ask(HOUR))
    asking = [asyncio.ensure_future(one(store, ask(HOUR))) for _ in range(20)]
    asking.append(asyncio.ensure_future(one(store, ask(HOUR, "b"))))
    await _turn()
    for task in asking[:10]:
        task.cancel()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[:10])
    assert not any(isinstance(answer, BaseException) for answer in answers[10:])
    assert store.status()["up"]


async def _turn() -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future


async def test_its_job_closes_its_connections_at_the_end(own_valkey: list[Valkey]) -> None:
    store = counters(f"{own_valkey[0].url}?{PATIENT}")
    before = own_valkey[0].info("connected_clients")
    async with serving(store):
        assert (await one(store, ask(HOUR))).allowed
        assert own_valkey[0].info("connected_clients") != before
    assert not store._lines
    await until(lambda: own_valkey[0].info("connected_clients") == before)


async def test_no_question_is_no_question(store: Any) -> None:
    assert list(await store.take([])) == []
    assert store.status()["operations"] == 0


async def test_an_answer_that_the_script_does_not_give_is_an_outage(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for answer in (b"0", b"0 1 1 1", b"0 1 1 1 1 1", b"x 1 1 1 1", None, 5):

        async def run(*_: Any, answer: Any = answer) -> Any:
            return answer

        monkeypatch.setattr(store._server, "run", run)
        store._contacts[0].answered()
        with pytest.raises(StoreUnavailable, match="what the script does not say"):
            await one(store, ask(HOUR))


async def test_a_mistake_is_raised_as_it_is_and_is_no_outage(store: Any) -> None:
    class Broken:
        name = "broken"

        def window(self, moment: float) -> tuple[float, float]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await one(store, ask(Limit(5, 10.0, "fixed_window", Broken())))
    assert store.status()["failures"] == 0


# -- what is said of it


@pytest.mark.parametrize(
    "options",
    [
        "timeout=1.5", "timeout=0.001", "timeout=x", "prefix=", "prefix=a%20b", "prefix={a}", "leases=yes", "leases=1",
        "leases=0.0001", "leases=0.5", "leases=0.", "other=1", "prefix=a&prefix=b",
    ],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_refused(options: str) -> None:
    with pytest.raises(ValueError, match=r"timeout|prefix|leases"):
        counters(f"redis://host?{options}")


@pytest.mark.parametrize("options", ["", "?leases=off", "?leases=on", "?leases=0.1"])
def test_a_password_is_in_nothing_that_is_shown(options: str) -> None:
    store = counters(f"redis://user:hunter2@host:1/0{options}")
    shown = [repr(store), str(store), repr(store.status()), *[repr(job.key) for job in store.jobs()]]
    assert not any("hunter2" in text for text in shown)
    assert store.status()["store"] == "redis://host:1/0"


async def test_status_counts_what_was_asked(store: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await one(store, ask(HOUR))
        await store.charge([ask(HOUR)])
        await store.reset([ask(HOUR)])
    found = store.status()
    assert found.pop("since") == pytest.approx(time.time(), abs=60)
    assert found == {
        "store": store._server.shown, "up": True, "trouble": None, "questions": 3, "failures": 0, "operations": 3, "foreign": 0,
    }  # fmt: skip
    assert not caplog.records
