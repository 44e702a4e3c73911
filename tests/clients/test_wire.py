"""What lies between httpcore and a transport: order, backpressure, ends, and TLS that must come first."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import httpcore
import pytest

from gatekit.clients.wire import READ_AHEAD, Wire, WireStream


class Recording(asyncio.Transport):
    """A transport that only writes down what is asked of it."""

    def __init__(self) -> None:
        super().__init__({"socket": "the socket"})
        self.calls: list[str] = []
        self.sent = b""

    def is_closing(self) -> bool:
        return True

    def write(self, data: Any) -> None:
        self.sent += data

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def abort(self) -> None:
        self.calls.append("abort")


@pytest.fixture
def wire() -> Wire:
    made = Wire()
    made.connection_made(Recording())
    return made


def calls(wire: Wire) -> list[str]:
    assert isinstance(wire.transport, Recording)
    return wire.transport.calls


async def started(work: Any) -> asyncio.Task[Any]:
    """A task that has run as far as it can."""
    task: asyncio.Task[Any] = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=0)
    return task


async def test_reads_take_what_has_come_in_order(wire: Wire) -> None:
    reading = await started(wire.read(3))
    assert not reading.done()
    wire.data_received(b"abcde")
    wire.data_received(b"f")
    assert await reading == b"abc"
    assert await wire.read(100) == b"def"
    wire.eof_received()
    assert (await wire.read(100), await wire.read(100)) == (b"", b"")


async def test_what_came_before_the_end_is_read_first(wire: Wire) -> None:
    wire.data_received(b"ab")
    wire.connection_lost(ConnectionResetError("reset"))
    assert await wire.read(100) == b"ab"
    with pytest.raises(ConnectionResetError, match="reset"):
        await wire.read(100)


async def test_a_peer_that_is_faster_than_the_reader_is_held_up_once(wire: Wire) -> None:
    wire.data_received(b"x" * READ_AHEAD)
    wire.data_received(b"x")
    assert calls(wire) == ["pause"]
    await wire.read(1)
    assert calls(wire) == ["pause"]
    await wire.read(1)
    await wire.read(1)
    assert calls(wire) == ["pause", "resume"]


async def test_a_transport_that_is_gone_is_not_resumed(wire: Wire) -> None:
    wire.data_received(b"x" * READ_AHEAD)
    wire.connection_lost(None)
    await wire.read(READ_AHEAD)
    assert calls(wire) == ["pause"]


async def test_writes_wait_while_the_peer_takes_nothing(wire: Wire) -> None:
    wire.pause_writing()
    writing = await started(wire.write(b"abc"))
    assert not writing.done()
    wire.resume_writing()
    await writing
    assert isinstance(wire.transport, Recording)
    assert wire.transport.sent == b"abc"


@pytest.mark.parametrize("error", [None, BrokenPipeError("gone")], ids=["closed", "broken"])
async def test_writes_end_when_the_connection_does(wire: Wire, error: Exception | None) -> None:
    wire.pause_writing()
    writing = await started(wire.write(b"abc"))
    wire.connection_lost(error)
    with pytest.raises(type(error) if error else ConnectionResetError):
        await writing
    with pytest.raises(OSError):
        await wire.write(b"more")
    assert isinstance(wire.transport, Recording)
    assert wire.transport.sent == b"abc"


async def test_httpcore_hears_of_failures_in_its_own_words(wire: Wire) -> None:
    stream = WireStream(wire)
    wire.connection_lost(ConnectionResetError("reset"))
    with pytest.raises(httpcore.ReadError, match="reset"):
        await stream.read(1)
    with pytest.raises(httpcore.WriteError, match="reset"):
        await stream.write(b"x")


async def test_se9_nothing_said_before_the_handshake_passes_for_an_answer(wire: Wire) -> None:
    wire.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    with pytest.raises(httpcore.ConnectError, match="before the TLS handshake"):
        await WireStream(wire).start_tls(ssl.create_default_context(), "a.test")
    assert calls(wire) == ["abort"]


@pytest.mark.parametrize(
    ("failure", "told"),
    [(ssl.SSLError("no trust"), httpcore.ConnectError), (asyncio.CancelledError(), asyncio.CancelledError)],
    ids=["refused", "cancelled"],
)
async def test_a_handshake_that_fails_ends_the_connection(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, failure: BaseException, told: type[BaseException]
) -> None:
    async def start_tls(*given: Any, **settings: Any) -> None:
        raise failure

    monkeypatch.setattr(asyncio.get_running_loop(), "start_tls", start_tls)
    with pytest.raises(told):
        await WireStream(wire).start_tls(ssl.create_default_context(), "a.test")
    assert calls(wire) == ["abort"]


async def test_what_httpcore_asks_of_an_idle_connection(wire: Wire) -> None:
    stream = WireStream(wire)
    assert stream.get_extra_info("is_readable") is False
    assert stream.get_extra_info("socket") == "the socket"
    wire.data_received(b"x")
    assert stream.get_extra_info("is_readable") is True
    await wire.read(1)
    wire.eof_received()
    assert stream.get_extra_info("is_readable") is True
    await stream.aclose()
    assert calls(wire) == ["abort"]
