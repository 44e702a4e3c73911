"""Counters in storages of the package `limits`: in its memory, and on a real Valkey and a real memcached."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from math import floor, inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from tests.servers.valkey import Valkey

from gatekit.core.counters import Ask, Limit, Taken
from gatekit.core.ports import Ports
from gatekit.errors import StoreUnavailable
from gatekit.gateway.loop_thread import LoopThread
from gatekit.gateway.runtime import LoopRuntime
from gatekit.gateway.shared import Shared
from gatekit.gateway.system import SystemClock, SystemRandom
from gatekit.stores import SystemStores, counters_limits_steps
from gatekit.stores.counters_limits import LimitsCounters
from gatekit.stores.counters_limits_steps import Counter, _slid
from gatekit.testing import test_ports
from gatekit.testing.counters import Case, Trial, cases

from .memcached import Memcached, memcached_server, need_client
from .scene import until

MEMORY = "limits+memory://"
FIXED, SLIDING, LOG = "fixed_window", "sliding_window", "sliding_log"
EVERYWHERE = ("memory", "valkey", "memcached")
WAYS = [
    pytest.param(storage, way, id=f"{storage}-{way}", marks=[] if storage == "memory" else [pytest.mark.servers])
    for storage in EVERYWHERE
    for way in (FIXED, SLIDING, LOG)
    if (storage, way) != ("memcached", LOG)
]


BUT = {
    # Several limits are spent one by one: two may refuse each other what one of them could have had.
    *[("rl3_many_at_once_take_of_all_limits_or_of_none", way) for way in (FIXED, SLIDING, LOG)],
    # What is left is what was left when it was looked at: many at once are told more.
    *[("rl1_a_thousand_at_once_admit_exactly_the_amount", way) for way in (SLIDING, LOG)],
    # A log gives nothing back, and tells of its oldest entry only.
    *[(topic, LOG) for topic in (
        "what_is_given_back_can_be_taken_again", "a_debt_is_given_back_before_anything_is_left",
        "who_waits_as_told_gets_through",
    )],
}  # fmt: skip
"""What is not true of these, as they say of themselves."""


def ports() -> Ports:
    return Ports(clock=SystemClock(), random=SystemRandom(), once=Shared())


def ask(key: str, limit: Limit, cost: int = 1) -> Ask:
    return Ask(key, limit, cost)


@pytest.fixture(scope="module")
def memcached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memcached]:
    server = memcached_server(tmp_path_factory.mktemp("memcached"))
    yield server
    server.stop()


@pytest.fixture
def own_memcached(tmp_path: Path) -> Iterator[list[Memcached]]:
    servers = [memcached_server(tmp_path)]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def storage() -> str:
    return "memory"


@pytest_asyncio.fixture
async def store(storage: str, request: pytest.FixtureRequest, part: str) -> AsyncIterator[LimitsCounters]:
    """Counters of this test's own in that storage. Nothing is late here: that has tests of its own."""
    if storage == "memory":
        url = f"{MEMORY}?timeout=5"
    elif storage == "valkey":
        url = f"limits+{request.getfixturevalue('valkey').url}?timeout=5&prefix={part}"
    else:
        url = f"{request.getfixturevalue('memcached').url}?timeout=5&prefix={part}"
    made = LimitsCounters(url, ports())
    yield made
    await made.aclose()


class Hands:
    """A clock in place of the one that `limits` reads."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        import limits.aio.storage.memory as memory

        self.now = 1_800_000_000.0
        clock = SimpleNamespace(time=lambda: self.now)
        patch.setattr(memory, "time", clock)
        patch.setattr(counters_limits_steps, "time", clock)

    def pass_on(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    return Hands(monkeypatch)


# -- what must be true of all counters

CASES = [
    pytest.param(storage, case, id=f"{storage}-{case}", marks=[] if storage == "memory" else [pytest.mark.servers])
    for storage in EVERYWHERE
    for case in cases(algorithms=(FIXED, SLIDING, LOG), calendars=False, moves_time=storage == "memory")
    if (storage, case.algorithm) != ("memcached", LOG) and (case.topic, case.algorithm) not in BUT
]


@pytest.mark.parametrize(("storage", "case"), CASES)
async def test_they_count(store: LimitsCounters, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.moves_time:
        await case(Trial(store, Hands(monkeypatch).pass_on))
    else:
        # memcached keeps nothing for as long as a limit of the kit.
        await case.check(Trial(store), Limit(5, 1_000_000.0, case.algorithm))


# -- what is let through


@pytest.mark.parametrize(("storage", "way"), WAYS)
async def test_as_many_as_the_limit_says_and_no_more(store: LimitsCounters, way: str) -> None:
    limit = Limit(3, 3600, way)
    taken = [(await store.take([ask("a", limit)]))[0] for _ in range(4)]
    assert [(one.allowed, one.remaining) for one in taken] == [(True, 2), (True, 1), (True, 0), (False, 0)]
    assert all(one.retry_after == 0.0 for one in taken[:3])
    assert 0 < taken[3].retry_after <= 2 * 3600
    assert all(0 < one.reset_after <= 2 * 3600 for one in taken)
    # Somebody else's is another one.
    assert (await store.take([ask("b", limit)]))[0].remaining == 2


@pytest.mark.parametrize(("storage", "way"), WAYS)
async def test_rl1_of_a_thousand_at_once_exactly_the_limit_gets_through(store: LimitsCounters, way: str) -> None:
    limit = Limit(100, 3600, way)
    taken = await asyncio.gather(*(store.take([ask("a", limit)]) for _ in range(1000)))
    assert sum(one.allowed for (one,) in taken) == 100


@pytest.mark.parametrize(("storage", "way"), WAYS)
async def test_what_does_not_fit_costs_nothing_and_what_costs_nothing_only_looks(
    store: LimitsCounters, way: str
) -> None:
    limit = Limit(10, 3600, way)
    assert await store.take([ask("a", limit, 0)]) == [Taken(True, 10, 0.0, 0.0)]
    assert (await store.take([ask("a", limit, 8)]))[0].remaining == 2
    (refused,) = await store.take([ask("a", limit, 3)])
    assert (refused.allowed, refused.remaining) == (False, 2)
    (looked,) = await store.take([ask("a", limit, 0)])
    assert (looked.allowed, looked.remaining, looked.retry_after) == (True, 2, 0.0)
    assert (await store.take([ask("a", limit, 2)]))[0].allowed
    (never,) = await store.take([ask("b", limit, 11)])
    assert (never.allowed, never.remaining, never.retry_after) == (False, 10, inf)
    assert (await store.take([ask("b", limit, 0)]))[0].remaining == 10


@pytest.mark.parametrize(("storage", "way"), WAYS)
async def test_rl3_a_request_that_one_limit_refuses_takes_nothing_from_the_others(
    store: LimitsCounters, way: str
) -> None:
    small, large = Limit(1, 3600, way), Limit(10, 7200, FIXED)
    both = [ask("small", small), ask("large", large)]
    assert [one.remaining for one in await store.take(both)] == [0, 9]
    refused = await store.take(both)
    assert [(one.allowed, one.remaining) for one in refused] == [(False, 0), (True, 9)]
    assert (await store.take([ask("large", large, 0)]))[0].remaining == 9


@pytest.mark.parametrize(("storage", "way"), WAYS)
async def test_what_was_used_is_charged_past_the_limit_and_given_back(store: LimitsCounters, way: str) -> None:
    limit = Limit(10, 3600, way)
    await store.charge([ask("a", limit, 4), ask("b", limit, 0)])
    assert (await store.take([ask("a", limit, 0), ask("b", limit, 0)]))[0].remaining == 6
    await store.charge([ask("a", limit, -3)])
    # The entries of a log cannot be taken out.
    assert (await store.take([ask("a", limit, 0)]))[0].remaining == (6 if way == LOG else 9)
    await store.charge([ask("a", limit, 9)])
    await store.charge([ask("a", limit, 5)])
    (over,) = await store.take([ask("a", limit)])
    assert (over.allowed, over.remaining) == (False, 0)
    if way != LOG:
        # It is owed: 1 + 9 + 5 are 15 of 10.
        await store.charge([ask("a", limit, -5)])
        assert not (await store.take([ask("a", limit)]))[0].allowed
        await store.charge([ask("a", limit, -1)])
        assert (await store.take([ask("a", limit)]))[0].allowed
    # No more is given back than there is.
    await store.charge([ask("c", limit, -5), ask("b", limit, -5)])
    assert [one.remaining for one in await store.take([ask("c", limit), ask("b", limit)])] == [9, 9]


@pytest.mark.parametrize(("storage", "way"), WAYS)
async def test_a_counter_that_is_reset_has_spent_nothing(store: LimitsCounters, way: str) -> None:
    limit = Limit(2, 3600, way)
    await store.take([ask("a", limit, 2)])
    await store.take([ask("b", limit, 2)])
    await store.reset([ask("a", limit)])
    assert [one.remaining for one in await store.take([ask("a", limit, 0), ask("b", limit, 0)])] == [2, 0]


@pytest.mark.parametrize("storage", [pytest.param(one, marks=pytest.mark.servers) for one in EVERYWHERE])
async def test_no_two_keys_are_one_whatever_is_in_them(store: LimitsCounters) -> None:
    """`limits` joins its identifiers by a slash, and memcached takes neither spaces nor long keys."""
    limit = Limit(5, 3600, FIXED)
    keys = ["a/b", "a", "b", "a/b/c", "a b", "a\r\nflush_all", "é", "\ud800", "x" * 5000, "", "a\0b"]
    for key in keys:
        assert (await store.take([ask(key, limit)]))[0].remaining == 4
    # By another algorithm or period it is another counter, and none of a wrong type; another amount is of the same one.
    assert (await store.take([ask("a", Limit(5, 3600, SLIDING))]))[0].remaining == 4
    assert (await store.take([ask("a", Limit(5, 60, FIXED))]))[0].remaining == 4
    assert (await store.take([ask("a", Limit(50, 3600, FIXED))]))[0].remaining == 48


# -- when it comes back


def test_rl2_a_fixed_window_begins_with_its_first_request_and_ends_as_told(hands: Hands) -> None:
    asyncio.run(_comes_back(hands, Limit(2, 60, FIXED), [0.0, 10.0], 50.0))


def test_rl2_a_sliding_log_has_room_when_its_oldest_entry_is_out(hands: Hands) -> None:
    asyncio.run(_comes_back(hands, Limit(2, 60, LOG), [0.0, 10.0], 50.0))


def test_rl2_a_sliding_window_has_room_when_the_share_of_the_one_before_is_small_enough(hands: Hands) -> None:
    # All three are in the window that begins now. Into the next one, they count less than two after a third of it.
    asyncio.run(_comes_back(hands, Limit(3, 60, SLIDING), [0.0, 0.0, 10.0], 50.0))
    asyncio.run(_comes_back(hands, Limit(3, 60, SLIDING), [0.0, 0.0, 10.0], 50.0 + 20.0, 2))


async def _comes_back(hands: Hands, limit: Limit, at: list[float], wait: float, cost: int = 1) -> None:
    store = LimitsCounters(MEMORY, test_ports())
    begun = hands.now = hands.now + 60 - hands.now % 60
    for moment in at:
        hands.now = begun + moment
        assert (await store.take([ask("a", limit)]))[0].allowed
    (refused,) = await store.take([ask("a", limit, cost)])
    assert refused.retry_after == pytest.approx(wait, abs=0.002)
    hands.now += refused.retry_after - 0.01
    assert not (await store.take([ask("a", limit, cost)]))[0].allowed
    hands.now += 0.011
    assert (await store.take([ask("a", limit, cost)]))[0].allowed


async def test_a_log_says_of_a_cost_that_needs_more_than_its_oldest_entry_when_it_fits_at_the_latest(
    hands: Hands,
) -> None:
    store = LimitsCounters(MEMORY, test_ports())
    limit = Limit(2, 60, LOG)
    await store.take([ask("a", limit)])
    hands.now += 10
    await store.take([ask("a", limit)])
    (refused,) = await store.take([ask("a", limit, 2)])
    assert refused.retry_after == 60.0


SPENT = st.integers(0, 50)


@given(before=SPENT, before_left=st.floats(0.001, 60), now=SPENT, cost=st.integers(1, 20), amount=st.integers(20, 60))
def test_a_cost_that_a_sliding_window_refuses_fits_when_it_is_told_to(
    before: int, before_left: float, now: int, cost: int, amount: int
) -> None:
    period = 60
    now_left = before_left + period
    seen = _slid(Counter("a", SLIDING, amount, period, cost), before, before_left, now, now_left)

    def fits(later: float) -> bool:
        if later < before_left:
            spent = floor(before * (before_left - later) / period) + now
        else:
            spent = floor(now * max(0.0, period - (later - before_left)) / period)
        return spent + cost <= amount

    assert seen.spent == floor(before * before_left / period) + now
    assert (seen.fits_in == 0.0) == fits(0.0)
    assert fits(seen.fits_in)
    assert seen.fits_in == 0.0 or not fits(seen.fits_in - 0.002)


# -- several limits, and others who ask meanwhile


async def test_who_finds_a_limit_used_up_meanwhile_gives_back_what_he_has_of_the_others(
    store: LimitsCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Limit(10, 3600, FIXED), Limit(1, 3600, FIXED)
    asks = [ask("first", first), ask("second", second)]
    original = counters_limits_steps._hit
    quicker = LimitsCounters._counter(store, asks[1])

    async def hit(storage: Any, counter: Counter) -> bool:
        if counter.amount == 1:
            await storage.incr(quicker.name, quicker.period, 1)
        return await original(storage, counter)

    monkeypatch.setattr(counters_limits_steps, "_hit", hit)
    taken = await store.take(asks)
    assert [(one.allowed, one.remaining) for one in taken] == [(True, 10), (False, 0)]
    assert (await store.take([ask("first", first, 0)]))[0].remaining == 10


@pytest.mark.parametrize(("storage", "way"), [one for one in WAYS if LOG not in one.values])
async def test_many_at_once_over_two_limits_get_no_more_than_each_allows_and_lose_nothing(
    store: LimitsCounters, way: str
) -> None:
    wide, narrow = ask("wide", Limit(60, 3600, way)), ask("narrow", Limit(40, 3600, way))
    answers = await asyncio.gather(*(store.take([wide, narrow] if n % 2 else [narrow, wide]) for n in range(200)))
    passed = sum(all(one.allowed for one in answer) for answer in answers)
    assert 0 < passed <= 40
    left = await store.take([wide._replace(cost=0), narrow._replace(cost=0)])
    assert [one.remaining for one in left] == [60 - passed, 40 - passed]


async def test_what_was_had_before_the_storage_failed_is_given_back(
    store: LimitsCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Limit(10, 3600, FIXED), Limit(5, 3600, FIXED)
    original = counters_limits_steps._hit

    async def hit(storage: Any, counter: Counter) -> bool:
        if counter.amount == 5:
            raise RuntimeError("at user:hunter2@host")
        return await original(storage, counter)

    monkeypatch.setattr(counters_limits_steps, "_hit", hit)
    with pytest.raises(StoreUnavailable, match=r"^limits\+memory:// failed: RuntimeError$"):
        await store.take([ask("first", first), ask("second", second)])
    assert (await store.take([ask("first", first, 0)]))[0].remaining == 10
    assert store.status() == {"store": "limits+memory://", "failures": 1}


@pytest.mark.parametrize("left", [0.5, 30.0])
async def test_what_a_window_that_is_about_to_end_refused_is_not_given_to_the_next_one(
    hands: Hands, left: float
) -> None:
    store, limit = LimitsCounters(MEMORY, test_ports()), Limit(1, 60, FIXED)
    await store.take([ask("a", limit)])
    hands.now += 60 - left
    (refused,) = await store.take([ask("a", limit)])
    assert not refused.allowed
    counted = next(iter(store._lines.values())).storage.storage
    assert list(counted.values()) == [2 if left < 1 else 1]


# -- what it costs


CALLS: list[tuple[str, list[tuple[str, int]], int, int]] = [
    # What is asked, as (algorithm, amount), and the rounds: where all fit, and where all are used up.
    (FIXED, [(FIXED, 1)], 1, 2),
    (SLIDING, [(SLIDING, 1)], 2, 1),
    (LOG, [(LOG, 1)], 2, 1),
    ("several", [(FIXED, 1), (FIXED, 1), (SLIDING, 1)], 2, 1),
]


@pytest.mark.parametrize(("given", "allowed", "refused"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS])
async def test_a_decision_takes_as_many_round_trips_as_is_said(
    store: LimitsCounters, given: list[tuple[str, int]], allowed: int, refused: int
) -> None:
    asks = [ask(str(place), Limit(amount, 3600, way)) for place, (way, amount) in enumerate(given)]
    await store.take([ask("warm", Limit(1, 1, FIXED))])
    line = next(iter(store._lines.values()))
    line.storage = counting = Counting(line.storage)
    assert all(one.allowed for one in await store.take(asks))
    assert counting.rounds == allowed
    counting.rounds = 0
    assert not any(one.allowed for one in await store.take(asks))
    assert counting.rounds == refused


class Counting:
    """A storage at some distance. `rounds` counts the calls that did not go out while others were under way."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._under_way = 0
        self.rounds = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def called(*arguments: Any) -> Any:
            self.rounds += not self._under_way
            self._under_way += 1
            answer = await found(*arguments)
            loop = asyncio.get_running_loop()
            over = loop.create_future()
            loop.call_later(0.002, over.set_result, None)
            await over
            self._under_way -= 1
            return answer

        return called


# -- what it refuses


@pytest.mark.parametrize(
    ("url", "limit", "why"),
    [
        (MEMORY, Limit(1, 60), "cannot count by token_bucket: choose fixed_window or sliding_log or sliding_window"),
        (MEMORY, Limit(1, 60, "concurrency"), "cannot count by concurrency"),
        ("limits+memcached://h:1", Limit(1, 60, LOG), "by sliding_log: choose fixed_window or sliding_window, or keep"),
        (MEMORY, Limit(1, 0.5, FIXED), "whole seconds: 0.5 s"),
        (MEMORY, Limit(1, 1.5, FIXED), "whole seconds: 1.5 s"),
        ("limits+memcached://h:1", Limit(1, 2_592_001, FIXED), "nothing over 30 days"),
        ("limits+memcached://h:1", Limit(1, 1_296_001, SLIDING), "nothing over 30 days"),
        (MEMORY, Limit(1, 86_400, FIXED, SimpleNamespace(name="day:UTC")), "no calendar windows"),
    ],
    ids=range(8),
)
async def test_a_limit_that_it_cannot_count_is_refused_with_what_to_choose(url: str, limit: Limit, why: str) -> None:
    if "memcached" in url:
        need_client()
    store = LimitsCounters(url, test_ports())
    with pytest.raises(ValueError, match=why):
        store.check(limit)
    for method in (store.take, store.charge, store.reset):
        with pytest.raises(ValueError, match=why):
            await method([ask("a", limit)])


@pytest.mark.parametrize(
    ("url", "limit"),
    [
        (MEMORY, Limit(1, 1, LOG)),
        (MEMORY, Limit(10**12, 10**9, FIXED)),
        ("limits+memcached://h:1", Limit(1, 2_592_000, FIXED)),
        ("limits+memcached://h:1", Limit(1, 1_296_000, SLIDING)),
        ("limits+redis://h", Limit(1, 86_400.0 * 365, LOG)),
    ],
    ids=range(5),
)
def test_a_limit_that_it_can_count_is_not_refused(url: str, limit: Limit) -> None:
    if "memcached" in url:
        need_client()
    LimitsCounters(url, test_ports()).check(limit)


@pytest.mark.parametrize(
    "url",
    [
        "memcached://user:hunter2@host:1", "limits+nothing://user:hunter2@host:1", "limits+://user:hunter2@host:1", "",
        "limits+memcached://user:hunter2@host", "limits+memcached://user:hunter2@", "limits+memcached:hunter2",
        "limits+memcached://user:hunter2@host:x", "limits+memcached://user:hunter2@host:1,other",
        "limits+memcached://user:hunter2@host:1?ttl=5", "limits+memcached://user:hunter2@host:1#a",
        "limits+redis://user:hunter2@host/0?timeout=9", "limits+redis://user:hunter2@host/0?timeout=0.001",
        "limits+redis://user:hunter2@host/0?timeout=hunter2", "limits+redis://user:hunter2@host/0?prefix=a%20hunter2",
        "limits+redis://user:hunter2@host/0?prefix=a&prefix=b", "limits+redis://user:hunter2@host/0?hunter2",
        "limits+redis://user:hunter2@[host/0", "limits+redis://user:hunter2@host/0?hunter2=1",
    ],
)  # fmt: skip
def test_a_url_that_makes_no_sense_is_refused_without_a_word_of_it(url: str) -> None:
    if "memcached:" in url:
        need_client()
    with pytest.raises(ValueError) as caught:
        LimitsCounters(url, test_ports())
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("kind", "package"), [("memcached", "memcachio"), ("mongodb", "motor"), ("redis", "redis")])
def test_a_driver_that_is_missing_is_named(kind: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"^counters in {kind} need its driver: install {package}$"):
        SystemStores().counters(f"limits+{kind}://user:hunter2@host:1", test_ports())


@pytest.mark.parametrize(
    "url", ["limits+redis://user:hunter2@127.0.0.1:1/0", "limits+memcached://u:hunter2@127.0.0.1:1"]
)
async def test_a_password_is_in_nothing_that_is_shown(url: str) -> None:
    if "memcached" in url:
        need_client()
    store = LimitsCounters(f"{url}?timeout=1", ports())
    with pytest.raises(StoreUnavailable) as caught:
        await store.take([ask("a", Limit(1, 60, FIXED))])
    shown = [repr(store), str(store), repr(store.status()), str(caught.value), *(repr(job.key) for job in store.jobs())]
    assert not any("hunter2" in text for text in shown)
    assert "127.0.0.1:1" in str(caught.value)
    await store.aclose()


def test_what_is_not_ours_is_passed_on() -> None:
    store = LimitsCounters("limits+redis://user:pw@host:1/2?timeout=1&prefix=a&socket_keepalive=yes", test_ports())
    assert store._uri == "async+redis://user:pw@host:1/2?socket_keepalive=yes"
    assert store.shown == "limits+redis://host:1"


# -- a server that is away


@pytest.mark.servers
async def test_rl5_a_valkey_that_is_away_is_told_in_time_and_used_again(own_valkey: list[Valkey]) -> None:
    await _goes_away(own_valkey, f"limits+{own_valkey[0].url}", SLIDING)


@pytest.mark.servers
async def test_rl5_a_memcached_that_is_away_is_told_in_time_and_used_again(own_memcached: list[Memcached]) -> None:
    await _goes_away(own_memcached, own_memcached[0].url, SLIDING)
    await _goes_away(own_memcached, own_memcached[-1].url, FIXED)


async def _goes_away(servers: Any, url: str, way: str) -> None:
    store = LimitsCounters(f"{url}?timeout=0.5", ports())
    asks = [ask("a", Limit(100_000, 3600, way))]

    async def answers() -> bool:
        try:
            return bool((await store.take(asks))[0].allowed)
        except StoreUnavailable:
            return False

    async def answers_again() -> None:
        end = time.monotonic() + 20
        while not await answers():
            assert time.monotonic() < end

    await answers_again()
    servers[-1].pause()
    begun = time.monotonic()
    got = await asyncio.gather(*(store.take(asks) for _ in range(50)), return_exceptions=True)
    assert time.monotonic() - begun < 5.0
    assert all(isinstance(one, StoreUnavailable) and "within 0.5 s" in str(one) for one in got)
    for _ in range(3):
        assert not await answers()
    servers[-1].resume()
    await answers_again()
    servers[-1].kill()
    begun = time.monotonic()
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=r"failed|within"):
            await store.take(asks)
    assert time.monotonic() - begun < 5.0
    servers.append(servers[-1].again())
    await answers_again()
    assert store.status()["failures"] >= 56
    await store.aclose()


@pytest.mark.servers
async def test_a_memcached_that_takes_no_connection_is_used_as_soon_as_it_does(
    own_memcached: list[Memcached], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client counts connections, and loses count where one is given up while it is opened."""
    store = LimitsCounters(f"{own_memcached[0].url}?timeout=0.1", ports())
    asks = [ask("a", Limit(10, 3600, FIXED))]
    loop = asyncio.get_running_loop()
    never: asyncio.Future[Any] = loop.create_future()

    async def create_connection(*arguments: Any, **options: Any) -> Any:
        return await asyncio.shield(never)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "create_connection", create_connection)
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await store.take(asks)
    never.cancel()

    async def answers() -> bool:
        try:
            return (await store.take(asks))[0].allowed
        except StoreUnavailable:
            return False

    end = time.monotonic() + 10
    while not await answers():
        assert time.monotonic() < end
    await store.aclose()


@pytest.mark.parametrize("storage", [pytest.param(one, marks=pytest.mark.servers) for one in ("valkey", "memcached")])
async def test_callers_who_go_away_break_nothing_for_others(store: LimitsCounters) -> None:
    asks = [ask("a", Limit(100_000, 3600, SLIDING))]
    for turns in range(40):
        tasks = [asyncio.create_task(_take(store, asks)) for _ in range(10)]
        for _ in range(turns):
            over = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(over.set_result, None)
            await over
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert (await store.take(asks))[0].allowed
    assert store.status()["failures"] == 0


async def _take(store: LimitsCounters, asks: list[Ask]) -> Taken:
    return (await store.take(asks))[0]


# -- where it runs


@pytest.mark.parametrize("storage", [pytest.param(one, marks=pytest.mark.servers) for one in EVERYWHERE])
def test_threads_without_a_loop_never_suspend(storage: str, request: pytest.FixtureRequest, part: str) -> None:
    """As under WSGI: the process's own loop does the work while the thread waits."""
    if storage == "memory":
        url = MEMORY
    else:
        url = "limits+" + request.getfixturevalue(storage).url.removeprefix("limits+")
    loop_thread = LoopThread()
    store = LimitsCounters(
        f"{url}?timeout=5&prefix={part}", Ports(clock=SystemClock(), random=SystemRandom(), once=Shared(loop_thread))
    )
    allowed: list[bool] = []

    def serve() -> None:
        for _ in range(10):
            work = store.take([ask("a", Limit(25, 3600, FIXED))])
            with pytest.raises(StopIteration) as done:
                work.send(None)
            allowed.append(done.value.value[0].allowed)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loop_thread.run(store.aclose())
    loop_thread.stop()
    assert (allowed.count(True), allowed.count(False)) == (25, 15)


@pytest.mark.parametrize("storage", [pytest.param(one, marks=pytest.mark.servers) for one in ("valkey", "memcached")])
async def test_its_job_closes_its_connections_at_the_end(store: LimitsCounters) -> None:
    runtime = LoopRuntime(asyncio.get_running_loop())
    runtime.want(store.jobs())
    asks = [ask("a", Limit(10, 3600, FIXED))]
    await store.take(asks)
    await until(lambda: store._lines)
    await runtime.close()
    assert not store._lines
    # And a question after that opens another.
    assert (await store.take(asks))[0].remaining == 8


def test_a_loop_that_is_closed_is_forgotten(redis_url: str) -> None:
    store = LimitsCounters(f"limits+{redis_url}&timeout=5", ports())

    async def once() -> int:
        (taken,) = await store.take([ask("a", Limit(10, 3600, FIXED))])
        await store.aclose()
        return taken.remaining

    assert [asyncio.run(once()) for _ in range(3)] == [9, 8, 7]
    assert not store._lines


def test_it_is_opened_by_its_url() -> None:
    assert isinstance(SystemStores().counters("limits+redis://192.0.2.1:1/0", test_ports()), LimitsCounters)


def test_memcached_is_opened_by_its_url() -> None:
    need_client()
    assert isinstance(SystemStores().counters("LIMITS+memcached://192.0.2.1:1", test_ports()), LimitsCounters)
