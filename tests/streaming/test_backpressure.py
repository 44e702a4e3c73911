"""Whoever reads nothing holds up whoever sends, through the gateway and both ways.

What a sender gets rid of is in one of two places. The kernel has it in the queues of the four sockets on the way, as many
bytes as it likes (4 MiB and more for each): that is read from /proc/net/tcp. The rest is held by the gateway's process,
and that is bounded. Down, the pool keeps 256 KiB and one read of the socket (250 KiB) more; what it keeps is one part, and
one part waits in `send`, while the server has its own: one or two in uvicorn, up to eight in granian. Up, the server keeps
64 KiB and one read more, and the transport to the upstream has one part. Resident memory stays flat all the while.
"""

from __future__ import annotations

import pytest
from tests.streaming.crowds import Uploads
from tests.streaming.process import MIB, queued
from tests.streaming.scene import Flood, Scene, expected, framing, read_body

pytestmark = pytest.mark.servers

SIZE = 96 * MIB
"""More than all buffers on the way can take."""
PART = 512 * 1024
"""The largest part of a body that the pool gives to the server."""
DOWN = {"uvicorn": 2 * PART, "granian": 4 * PART}
UP = 3 * PART
GROWTH = 8 * MIB


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_client_that_reads_nothing_holds_up_the_upstream(scene: Scene, chunked: bool) -> None:
    warm = scene.server.mark()
    client = await scene.client(buffer=64 * 1024)
    await client.send(scene.request("GET /without-end"))
    upstream = await scene.wide.accept()
    await upstream.head()
    await upstream.send(f"HTTP/1.1 200 OK\r\n{framing(SIZE, chunked=chunked)}\r\n\r\n".encode())
    flood = Flood(upstream, SIZE, chunked=chunked)
    sent = await flood.stalled()
    assert sent - queued(scene.server.port, scene.wide.port) <= DOWN[scene.server.name]
    assert scene.server.peak - warm < GROWTH
    assert await read_body(client, await client.head()) == expected(SIZE)
    await flood.done()
    assert scene.server.peak - warm < GROWTH


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_an_upstream_that_reads_nothing_holds_up_the_client(scene: Scene, chunked: bool) -> None:
    warm = scene.server.mark()
    client = await scene.client()
    await client.send(scene.request("POST /narrow/without-end", framing(SIZE, chunked=chunked)))
    flood = Flood(client, SIZE, chunked=chunked)
    upstream = await scene.narrow.accept()
    sent = await flood.stalled()
    assert sent - queued(scene.server.port, scene.narrow.port) <= UP
    assert scene.server.peak - warm < GROWTH
    assert await read_body(upstream, await upstream.head()) == expected(SIZE)
    await flood.done()
    assert scene.server.peak - warm < GROWTH
    await upstream.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 204 ")


async def test_ov8_many_slow_uploads_share_bounded_memory(fresh: Scene) -> None:
    """OV8: 1 MiB each, in pieces of 64 KiB, to an upstream that takes them slowly: 128 KiB of memory for each in flight.

    That is what is resident while all of them stand still. While they move, each socket that has something to be read
    adds one read of it, up to 250 KiB, since the servers read ahead of the application: the most ever resident is
    bounded by 512 KiB for each. The bench goes to 1,000.
    """
    standing, most = {}, {}
    for count in (100, 400):
        fresh.server.mark()
        async with Uploads(fresh, count, pushing=False):
            standing[count] = fresh.server.resident
        most[count] = fresh.server.peak
    assert standing[400] - standing[100] < (400 - 100) * 128 * 1024
    assert most[400] - most[100] < (400 - 100) * 512 * 1024


async def test_ov8_clients_that_push_are_held_up(fresh: Scene) -> None:
    """OV8 where clients do not wait: of 4 MiB that each writes as fast as it is taken, 1 MiB may be in memory.

    The 128 KiB of OV8 are not reached here: about 300 KiB behind uvicorn and 600 KiB behind granian were measured. What
    the server reads at once (250 KiB under uvloop) is held until the upstream has taken it.
    """
    standing = {}
    for count in (15, 60):
        async with Uploads(fresh, count, size=4 * MIB, pushing=True):
            standing[count] = fresh.server.resident
    assert standing[60] - standing[15] < (60 - 15) * MIB
    assert fresh.server.peak - standing[15] < 60 * MIB
