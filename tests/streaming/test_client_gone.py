"""A client that leaves, with FIN or RST, takes its upstream call with it: closed within 50 ms, and nobody's fault.

Measured from the client's close to the moment at which the upstream sees its connection gone, both in this process, RUNS
times: the median may be 50 ms. A busy machine may be late now and then; no single time may be more than a second.

Left out: the upstream takes nothing of an upload, and then the client leaves. Nobody reads from the client meanwhile,
that is what backpressure is, so it is found out only by the cluster's `idle_timeout`, as an upstream that stalled.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable

import pytest
from tests.streaming.process import MIB
from tests.streaming.scene import NARROW, Flood, Scene, framing
from tests.streaming.wire import Wire

pytestmark = pytest.mark.servers

RUNS = 20
MEDIAN = 0.05
MOST = 1.0


async def unanswered(scene: Scene, client: Wire) -> Wire:
    """The upstream has the request and has not answered."""
    await client.send(scene.request("GET /unanswered"))
    upstream = await scene.wide.accept()
    await upstream.head()
    return upstream


async def unanswered_upload(scene: Scene, client: Wire) -> Wire:
    """The upstream has the request with its body and has not answered."""
    await client.send(scene.request("POST /unanswered", "content-length: 5") + b"hello")
    upstream = await scene.wide.accept()
    assert await upstream.body(await upstream.head()) == b"hello"
    return upstream


async def answering(scene: Scene, client: Wire) -> Wire:
    """The client has had a part of the body."""
    upstream = await unanswered(scene, client)
    await upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun")
    await client.until(b"begun")
    return upstream


async def silent(scene: Scene, client: Wire) -> Wire:
    """The client has had an event, and there is no other one yet."""
    upstream = await unanswered(scene, client)
    await upstream.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
    await client.until(b"data: 1\n\n")
    return upstream


async def uploading(scene: Scene, client: Wire) -> Wire:
    """The upstream has had a part of the request's body."""
    await client.send(scene.request("POST /uploading", "content-length: 1000") + b"begun")
    upstream = await scene.wide.accept()
    await upstream.until(b"begun")
    return upstream


async def uploading_chunks(scene: Scene, client: Wire) -> Wire:
    """The same where nobody knows how long the body will be."""
    await client.send(scene.request("POST /uploading", "transfer-encoding: chunked") + b"5\r\nbegun\r\n")
    upstream = await scene.wide.accept()
    await upstream.until(b"begun\r\n")
    return upstream


async def answered_early(scene: Scene, client: Wire) -> Wire:
    """The upstream answers with events before it has the whole of the request's body."""
    upstream = await uploading(scene, client)
    await upstream.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
    await client.until(b"data: 1\n\n")
    return upstream


Begin = Callable[[Scene, Wire], Awaitable[Wire]]
MOMENTS: list[Begin] = [unanswered, unanswered_upload, answering, silent, uploading, uploading_chunks, answered_early]


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset], ids=["FIN", "RST"])
@pytest.mark.parametrize("begin", MOMENTS, ids=lambda begin: begin.__name__)
async def test_the_upstream_hears_of_it_at_once(scene: Scene, begin: Begin, leave: Callable[[Wire], None]) -> None:
    delays = []
    for _ in range(RUNS):
        client = await scene.client()
        upstream = await begin(scene, client)
        left = time.perf_counter()
        leave(client)
        delays.append(await upstream.gone() - left)
    assert statistics.median(delays) <= MEDIAN
    assert max(delays) <= MOST
    assert await scene.ends(RUNS) == [[499, "nobody", "client.disconnected", False]] * RUNS
    assert "Traceback" not in scene.log


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset], ids=["FIN", "RST"])
async def test_a_client_that_had_stopped_reading_is_missed_too(scene: Scene, leave: Callable[[Wire], None]) -> None:
    client = await scene.client(buffer=NARROW)
    await client.send(scene.request("GET /unread"))
    upstream = await scene.wide.accept()
    await upstream.head()
    await upstream.send(f"HTTP/1.1 200 OK\r\n{framing(96 * MIB, chunked=False)}\r\n\r\n".encode())
    flood = Flood(upstream, 96 * MIB)
    await flood.stalled()
    left = time.perf_counter()
    leave(client)
    assert await upstream.gone() - left <= MOST
    await flood.stop()
    assert await scene.ends(1) == [[499, "nobody", "client.disconnected", False]]


@pytest.mark.parametrize("begin", MOMENTS, ids=lambda begin: begin.__name__)
async def test_the_connection_is_not_used_again(scene: Scene, begin: Begin) -> None:
    client = await scene.client()
    abandoned = await begin(scene, client)
    client.close()
    await abandoned.gone()
    client = await scene.client()
    await client.send(scene.request("GET /next"))
    upstream = await scene.wide.accept()
    assert (await upstream.head()).startswith(b"GET /next ")
    await upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert await client.body(await client.head()) == b"ok"
