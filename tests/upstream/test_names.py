"""Endpoints by name: looked up anew, several addresses tried, a dead resolver survived, connections that grow old."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from gatekit.core.plan import Endpoint
from gatekit.errors import UpstreamError
from gatekit.upstream import dial

KEPT_ALIVE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ANSWERED = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"


class Names:
    """A resolver in the hands of the test."""

    def __init__(self) -> None:
        self.answer: list[str] | None = None
        self.asked = 0

    async def __call__(self, host: str) -> list[str]:
        self.asked += 1
        if self.answer is None:
            raise OSError("no such host")
        return self.answer


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    found = Names()
    monkeypatch.setattr(dial, "system_resolve", found)
    return found


async def answering(peer: Any) -> None:
    while await peer.request():
        await peer.send(ANSWERED)


async def keeping(peer: Any) -> None:
    while await peer.request():
        await peer.send(KEPT_ALIVE)


async def test_a_name_is_looked_up_again(world: Any, names: Names) -> None:
    first = await world.serve(answering)
    second = await world.serve(answering, host="127.0.0.2", port=first.port)
    cluster = world.cluster(endpoints=(Endpoint("up.test", first.port),))
    names.answer = ["127.0.0.1"]
    await world.get(cluster)
    await world.get(cluster)
    assert (names.asked, first.connections, second.connections) == (1, 2, 0)
    names.answer = ["127.0.0.2"]
    world.clock.advance(dial.RESOLVED_FOR)
    await world.get(cluster)
    assert (names.asked, first.connections, second.connections) == (2, 2, 1)


async def test_known_addresses_serve_while_the_resolver_is_down(world: Any, names: Names) -> None:
    server = await world.serve(answering)
    cluster = world.cluster(endpoints=(Endpoint("up.test", server.port),))
    names.answer = ["127.0.0.1"]
    await world.get(cluster)
    names.answer = None
    world.clock.advance(dial.RESOLVED_FOR)
    assert (await world.get(cluster))[1] == b"ok"
    assert names.asked == 2


async def test_a_name_that_nobody_knows(world: Any, names: Names) -> None:
    cluster = world.cluster(endpoints=(Endpoint("up.test", 1),))
    with pytest.raises(UpstreamError) as caught:
        await world.get(cluster)
    assert (caught.value.reason, caught.value.sent) == ("upstream.connect_failed", False)


async def test_the_next_address_is_tried_where_one_refuses(world: Any, names: Names) -> None:
    server = await world.serve(answering)
    cluster = world.cluster(endpoints=(Endpoint("up.test", server.port),))
    names.answer = ["127.0.0.3", "::1", "127.0.0.1"]
    assert (await world.get(cluster))[1] == b"ok"


async def test_every_address_refuses(world: Any, names: Names) -> None:
    server = await world.serve(answering)
    cluster = world.cluster(endpoints=(Endpoint("up.test", server.port),))
    names.answer = ["127.0.0.3", "127.0.0.4"]
    with pytest.raises(UpstreamError, match=r"127\.0\.0\.3.*127\.0\.0\.4") as caught:
        await world.get(cluster)
    assert caught.value.reason == "upstream.connect_failed"


async def test_an_old_connection_is_not_used_again(world: Any) -> None:
    server = await world.serve(keeping)
    cluster = world.cluster(server, max_connection_age=60.0, keepalive=1000.0)
    for _ in range(3):
        await world.get(cluster)
        world.clock.advance(20.0)
    assert server.connections == 1
    # It is sixty seconds old when it comes back this time.
    await world.get(cluster)
    assert world.pool(cluster).idle == 0
    await world.get(cluster)
    assert server.connections == 2


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_ipv6_by_address_and_by_name(world: Any, names: Names) -> None:
    server = await world.serve(answering, host="::1")
    for host in ("::1", "up.test"):
        names.answer = ["::1"]
        cluster = world.cluster(endpoints=(Endpoint(host, server.port),))
        assert (await world.get(cluster))[1] == b"ok"
    assert server.connections == 2
