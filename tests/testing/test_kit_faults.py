"""Each fault of the fault proxy does what it says, at its byte, and nothing else: seen over real sockets."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.drills.wire import Peer, settle, wire

from gatekit.testing import Upstream
from gatekit.testing.fault_line import reset_on_close
from gatekit.testing.faults import (
    Close,
    Direction,
    Drip,
    FaultProxy,
    Garble,
    HalfClose,
    Refuse,
    Reset,
    Stall,
    Truncate,
)

DIRECTIONS = pytest.mark.parametrize("direction", ["request", "response"])
MORE_THAN_BUFFERS_HOLD = 24 * 1024 * 1024


# -- without a fault


async def test_bytes_pass_both_ways_and_each_end_says_when_it_has_finished() -> None:
    async with wire() as line:
        client, upstream = await line.connect()
        client.send(b"ask")
        await upstream.until(lambda peer: peer.got == b"ask")
        client.transport.write_eof()
        await upstream.until(lambda peer: peer.fin)
        assert not client.fin
        upstream.send(b"answer")
        await client.until(lambda peer: peer.got == b"answer")
        upstream.transport.close()
        await client.until(lambda peer: peer.fin)
        await line.proxy.wait_for(lambda proxy: proxy.open_connections == 0)
        assert not client.error
        assert (line.proxy.connections, line.proxy.faults_done) == (1, 0)
        assert (line.proxy.carried[0].request, line.proxy.carried[0].response) == (3, 6)


@DIRECTIONS
async def test_a_receiver_that_takes_nothing_holds_the_sender_up(direction: Direction) -> None:
    async with wire() as line:
        sender, receiver = await line.between(direction)
        receiver.transport.pause_reading()
        sender.send(bytes(MORE_THAN_BUFFERS_HOLD))
        left = -1
        while left != sender.unsent:
            left = sender.unsent
            await settle(50)
        assert left > 0
        receiver.transport.resume_reading()
        await receiver.until(lambda peer: sum(map(len, peer.pieces)) == MORE_THAN_BUFFERS_HOLD)


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_reset_by_one_end_reaches_the_other(who: str) -> None:
    async with wire() as line:
        client, upstream = await line.connect()
        gone, other = (client, upstream) if who == "client" else (upstream, client)
        # Closing with unread bytes is a RST.
        gone.transport.pause_reading()
        other.send(b"unread")
        await line.proxy.wait_for(lambda proxy: proxy.carried[0].request + proxy.carried[0].response == 6)
        gone.transport.abort()
        await other.until(lambda peer: peer.reset)
        await line.proxy.wait_for(lambda proxy: proxy.open_connections == 0)


@DIRECTIONS
async def test_a_receiver_that_breaks_while_it_takes_nothing(direction: Direction) -> None:
    async with wire() as line:
        sender, receiver = await line.between(direction)
        receiver.transport.pause_reading()
        sender.send(bytes(MORE_THAN_BUFFERS_HOLD))
        await settle(50)
        receiver.transport.abort()
        await sender.until(lambda peer: peer.lost)
        await line.proxy.wait_for(lambda proxy: proxy.open_connections == 0)


async def test_a_reset_that_nobody_reads_shows_with_the_next_fin() -> None:
    async with wire(Stall("request")) as line:
        client, upstream = await line.connect()
        client.send(b"held back")
        await line.proxy.wait_for(lambda proxy: proxy.faults_done == 1)
        reset_on_close(client.transport.get_extra_info("socket"))
        client.transport.abort()
        await client.until(lambda peer: peer.lost)
        await settle()
        upstream.transport.write_eof()
        await upstream.until(lambda peer: peer.reset)
        await line.proxy.wait_for(lambda proxy: proxy.open_connections == 0)


async def test_an_upstream_that_is_not_there_is_a_reset() -> None:
    async with Upstream() as up:
        url = up.url
    async with FaultProxy(url) as proxy:
        _, client = await asyncio.get_running_loop().create_connection(Peer, "127.0.0.1", proxy.port)
        await client.until(lambda peer: peer.reset)
        assert (proxy.connections, proxy.faults_done) == (1, 0)


# -- the end of a connection


@DIRECTIONS
@pytest.mark.parametrize("after", [0, 1, 4, 6])
async def test_reset(direction: Direction, after: int) -> None:
    async with wire(Reset(direction, after)) as line:
        sender, receiver = await line.between(direction)
        assert not sender.lost
        sender.send(b"abcdef")
        for peer in (sender, receiver):
            await peer.until(lambda peer: peer.lost)
            assert peer.reset
            assert not peer.fin
        assert receiver.got == b"abcdef"[:after]
        await line.proxy.wait_for(lambda proxy: proxy.open_connections == 0)
        assert line.proxy.faults_done == 1


@DIRECTIONS
@pytest.mark.parametrize("after", [0, 4, 6])
async def test_close(direction: Direction, after: int) -> None:
    async with wire(Close(direction, after)) as line:
        sender, receiver = await line.between(direction)
        sender.send(b"abcdef")
        for peer in (sender, receiver):
            await peer.until(lambda peer: peer.fin)
            peer.send(b"late")
        assert receiver.got == b"abcdef"[:after]
        await settle()
        sender.transport.close()
        receiver.transport.close()
        await line.proxy.wait_for(lambda proxy: proxy.open_connections == 0)
        assert (sender.got, sender.error, receiver.error) == (b"", None, None)
        assert receiver.got == b"abcdef"[:after]


@DIRECTIONS
@pytest.mark.parametrize("after", [0, 4, 6])
async def test_half_close(direction: Direction, after: int) -> None:
    async with wire(HalfClose(direction, after)) as line:
        sender, receiver = await line.between(direction)
        sender.send(b"abcdef")
        await receiver.until(lambda peer: peer.fin)
        receiver.send(b"back")
        await sender.until(lambda peer: peer.got == b"back")
        sender.send(b"late")
        receiver.send(b"again")
        await sender.until(lambda peer: peer.got == b"backagain")
        assert receiver.got == b"abcdef"[:after]
        assert not sender.fin
        receiver.transport.close()
        await sender.until(lambda peer: peer.fin)


@DIRECTIONS
@pytest.mark.parametrize("after", [0, 4, 6])
async def test_truncate(direction: Direction, after: int) -> None:
    async with wire(Truncate(direction, after)) as line:
        sender, receiver = await line.between(direction)
        sender.send(b"abcdef")
        await receiver.until(lambda peer: peer.fin)
        assert receiver.got == b"abcdef"[:after]
        receiver.send(b"back")
        sender.send(bytes(MORE_THAN_BUFFERS_HOLD))
        await sender.until(lambda peer: peer.unsent == 0)
        assert (sender.got, sender.fin, sender.lost) == (b"", False, False)
        receiver.transport.close()
        await sender.until(lambda peer: peer.fin)
        assert (sender.got, receiver.got) == (b"", b"abcdef"[:after])


# -- what passes late, in pieces, or changed


@DIRECTIONS
@pytest.mark.parametrize("after", [0, 4, 6])
async def test_stall(direction: Direction, after: int) -> None:
    async with wire(Stall(direction, after)) as line:
        sender, receiver = await line.between(direction)
        sender.send(b"abcdef")
        await line.proxy.wait_for(lambda proxy: proxy.faults_done == 1)
        receiver.send(b"back")
        await sender.until(lambda peer: peer.got == b"back")
        sender.send(bytes(MORE_THAN_BUFFERS_HOLD))
        sender.transport.write_eof()
        left = -1
        while left != sender.unsent:
            left = sender.unsent
            await settle(50)
        assert left > 0
        assert receiver.got == b"abcdef"[:after]
        line.proxy.release()
        await receiver.until(lambda peer: peer.fin)
        assert receiver.got == b"abcdef" + bytes(MORE_THAN_BUFFERS_HOLD)


@DIRECTIONS
async def test_stall_both_ways(direction: Direction) -> None:
    async with wire(Stall(direction, after=2, both=True)) as line:
        sender, receiver = await line.between(direction)
        sender.send(b"abcd")
        await line.proxy.wait_for(lambda proxy: proxy.faults_done == 1)
        receiver.send(b"back")
        receiver.transport.write_eof()
        await settle()
        assert (sender.got, sender.fin, receiver.got) == (b"", False, b"ab")
        line.proxy.release()
        await sender.until(lambda peer: peer.fin)
        await receiver.until(lambda peer: peer.got == b"abcd")
        assert sender.got == b"back"


async def test_a_second_stall_needs_a_second_release() -> None:
    async with wire([Stall("response", 1), Stall("response", 2)]) as line:
        client, upstream = await line.connect()
        upstream.send(b"abc")
        for number in (1, 2):
            await line.proxy.wait_for(lambda proxy, number=number: proxy.faults_done == number)  # type: ignore[misc]
            await client.until(lambda peer, number=number: len(peer.got) == number)  # type: ignore[misc]
            line.proxy.release()
        await client.until(lambda peer: peer.got == b"abc")


@DIRECTIONS
async def test_drip(direction: Direction) -> None:
    async with wire(Drip(direction, after=4, size=2)) as line:
        sender, receiver = await line.between(direction)
        sender.send(b"0123abcde")
        await receiver.until(lambda peer: peer.got == b"0123abcde")
        assert receiver.pieces == [b"0123", b"ab", b"cd", b"e"]


async def test_no_piece_waits_for_the_one_before() -> None:
    async with wire() as line:
        await line.connect()
        accepted = next(iter(line.proxy._open))._accepted
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_drip_through_a_gate() -> None:
    gate = asyncio.Semaphore(0)
    async with wire(Drip("response", size=2, gate=gate)) as line:
        client, upstream = await line.connect()
        upstream.send(b"abcde")
        for piece in (b"ab", b"cd", b"e"):
            await settle()
            assert piece not in client.pieces
            gate.release()
            await client.until(lambda peer, piece=piece: peer.pieces[-1:] == [piece])  # type: ignore[misc]


@DIRECTIONS
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Garble("request", xor=0x20), b"ABCDEF"),
        (Garble("request", 4, xor=0x20), b"abcdEF"),
        (Garble("request", 2, xor=0x20, count=1), b"abCdef"),
        (Garble("request", 1, replace=b"xyz"), b"axyzef"),
        (Garble("request", 6, replace=b"xyz"), b"abcdef"),
    ],
    ids=["all", "from", "count", "replace", "behind"],
)
async def test_garble(direction: Direction, fault: Garble, expected: bytes) -> None:
    async with wire([replace(fault, direction=direction), Drip(direction, after=1, size=2)]) as line:
        sender, receiver = await line.between(direction)
        sender.send(b"abcdef")
        receiver.send(b"back")
        await receiver.until(lambda peer: peer.got == expected)
        await sender.until(lambda peer: peer.got == b"back")


@given(
    after=st.integers(0, 12),
    count=st.none() | st.integers(0, 12),
    replacement=st.none() | st.binary(max_size=12),
    sizes=st.lists(st.integers(0, 5), max_size=8),
)
def test_garbling_does_not_depend_on_the_pieces(
    after: int, count: int | None, replacement: bytes | None, sizes: list[int]
) -> None:
    fault = Garble("response", after, xor=1, count=count, replace=replacement)
    data = bytes(range(sum(sizes)))
    passed, at = b"", 0
    for size in sizes:
        passed += fault.altered(data[at : at + size], at)
        at += size
    expected = bytearray(data)
    if replacement is None:
        for place in range(after, len(data) if count is None else min(after + count, len(data))):
            expected[place] ^= 1
    else:
        expected[after:] = (replacement + data[after + len(replacement) :])[: max(0, len(data) - after)]
    assert passed == bytes(expected)


# -- refused


async def test_refused_by_reset() -> None:
    async with wire(Refuse(), ()) as line:
        refused = await line.client()
        await refused.until(lambda peer: peer.lost)
        assert refused.reset
        await line.proxy.wait_for(lambda proxy: proxy.open_connections == 0)
        assert (line.proxy.connections, line.proxy.faults_done) == (1, 1)
        client, upstream = await line.connect()
        upstream.send(b"hello")
        await client.until(lambda peer: peer.got == b"hello")


async def test_refused_by_the_port() -> None:
    async with wire() as line:
        client, upstream = await line.connect()
        line.proxy.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await line.client()
        upstream.send(b"still")
        await client.until(lambda peer: peer.got == b"still")
        url = line.proxy.url
        line.proxy.listen()
        assert line.proxy.url == url
        client, upstream = await line.connect()
        assert line.proxy.connections == 2
