"""Revocations through a real Valkey: how soon, and what becomes of them when it goes away, comes back, or lies."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.servers.valkey import Valkey

from gatekit.clients.redis import RedisServer
from gatekit.errors import StoreUnavailable
from gatekit.mechanisms.denylist import LEEWAY, DenylistFull
from gatekit.mechanisms.revocation import Revocation, read_revocation
from gatekit.stores import kept as kept_module
from gatekit.stores import revocations_redis as module
from gatekit.stores.revocation_log import Page, RevocationLog, batches
from gatekit.stores.revocations_redis import RedisRevocations
from gatekit.testing import FaultProxy, Stall

from .scene import ShiftedClock, at_work, opened, until

pytestmark = pytest.mark.servers

SOON = 1.0
"""Seconds within which a revocation is in force everywhere."""


def later() -> float:
    return time.time() + 3600


def record(jti: str, **given: Any) -> Revocation:
    return Revocation("jti", jti, until=given.pop("until", int(later())), at=1, **given)


def log_of(url: str, prefix: str, most: int = 2_000_000) -> tuple[RedisServer, RevocationLog]:
    server = RedisServer(url)
    return server, RevocationLog(server, prefix, most)


def connected(store: Any) -> Callable[[], bool]:
    return lambda: bool(store.status()["connected"])


def copies(folder: Path) -> list[Path]:
    return list(folder.iterdir())


# -- how soon


class Subscriber:
    """A process that follows the store."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.subscriber", url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, jti: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(jti + "\n")
        self.process.stdin.flush()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        # It ends when there is nothing more to read, which is also what happens when we die.
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def two_subscribers(redis_url: str) -> Iterator[list[Subscriber]]:
    found = [Subscriber(redis_url), Subscriber(redis_url)]
    yield found
    for one in found:
        one.close()


async def test_an10_it_is_in_force_in_other_processes_within_a_second(
    two_subscribers: list[Subscriber], redis_url: str
) -> None:
    publisher = opened(redis_url)
    waited = []
    for number in range(20):
        for one in two_subscribers:
            one.ask(str(number))
        begun = time.monotonic()
        await publisher.revoke(jti=str(number), until=later())
        waited += [float(await asyncio.to_thread(one.line)) - begun for one in two_subscribers]
    await publisher.aclose()
    assert max(waited) <= SOON


async def test_an10_a_message_that_is_lost_delays_it_by_half_a_second(
    valkey: Valkey, redis_url: str, part: str
) -> None:
    store = opened(redis_url)
    server, log = log_of(valkey.url, part)
    log.channel = "where nobody listens"
    async with at_work(store):
        for number in range(3):
            begun = time.monotonic()
            await log.add([record(str(number))], "e" * 32)
            await until(partial(store.revoked, {"jti": str(number)}))
            assert time.monotonic() - begun <= SOON
    await server.aclose()


async def test_an10_subscribers_that_are_thrown_out_come_back(valkey: Valkey, redis_url: str) -> None:
    store, publisher = opened(redis_url), opened(redis_url)
    async with at_work(store):
        for number in range(3):
            valkey.ask("CLIENT", "KILL", "TYPE", "pubsub")
            begun = time.monotonic()
            await publisher.revoke(jti=str(number), until=later())
            await until(partial(store.revoked, {"jti": str(number)}))
            assert time.monotonic() - begun <= SOON
    await publisher.aclose()


async def test_the_channel_alone_brings_it_as_well(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASK_EVERY", 30.0)
    monkeypatch.setattr(module, "SILENCE", 60.0)
    store, publisher = opened(redis_url), opened(redis_url)
    async with at_work(store):
        for number in range(5):
            begun = time.monotonic()
            await publisher.revoke(jti=str(number), until=later())
            await until(partial(store.revoked, {"jti": str(number)}))
            assert time.monotonic() - begun <= SOON
    await publisher.aclose()


@pytest.mark.parametrize(
    "message",
    [b"", b"\xff\xfe", b"-1", b"9" * 5000, b"nan", b'{"kind":"all","before":9,"at":1}', b"x" * 100_000, "٣".encode()],
)
async def test_garbage_on_the_channel_revokes_nothing_and_harms_nothing(
    valkey: Valkey, redis_url: str, part: str, message: bytes
) -> None:
    store, publisher = opened(redis_url), opened(redis_url)
    async with at_work(store):
        for _ in range(20):
            valkey.ask("PUBLISH", f"{part}:{{revocations}}:news:0", message)
        assert store.revoked({"jti": "a", "iat": 1}) is None
        await publisher.revoke(jti="a", until=later())
        assert await until(lambda: store.revoked({"jti": "a"})) <= SOON
        assert store.status()["connected"]
    await publisher.aclose()


async def test_garbage_among_the_entries_is_passed_over_and_told_once(
    valkey: Valkey, redis_url: str, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = opened(redis_url)
    for number in range(4):
        await publisher.revoke(jti=str(number), until=later())
    entries = f"{part}:{{revocations}}:entries"
    valkey.ask("HSET", entries, record("1").name, "{")
    valkey.ask("HSET", entries, record("2").name, b"\xff")
    valkey.ask("HDEL", entries, record("3").name)
    store = opened(redis_url)
    async with at_work(store):
        assert store.revoked({"jti": "0"}) == "jti"
        assert store.status()["entries"] == 1
        assert store.status()["refused"] == 2
        await publisher.revoke(jti="1", until=later() + 1)
        await until(lambda: store.revoked({"jti": "1"}))
    await publisher.aclose()
    assert [r.message for r in caplog.records if "passed over" in r.message] == [
        f"redis://127.0.0.1:{valkey.port}/0 has entries that are no revocations; they are passed over"
    ]


async def test_a_key_of_another_type_leaves_in_force_what_is_known(valkey: Valkey, redis_url: str, part: str) -> None:
    store = opened(redis_url)
    async with at_work(store):
        await store.revoke(jti="a", until=later())
        log = f"{part}:{{revocations}}:log"
        valkey.ask("DEL", log)
        valkey.ask("SET", log, "x")
        await until(lambda: store.status()["trouble"])
        assert "WRONGTYPE" in store.status()["trouble"] or "ResponseError" in store.status()["trouble"]
        assert store.revoked({"jti": "a"}) == "jti"
        with pytest.raises(StoreUnavailable):
            await store.revoke(jti="b", until=later())
        valkey.ask("DEL", log)
        await until(lambda: store.status()["connected"])


# -- the server goes away


async def test_an10_a_server_that_is_killed_leaves_the_list_in_force_and_learns_it_anew(
    own_valkey: list[Valkey],
) -> None:
    url = own_valkey[0].url
    store = opened(url)
    async with at_work(store):
        for number in range(300):
            await store.revoke(jti=str(number), until=later())
        await store.revoke(sub="ann", iss="https://a.example", issued_before=10, until=later())
        await store.revoke(jti="mistake", until=later())
        assert await store.restore(jti="mistake")
        own_valkey[0].kill()
        await until(lambda: not store.status()["connected"])
        assert store.revoked({"jti": "7"}) == "jti"
        with pytest.raises(StoreUnavailable) as caught:
            await store.revoke(jti="x", until=later())
        assert "127.0.0.1" in str(caught.value)
        own_valkey.append(own_valkey[0].again())
        back = await until(lambda: store.status()["connected"])
        assert back <= 2.0
        assert store.revoked({"jti": "7"}) == "jti"
        await until(lambda: not store.status()["filling"])
        # Who starts now, from nothing, knows it all: the server lost it, the instances did not.
        newcomer = opened(url)
        async with at_work(newcomer):
            assert newcomer.revoked({"sub": "ann", "iss": "https://a.example", "iat": 9}) == "issued_before"
            assert newcomer.revoked({"sub": "ann", "iss": "https://a.example", "iat": 10}) is None
            assert all(newcomer.revoked({"jti": str(number)}) == "jti" for number in range(300))
            assert newcomer.revoked({"jti": "mistake"}) is None
            assert newcomer.status()["entries"] == 301
            # What was filled in without its text is known by the same name.
            assert await newcomer.restore(jti="7")
            await until(lambda: store.revoked({"jti": "7"}) is None)
            await newcomer.revoke(jti="new", until=later())
            assert await until(lambda: store.revoked({"jti": "new"})) <= SOON


async def test_an10_a_server_that_comes_back_with_old_data_learns_the_rest(own_valkey: list[Valkey]) -> None:
    url = own_valkey[0].url
    store, other = opened(url), opened(url)
    async with at_work(store, other):
        await store.revoke(jti="saved", until=later())
        await store.revoke(jti="taken back", until=later())
        assert own_valkey[0].ask("SAVE") == b"+OK"
        await store.revoke(jti="lost", until=later())
        await store.restore(jti="taken back")
        await until(lambda: other.revoked({"jti": "lost"}) and not other.revoked({"jti": "taken back"}))
        own_valkey[0].kill()
        await until(lambda: not store.status()["connected"] and not other.status()["connected"])
        own_valkey.append(own_valkey[0].again())
        await until(lambda: store.status()["connected"] and other.status()["connected"])
        await until(lambda: not store.status()["filling"] and not other.status()["filling"])
        newcomer = opened(url)
        async with at_work(newcomer):
            assert newcomer.revoked({"jti": "saved"}) == newcomer.revoked({"jti": "lost"}) == "jti"
        await store.revoke(jti="after", until=later())
        assert await until(lambda: other.revoked({"jti": "after"})) <= SOON


async def test_data_that_are_deleted_under_a_running_server_are_filled_in_again(own_valkey: list[Valkey]) -> None:
    store = opened(own_valkey[0].url)
    async with at_work(store):
        await store.revoke(jti="a", until=later())
        await until(lambda: store.status()["seq"] > 0)
        own_valkey[0].ask("FLUSHALL")
        newcomer = opened(own_valkey[0].url)
        async with at_work(newcomer):
            await until(lambda: newcomer.revoked({"jti": "a"}))
            assert store.revoked({"jti": "a"}) == "jti"
            assert await newcomer.restore(jti="a")
            await until(lambda: store.revoked({"jti": "a"}) is None)


async def test_one_instance_after_the_other_fills_in_what_it_alone_knows(own_valkey: list[Valkey]) -> None:
    url = own_valkey[0].url
    stores = [opened(url) for _ in range(3)]
    for number, store in enumerate(stores):
        await store.revoke(jti=str(number), until=later())
        await store.aclose()
        own_valkey[-1].ask("FLUSHALL")
    for number, store in enumerate(stores):
        assert [store.revoked({"jti": str(n)}) is not None for n in range(3)] == [n == number for n in range(3)]
    async with at_work(*stores):
        await until(lambda: all(store.revoked({"jti": str(n)}) for store in stores for n in range(3)))
        await until(lambda: not any(store.status()["filling"] for store in stores))


async def test_an10_a_server_that_hangs_is_noticed_within_two_seconds(own_valkey: list[Valkey]) -> None:
    store = opened(own_valkey[0].url)
    async with at_work(store):
        await store.revoke(jti="a", until=later())
        own_valkey[0].pause()
        assert await until(lambda: not store.status()["connected"]) <= 2.0
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"did not answer within 2 s"):
            await store.revoke(jti="b", until=later())
        assert time.monotonic() - begun < 3.0
        assert store.status()["stale"]
        assert store.revoked({"jti": "a"}) == "jti"
        own_valkey[0].resume()
        await until(lambda: store.status()["connected"])
        assert store.status()["trouble"] is None
        await store.revoke(jti="c", until=later())


PARTITIONS = {"the channel": 1, "the questions": 2}


@pytest.mark.parametrize("which", PARTITIONS)
async def test_an10_a_connection_that_leads_nowhere_is_noticed_within_two_seconds(
    valkey: Valkey, part: str, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Half open: nothing comes any more, and nobody says so."""
    stalled = Stall("response", after=9000, both=True)
    async with FaultProxy(
        f"127.0.0.1:{valkey.port}", lambda number: [stalled] if number == PARTITIONS[which] else []
    ) as proxy:
        store, publisher = (
            opened(f"redis://127.0.0.1:{proxy.port}/0?prefix={part}"),
            opened(f"{valkey.url}?prefix={part}"),
        )
        caplog.set_level(logging.WARNING, "gatekit.revocations")
        async with at_work(store):
            await publisher.revoke(jti="before", until=later())
            await until(lambda: store.revoked({"jti": "before"}))
            caplog.clear()
            number = 0
            while not proxy.faults_done:
                number += 1
                await publisher.revoke(jti=str(number), until=later())
            begun = time.monotonic()
            await publisher.revoke(jti="during", until=later())
            await until(lambda: caplog.records)
            assert time.monotonic() - begun <= 2.0
            assert store.revoked({"jti": "before"}) == "jti"
            await until(lambda: store.revoked({"jti": "during"}))
            assert time.monotonic() - begun <= 3.0
            await proxy.wait_for(lambda proxy: proxy.connections >= 3)
        await publisher.aclose()


# -- what the server keeps


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


async def test_two_databases_and_two_prefixes_know_nothing_of_each_other(valkey: Valkey, part: str) -> None:
    urls = [f"redis://127.0.0.1:{valkey.port}/{number}?prefix={part}{name}" for number in (0, 3) for name in ("", "x")]
    stores = [opened(url) for url in urls]
    async with at_work(*stores):
        for number, store in enumerate(stores):
            await store.revoke(jti=str(number), until=later())
        for number, store in enumerate(stores):
            await until(connected(store))
            assert [store.revoked({"jti": str(n)}) is not None for n in range(4)] == [n == number for n in range(4)]


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


async def test_a_server_that_may_not_be_asked_about_itself_is_followed_all_the_same(own_valkey: list[Valkey]) -> None:
    own_valkey[0].ask("ACL", "SETUSER", "gate", "on", ">secret", "~*", "&*", "+@all", "-info")
    store = opened(own_valkey[0].url.replace("//", "//gate:secret@"))
    async with at_work(store):
        await store.revoke(jti="a", until=later())
        await until(lambda: store.status()["seq"] > 0)
        assert store.status()["connected"]
    assert "secret" not in repr(store) + json.dumps(store.status())


# -- the copy on the disk, and the start


def save_of(store: Any) -> Any:
    return next(job for job in store.jobs() if job.key[-1] == "save").run


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOAD_SECONDS", 0.05)


@pytest.mark.usefixtures("no_patience")
async def test_an10_a_start_without_the_server_has_the_list_from_the_disk(
    own_valkey: list[Valkey], tmp_path: Path
) -> None:
    url = own_valkey[0].url
    store = opened(url, disk=tmp_path / "state")
    async with at_work(store):
        await store.revoke(jti="a", until=later())
        await store.revoke(sub="ann", issued_before=10, until=None)
        await until(lambda: store.status()["seq"] > 0)
        await save_of(store)()
    own_valkey[0].kill()
    cold = opened(url, disk=tmp_path / "state")
    async with at_work(cold):
        assert cold.loaded() is None
        assert cold.revoked({"jti": "a"}) == "jti"
        assert cold.revoked({"sub": "ann", "iat": 9}) == "issued_before"
        assert cold.revoked({"sub": "ann", "iat": 11}) is None
        status = cold.status()
        assert (status["connected"], status["stale"], status["entries"]) == (False, True, 2)
        # And a server without data learns it from there.
        own_valkey.append(own_valkey[0].again())
        await until(lambda: cold.status()["connected"] and not cold.status()["filling"])
        newcomer = opened(url)
        async with at_work(newcomer):
            await until(lambda: newcomer.revoked({"jti": "a"}))


async def test_a_start_with_a_copy_reads_only_what_is_newer(valkey: Valkey, redis_url: str, tmp_path: Path) -> None:
    store = opened(redis_url, disk=tmp_path)
    async with at_work(store):
        for number in range(20):
            await store.revoke(jti=str(number), until=later())
        await store.revoke(jti="taken back", until=later())
        await until(lambda: store.status()["seq"] > 0)
        seq = store.status()["seq"]
        await until(lambda: store.status()["seq"] >= seq)
        await save_of(store)()
        await store.restore(jti="taken back")
        await store.revoke(jti="new", until=later())
    copied = opened(redis_url, disk=tmp_path)
    asked = []
    read = copied._shared.read

    async def noted(since: int, epoch: str) -> Any:
        page = await read(since, epoch)
        asked.append((since, len(page.texts)))
        return page

    copied._shared.read = noted
    async with at_work(copied):
        assert copied.revoked({"jti": "new"}) == "jti"
        assert copied.revoked({"jti": "7"}) == "jti"
        assert copied.revoked({"jti": "taken back"}) is None
    assert asked[0][0] > 0
    assert sum(count for _, count in asked) < 20


async def test_it_is_saved_when_it_is_different_and_only_then(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(redis_url, disk=tmp_path)
    async with at_work(store):
        await save_of(store)()
        assert copies(tmp_path) == []
        await store.revoke(jti="a", until=later())
        await save_of(store)()
        (copy,) = copies(tmp_path)
        copy.unlink()
        await save_of(store)()
        assert copies(tmp_path) == []
        await store.restore(jti="a")
        await save_of(store)()
        assert len(copies(tmp_path)) == 1
    job = next(job for job in store.jobs() if job.key[-1] == "save")
    assert job.first_after == module.SAVE_EVERY
    assert job.interval() >= module.SAVE_EVERY
    # Saving that takes long is done more seldom.
    monkeypatch.setattr(module, "SAVE_EVERY", 0.0)
    store._kept.changes += 1
    await save_of(store)()
    assert 0 < job.interval() < 60


@pytest.mark.usefixtures("no_patience")
async def test_a_copy_of_another_version_is_not_used(
    own_valkey: list[Valkey], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own_valkey[0].kill()
    store = opened(own_valkey[0].url, disk=tmp_path / "state")
    assert isinstance(store, RedisRevocations)
    disk = store._ports.disk
    assert disk is not None
    await disk.save(store._name, b'{"format": 99}\n')
    async with at_work(store):
        assert store.status()["entries"] == 0
    assert "another version" in caplog.text


@pytest.mark.usefixtures("no_patience")
async def test_a_start_with_neither_server_nor_copy_goes_on_without_and_says_so(
    own_valkey: list[Valkey], caplog: pytest.LogCaptureFixture
) -> None:
    own_valkey[0].kill()
    store = opened(own_valkey[0].url)
    async with at_work(store):
        assert store.loaded() is None
        assert store.revoked({"jti": "a"}) is None
        assert "requests are served with the 0 revocations that are known" in caplog.text
        assert not store.status()["connected"]


async def test_waiting_for_the_list_ends_as_soon_as_it_is_there(redis_url: str) -> None:
    publisher = opened(redis_url)
    for number in range(600):
        await publisher.revoke(jti=str(number), until=later())
    await publisher.aclose()
    store = opened(redis_url)
    async with at_work(store, wait=False):
        waiting = [store.loaded() for _ in range(3)]
        assert all(one is not None for one in waiting)
        await asyncio.gather(*waiting)
        assert all(store.revoked({"jti": str(number)}) for number in range(600))
        assert store.loaded() is None


@pytest.mark.timeout(120)
async def test_an10_a_hundred_thousand_are_read_at_the_start(valkey: Valkey, redis_url: str, part: str) -> None:
    server, log = log_of(valkey.url, part)
    for begin in range(0, 100_000, 1000):
        await log.add([record(str(number)) for number in range(begin, begin + 1000)], "e" * 32)
    await server.aclose()
    store = opened(redis_url)
    async with at_work(store, wait=False):
        took = await until(lambda: store.status()["entries"] == 100_000 and store.loaded() is None, patience=60)
    assert all(store.revoked({"jti": str(number)}) for number in range(0, 100_000, 1000))
    assert took < 60


# -- whose loop it is


async def test_of_two_loops_one_follows_and_the_other_takes_over(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module.Helm, "PATIENCE", 0.5)
    store, publisher = opened(redis_url), opened(redis_url)

    async def in_another_loop() -> bool:
        async with at_work(store):
            return bool(store.status()["connected"])

    async with at_work(store):
        assert await asyncio.to_thread(lambda: asyncio.run(in_another_loop()))
        await publisher.revoke(jti="a", until=later())
        await until(lambda: store.revoked({"jti": "a"}))
    assert not store.status()["connected"]

    def one_that_is_left_as_it_is() -> None:
        """As in the child of a fork: somebody has the helm who will never come back."""
        assert store._helm.take() is not None

    one_that_is_left_as_it_is()
    async with at_work(store, wait=False):
        await publisher.revoke(jti="b", until=later())
        await until(lambda: store.revoked({"jti": "b"}))
    await publisher.aclose()


async def test_whoever_waits_for_the_list_once_for_all_may_do_so_under_any_key(
    valkey: Valkey, redis_url: str, tmp_path: Path
) -> None:
    """Single flight within single flight: the same key for both would wait for itself."""
    store = opened(redis_url, disk=tmp_path)
    async with at_work(store, wait=False):
        async with asyncio.timeout(10):
            await store._ports.once(("revocations", store), store.loaded)
    assert store.loaded() is None


async def test_a_copy_that_another_loop_reads_is_waited_for(valkey: Valkey, redis_url: str, tmp_path: Path) -> None:
    publisher = opened(redis_url, disk=tmp_path)
    async with at_work(publisher):
        for number in range(300):
            await publisher.revoke(jti=str(number), until=later())
        await save_of(publisher)()
    store = opened(redis_url, disk=tmp_path)
    await asyncio.gather(store._load(), store._load(), asyncio.to_thread(lambda: asyncio.run(store._load())))
    assert store.status()["entries"] == 300


async def test_two_servers_behind_one_name_are_an_outage(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(redis_url)
    pages = [Page(name * 32, 5, 5, []) for name in "abababab"]

    async def one_after_the_other(since: int, epoch: str) -> Page:
        return pages.pop()

    monkeypatch.setattr(store._shared, "read", one_after_the_other)
    with pytest.raises(StoreUnavailable, match="has other data whenever it is asked"):
        await store._pull(store._helm.take())


async def test_what_a_full_server_does_not_learn_is_told(
    own_valkey: list[Valkey], caplog: pytest.LogCaptureFixture
) -> None:
    url = own_valkey[0].url
    store, small = opened(url), opened(f"{url}?max_entries=2")
    for number in range(2):
        await small.revoke(jti=str(number), until=later())
    await small.aclose()
    own_valkey[0].ask("FLUSHALL")
    for number in range(2, 4):
        await store.revoke(jti=str(number), until=later())
    async with at_work(small):
        await until(lambda: small.status()["connected"] and not small.status()["filling"])
        assert small.revoked({"jti": "anything"}) == "list_full"
    await store.aclose()
    assert "an instance that starts now does not learn of everything that is revoked" in caplog.text


async def test_a_long_list_is_filled_in_while_revocations_go_on(own_valkey: list[Valkey]) -> None:
    """And the channel is not taken for broken, however long that takes."""
    url = own_valkey[0].url
    server, log = log_of(url, "gatekit")
    for begin in range(0, 10_000, 1000):
        await log.add([record(str(number)) for number in range(begin, begin + 1000)], "e" * 32)
    await server.aclose()
    store, other = opened(url), opened(url)
    async with at_work(store, other):
        await until(lambda: store.status()["entries"] == other.status()["entries"] == 10_000)
        own_valkey[0].ask("FLUSHALL")
        await until(lambda: store.status()["filling"] or other.status()["filling"])
        begun, number = time.monotonic(), 0
        while store.status()["filling"] or other.status()["filling"]:
            assert time.monotonic() < begun + 40
            number += 1
            await store.revoke(jti=f"meanwhile {number}", until=later())
            assert await until(partial(other.revoked, {"jti": f"meanwhile {number}"})) <= SOON
        assert store.status()["trouble"] is other.status()["trouble"] is None
        newcomer = opened(url)
        async with at_work(newcomer):
            await until(lambda: newcomer.status()["entries"] == 10_000 + number)


async def test_whoever_lost_the_helm_takes_nothing_in_any_more(redis_url: str) -> None:
    store = opened(redis_url)
    publisher = opened(redis_url)
    await publisher.revoke(jti="a", until=later())
    await publisher.aclose()
    lost = store._helm.take()
    read = store._shared.read

    async def slow(since: int, epoch: str) -> Any:
        page = await read(since, epoch)
        store._helm.leave(lost)
        assert store._helm.take() is not None
        return page

    store._shared.read = slow
    await store._pull(lost)
    assert store.revoked({"jti": "a"}) is None
    await store.aclose()


async def test_whoever_lost_the_helm_fills_in_nothing_more(redis_url: str) -> None:
    store = opened(redis_url)
    await store.revoke(jti="a", until=later())
    holder = store._helm.take()
    add, filled = store._shared.add, []

    async def lost(batch: Any, epoch: str, *, missing: bool) -> None:
        filled.append(len(batch))
        await add(batch, epoch, missing=missing)
        store._helm.leave(holder)

    store._shared.add = lost
    store._fill_from = record("a").key & 255
    assert not await store._fill(holder)
    assert filled == [1]
    assert store._fill_from is not None
    await store.aclose()


async def test_whoever_lost_the_helm_leaves_the_server(redis_url: str) -> None:
    store = opened(redis_url)
    async with at_work(store):
        follow = asyncio.create_task(store._follow())
        await follow
        held = store._helm._holder
        store._helm.leave(held)
        assert store._helm.take() is not None
        await until(lambda: not store.status()["connected"])


async def test_a_channel_that_says_nothing_is_broken(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE", -1.0)
    store = opened(redis_url)
    async with store._server.listening("anything") as listener:
        with pytest.raises(StoreUnavailable, match="says nothing on its channel any more"):
            await store._wait_for_news(listener, 0.01)
    await store.aclose()


def test_a_batch_has_so_many_at_most() -> None:
    assert [len(batch) for batch in batches([record(str(n)) for n in range(7)], 3)] == [3, 3, 1]
    assert list(batches([], 3)) == []
    assert [len(batch) for batch in batches([record(str(n)) for n in range(6)], 3)] == [3, 3]


def test_a_list_outlives_the_loop_it_was_read_in(redis_url: str) -> None:
    store = opened(redis_url)

    async def revoke(jti: str) -> None:
        async with at_work(store):
            await store.revoke(jti=jti, until=later())

    for jti in "ab":
        asyncio.run(revoke(jti))
    assert store.revoked({"jti": "a"}) == store.revoked({"jti": "b"}) == "jti"


# -- words


@pytest.mark.parametrize("prefix", ["", "a b", "a{b}", "x" * 65, "é"])
def test_a_prefix_is_a_plain_word(prefix: str) -> None:
    from urllib.parse import quote

    with pytest.raises(ValueError, match="a prefix is 1 to 64"):
        opened(f"redis://host?prefix={quote(prefix)}")


async def test_no_value_is_in_what_is_logged_or_raised(
    own_valkey: list[Valkey], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = opened(own_valkey[0].url.replace("//", "//:hunter2@"))
    with pytest.raises(StoreUnavailable) as caught:
        await store.revoke(sub="ann@example.com", until=later())
    await store.aclose()
    said = caplog.text + str(caught.value) + repr(caught.value.__cause__)
    assert "ann@" not in said
    assert "hunter2" not in said


async def test_the_clock_of_an_instance_says_what_has_ended(redis_url: str) -> None:
    clock = ShiftedClock()
    store, publisher = opened(redis_url, clock), opened(redis_url)
    await publisher.revoke(jti="a", until=time.time() + 60)
    clock.shift = 60 + LEEWAY + 10
    async with at_work(store):
        assert store.status()["entries"] == 0
    await publisher.aclose()
