"""What becomes of revocations when the server goes away, hangs, or comes back with less than it had."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial

import pytest
from tests.servers.valkey import Valkey

from gatekit.errors import StoreUnavailable
from gatekit.stores import revocations_redis as module
from gatekit.stores.revocation_log import Page
from gatekit.testing import FaultProxy, Stall

from .scene import SOON, at_work, later, log_of, opened, record, until

pytestmark = pytest.mark.servers


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


async def test_a_channel_that_says_nothing_is_broken(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE", -1.0)
    store = opened(redis_url)
    async with store._server.listening("anything") as listener:
        with pytest.raises(StoreUnavailable, match="says nothing on its channel any more"):
            await store._wait_for_news(listener, 0.01)
    await store.aclose()


async def test_what_is_taken_back_while_a_page_is_read_stays_taken_back(own_valkey: list[Valkey]) -> None:
    """The page was read before it, is taken in after it, and the server is gone before the next."""
    store = opened(own_valkey[0].url)
    async with at_work(store):
        await store.revoke(jti="first", until=later())
        await until(lambda: store.status()["seq"] > 0)
        read, held, go = store._shared.read, asyncio.Event(), asyncio.Event()

        async def slow(since: int, epoch: str) -> Page:
            page: Page = await read(since, epoch)
            if any(b"mistake" in text for text in page.texts):
                held.set()
                await go.wait()
            return page

        store._shared.read = slow
        await store.revoke(jti="mistake", until=later())
        await held.wait()
        assert await store.restore(jti="mistake")
        own_valkey[0].kill()
        go.set()
        await until(lambda: not store.status()["connected"])
        assert store.revoked({"jti": "mistake"}) is None
        assert store.revoked({"jti": "first"}) == "jti"
