"""Revocations as a real Valkey has them: what is said last counts, and what has ended goes."""

from __future__ import annotations

import time

import pytest
from tests.servers.valkey import Valkey

from gatekit.mechanisms.denylist import LEEWAY, DenylistFull
from gatekit.mechanisms.revocation import read_revocation
from gatekit.stores.revocation_log import batches

from .scene import later, log_of, record, until

pytestmark = pytest.mark.servers


async def test_what_has_ended_is_taken_out_of_the_server_some_with_each_change(valkey: Valkey, part: str) -> None:
    server, log = log_of(valkey.url, part)
    ending = int(valkey_time(valkey)) - LEEWAY + 2
    await log.add([record(str(number), until=ending) for number in range(100)], "e" * 32)
    await log.add([record("stays", until=None)], "e" * 32)
    own = f"{part}:{{revocations}}"
    assert valkey.ask("ZCARD", f"{own}:ends") == b":101"
    await until(lambda: valkey_time(valkey) >= ending + LEEWAY)
    await log.add([record("one more")], "e" * 32)
    counts = {name: valkey.ask(command, f"{own}:{name}") for name, command in SIZES.items()}
    assert set(counts.values()) == {b":38"}
    await log.add([record("and another")], "e" * 32)
    assert {valkey.ask(command, f"{own}:{name}") for name, command in SIZES.items()} == {b":3"}
    await server.aclose()


SIZES = {"entries": "HLEN", "log": "ZCARD", "ends": "ZCARD"}


def valkey_time(valkey: Valkey) -> float:
    """The server's clock: the first line behind the count of its answer is the seconds."""
    return time.time() if valkey.ask("PING") == b"+PONG" else 0.0


async def test_a_full_server_refuses_and_keeps_what_it_has(valkey: Valkey, part: str) -> None:
    server, log = log_of(valkey.url, part, most=3)
    await log.add([record(str(number)) for number in range(3)], "e" * 32)
    with pytest.raises(DenylistFull, match="which is all it may have"):
        await log.add([record("4")], "e" * 32)
    await log.add([record("2", until=int(later()) + 5)], "e" * 32)
    assert await log.restore(record("2"))
    with pytest.raises(DenylistFull):
        await log.add([record("4")], "e" * 32)
    page = await log.read(0, "")
    assert len(page.texts) == 3
    await server.aclose()


async def test_what_is_filled_in_adds_and_contradicts_nothing(valkey: Valkey, part: str) -> None:
    server, log = log_of(valkey.url, part)
    end = int(later())

    async def known() -> list[tuple[str | None, int | None, bool]]:
        found = [read_revocation(text) for text in (await log.read(0, "")).texts]
        return sorted((one.value, one.until, one.restored) for one in found)

    await log.add([record("back"), record("short", until=end), record("long", until=end + 50)], "e" * 32)
    assert await log.restore(record("back", until=end, restored=True))
    before = await known()
    last = (await log.read(0, "")).last
    same = [record("back", until=end + 99), record("short", until=end), record("long", until=end)]
    await log.add(same, "f" * 32, missing=True)
    assert await known() == before == [("back", end, True), ("long", end + 50, False), ("short", end, False)]
    # Nothing was said, so nobody has to look.
    assert (await log.read(0, "")).last == last
    assert (await log.read(0, "")).epoch == "e" * 32
    await log.add([record("short", until=end + 9), record("new", until=None)], "f" * 32, missing=True)
    assert ("short", end + 9, False) in await known()
    assert ("new", None, False) in await known()
    # Whoever says it again means it.
    await log.add([record("back", until=end)], "f" * 32)
    assert ("back", end, False) in await known()
    await server.aclose()


async def test_numbers_only_go_up(valkey: Valkey, part: str) -> None:
    server, log = log_of(valkey.url, part)
    last = 0
    for number in range(20):
        await log.add([record(f"{number}a"), record(f"{number}b")], "e" * 32)
        page = await log.read(last, "e" * 32)
        assert page.last == page.upto > last
        assert [read_revocation(text).value for text in page.texts] == [f"{number}a", f"{number}b"]
        last = page.last
    assert (await log.read(last, "e" * 32)).texts == []
    assert len((await log.read(last, "f" * 32)).texts) == 40
    # A clock that was put back: the numbers go on all the same.
    valkey.ask("HSET", f"{part}:{{revocations}}:meta", "seq", str(last + 10**12))
    await log.add([record("c")], "e" * 32)
    assert (await log.read(last, "e" * 32)).last == last + 10**12 + 1
    await server.aclose()


async def test_a_lease_is_one_holders_until_it_is_over(valkey: Valkey, part: str) -> None:
    server, log = log_of(valkey.url, part)
    assert await log.lease("a", 5)
    assert await log.lease("a", 5)
    assert not await log.lease("b", 5)
    await log.release("b")
    assert not await log.lease("b", 5)
    await log.release("a")
    assert await log.lease("b", 5)
    await server.aclose()


def test_a_batch_has_so_many_at_most() -> None:
    assert [len(batch) for batch in batches([record(str(n)) for n in range(7)], 3)] == [3, 3, 1]
    assert list(batches([], 3)) == []
    assert [len(batch) for batch in batches([record(str(n)) for n in range(6)], 3)] == [3, 3]
