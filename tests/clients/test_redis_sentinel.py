"""The master that sentinels name: found in time, left when it is lost or replaced, never written to when it is none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from math import inf
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.clients.redis_scene import ADD, opened, until, until_answered
from tests.servers.valkey import valkey_server
from tests.servers.valkey_groups import MASTER, ValkeySentinels, must, until_all, valkey_sentinels

from gatekit.clients.redis import RedisRefused, RedisServer
from gatekit.clients.redis_links import Access
from gatekit.clients.redis_sentinel import Master, Word
from gatekit.clients.redis_urls import Place, read_redis_url
from gatekit.errors import StoreUnavailable

SECRET = "hunter2/é:@,"

_log = logging.getLogger(__name__)
"""`-o log_cli=true --log-level=INFO` shows what outages took."""


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeySentinels]:
    """Nobody breaks it: a test that does has one of its own."""
    found = valkey_sentinels(tmp_path_factory.mktemp("sentinels"))
    for node in found.servers:
        node.ask("ACL", "SETUSER", "gate", "on", f">{SECRET}", "~*", "&*", "+@all")
        node.ask("ACL", "SETUSER", "small", "on", f">{SECRET}", "~*", "&*", "+@all", "-role")
    for node in found.sentinels:
        node.ask("ACL", "SETUSER", "watch", "on", f">{SECRET}", "+@all")
    yield found
    found.stop()


@pytest.fixture
def url(group: ValkeySentinels) -> str:
    return group.url


# -- whose word counts


def master_by(*hosts: str) -> Master:
    url = read_redis_url(f"redis+sentinel://{','.join(hosts)}/m")
    return Master(url, Access(url.credentials, 0, None), 1)


OLD, NEW = Place("old", 1), Place("new", 1)


async def test_the_latest_of_several_words_counts() -> None:
    master = master_by("a", "b", "c")
    master._take([Word(3, OLD), Word(4, NEW), Word(3, OLD)])
    assert master._word == Word(4, NEW)


async def test_an_older_word_than_before_counts_only_where_a_majority_says_so() -> None:
    master = master_by("a", "b", "c")
    master._take([Word(4, NEW)])
    master._take([Word(3, OLD)])
    assert master._word == Word(4, NEW)
    master._take([Word(0, OLD), Word(1, OLD)])
    assert master._word == Word(1, OLD)


# -- a real one


@pytest.mark.servers
async def test_questions_go_to_the_master(group: ValkeySentinels, url: str) -> None:
    async with opened(url) as server:
        assert await server.run(ADD, ["to the master"], [2]) == 2
        assert await server.ask("INCR", "to the master") == 3
        assert group.servers[0].text("GET", "to the master") == "3"
        assert server.shown == f"{url}?db=0"
        assert server.database == 0


@pytest.mark.servers
async def test_a_database_of_the_master(group: ValkeySentinels, url: str) -> None:
    async with opened(f"{url}?db=3") as server, opened(url) as other:
        assert server.database == 3
        await server.ask("SET", "in three", "a")
        assert await server.ask("GET", "in three") == b"a"
        assert await other.ask("GET", "in three") is None


@pytest.mark.servers
async def test_what_is_published_is_heard(url: str) -> None:
    async with opened(url) as server, server.listening("news") as listener:
        await server.ask("PUBLISH", "news", "a")
        assert await listener.news(5) == b"a"


@pytest.mark.servers
async def test_sentinels_and_master_have_credentials_of_their_own(group: ValkeySentinels) -> None:
    hosts, secret = group.url.partition("//")[2], quote(SECRET, safe="")
    good = f"?sentinel_user=watch&sentinel_password={secret}"
    async with opened(f"redis+sentinel://gate:{secret}@{hosts}{good}") as server:
        assert await server.ask("ACL", "WHOAMI") == b"gate"
        assert "hun" not in repr(server) + repr(vars(server)) + repr(server.options)
    for user, query in (
        ("gate:hunwrong", good),
        ("nobody:hunwrong", good),
        (f"gate:{secret}", "?sentinel_user=watch&sentinel_password=hunwrong"),
        (f"gate:{secret}", "?sentinel_user=nobody&sentinel_password=hunwrong"),
    ):
        async with opened(f"redis+sentinel://{user}@{hosts}{query}") as server:
            with pytest.raises(StoreUnavailable, match="does not take these credentials") as caught:
                await server.ask("PING")
            assert "hun" not in str(caught.value)


@pytest.mark.servers
async def test_a_user_who_may_not_ask_for_the_role_is_served(group: ValkeySentinels) -> None:
    hosts = group.url.partition("//")[2]
    async with opened(f"redis+sentinel://small:{quote(SECRET, safe='')}@{hosts}") as server:
        assert await server.ask("ACL", "WHOAMI") == b"small"


@pytest.mark.servers
async def test_a_master_that_no_sentinel_knows_is_told(group: ValkeySentinels) -> None:
    async with opened(group.url.replace(MASTER, "nobody")) as server:
        with pytest.raises(StoreUnavailable, match="knows no master nobody"):
            await server.ask("PING")


@pytest.mark.servers
async def test_what_is_no_sentinel_is_told(tmp_path: Path) -> None:
    single = valkey_server(tmp_path)
    try:
        async with opened(f"redis+sentinel://127.0.0.1:{single.port}/m") as server:
            with pytest.raises(StoreUnavailable, match="error"):
                await server.ask("PING")
    finally:
        single.stop()


@pytest.mark.servers
async def test_a_replica_that_is_named_as_the_master_is_not_written_to(group: ValkeySentinels) -> None:
    """By a sentinel that is wrong: the server says itself that it is none."""
    async with opened(group.url) as server:
        home = server._home(asyncio.get_running_loop())
        assert isinstance(home, Master)

        async def wrong(sentinel: Place, deadline: float) -> Word:
            return Word(9, Place("127.0.0.1", group.servers[1].port))

        home._said = wrong  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable, match=f":{group.servers[1].port} is not a master"):
            await server.ask("SET", "wrong", "a")


@pytest.mark.servers
async def test_a_master_that_takes_no_writes_any_more_is_left(tmp_path: Path) -> None:
    """It was made a replica, and our connections to it live on."""
    servers = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            servers.append(valkey_server(tmp_path / name))
        first, second = servers
        async with opened("redis+sentinel://127.0.0.1:1/m") as server:
            home = server._home(asyncio.get_running_loop())
            assert isinstance(home, Master)
            word = Word(1, Place("127.0.0.1", first.port))

            async def said(sentinel: Place, deadline: float) -> Word:
                return word

            home._said = said  # type: ignore[method-assign]
            assert await server.run(ADD, ["count"], [1]) == 1
            must(first, "REPLICAOF", "127.0.0.1", str(second.port))
            with pytest.raises(RedisRefused, match="ReadOnlyError"):
                await server.run(ADD, ["count"], [1])
            word = Word(2, Place("127.0.0.1", second.port))
            home._found = -inf
            assert await server.run(ADD, ["count"], [5]) == 5

            # And where the sentinels name the new one by then, nobody sees anything of it.
            must(first, "REPLICAOF", "NO", "ONE")
            must(second, "REPLICAOF", "127.0.0.1", str(first.port))
            word = Word(3, Place("127.0.0.1", first.port))
            assert await server.run(ADD, ["other"], [7]) == 7
    finally:
        # A master waits for its replica before it ends.
        for one in reversed(servers):
            one.stop()


@pytest.mark.servers
def test_every_loop_has_connections_of_its_own(url: str) -> None:
    server = RedisServer(url)

    async def ask() -> bytes:
        found = await server.ask("ECHO", "a")
        await server.drop_idle()
        assert await server.ask("ECHO", "b") == b"b"
        await server.aclose()
        await server.aclose()
        return bytes(found)

    assert [asyncio.run(ask()) for _ in range(3)] == [b"a"] * 3


@pytest.mark.servers
async def test_closing_tells_whoever_is_asking_and_leaves_nothing(group: ValkeySentinels, url: str) -> None:
    async with opened(url, timeout=5.0, connections=2) as server:
        asking = [asyncio.create_task(server.ask("BLPOP", "nothing", 0)) for _ in range(6)]
        await until(lambda: group.servers[0].info("blocked_clients") == "2")
        async with asyncio.timeout(3):
            await server.aclose()
            found = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(one) for one in found} == {StoreUnavailable}


@pytest.mark.servers
@pytest.mark.parametrize("bound", ["0.005", "0.025"])
async def test_a_short_bound_is_no_hindrance_to_finding_the_master(url: str, bound: str) -> None:
    async with opened(f"{url}?timeout={bound}") as server:
        outage = await until_answered(lambda: server.ask("GET", "a"))
        assert outage.seconds < 2.0


@pytest.mark.servers
async def test_sentinels_without_tls_are_not_spoken_to_in_the_clear(url: str) -> None:
    async with opened(f"redis{url.replace('redis', 's', 1)}?timeout=0.5") as server:
        assert server.shown.startswith("rediss+sentinel://")
        with pytest.raises(StoreUnavailable):
            await server.ask("PING")


# -- sentinels and masters that are lost


@pytest.mark.servers
async def test_a_master_that_is_lost_is_replaced_and_is_not_written_to_when_it_is_back(tmp_path: Path) -> None:
    """Killed: questions fail in time until the other one has taken over, without a new client. That one standing still,
    replaced by the first, and going on again while nobody asks: the first question after that is not its. Sentinels that
    are gone or stand still: the master that is known is asked."""
    group = valkey_sentinels(tmp_path)
    first, second = group.servers
    try:
        async with opened(f"{group.url}?timeout=0.1") as server:
            assert await server.run(ADD, ["count"], [1]) == 1
            await until(lambda: second.text("GET", "count") == "1")
            first.kill()
            outage = await until_answered(lambda: server.run(ADD, ["count"], [1]))
            _log.info("failover: %.2f s, the longest question %.3f s", outage.seconds, outage.longest)
            assert outage.answer == 2
            assert outage.failures
            assert outage.longest < 1.0
            assert second.text("GET", "count") == "2"

            group.servers[0] = first = first.again()
            # It takes itself for a master, until a sentinel tells it otherwise ten seconds later.
            assert first.info("role") == "master"
            assert await server.run(ADD, ["count"], [1]) == 3
            must(first, "REPLICAOF", "127.0.0.1", str(second.port))
            until_all([first], lambda node: node.info("master_link_status") == "up")
            assert first.ask("SET", "a", "b").startswith(b"-READONLY")
            until_all(group.sentinels, lambda node: node.sees_all() and node.names() == second.port)

            await until(lambda: first.text("GET", "count") == "3")
            second.pause()
            until_all(group.sentinels, lambda node: node.names() == first.port)
            second.resume()
            # It takes itself for the master still, and our connections to it are open.
            assert second.ask("SET", "only there", "a") == b"+OK"
            outage = await until_answered(lambda: server.run(ADD, ["count"], [1]))
            _log.info("after a pause: %.2f s, the longest question %.3f s", outage.seconds, outage.longest)
            assert outage.answer == 4
            assert first.text("GET", "count") == "4"
            assert second.text("GET", "count") == "3"

            loop = asyncio.get_running_loop()
            group.sentinels[1].pause()
            group.sentinels[2].pause()
            async with opened(group.url) as other:
                begun = loop.time()
                assert await other.run(ADD, ["count"], [0]) == 4
                assert loop.time() - begun < 0.9
            group.sentinels[0].kill()
            home = server._home(loop)
            assert isinstance(home, Master)
            begun = loop.time()
            for count in range(5, 12):
                assert await server.run(ADD, ["count"], [1], timeout=1.0) == count
                home._found = -inf
            # One has waited for them, for half of its time.
            assert loop.time() - begun < 2.0
    finally:
        group.stop()
