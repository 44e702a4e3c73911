"""The start: from the server, from a copy on the disk, or from neither."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.servers.valkey import Valkey

from gatekit.stores import revocations_redis as module

from .scene import at_work, later, log_of, opened, record, save_of, until

pytestmark = pytest.mark.servers


def copies(folder: Path) -> list[Path]:
    return list(folder.iterdir())


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
        await until(lambda: store.status()["seq"] > 0)
        await save_of(store)()
        for copy in copies(tmp_path):
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


async def test_a_disk_that_hangs_is_not_waited_for_for_ever(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "COPY_SECONDS", 0.05)
    publisher, store = opened(redis_url), opened(redis_url, disk=tmp_path)
    await publisher.revoke(jti="a", until=later())
    await publisher.aclose()
    go_on = asyncio.Event()
    load = store._disk.load

    async def late(kept: Any) -> Any:
        await go_on.wait()
        return await load(kept)

    monkeypatch.setattr(store._disk, "load", late)
    async with at_work(store):
        assert store.revoked({"jti": "a"}) == "jti"
        assert "is not read yet after 0.05 s" in caplog.text
        go_on.set()
        await until(lambda: store._copy.is_open)
        await until(lambda: store.status()["seq"] > 0)
