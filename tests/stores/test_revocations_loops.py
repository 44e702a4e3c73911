"""Several event loops, and who of them follows the server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.servers.valkey import Valkey

from gatekit.stores import kept as kept_module

from .scene import at_work, later, opened, record, save_of, until

pytestmark = pytest.mark.servers


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


def test_a_list_outlives_the_loop_it_was_read_in(redis_url: str) -> None:
    store = opened(redis_url)

    async def revoke(jti: str) -> None:
        async with at_work(store):
            await store.revoke(jti=jti, until=later())

    for jti in "ab":
        asyncio.run(revoke(jti))
    assert store.revoked({"jti": "a"}) == store.revoked({"jti": "b"}) == "jti"
