"""Plans in Valkey: every instance knows of a change within a second, and goes on with what it knew when the server is away."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.servers.valkey import Valkey

from gatekit.clients.disk import StateDirectory
from gatekit.core.ports import Ports
from gatekit.errors import StoreUnavailable
from gatekit.gateway.loop_thread import LoopThread
from gatekit.gateway.runtime import LoopRuntime
from gatekit.gateway.shared import Shared
from gatekit.gateway.system import SystemClock, SystemRandom
from gatekit.stores import SystemStores, plans_redis
from gatekit.stores.plans_redis import EVERY, RELOAD_EVERY, SAVE_EVERY, RedisPlans
from gatekit.testing import FakeDisk, ManualClock, SeededRandom, test_ports

from .scene import until

pytestmark = pytest.mark.servers


def ports(disk: Any = None) -> Ports:
    return Ports(clock=SystemClock(), random=SystemRandom(), once=Shared(), disk=disk)


def opened(url: str, disk: Any = None) -> RedisPlans:
    """Whoever looks at the server does so when the test says so."""
    return RedisPlans(url, test_ports(clock=ManualClock(), random=SeededRandom(), disk=disk))


@asynccontextmanager
async def looking(*stores: RedisPlans) -> AsyncIterator[None]:
    try:
        for store in stores:
            await store.refresh()
        yield
    finally:
        for store in stores:
            await store.aclose()


async def test_what_is_in_the_hash_is_known(valkey: Valkey, redis_url: str, part: str) -> None:
    valkey.ask("HSET", f"{part}:plans", "acme", "pro", "globex", "9000/minute", "é", "basic")
    store = opened(redis_url)
    assert store.find("acme") is None
    async with looking(store):
        found = [store.find(name) for name in ("acme", "globex", "é", "ACME", "nobody", "")]
        assert found == ["pro", "9000/minute", "basic", None, None, None]
        assert {**store.status(), "age": 0} == {
            "store": valkey.url, "entries": 3, "age": 0, "stale": False, "trouble": None, "refused": 0,
        }  # fmt: skip


async def test_the_word_before_it_is_gatekit_where_nothing_else_is_said(valkey: Valkey) -> None:
    valkey.ask("HSET", "gatekit:plans", "acme", "pro")
    store = opened(valkey.url)
    async with looking(store):
        assert store.find("acme") == "pro"
    valkey.ask("DEL", "gatekit:plans")


async def test_what_one_instance_sets_and_removes_another_knows_by_its_next_look(redis_url: str) -> None:
    one, other = opened(redis_url), opened(redis_url)
    async with looking(one, other):
        await one.set("acme", "pro")
        await one.set("globex", "9000/minute")
        assert (one.find("acme"), other.find("acme")) == ("pro", None)
        await other.refresh()
        assert (other.find("acme"), other.find("globex")) == ("pro", "9000/minute")
        await one.set("acme", "basic")
        assert await one.remove("globex") is True
        assert await one.remove("globex") is False
        await other.refresh()
        assert (other.find("acme"), other.find("globex")) == ("basic", None)
        assert other.status()["entries"] == 1


async def test_only_what_was_changed_is_read(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = opened(redis_url), opened(redis_url)
    async with looking(one, other):
        await one.set("acme", "pro")
        await other.refresh()
        asked: list[tuple[Any, ...]] = []
        original = other._server.ask

        async def ask(*command: Any, timeout: float | None = None) -> Any:
            asked.append(command)
            return await original(*command, timeout=timeout)

        monkeypatch.setattr(other._server, "ask", ask)
        await other.refresh()
        assert [command[0] for command in asked] == ["GET"]
        asked.clear()
        for number in range(3):
            await one.set("globex", str(number + 1))
        await one.remove("acme")
        await other.refresh()
        assert [command[0] for command in asked] == ["GET", "ZRANGEBYSCORE", "HMGET"]
        assert set(asked[2][2:]) == {b"acme", b"globex"}
        assert (other.find("acme"), other.find("globex")) == (None, "3")
        # Who has missed more than the server remembers reads everything.
        asked.clear()
        monkeypatch.setattr(plans_redis, "REMEMBERED", 2)
        for number in range(3):
            await one.set(str(number), "pro")
        await other.refresh()
        assert [command[0] for command in asked] == ["GET", "HLEN", "HSCAN"]
        assert other.find("0") == "pro"


async def test_the_server_remembers_so_many_changes_and_no_more(
    valkey: Valkey, redis_url: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans_redis, "REMEMBERED", 3)
    store = opened(redis_url)
    async with looking(store):
        for number in range(10):
            await store.set(str(number), "pro")
        assert valkey.ask("ZCARD", f"{{{part}:plans}}:changes") == b":3"


async def test_a_hash_that_is_changed_without_a_word_is_read_after_a_while(
    valkey: Valkey, redis_url: str, part: str
) -> None:
    clock = ManualClock()
    store = RedisPlans(redis_url, test_ports(clock=clock))
    valkey.ask("HSET", f"{part}:plans", "acme", "pro")
    async with looking(store):
        valkey.ask("HSET", f"{part}:plans", "acme", "basic")
        valkey.ask("HSET", f"{part}:plans", "globex", "pro")
        await store.refresh()
        assert store.find("acme") == "pro"
        clock.advance(RELOAD_EVERY * 1.25)
        await store.refresh()
        assert (store.find("acme"), store.find("globex")) == ("basic", "pro")
        valkey.ask("HDEL", f"{part}:plans", "globex")
        clock.advance(RELOAD_EVERY * 1.25)
        await store.refresh()
        assert (store.find("acme"), store.find("globex")) == ("basic", None)


async def test_many_pages_are_read_to_the_end(
    valkey: Valkey, redis_url: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans_redis, "PIECE", 50)
    words = [word for number in range(1000) for word in (f"tenant-{number}", f"plan-{number % 7}")]
    valkey.ask("HSET", f"{part}:plans", *words)
    one, other = opened(redis_url), opened(redis_url)
    async with looking(one, other):
        assert one.status()["entries"] == 1000
        assert [one.find(f"tenant-{number}") for number in (0, 999)] == ["plan-0", "plan-5"]
        # Many changes too.
        for number in range(120):
            await one.set(f"tenant-{number}", "pro")
        await other.refresh()
        assert {other.find(f"tenant-{number}") for number in range(120)} == {"pro"}


async def test_entries_that_are_no_plans_are_passed_over_and_told_once(
    valkey: Valkey, redis_url: str, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    valkey.ask(
        "HSET", f"{part}:plans", "acme", "pro", "", "pro", "a", "", "b", "   ", b"\xff", "pro", "c", b"\xff",
        "n" * 513, "pro", "d", "x" * 1025,
    )  # fmt: skip
    store = RedisPlans(redis_url, test_ports(clock=clock))
    async with looking(store):
        clock.advance(RELOAD_EVERY * 2)
        await store.refresh()
        assert (store.find("acme"), store.status()["entries"], store.status()["refused"]) == ("pro", 1, 7)
    assert [one.getMessage().partition(" has ")[2] for one in caplog.records] == [
        "7 entries that are no plans; they are passed over"
    ]


@pytest.mark.parametrize(("name", "plan"), [("", "pro"), ("a" * 513, "pro"), ("a", ""), ("a", " "), ("a", "x" * 1025)])
async def test_what_is_no_entry_is_not_set(name: str, plan: str) -> None:
    with pytest.raises(ValueError, match=r"a name is|a plan is"):
        await opened("redis://nowhere.invalid").set(name, plan)


async def test_there_is_no_room_for_more_than_there_may_be(
    valkey: Valkey, redis_url: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans_redis, "MAX_ENTRIES", 2)
    store = opened(redis_url)
    async with looking(store):
        await store.set("a", "pro")
        await store.set("b", "pro")
        with pytest.raises(ValueError, match="room for 2 plans"):
            await store.set("c", "pro")
        await store.set("a", "basic")
        assert (store.find("a"), store.find("c")) == ("basic", None)
        # Somebody else does not ask.
        valkey.ask("HSET", f"{part}:plans", "c", "pro")
        late = opened(redis_url)
        await late.refresh()
        assert "has 3 plans, and there is room for 2" in late.status()["trouble"]
        assert (late.find("a"), late.status()["stale"]) == (None, True)
        await late.refresh()
        assert late.status()["trouble"] is not None
        await store.remove("c")
        await late.refresh()
        assert late.status()["trouble"] is not None
        late._clock.advance(RELOAD_EVERY * 2)  # type: ignore[attr-defined]
        await late.refresh()
        assert (late.find("a"), late.status()["trouble"], late.status()["stale"]) == ("basic", None, False)
        await late.aclose()


async def test_more_than_there_is_room_for_is_not_taken_in(
    valkey: Valkey, redis_url: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    store = RedisPlans(redis_url, test_ports(clock=clock))
    valkey.ask("HSET", f"{part}:plans", "acme", "pro")
    async with looking(store):
        valkey.ask("HSET", f"{part}:plans", "acme", "basic")
        monkeypatch.setattr(plans_redis, "MAX_BYTES", 8)
        clock.advance(RELOAD_EVERY * 2)
        await store.refresh()
        assert store.find("acme") == "pro"
        assert "more plans than 8 bytes" in store.status()["trouble"]


# -- a server that is away


async def test_plans_stay_while_the_server_is_away_and_it_is_told_since_when(
    own_valkey: list[Valkey], caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    store = RedisPlans(f"{own_valkey[0].url}?timeout=0.2", test_ports(clock=clock))
    async with looking(store):
        await until_answered(lambda: store.set("acme", "pro"))
        await until_looked(store)
        own_valkey[0].pause()
        clock.advance(3)
        begun = time.monotonic()
        await store.refresh()
        assert time.monotonic() - begun < 5.0
        with pytest.raises(StoreUnavailable):
            await store.set("acme", "basic")
        assert (store.find("acme"), store.status()["age"], store.status()["stale"]) == ("pro", 3.0, False)
        assert "did not answer within 0.2 s" in store.status()["trouble"]
        clock.advance(3)
        assert (store.status()["age"], store.status()["stale"]) == (6.0, True)
        own_valkey[0].resume()
        await until_looked(store)
        own_valkey[0].kill()
        await store.refresh()
        assert "127.0.0.1" in store.status()["trouble"]
        await store.refresh()
        assert store.find("acme") == "pro"
        own_valkey.append(own_valkey[0].again())
        await until_answered(lambda: store.set("globex", "pro"))
        await until_looked(store)
    assert caplog.records[0].getMessage().endswith("1 plans stay as they are known")


async def test_a_server_that_has_lost_its_data_takes_no_plan_away(own_valkey: list[Valkey]) -> None:
    clock = ManualClock()
    store = RedisPlans(f"{own_valkey[0].url}?timeout=2", test_ports(clock=clock))
    async with looking(store):
        await until_answered(lambda: store.set("acme", "pro"))
        await until_looked(store)
        own_valkey[0].kill()
        own_valkey.append(own_valkey[0].again())
        await until_looked(store, "has lost its plans")
        assert store.find("acme") == "pro"
        clock.advance(RELOAD_EVERY * 2)
        await store.refresh()
        assert (store.find("acme"), store.status()["stale"]) == ("pro", True)
        # It has other data now: these are the plans.
        await until_answered(lambda: store.set("globex", "basic"))
        await until_looked(store)
        assert (store.find("acme"), store.find("globex")) == (None, "basic")


async def test_the_last_plan_can_be_removed(redis_url: str) -> None:
    one, other = opened(redis_url), opened(redis_url)
    async with looking(one, other):
        await one.set("acme", "pro")
        await other.refresh()
        await one.remove("acme")
        late = opened(redis_url)
        for store in (one, other, late):
            await store.refresh()
            assert (store.find("acme"), store.status()["trouble"], store.status()["entries"]) == (None, None, 0)
        await late.aclose()


async def test_older_data_than_there_were_are_read_as_a_whole(valkey: Valkey, redis_url: str, part: str) -> None:
    """A server that came back with what it had saved a while ago."""
    store = opened(redis_url)
    async with looking(store):
        await store.set("acme", "pro")
        before = valkey.ask("HGET", f"{part}:plans", "acme")
        assert before.startswith(b"$")
        await store.refresh()
        version = store._version
        assert version is not None
        assert version > 1_700_000_000_000_000
        valkey.ask("SET", f"{{{part}:plans}}:version", str(version - 5))
        valkey.ask("HSET", f"{part}:plans", "acme", "basic")
        await store.refresh()
        assert (store.find("acme"), store._version) == ("basic", version - 5)


@pytest.mark.parametrize("version", ["x", "", "9" * 30])
async def test_a_version_that_is_none_only_costs_time(valkey: Valkey, redis_url: str, part: str, version: str) -> None:
    valkey.ask("HSET", f"{part}:plans", "acme", "pro")
    valkey.ask("SET", f"{{{part}:plans}}:version", version)
    store = opened(redis_url)
    async with looking(store):
        assert store.find("acme") == "pro"


# -- a start, with and without the server


async def test_whoever_waits_for_the_plans_has_them(valkey: Valkey, redis_url: str, part: str) -> None:
    valkey.ask("HSET", f"{part}:plans", "acme", "pro")
    store = RedisPlans(f"{redis_url}&timeout=5", ports())
    pending = [store.loaded() for _ in range(5)]
    await asyncio.gather(*(one for one in pending if one is not None))
    assert store.find("acme") == "pro"
    assert store.loaded() is None
    await store.aclose()


async def test_a_start_without_the_server_has_the_copy_on_the_disk(tmp_path: Path, own_valkey: list[Valkey]) -> None:
    url, disk = f"{own_valkey[0].url}?timeout=2", StateDirectory(tmp_path / "state")
    one = RedisPlans(url, ports(disk))
    await until_answered(lambda: one.set("acme", "pro"))
    await until_answered(lambda: one.set("globex", "9000/minute"))
    (save,) = [job for job in one.jobs() if job.key[-1] == "save"]  # type: ignore[index]
    assert (save.interval(), save.first_after) == (SAVE_EVERY, SAVE_EVERY)
    await save.run()
    await one.aclose()
    own_valkey[0].kill()
    other = RedisPlans(url, ports(disk))
    pending = other.loaded()
    assert pending is not None
    await pending
    assert other.loaded() is None
    assert (other.find("acme"), other.find("globex"), other.find("x")) == ("pro", "9000/minute", None)
    assert other.status()["stale"]
    assert other.status()["age"] is None
    assert other.status()["trouble"] is not None
    await other.aclose()


async def test_the_copy_is_written_when_something_is_different(valkey: Valkey, redis_url: str, part: str) -> None:
    valkey.ask("HSET", f"{part}:plans", "acme", "pro")
    disk = FakeDisk()
    clock = ManualClock()
    store = RedisPlans(redis_url, test_ports(clock=clock, disk=disk))
    (save,) = [job for job in store.jobs() if job.key[-1] == "save"]  # type: ignore[index]
    await save.run()
    assert not disk.files
    async with looking(store):
        await save.run()
        (name,) = disk.files
        assert json.loads(disk.files.pop(name).splitlines()[1]) == {"acme": "pro"}
        clock.advance(RELOAD_EVERY * 2)
        await store.refresh()
        await save.run()
        assert not disk.files
        valkey.ask("HDEL", f"{part}:plans", "acme")
        valkey.ask("HSET", f"{part}:plans", "globex", "pro")
        clock.advance(RELOAD_EVERY * 2)
        await store.refresh()
        await save.run()
        assert json.loads(disk.files.pop(name).splitlines()[1]) == {"globex": "pro"}
        await store.set("a", "b")
        await save.run()
        assert disk.files


@pytest.mark.parametrize(
    "data", [b"", b"x", b'{"format": 2}\n{}', b'{"format": 1}\n[]', b'{"format": 1}\n{"a": 1}', b'{"format": 1}\n\xff']
)
async def test_a_copy_that_cannot_be_read_is_none(
    redis_url: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(redis_url, FakeDisk())
    store._disk = FakeDisk({store._name: data})
    await store._load_copy()
    assert store.find("a") is None
    assert "cannot be read" in caplog.text
    # And what is known already is not replaced by a copy.
    store = opened(redis_url)
    store._kept.replace({"a": "b"})
    store._disk = FakeDisk({store._name: b'{"format": 1}\n{"a": "old"}'})
    await store._load_copy()
    assert store.find("a") == "b"


async def test_a_server_that_says_nothing_is_not_waited_for(
    own_valkey: list[Valkey], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plans_redis, "LOAD_SECONDS", 0.2)
    own_valkey[0].pause()
    store = RedisPlans(f"{own_valkey[0].url}?timeout=5", ports())
    begun = time.monotonic()
    pending = store.loaded()
    assert pending is not None
    await pending
    assert time.monotonic() - begun < 3.0
    assert store.loaded() is None
    assert "has not been read within 0.2 s; 0 plans are known" in caplog.text
    own_valkey[0].resume()
    await store.aclose()


# -- jobs, loops and threads


async def test_its_jobs_follow_the_server_and_close_their_connections_at_the_end(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert EVERY == 1.0
    monkeypatch.setattr(plans_redis, "EVERY", 0.02)
    store, admin = RedisPlans(f"{redis_url}&timeout=5", ports()), opened(redis_url)
    closed: list[bool] = []
    original = store._server.aclose

    async def aclose() -> None:
        closed.append(True)
        await original()

    monkeypatch.setattr(store._server, "aclose", aclose)
    runtime = LoopRuntime(asyncio.get_running_loop())
    runtime.want(store.jobs())
    await admin.set("acme", "pro")
    await until(lambda: store.find("acme") == "pro")
    await admin.set("acme", "basic")
    await until(lambda: store.find("acme") == "basic")
    assert not closed
    await runtime.close()
    assert closed
    await admin.aclose()


async def test_one_at_a_time_looks_at_the_server(redis_url: str) -> None:
    store = opened(redis_url)
    holder = store._helm.take()
    assert holder is not None
    assert await store.refresh() is False
    store._helm.leave(holder)
    assert await store.refresh() is True
    await store.aclose()


def test_threads_without_a_loop_wait_for_it_and_never_suspend(valkey: Valkey, redis_url: str, part: str) -> None:
    valkey.ask("HSET", f"{part}:plans", "acme", "pro")
    loop_thread = LoopThread()
    store = RedisPlans(
        f"{redis_url}&timeout=5", Ports(clock=SystemClock(), random=SystemRandom(), once=Shared(loop_thread))
    )
    found: list[str | None] = []

    async def decide() -> None:
        pending = store.loaded()
        if pending is not None:
            await pending
        found.append(store.find("acme"))

    def serve() -> None:
        with pytest.raises(StopIteration):
            decide().send(None)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loop_thread.run(store.aclose())
    loop_thread.stop()
    assert found == ["pro"] * 4


@pytest.mark.parametrize("url", ["redis://user:hunter2@host/0?prefix=a%20b", "redis://user:hunter2@host/0?hunter2=1"])
def test_a_url_that_makes_no_sense_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        SystemStores().plans(url, test_ports())
    assert "hunter2" not in str(caught.value)


def test_it_is_opened_by_its_url_and_shows_no_password() -> None:
    for url in ("redis://user:hunter2@nowhere.invalid", "rediss://user:hunter2@nowhere.invalid"):
        store = SystemStores().plans(url, test_ports(disk=FakeDisk()))
        assert isinstance(store, RedisPlans)
        shown = [repr(store), str(store), repr(store.status()), store._name, *(repr(job.key) for job in store.jobs())]
        assert not any("hunter2" in text for text in shown)


async def until_answered(ask: Any) -> None:
    """Ask until the server answers, which it may be slow to do on a machine that has much to do."""
    end = time.monotonic() + 20
    while True:
        try:
            await ask()
            return
        except StoreUnavailable:
            assert time.monotonic() < end


async def until_looked(store: RedisPlans, trouble: str | None = None) -> None:
    end = time.monotonic() + 20
    while True:
        await store.refresh()
        told = store.status()["trouble"]
        if told is None if trouble is None else trouble in (told or ""):
            return
        assert time.monotonic() < end, told
