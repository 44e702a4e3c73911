"""What every store keeps in its process: one that tends it, a gate that opens once, and words in URLs."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from gatekit.core.ports import Ports
from gatekit.mechanisms.denylist import LEEWAY, DenylistFull, Entry
from gatekit.mechanisms.revocation import Revocation
from gatekit.stores.kept import Gate, Helm, KeptList, max_entries_of, options_of
from gatekit.testing import ManualClock


def test_the_helm_is_one_ones() -> None:
    helm = Helm(ManualClock())
    first = helm.take()
    assert first is not None
    assert helm.take() is None
    assert helm.hold(first)
    helm.leave(object())
    assert helm.take() is None
    helm.leave(first)
    assert not helm.hold(first)
    assert helm.take() is not None


def test_the_helm_of_one_that_is_not_heard_of_any_more_goes_to_the_next() -> None:
    clock = ManualClock()
    helm = Helm(clock)
    first = helm.take()
    assert first is not None
    clock.advance(Helm.PATIENCE - 0.1)
    assert helm.hold(first)
    clock.advance(Helm.PATIENCE - 0.1)
    assert helm.take() is None
    clock.advance(0.1)
    second = helm.take()
    assert second is not None
    assert not helm.hold(first)
    helm.leave(first)
    assert helm.hold(second)


def test_the_helm_is_not_that_of_the_process_one_was_forked_from(monkeypatch: pytest.MonkeyPatch) -> None:
    helm = Helm(ManualClock())
    assert helm.take() is not None
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert helm.take() is not None
    assert helm.take() is None


async def test_a_gate_opens_for_all_who_wait_in_any_loop() -> None:
    gate = Gate()
    assert not await gate.wait(0.001)
    here = asyncio.create_task(gate.wait(10))
    begun = threading.Event()

    async def there() -> bool:
        asyncio.get_running_loop().call_soon(begun.set)
        return await gate.wait(10)

    elsewhere = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(there())))
    await asyncio.to_thread(begun.wait, 10)
    gate.open()
    assert await here
    assert await elsewhere
    assert gate.is_open
    assert await gate.wait(0)
    gate.open()


def test_a_gate_forgets_loops_that_were_closed_and_those_who_gave_up() -> None:
    gate = Gate()
    for _ in range(2):
        asyncio.run(gate.wait(0.001))

    async def given_up() -> None:
        assert not await gate.wait(0.001)
        gate.open()

    asyncio.run(given_up())
    assert gate.is_open


async def test_what_a_store_says_and_there_is_no_room_for_revokes_everything_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    kept = KeptList(Ports(clock=clock), max_entries=1)
    later = int(clock.wall()) + 60
    await kept.take_all(Revocation("jti", name, until=later) for name in "abc")
    assert kept.changes == 1
    assert kept.revoked({"jti": "a"}) == "jti"
    assert kept.revoked({"jti": "x"}) == "list_full"
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    with pytest.raises(DenylistFull):
        kept.need_room()
    with pytest.raises(DenylistFull):
        kept.add(Revocation("jti", "d", until=later))
    clock.advance(60 + LEEWAY + 300)
    kept.need_room()
    assert kept.revoked({"jti": "x"}) is None


async def test_a_copy_is_taken_in_as_far_as_there_is_room() -> None:
    kept = KeptList(Ports(clock=ManualClock()), max_entries=150)
    await kept.put_all(Entry(Revocation("jti", str(number)).key, float("inf"), float("inf")) for number in range(300))
    assert kept.status() == {"entries": 150, "max_entries": 150, "full": False}
    assert kept.revoked({"jti": "149"}) == "jti"


async def test_what_has_ended_is_taken_out_while_the_loop_turns() -> None:
    clock = ManualClock()
    kept = KeptList(Ports(clock=clock))
    end = clock.wall() + 60
    await kept.put_all(Entry(Revocation("jti", str(number)).key, float("inf"), end) for number in range(9000))
    clock.advance(1000)
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(count)

    count()
    await kept.expire()
    assert kept.status()["entries"] == 0
    assert turns >= 4


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("10000000", 10_000_000), ("0005", 5)])
def test_how_many_entries_there_may_be(text: str, number: int) -> None:
    assert max_entries_of({"max_entries": text}) == number


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "10000001", "²", "٣", "1.5", "9" * 5000])
def test_how_many_there_may_not_be(text: str) -> None:
    with pytest.raises(ValueError, match="a number from 1 to 10000000"):
        max_entries_of({"max_entries": text})


def test_options_stand_in_a_query_once_each() -> None:
    assert options_of("", ("a",)) == {}
    assert options_of("a=1&b=", ("a", "b")) == {"a": "1", "b": ""}
    for query in ("c=1", "a=1&a=2", "a", "&", "=1"):
        with pytest.raises(ValueError, match="may stand, once each: a, b"):
            options_of(query, ("a", "b"))
