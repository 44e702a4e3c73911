"""What counters are on the server: which keys there are and for how long, and what becomes of what is not ours."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import pytest_asyncio
from tests.servers.valkey import Valkey

from gatekit.core.counters import Limit
from gatekit.mechanisms.windows import ALGORITHMS, window_of
from gatekit.stores.counters_script import LONGEST_KEY, tag_of

from .counting import PATIENT, ask, counters, one

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


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
async def test_a_key_is_there_while_it_says_something(store: Any, valkey: Valkey, part: str, algorithm: str) -> None:
    limit = Limit(5, 3600.0, algorithm)
    question = ask(limit, mark=7)
    await one(store, question._replace(cost=0))
    assert valkey.ask("EXISTS", key(part, question)) == b":0"
    taken = await one(store, question)
    left = int(valkey.ask("PTTL", key(part, question))[1:]) / 1000
    assert taken.reset_after < left <= taken.reset_after + 1.1
    await store.charge([question._replace(cost=-1)])
    assert valkey.ask("EXISTS", key(part, question)) == b":0"


async def test_refusals_and_looks_write_nothing(store: Any, valkey: Valkey, part: str) -> None:
    limit = Limit(1, 3600.0)
    await one(store, ask(limit))
    before = valkey.info("total_commands_processed"), valkey.text("GET", key(part, ask(limit)))
    writes = valkey.text("INFO", "commandstats").count("cmdstat_set:")
    calls = _calls(valkey, "set")
    await one(store, ask(limit, cost=0))
    assert not (await one(store, ask(limit))).allowed
    assert _calls(valkey, "set") == calls
    assert valkey.text("GET", key(part, ask(limit))) == before[1]
    assert writes == 1


def _calls(valkey: Valkey, command: str) -> str:
    text = valkey.text("INFO", "commandstats")
    return text.partition(f"cmdstat_{command}:calls=")[2].partition(",")[0]


async def test_numbers_come_back_bit_for_bit(store: Any, valkey: Valkey, part: str) -> None:
    """A bucket that was filled in the future keeps its time, and its sum is that of the doubles."""
    question = ask(Limit(1000, 3600.0))
    spent, at = 0.1 + 0.2, time.time() + 0.1 + 1e6 / 3
    valkey.ask("SET", key(part, question), f"{spent!r} {at!r}")
    await store.charge([question._replace(cost=3)])
    assert [float(word) for word in valkey.text("GET", key(part, question)).split()] == [spent + 3, at]
    taken = await one(store, question._replace(cost=0))
    assert taken == window_of(question.limit).take((spent + 3, at), 0.0, 0)[1]


FOREIGN = ["", " ", "garbage", "1 x", "nan 1", "inf 1", "-inf 1", "1" + "0" * 400, '{"a":1}', "\x00\x01"]


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize("text", FOREIGN, ids=repr)
async def test_what_is_no_state_is_nothing_spent_and_told(
    store: Any, valkey: Valkey, part: str, text: str, algorithm: str, caplog: pytest.LogCaptureFixture
) -> None:
    question = ask(Limit(5, 3600.0, algorithm))
    valkey.ask("SET", key(part, question), text)
    assert (await one(store, question._replace(cost=0))).remaining == 5
    assert (await one(store, question)).remaining == 4
    assert (await one(store, question)).remaining == 3
    assert store.status()["foreign"] == 2
    assert len(caplog.records) == 1


@pytest.mark.parametrize("algorithm", ["concurrency", "fixed_window", "sliding_log", "sliding_window"])
async def test_a_state_of_another_algorithm_ends_nothing(store: Any, valkey: Valkey, part: str, algorithm: str) -> None:
    question = ask(Limit(5, 3600.0, algorithm))
    valkey.ask("SET", key(part, question), f"{time.time() + 30!r}")
    answers = await asyncio.gather(one(store, question), one(store, ask(Limit(9, 3600.0), "other")))
    assert [taken.allowed for taken in answers] == [True, True]


async def test_a_key_of_another_type_is_written_over(store: Any, valkey: Valkey, part: str) -> None:
    question = ask(HOUR)
    valkey.ask("LPUSH", key(part, question), "a")
    assert (await one(store, question)).remaining == 99
    assert (await one(store, question)).remaining == 98
    assert store.status()["foreign"] == 1


@pytest.mark.parametrize(
    "name", ["x" * LONGEST_KEY, "naïve", "\ud800", "a b\r\n{c}"], ids=["long", "umlaut", "half", "odd"]
)
async def test_the_name_of_a_key_is_bounded_ascii_and_keeps_its_slot_together(
    store: Any, valkey: Valkey, part: str, name: str
) -> None:
    question = ask(HOUR, name)
    assert (await one(store, question)).remaining == 99
    assert (await one(store, question)).remaining == 98
    assert (await one(store, ask(HOUR, name + "!"))).remaining == 99
    found = _keys(valkey, part)
    assert len(found) == 2
    assert all(name.isascii() and len(name) < LONGEST_KEY + 100 for name in found)
    assert len({tag_of(name) for name in found}) == 1


def _keys(valkey: Valkey, part: str) -> list[str]:
    text = valkey.text("EVAL", f"return table.concat(redis.call('KEYS', '{part}:*'), '\\1')", "0")
    return text.split("\1")


TAGS = [("{a}b", "a"), ("a{b}c{d}", "b"), ("{}a{b}", ""), ("a", ""), ("}{a", ""), ("}{a}", "a"), ("{{a}}", "{a")]


@pytest.mark.parametrize(("name", "tag"), TAGS, ids=[name for name, _ in TAGS])
def test_the_tag_is_what_a_cluster_says_it_is(name: str, tag: str) -> None:
    assert tag_of(name) == tag


async def test_prefixes_are_apart(valkey: Valkey, part: str) -> None:
    here, there = (counters(f"{valkey.url}?prefix={part}{letter}&{PATIENT}") for letter in "ab")
    assert (await one(here, ask(Limit(1, 3600.0)))).allowed
    assert (await one(there, ask(Limit(1, 3600.0)))).allowed
    assert not (await one(here, ask(Limit(1, 3600.0)))).allowed
    await here.aclose()
    await there.aclose()
