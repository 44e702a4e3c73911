"""Revocations through a real Valkey: how soon they are in force, and what becomes of garbage."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.servers.valkey import Valkey

from gatekit.errors import StoreUnavailable
from gatekit.mechanisms.denylist import LEEWAY
from gatekit.stores import revocations_redis as module

from .scene import SOON, ShiftedClock, at_work, connected, later, log_of, opened, record, until

pytestmark = pytest.mark.servers


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


async def test_two_databases_and_two_prefixes_know_nothing_of_each_other(valkey: Valkey, part: str) -> None:
    urls = [f"redis://127.0.0.1:{valkey.port}/{number}?prefix={part}{name}" for number in (0, 3) for name in ("", "x")]
    stores = [opened(url) for url in urls]
    async with at_work(*stores):
        for number, store in enumerate(stores):
            await store.revoke(jti=str(number), until=later())
        for number, store in enumerate(stores):
            await until(connected(store))
            assert [store.revoked({"jti": str(n)}) is not None for n in range(4)] == [n == number for n in range(4)]


async def test_a_server_that_may_not_be_asked_about_itself_is_followed_all_the_same(own_valkey: list[Valkey]) -> None:
    own_valkey[0].ask("ACL", "SETUSER", "gate", "on", ">secret", "~*", "&*", "+@all", "-info")
    store = opened(own_valkey[0].url.replace("//", "//gate:secret@"))
    async with at_work(store):
        await store.revoke(jti="a", until=later())
        await until(lambda: store.status()["seq"] > 0)
        assert store.status()["connected"]
    assert "secret" not in repr(store) + json.dumps(store.status())


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
