"""A cluster: every question reaches the node that has its slot, whatever moves or is lost, within the bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.clients.redis_scene import ADD, TOGETHER, Front, opened, until, until_answered
from tests.servers.valkey import Valkey, valkey_server
from tests.servers.valkey_groups import ValkeyCluster, must, until_all, valkey_cluster

from gatekit.clients.redis import RedisRefused, RedisServer, Script, slot_of
from gatekit.clients.redis_cluster import Cluster, Slots, read_slots
from gatekit.clients.redis_links import Lost
from gatekit.clients.redis_urls import Place
from gatekit.errors import StoreUnavailable

SECRET = "hunter2/é:@,"

_log = logging.getLogger(__name__)
"""`-o log_cli=true --log-level=INFO` shows what outages took."""

# -- what nodes say of slots

HERE = Place("here", 6379)


@pytest.mark.parametrize(
    ("answer", "owners"),
    [
        ([], {0: None, 16383: None}),
        ([[0, 16383, [b"a", 1, b"id"]]], {0: ("a", 1), 16383: ("a", 1)}),
        ([[100, 200, [b"b", 2, b"id", []], [b"c", 3, b"id", []]], [0, 99, [b"A", 1]]],
         {0: ("a", 1), 99: ("a", 1), 100: ("b", 2), 200: ("b", 2), 201: None}),
        ([[0, 5, [b"a", 1]], [10, 11, [b"b", 2]]], {5: ("a", 1), 6: None, 9: None, 10: ("b", 2), 12: None}),
        ([[0, 5, [None, 1]], [6, 9, [b"", 2]]], {0: ("here", 1), 9: ("here", 2)}),
        ([[0, 5, [b"?", 1]], [6, 9, [b"::1", 2]]], {0: None, 9: ("::1", 2)}),
        ([[0, 5, [b"a", 0]], [6, 9, [b"b", 65536]], [10, 9, [b"c", 1]], [11, 16384, [b"d", 1]]], {0: None, 6: None, 11: None}),
        ([[0, 9, [b"a", 1]], [5, 20, [b"b", 2]], [21, 22, [b"c", 3]]], {5: ("a", 1), 10: None, 21: ("c", 3)}),
        (["x", 7, [], [0], [1, 2], [1, 2, []], [1, 2, [b"a"]], [1, 2, [b"\xff", 1]], [b"x", 2, [b"a", 1]], [3, 3, [b"z", 9]]],
         {0: None, 1: None, 3: ("z", 9)}),
        (b"OK", {0: None}),
        (None, {0: None}),
    ],
)  # fmt: skip
def test_who_has_which_slots(answer: Any, owners: dict[int, tuple[str, int] | None]) -> None:
    slots = read_slots(answer, HERE)
    assert {slot: slots.owner(slot) for slot in owners} == owners


# -- a real one


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    found = valkey_cluster(tmp_path_factory.mktemp("cluster"))
    for node in found.nodes:
        node.ask("ACL", "SETUSER", "gate", "on", f">{SECRET}", "~*", "&*", "+@all")
    yield found
    found.stop()


@pytest.fixture
def url(cluster: ValkeyCluster) -> str:
    """By one of its nodes: the others are those it names."""
    return f"redis+cluster://127.0.0.1:{cluster.nodes[1].port}"


def key_of(cluster: ValkeyCluster, node: Valkey, word: str = "key") -> str:
    """A key that this node has."""
    return next(key for key in (f"{{{word}{number}}}" for number in range(1000)) if cluster.owner(slot_of(key)) is node)


@pytest.mark.servers
async def test_keys_of_every_node_are_asked_for_there(cluster: ValkeyCluster, url: str) -> None:
    async with opened(url) as server:
        for node in cluster.nodes:
            key = key_of(cluster, node, "each")
            assert await server.run(ADD, [key], [2]) == 2
            assert node.text("GET", key) == "2"
            assert await server.ask("INCR", key) == 3
            assert await server.run(TOGETHER, [key, f"{key}:b"], []) == 5
        assert await server.ask("PING")
        assert await server.run(Script("return 7"), [], []) == 7
        assert server.database == 0
        assert server.shown == f"redis+cluster://127.0.0.1:{cluster.nodes[1].port}"


@pytest.mark.servers
async def test_a_script_runs_whether_or_not_its_node_knows_it(cluster: ValkeyCluster, url: str) -> None:
    async with opened(url) as server:
        for node in cluster.nodes:
            node.ask("SCRIPT", "FLUSH")
            key = key_of(cluster, node, "unknown")
            assert await server.run(ADD, [key], [1]) == 1
            assert await server.run(ADD, [key], [1]) == 2


@pytest.mark.servers
async def test_keys_of_two_slots_are_refused_before_anybody_is_asked(cluster: ValkeyCluster, url: str) -> None:
    async with opened(url) as server:
        with pytest.raises(ValueError, match=r"keys of one script.*hash tag"):
            await server.run(TOGETHER, ["one", "two"], [])
        assert await server.run(TOGETHER, ["{same}one", "{same}two"], []) == 2


@pytest.mark.servers
async def test_a_user_with_a_password_is_known_to_every_node(cluster: ValkeyCluster) -> None:
    place = f"127.0.0.1:{cluster.nodes[0].port}"
    async with opened(f"redis+cluster://gate:{quote(SECRET, safe='')}@{place}") as server:
        for node in cluster.nodes:
            node.ask("ACL", "LOG", "RESET")
            key = key_of(cluster, node, "user")
            assert await server.run(ADD, [key], [1]) == 1
        assert await server.ask("ACL", "WHOAMI") == b"gate"
    async with opened(f"redis+cluster://gate:wrong{SECRET[:3]}@{place}") as server:
        with pytest.raises(StoreUnavailable, match="does not take these credentials") as caught:
            await server.ask("GET", "a")
        assert "hun" not in str(caught.value)
        assert "hun" not in repr(server)


@pytest.mark.servers
async def test_what_is_no_cluster_is_told(tmp_path: Path) -> None:
    single = valkey_server(tmp_path)
    try:
        async with opened(f"redis+cluster://127.0.0.1:{single.port}") as server:
            with pytest.raises(StoreUnavailable, match="error"):
                await server.ask("GET", "a")
    finally:
        single.stop()


@pytest.mark.servers
async def test_seeds_that_are_gone_do_not_matter(cluster: ValkeyCluster, net: Any) -> None:
    site = await net.serve(net.answering(b""))
    gone = site.port
    await net.close()
    async with opened(f"redis+cluster://127.0.0.1:{gone},127.0.0.1:{cluster.nodes[2].port}") as server:
        assert await server.run(ADD, ["{gone}"], [1]) == 1
    async with opened(f"redis+cluster://127.0.0.1:{gone}") as server:
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{gone} cannot be reached"):
            await server.run(ADD, ["{gone}"], [1])


@pytest.mark.servers
async def test_a_slot_that_moves_is_followed(cluster: ValkeyCluster, url: str) -> None:
    """ASK while it moves, for a key that is not there any more; MOVED when it has moved. And back again."""
    here, there = cluster.nodes[0], cluster.nodes[2]
    key = key_of(cluster, here, "moving")
    slot = str(slot_of(key))
    names = {node: node.text("CLUSTER", "MYID") for node in cluster.nodes}
    async with opened(url, connections=2) as server:
        assert await server.run(ADD, [f"{key}:old"], [1]) == 1
        for begin, end, count in ((here, there, 0), (there, here, 1)):
            must(end, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[begin])
            must(begin, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[end])
            new = f"{key}:new{count}"
            found = await asyncio.gather(*(server.run(ADD, [new], [1]) for _ in range(20)))
            assert sorted(found) == list(range(1, 21))
            assert await server.run(ADD, [f"{key}:old"], [0]) == 1
            for name in (f"{key}:old", "" if not count else f"{key}:new0"):
                if name:
                    assert begin.ask("MIGRATE", "127.0.0.1", str(end.port), name, "0", "5000") == b"+OK"
            for node in (end, begin, cluster.nodes[1]):
                must(node, "CLUSTER", "SETSLOT", slot, "NODE", names[end])
            assert await server.run(ADD, [f"{key}:old"], [0]) == 1
            assert await server.ask("GET", new) == b"20"
            (home,) = server._clients.values()
            assert isinstance(home, Cluster)
            assert home._owner(int(slot)) == Place("127.0.0.1", end.port)


class Stub:
    """A node that loses every question."""

    def __init__(self, place: Place, sent: bool) -> None:
        self.place, self.sent = place, sent

    async def ask(self, command: Any, deadline: float, keys: Any = None) -> Any:
        raise Lost(self.place, OSError(), sent=self.sent)


@pytest.mark.servers
@pytest.mark.parametrize("sent", [True, False])
async def test_a_question_that_may_have_arrived_is_asked_of_nobody_else(
    cluster: ValkeyCluster, url: str, sent: bool
) -> None:
    """Its node is lost and another has the slot by now: that one is learnt of, and asked if nobody had the question."""
    key = key_of(cluster, cluster.nodes[0], f"sent{sent}")
    lost, owner = Place("127.0.0.1", 1), Place("127.0.0.1", cluster.nodes[0].port)
    async with opened(url) as server:
        assert await server.run(ADD, [key], [0]) == 0
        (home,) = server._clients.values()
        assert isinstance(home, Cluster)
        home._slots = Slots([16383], [lost])
        home._nodes[lost] = Stub(lost, sent)  # type: ignore[assignment]
        home._nodes[lost].retire = lambda: None  # type: ignore[method-assign]
        home._learnt = -inf
        if sent:
            with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1 "):
                await server.run(ADD, [key], [1])
            await until(lambda: home._slots.owner(slot_of(key)) == owner)
        assert await server.run(ADD, [key], [1]) == 1


@pytest.mark.servers
async def test_a_cluster_that_sends_in_circles_is_left(cluster: ValkeyCluster, url: str) -> None:
    key = key_of(cluster, cluster.nodes[0])
    async with opened(url) as server:
        assert await server.ask("SET", key, "a")
        (home,) = server._clients.values()
        asked = 0

        def circling(place: Place) -> Any:
            class Circling:
                async def ask(self, command: Any, deadline: float, keys: Any = None) -> Any:
                    nonlocal asked
                    asked += 1
                    node: Any = nodes(Place("127.0.0.1", cluster.nodes[1].port))
                    return await node.ask(command, deadline)

            return Circling()

        nodes: Callable[[Place], Any] = home._node  # type: ignore[attr-defined]
        home._node = circling  # type: ignore[attr-defined]
        with pytest.raises(RedisRefused, match=r"answered with the error MOVED|MovedError"):
            await server.ask("GET", key)
        assert asked < 20
        home._node = nodes  # type: ignore[attr-defined]


@pytest.mark.servers
async def test_what_is_published_on_a_node_is_heard_from_every_other(cluster: ValkeyCluster, url: str) -> None:
    async with opened(url) as server, server.listening("news") as listener:
        for node in cluster.nodes:
            node.ask("PUBLISH", "news", str(node.port))
            assert await listener.news(5) == str(node.port).encode()


@pytest.mark.servers
async def test_more_questions_than_connections_wait_their_turn_at_every_node(cluster: ValkeyCluster, url: str) -> None:
    keys = [key_of(cluster, node, "turns") for node in cluster.nodes]
    async with opened(url, connections=2, timeout=5.0) as server:
        found = await asyncio.gather(*(server.run(ADD, [keys[one % 3]], [1]) for one in range(150)))
        assert sorted(found) == sorted(list(range(1, 51)) * 3)
        await server.drop_idle()
        assert await server.run(ADD, [keys[0]], [1]) == 51


@pytest.mark.servers
def test_every_loop_has_connections_of_its_own(url: str) -> None:
    server = RedisServer(url)

    async def ask() -> bytes:
        found = await server.ask("ECHO", "a")
        await server.aclose()
        await server.aclose()
        return bytes(found)

    assert [asyncio.run(ask()) for _ in range(3)] == [b"a"] * 3


@pytest.mark.servers
async def test_closing_tells_whoever_is_asking_and_leaves_nothing(cluster: ValkeyCluster, url: str) -> None:
    async with opened(url, timeout=5.0, connections=2) as server:
        asking = [asyncio.create_task(server.ask("BLPOP", f"nothing{one}", 0)) for one in range(20)]
        await until(lambda: any(node.info("blocked_clients") != "0" for node in cluster.nodes))
        (home,) = server._clients.values()
        assert isinstance(home, Cluster)
        async with asyncio.timeout(3):
            await server.aclose()
            found = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(one) for one in found} == {StoreUnavailable}
        await until(lambda: home._learning is not None and home._learning.done())
        assert home._nodes == {}
        assert server._clients == {}


@pytest.mark.servers
@pytest.mark.parametrize("bound", ["0.005", "0.025"])
async def test_a_short_bound_is_no_hindrance_to_getting_to_know_the_cluster(
    cluster: ValkeyCluster, url: str, bound: str
) -> None:
    async with opened(f"{url}?timeout={bound}") as server:
        for node in cluster.nodes:
            outage = await until_answered(lambda node=node: server.ask("GET", key_of(cluster, node)))  # type: ignore[misc]
            assert outage.seconds < 2.0


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """A cluster of one node. A test that changes something of it takes that back."""
    found = valkey_cluster(tmp_path_factory.mktemp("alone"), masters=1)
    yield found
    found.stop()


@pytest.mark.servers
async def test_a_slot_that_nobody_has_is_told_and_asked_for_again(alone: ValkeyCluster) -> None:
    (node,) = alone.nodes
    slot = str(slot_of("nobody"))
    async with opened(f"redis+cluster://127.0.0.1:{node.port}") as server:
        assert await server.run(ADD, ["nobody"], [1]) == 1
        must(node, "CLUSTER", "DELSLOTS", slot)
        with pytest.raises(RedisRefused, match=r"ClusterDownError|CLUSTERDOWN"):
            await server.run(ADD, ["nobody"], [1])
        async with opened(f"redis+cluster://127.0.0.1:{node.port}") as other:
            with pytest.raises(StoreUnavailable, match=f"says that no node has the slot {slot}"):
                await other.run(ADD, ["nobody"], [1])
            must(node, "CLUSTER", "ADDSLOTS", slot)
            for one in (server, other):
                outage = await until_answered(lambda one=one: one.run(ADD, ["nobody"], [1]))  # type: ignore[misc]
                assert outage.longest < 1.5


@pytest.mark.servers
async def test_every_address_that_is_announced_is_spoken_to_with_tls(alone: ValkeyCluster, tmp_path: Path) -> None:
    """A node that announces where TLS stands in front of it; and then one whose certificate is for another name."""
    (node,) = alone.nodes
    seed, announced, wrong = (Front(node.port) for _ in range(3))
    announced.authority = wrong.authority = seed.authority
    ca = tmp_path / "ca.pem"
    seed.authority.cert_pem.write_to_path(ca)
    try:
        await seed.start("127.0.0.1")
        await announced.start("127.0.0.1")
        await wrong.start("elsewhere.example")
        url = f"rediss+cluster://127.0.0.1:{seed.port}?ca={quote(str(ca))}"
        must(node, "CONFIG", "SET", "cluster-announce-port", str(announced.port))
        async with opened(url, timeout=5.0) as server:
            assert await server.run(ADD, ["tls"], [1]) == 1
            assert announced.connections == 1
        must(node, "CONFIG", "SET", "cluster-announce-port", str(wrong.port))
        async with opened(url, timeout=5.0) as server:
            with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{wrong.port} cannot be reached"):
                await server.run(ADD, ["tls"], [1])
        must(node, "CONFIG", "SET", "cluster-announce-port", str(node.port))
        async with opened(url, timeout=1.0) as server:
            with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{node.port} "):
                await server.run(ADD, ["tls"], [1])
        assert node.text("GET", "tls") == "1"
    finally:
        for front in (seed, announced, wrong):
            await front.close()
        must(node, "CONFIG", "SET", "cluster-announce-port", "0")


# -- nodes that are lost


@pytest.mark.servers
async def test_a_master_that_is_lost_is_replaced_and_another_that_stands_still_costs_its_own_keys(
    tmp_path: Path,
) -> None:
    """Killed: its keys fail in time until its replica has taken over, without a new client; others are answered all the
    while. Back as a replica: nothing changes. Standing still, with no replica: its keys fail in time, until it goes on.
    """
    cluster = valkey_cluster(tmp_path, masters=3, replicas=1)
    first, second, third, replica = cluster.nodes
    lost, still, other = (key_of(cluster, node) for node in (first, second, third))
    try:
        async with opened(f"redis+cluster://127.0.0.1:{third.port}?timeout=0.1") as server:
            for key in (lost, still, other):
                assert await server.run(ADD, [key], [1]) == 1
            await until(lambda: replica.info("slave_repl_offset") == first.info("master_repl_offset"))
            first.kill()
            outage = await until_answered(lambda: server.run(ADD, [lost], [1]))
            _log.info("failover: %.2f s, the longest question %.3f s", outage.seconds, outage.longest)
            assert outage.answer == 2
            assert outage.failures
            assert outage.longest < 1.0
            assert replica.text("GET", lost) == "2"
            assert await server.run(ADD, [other], [1]) == 2

            cluster.nodes[0] = first = first.again()
            until_all([first], lambda node: node.info("master_link_status") == "up")
            assert await server.run(ADD, [lost], [1]) == 3
            assert first.info("role") == "slave"

            second.pause()
            loop = asyncio.get_running_loop()
            for _ in range(5):
                begun = loop.time()
                with pytest.raises(StoreUnavailable, match=f":{second.port} "):
                    await server.run(ADD, [still], [1])
                assert loop.time() - begun < 1.0
            second.resume()
            outage = await until_answered(lambda: server.run(ADD, [still], [1]))
            # Those that were given up may have been counted: they were sent.
            assert outage.answer >= 2
            assert await server.run(ADD, [lost], [1]) == 4
    finally:
        cluster.stop()
