"""Connecting and waiting: refusals, swept deadlines, Unix sockets, TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from gatekit.core.events import EndpointFailed
from gatekit.core.plan import Endpoint
from gatekit.errors import BodyRefused, UpstreamError

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def answering(peer: Any) -> None:
    while True:
        await peer.request()
        await peer.send(OK)


async def silent(peer: Any) -> None:
    await peer.gone()


# -- failures to connect, and deadlines


async def test_refused(world: Any) -> None:
    seen: list[EndpointFailed] = []
    world.ports.events.subscribe(EndpointFailed, seen.append)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        cluster = world.cluster(endpoints=(Endpoint("127.0.0.1", free.getsockname()[1]),))
        with pytest.raises(UpstreamError) as caught:
            await world.get(cluster)
    error = caught.value
    assert (error.reason, error.status, error.sent, error.began) == ("upstream.connect_failed", 502, False, False)
    assert len(seen) == 1


async def test_connect_timeout(world: Any) -> None:
    # A listener whose backlog is full answers no SYN.
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    stuffing = []
    for _ in range(3):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
        stuffing.append(one)
    try:
        cluster = world.cluster(endpoints=(Endpoint("127.0.0.1", listener.getsockname()[1]),), connect_timeout=2.0)
        opening = asyncio.ensure_future(cluster.open(world.request()))
        await world.settle(20)
        assert not opening.done()
        world.clock.advance(2.0)
        with pytest.raises(UpstreamError) as caught:
            await opening
        assert (caught.value.reason, caught.value.status) == ("upstream.connect_timeout", 504)
        assert caught.value.sent is False
        assert world.pool(cluster).open == 0
    finally:
        for one in (*stuffing, listener):
            one.close()


async def test_no_head_in_time(world: Any) -> None:
    server = await world.serve(silent)
    cluster = world.cluster(server, timeout=15.0)
    opening = asyncio.ensure_future(cluster.open(world.request()))
    await world.until(lambda: server.connections == 1)
    world.clock.advance(14.9)
    await world.settle(20)
    assert not opening.done()
    world.clock.advance(0.1)
    with pytest.raises(UpstreamError) as caught:
        await opening
    error = caught.value
    assert (error.reason, error.status, error.sent, error.began) == ("upstream.timeout", 504, True, False)
    await world.until(lambda: server.closed == 1)


async def test_interim_responses_do_not_put_the_deadline_off(world: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 103 Hints\r\n\r\n")
        sent.set()
        await peer.gone()

    sent = asyncio.Event()
    cluster = world.cluster(await world.serve(script), timeout=10.0)
    opening = asyncio.ensure_future(cluster.open(world.request()))
    await sent.wait()
    world.clock.advance(10.0)
    with pytest.raises(UpstreamError, match=r"upstream\.timeout"):
        await opening


async def test_a_body_that_stalls(world: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
        await peer.gone()

    server = await world.serve(script)
    response = await world.cluster(server, timeout=1.0, idle_timeout=60.0).open(world.request())
    assert await response.read() == b"ab"
    reading = asyncio.ensure_future(response.read())
    world.clock.advance(59.0)
    await world.settle(20)
    assert not reading.done()
    world.clock.advance(61.0)
    with pytest.raises(UpstreamError) as caught:
        await reading
    assert (caught.value.reason, caught.value.began) == ("upstream.idle_timeout", True)
    response.close()
    await world.until(lambda: server.closed == 1)


async def test_a_reader_that_takes_its_time_is_no_stall(world: Any) -> None:
    cluster = world.cluster(await world.serve(answering), idle_timeout=1.0)
    response = await cluster.open(world.request())
    world.clock.advance(1000.0)
    await world.settle(20)
    assert await world.body(response) == b"ok"
    response.close()


async def test_an_upstream_that_stops_taking_the_body(world: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await done.wait()

    done = asyncio.Event()
    cluster = world.cluster(await world.serve(script), idle_timeout=60.0)
    exchange = world.request("PUT", body=b"x" * 32_000_000)
    await exchange.body.buffer(64_000_000)
    opening = asyncio.ensure_future(cluster.open(exchange))
    await world.settle(50)
    world.clock.advance(61.0)
    with pytest.raises(UpstreamError) as caught:
        await opening
    assert (caught.value.reason, caught.value.status) == ("upstream.idle_timeout", 504)
    done.set()


async def test_a_client_that_stops_sending(world: Any) -> None:
    seen: list[EndpointFailed] = []
    world.ports.events.subscribe(EndpointFailed, seen.append)
    server = await world.serve(silent)
    cluster = world.cluster(server, idle_timeout=60.0)
    opening = asyncio.ensure_future(cluster.open(world.request("POST", stream=world.Body(b"a", length=2))))
    await world.until(lambda: server.connections == 1)
    world.clock.advance(61.0)
    with pytest.raises(BodyRefused) as caught:
        await opening
    assert (caught.value.reason, caught.value.status) == ("body.too_slow", 408)
    assert not seen


# -- Unix sockets and TLS


async def test_unix_socket(world: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "up.sock")
    server = await world.serve(answering, uds=path)
    cluster = world.cluster(endpoints=(Endpoint("localhost", 80, uds=path),))
    for _ in range(2):
        assert (await world.get(cluster))[1] == b"ok"
    assert server.connections == 1
    missing = world.cluster(endpoints=(Endpoint("localhost", 80, uds=path + "x"),))
    with pytest.raises(UpstreamError, match=r"upstream\.connect_failed"):
        await world.get(missing)


class Context:
    """A TLS context factory that compares by what it trusts, as a compiled plan's must."""

    def __init__(self, authority: trustme.CA) -> None:
        self.authority = authority
        self.made = 0

    def __call__(self) -> ssl.SSLContext:
        self.made += 1
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


def serving(authority: trustme.CA, name: str, names: list[str | None]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    context.sni_callback = lambda sock, found, ctx: names.append(found)
    return context


async def test_tls(world: Any) -> None:
    authority = trustme.CA()
    names: list[str | None] = []
    server = await world.serve(answering, tls=serving(authority, "localhost", names))
    trust = Context(authority)
    cluster = world.cluster(endpoints=(Endpoint("localhost", server.port, tls=True),), tls_context=trust)
    for _ in range(3):
        assert (await world.get(cluster))[1] == b"ok"
    assert (server.connections, names, trust.made) == (1, ["localhost"], 1)
    await asyncio.get_running_loop().shutdown_default_executor()


@pytest.mark.parametrize("case", ["stranger", "other-name", "default-trust", "no-tls"])
async def test_tls_that_cannot_be_trusted(world: Any, case: str) -> None:
    authority = trustme.CA()
    name = "other.test" if case == "other-name" else "127.0.0.1"
    tls = None if case == "no-tls" else serving(authority, name, [])
    server = await world.serve(silent, tls=tls)
    trust = {"stranger": Context(trustme.CA()), "default-trust": None}.get(case, Context(authority))
    cluster = world.cluster(endpoints=(Endpoint("127.0.0.1", server.port, tls=True),), tls_context=trust)
    opening = asyncio.ensure_future(cluster.open(world.request()))
    if case == "no-tls":
        await world.until(lambda: server.connections == 1)
        world.clock.advance(2.0)
    with pytest.raises(UpstreamError) as caught:
        await opening
    assert caught.value.reason == ("upstream.connect_timeout" if case == "no-tls" else "upstream.tls_failed")
    assert caught.value.sent is False
