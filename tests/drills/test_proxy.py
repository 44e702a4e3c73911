"""The fault proxy as a whole: which connection gets which faults, what it counts, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import httpx
import pytest
import trustme

from gatekit.testing import Upstream
from gatekit.testing.faults import Drip, Fault, FaultProxy, Garble, Reset, Script, Stall

from .wire import Wire, settle, wire

# -- which connection gets what


async def test_each_connection_gets_its_own_and_the_last_again() -> None:
    numbers: list[int] = []

    def third(number: int) -> Fault:
        numbers.append(number)
        return Garble("response", xor=0x20)

    async def first_word(line: Wire) -> bytes:
        client, upstream = await line.connect()
        upstream.send(b"abc")
        await client.until(lambda peer: peer.lost or len(peer.got) == 3)
        return client.got

    async with wire((), [Drip("response", size=1), Reset("response", 2)], third) as line:
        assert [await first_word(line) for _ in range(4)] == [b"abc", b"ab", b"ABC", b"ABC"]
        assert numbers == [3, 4]
        line.proxy.script()
        assert await first_word(line) == b"abc"
        line.proxy.script(Reset("response", 1), ())
        assert [await first_word(line) for _ in range(2)] == [b"a", b"abc"]
        assert [one.faults_done for one in line.proxy.carried] == [0, 2, 1, 1, 0, 1, 0]
        assert line.proxy.faults_done == 5


async def test_faults_of_one_connection_come_in_the_order_of_their_points() -> None:
    faults = [Reset("response", 5), Garble("response", 3, replace=b"X"), Drip("response", 1, size=1)]
    async with wire(faults) as line:
        client, upstream = await line.connect()
        upstream.send(b"abcdefgh")
        await client.until(lambda peer: peer.reset)
        assert client.pieces == [b"a", b"b", b"c", b"X", b"e"]
        assert line.proxy.faults_done == 3


async def test_a_point_that_is_not_reached_does_nothing() -> None:
    async with wire([Reset("response", 4), Reset("request", 0)]) as line:
        client, upstream = await line.connect()
        upstream.send(b"abc")
        upstream.transport.write_eof()
        await client.until(lambda peer: peer.fin)
        client.transport.write_eof()
        await line.proxy.wait_for(lambda proxy: proxy.open_connections == 0)
        assert (client.got, client.error, upstream.error, line.proxy.faults_done) == (b"abc", None, None, 0)


# -- the proxy itself


@pytest.mark.parametrize("fault", [(), Stall("request", both=True), Drip("request", gate=asyncio.Semaphore(0))])
async def test_leaving_cuts_what_is_open(fault: Script) -> None:
    async with wire(fault) as line:
        client, upstream = await line.connect()
        client.send(b"ask")
        await settle()
        assert line.proxy.open_connections == 1
        line.proxy.drop_connections()
        line.proxy.drop_connections()
        await client.until(lambda peer: peer.reset)
        await upstream.until(lambda peer: peer.reset)
        await line.proxy.wait_for(lambda proxy: proxy.open_connections == 0)
        again = await line.connect()
        again[1].send(b"hello")
        await line.proxy.wait_for(lambda proxy: proxy.carried[1].response == 5)
    assert [peer.reset for peer in again] == [True, True]


@pytest.mark.parametrize("turns", range(8))
async def test_leaving_while_a_connection_is_being_made(turns: int) -> None:
    async with Upstream() as up:
        async with FaultProxy(up.url) as proxy:
            client = socket.create_connection(("127.0.0.1", proxy.port))
            await settle(turns)
        await settle()
        with client:
            client.settimeout(5)
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                pass
        await up.wait_for(lambda up: up.open_connections == 0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_a_function_of_the_script_raises_is_not_lost() -> None:
    def broken(number: int) -> Fault:
        raise LookupError(f"nothing for {number}")

    async def cut() -> None:
        async with wire(broken) as line:
            client = await line.client()
            await client.until(lambda peer: peer.reset)

    with pytest.raises(LookupError, match="nothing for 1"):
        await cut()


async def test_a_fault_of_ones_own_that_does_nothing_is_told() -> None:
    async def send() -> None:
        async with wire(Fault("response", 1)) as line:
            client, upstream = await line.connect()
            upstream.send(b"ab")
            await client.until(lambda peer: peer.reset)

    with pytest.raises(NotImplementedError):
        await send()


async def test_listening_and_not_listening_may_be_said_twice() -> None:
    async with wire() as line:
        port = line.proxy.port
        line.proxy.listen()
        assert line.proxy.port == port
        await line.connect()
        line.proxy.stop_listening()
        line.proxy.stop_listening()


async def test_a_client_that_is_gone_before_it_is_accepted_is_none() -> None:
    async with FaultProxy("127.0.0.1:1") as proxy:
        assert proxy._listener is not None
        proxy._accept(proxy._listener)
        assert proxy.connections == 0


async def test_waiting_for_what_never_comes_ends() -> None:
    async with wire() as line:
        with pytest.raises(TimeoutError):
            await line.proxy.wait_for(lambda proxy: proxy.connections == 1, timeout=0)


async def test_tls_passes_unread() -> None:
    authority = trustme.CA()
    server, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(trusting)
    async with (
        Upstream(tls=server) as up,
        FaultProxy(up.url, Drip("response", size=100), Garble("response", after=20)) as proxy,
        httpx.AsyncClient(verify=trusting, trust_env=False) as client,
    ):
        assert proxy.url.startswith("https://127.0.0.1:")
        assert (await client.get(proxy.url, headers={"connection": "close"})).text == "ok"
        with pytest.raises(httpx.ConnectError):
            await client.get(proxy.url)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Reset("response", -1),
        lambda: Drip("up", 0),  # type: ignore[arg-type]
        lambda: Drip("request", size=0),
        lambda: Garble("request", xor=0),
        lambda: Garble("request", xor=256),
        lambda: FaultProxy("http://127.0.0.1"),
        lambda: FaultProxy("unix:/nowhere"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        make()
