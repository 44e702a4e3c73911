"""Event streams are passed on as they come, and what breaks off never looks whole.

No event is sent before the client has read the one before it: a gateway that keeps anything back fails by a time-out.
"""

from __future__ import annotations

import pytest
from tests.streaming.process import MIB
from tests.streaming.scene import Flood, Scene, framing
from tests.streaming.wire import Wire

pytestmark = pytest.mark.servers

EVENTS = 50
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
LAST_CHUNK = b"\r\n0\r\n"


async def opened(scene: Scene, path: str, framing: bytes = CHUNKED) -> tuple[Wire, Wire, bytes]:
    """A client, its upstream, and the head of the stream that the client got."""
    client = await scene.client()
    await client.send(scene.request(f"GET {path}", "accept: text/event-stream"))
    upstream = await scene.wide.accept()
    await upstream.head()
    await upstream.send(STREAM + framing + b"\r\n")
    head = await client.head()
    assert b"content-type: text/event-stream" in head.lower()
    assert b"content-length" not in head.lower()
    return client, upstream, head


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("framed", [True, False], ids=["chunked", "until-close"])
async def test_each_event_arrives_before_the_next_is_sent(scene: Scene, framed: bool) -> None:
    client, upstream, _ = await opened(scene, "/events", CHUNKED if framed else b"")
    for number in range(EVENTS):
        # Every third is a comment, with which a server keeps a stream alive.
        event = b": keep-alive\n\n" if number % 3 == 2 else b"id: %d\ndata: event %d\n\n" % (number, number)
        await upstream.send(chunk(event) if framed else event)
        assert (await client.until(event)).endswith(event)
    if framed:
        await upstream.send(b"0\r\n\r\n")
    else:
        upstream.close()
    assert (await client.until(b"0\r\n\r\n")).endswith(LAST_CHUNK + b"\r\n")
    assert await scene.ends(1) == [[200, "nobody", None, True]]


async def test_a_byte_at_a_time_is_passed_on(scene: Scene) -> None:
    client, upstream, _ = await opened(scene, "/bytes")
    for byte in b"data: slowly\n\n":
        await upstream.send(chunk(bytes((byte,))))
        assert (await client.until(chunk(bytes((byte,))))) == chunk(bytes((byte,)))


async def test_a_silent_stream_is_cut_and_not_ended(scene: Scene) -> None:
    """The route's cluster allows 0.3 s of silence. A comment within them keeps the stream alive."""
    client, upstream, _ = await opened(scene, "/quick/events")
    for event in (b"data: 1\n\n", b": still here\n\n"):
        await upstream.send(chunk(event))
        await client.until(event)
    rest = await client.rest()
    await upstream.gone()
    assert LAST_CHUNK not in rest
    assert rest in (b"", b"\r\n")
    assert await scene.ends(1) == [[200, "upstream", "upstream.idle_timeout", False]]


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset], ids=["FIN", "RST"])
async def test_a_stream_that_the_upstream_breaks_off_is_cut(scene: Scene, leave: object) -> None:
    client, upstream, _ = await opened(scene, "/events")
    await upstream.send(chunk(b"data: 1\n\n"))
    await client.until(b"data: 1\n\n")
    assert callable(leave)
    leave(upstream)
    assert LAST_CHUNK not in await client.rest()
    assert await scene.ends(1) == [[200, "upstream", "upstream.truncated", False]]


async def test_a_body_that_is_too_short_is_cut(scene: Scene) -> None:
    client = await scene.client()
    await client.send(scene.request("GET /short"))
    upstream = await scene.wide.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b"x" * 99)
    upstream.close()
    assert b"\r\ncontent-length: 100\r\n" in (await client.head()).lower()
    assert await client.rest() == b"x" * 99
    assert await scene.ends(1) == [[200, "upstream", "upstream.truncated", False]]


async def test_an_upstream_that_takes_nothing_of_an_upload_is_given_up(scene: Scene) -> None:
    client = await scene.client()
    await client.send(scene.request("POST /quick/upload", framing(96 * MIB, chunked=False)))
    flood = Flood(client, 96 * MIB)
    upstream = await scene.wide.accept()
    assert (await client.head()).startswith(b"HTTP/1.1 504 ")
    await flood.stop()
    await upstream.gone()
    assert await scene.ends(1) == [[504, "upstream", "upstream.idle_timeout", True]]
