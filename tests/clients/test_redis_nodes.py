"""Connections to one server: opened apart from who asks, used again only when nothing is due, cut in time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients.redis_scene import ADD, opened, pause, until, until_answered
from tests.servers.valkey import Valkey, valkey_server

from gatekit.clients.redis import RedisRefused
from gatekit.clients.redis_links import Link
from gatekit.clients.redis_nodes import Node
from gatekit.errors import StoreUnavailable
from gatekit.testing import Close, FaultProxy, Reset, Stall

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = valkey_server(tmp_path_factory.mktemp("valkey"))
    server.ask("ACL", "SETUSER", "gate", "on", ">hunter2", "~*", "&*", "+@all")
    yield server
    server.stop()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = valkey_server(tmp_path)
    yield server
    server.stop()


async def test_a_connection_that_opens_slowly_is_there_for_the_second_question(valkey: Valkey) -> None:
    """It is the first one's, which was not tried again."""
    async with (
        FaultProxy(f"127.0.0.1:{valkey.port}", Stall("response", after=0)) as proxy,
        opened(f"redis://gate:hunter2@127.0.0.1:{proxy.port}?timeout=0.025") as server,
    ):
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.025 s"):
            await server.ask("PING")
        proxy.script(())
        await proxy.wait_for(lambda proxy: proxy.faults_done == 1)
        assert proxy.connections == 1
        proxy.release()
        await proxy.wait_for(lambda proxy: proxy.carried[0].response >= 15)
        assert await server.ask("ACL", "WHOAMI", timeout=5) == b"gate"
        assert proxy.connections == 1


async def test_a_connection_that_never_opens_is_given_up_after_a_second(valkey: Valkey) -> None:
    async with (
        FaultProxy(f"127.0.0.1:{valkey.port}", Stall("response", after=0), ()) as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}?timeout=0.05", connections=1) as server,
    ):
        outage = await until_answered(lambda: server.ask("PING"))
        assert 0.9 < outage.seconds < 5.0
        assert outage.longest < 0.9
        assert len(outage.failures) > 2
        assert proxy.connections >= 2


async def test_what_kept_a_connection_from_opening_is_told_to_who_comes_later(valkey: Valkey) -> None:
    """Wrong credentials, answered only when whoever asked has given up."""
    async with (
        FaultProxy(f"127.0.0.1:{valkey.port}", Stall("response", after=0)) as proxy,
        opened(f"redis://gate:wrong@127.0.0.1:{proxy.port}?timeout=0.02") as server,
    ):
        for told in ("did not answer within", "does not take these credentials"):
            with pytest.raises(StoreUnavailable, match=told) as caught:
                await server.ask("PING")
            assert "wrong" not in str(caught.value)
            await proxy.wait_for(lambda proxy: proxy.faults_done == proxy.connections)
            proxy.release()
            await proxy.wait_for(lambda proxy: proxy.open_connections == 0)


async def test_an_answer_belongs_to_its_question_after_a_pause(own_valkey: Valkey) -> None:
    """Questions time out while the server stands still; what it answers afterwards is nobody's."""
    async with opened(f"{own_valkey.url}?timeout=0.03", connections=3) as server:
        for turn in range(5):
            await asyncio.gather(*(server.ask("ECHO", f"before {turn} {one}", timeout=5) for one in range(3)))
            own_valkey.pause()
            lost = await asyncio.gather(
                *(server.ask("ECHO", f"lost {turn} {one}") for one in range(9)), return_exceptions=True
            )
            assert [type(one) for one in lost] == [StoreUnavailable] * 9
            own_valkey.resume()
            words = [f"after {turn} {one}" for one in range(30)]
            found = await asyncio.gather(*(server.ask("ECHO", word, timeout=5) for word in words))
            assert [one.decode() for one in found] == words


async def test_an_answer_belongs_to_its_question_whenever_another_was_given_up(valkey: Valkey) -> None:
    """A question is cancelled after so many turns of the loop, for every number until it is too late for that."""
    async with opened(valkey.url, connections=1, timeout=5.0) as server:
        cancelled = 0
        for turns in range(200):
            asking = asyncio.create_task(server.ask("ECHO", f"given up {turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)  # noqa: TID251
            asking.cancel()
            others = [asyncio.create_task(server.ask("ECHO", f"other {turns} {one}")) for one in range(3)]
            assert [await one for one in others] == [f"other {turns} {one}".encode() for one in range(3)]
            await asyncio.wait([asking])
            cancelled += asking.cancelled()
            assert asking.cancelled() or asking.result() == f"given up {turns}".encode()
        assert cancelled > 3


async def test_a_connection_is_not_lost_with_a_question_given_up_as_it_is_handed_over(valkey: Valkey) -> None:
    async with opened(valkey.url, connections=1, timeout=5.0) as server:
        assert await server.ask("PING")
        (node,) = server._clients.values()
        assert isinstance(node, Node)
        back = node._back
        first = asyncio.create_task(server.ask("ECHO", "first"))
        await asyncio.sleep(0)  # noqa: TID251
        behind = asyncio.create_task(server.ask("ECHO", "behind"))

        def handing(link: Link, whole: bool) -> None:
            node._back = back  # type: ignore[method-assign]
            back(link, whole)
            behind.cancel()

        node._back = handing  # type: ignore[method-assign]
        assert await first == b"first"
        await asyncio.wait([behind])
        assert behind.cancelled()
        assert await server.ask("ECHO", "third") == b"third"


async def test_whoever_waits_is_served_when_the_only_connection_is_cut(valkey: Valkey) -> None:
    async with opened(valkey.url, connections=1, timeout=5.0) as server:
        asking = asyncio.create_task(server.ask("BLPOP", "nothing", 0))
        await until(lambda: valkey.info("blocked_clients") == "1")
        behind = asyncio.create_task(server.ask("ECHO", "behind"))
        await pause(0.01)
        asking.cancel()
        async with asyncio.timeout(3):
            assert await behind == b"behind"


async def test_no_more_connections_are_opened_than_were_said(own_valkey: Valkey) -> None:
    """Also while the server takes connections and answers nothing."""
    async with (
        FaultProxy(f"127.0.0.1:{own_valkey.port}") as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}?timeout=0.02", connections=4) as server,
    ):
        await asyncio.gather(*(server.ask("PING", timeout=5) for _ in range(100)))
        assert proxy.connections == 4
        own_valkey.pause()
        for _ in range(10):
            await asyncio.gather(*(server.ask("PING") for _ in range(20)), return_exceptions=True)
        # Those four were cut, and as many may be opening.
        assert proxy.connections <= 8
        own_valkey.resume()
        assert await server.ask("PING", timeout=5)
        await proxy.wait_for(lambda proxy: proxy.open_connections <= 4)


async def test_whoever_waits_for_a_connection_is_told_when_none_comes_about(valkey: Valkey) -> None:
    async with (
        FaultProxy(f"127.0.0.1:{valkey.port}", Reset("response", after=0)) as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", connections=2, timeout=5.0) as server,
    ):
        async with asyncio.timeout(3):
            found = await asyncio.gather(*(server.ask("PING") for _ in range(20)), return_exceptions=True)
        assert {type(one) for one in found} == {StoreUnavailable}
        assert proxy.connections < 20
        proxy.script(())
        assert await server.ask("PING")


async def test_a_connection_that_the_server_has_closed_is_not_asked(valkey: Valkey) -> None:
    async with (
        FaultProxy(f"127.0.0.1:{valkey.port}") as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", connections=1) as server,
    ):
        for turn in range(1, 4):
            assert await server.run(ADD, ["closed"], [1]) == turn
            assert proxy.connections == turn
            valkey.ask("CLIENT", "KILL", "TYPE", "normal")
            (node,) = server._clients.values()
            (link,) = node._idle  # type: ignore[attr-defined]
            await until(link._reader.at_eof)


async def test_a_half_answer_is_none(valkey: Valkey) -> None:
    async with opened(valkey.url) as direct:
        await direct.ask("SET", "long", "x" * 1000)
    async with (
        FaultProxy(f"127.0.0.1:{valkey.port}", Close("response", after=200), Stall("response", after=200), ()) as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", connections=1, timeout=5.0) as server,
    ):
        for told, bound in (("broke the connection off", None), (r"did not answer within 0\.2 s", 0.2)):
            with pytest.raises(StoreUnavailable, match=told):
                await server.ask("GET", "long", timeout=bound)
        assert await server.ask("GET", "long") == b"x" * 1000


async def test_an_error_leaves_the_connection_to_the_next_question(valkey: Valkey) -> None:
    async with (
        FaultProxy(f"127.0.0.1:{valkey.port}") as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", connections=1) as server,
    ):
        for number in range(3):
            with pytest.raises(RedisRefused):
                await server.ask("INCR")
            assert await server.ask("ECHO", str(number)) == str(number).encode()
        assert proxy.connections == 1


async def test_closing_tells_whoever_is_asking_and_leaves_nothing(valkey: Valkey) -> None:
    async with FaultProxy(f"127.0.0.1:{valkey.port}") as proxy:
        async with opened(f"redis://127.0.0.1:{proxy.port}", connections=2, timeout=5.0) as server:
            asking = [asyncio.create_task(server.ask("BLPOP", "nothing", 0)) for _ in range(6)]
            await until(lambda: valkey.info("blocked_clients") == "2")
            async with asyncio.timeout(3):
                await server.aclose()
                found = await asyncio.gather(*asking, return_exceptions=True)
            assert {type(one) for one in found} == {StoreUnavailable}
        await proxy.wait_for(lambda proxy: proxy.open_connections == 0)


async def test_closing_that_is_cancelled_has_closed_all_the_same(valkey: Valkey) -> None:
    async with FaultProxy(f"127.0.0.1:{valkey.port}") as proxy, opened(f"redis://127.0.0.1:{proxy.port}") as server:
        await asyncio.gather(*(server.ask("PING") for _ in range(5)))
        assert proxy.open_connections > 0
        closing = asyncio.create_task(server.aclose())
        await asyncio.sleep(0)  # noqa: TID251
        closing.cancel()
        await asyncio.wait([closing])
        await proxy.wait_for(lambda proxy: proxy.open_connections == 0)


async def test_a_server_that_stands_still_holds_up_no_closing(own_valkey: Valkey) -> None:
    async with opened(own_valkey.url) as server:
        assert await server.ask("PING")
        own_valkey.pause()
        begun = asyncio.get_running_loop().time()
        await server.aclose()
        assert asyncio.get_running_loop().time() - begun < 1.0


async def test_connections_that_nobody_uses_are_dropped(valkey: Valkey) -> None:
    async with (
        FaultProxy(f"127.0.0.1:{valkey.port}") as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", connections=3) as server,
    ):
        waiting = asyncio.create_task(server.ask("BLPOP", "awaited", 5, timeout=5))
        await asyncio.gather(*(server.ask("PING") for _ in range(5)))
        await until(lambda: proxy.open_connections == 3)
        await server.drop_idle()
        await proxy.wait_for(lambda proxy: proxy.open_connections == 1)
        assert await server.ask("RPUSH", "awaited", "a") == 1
        assert list(await waiting) == [b"awaited", b"a"]
