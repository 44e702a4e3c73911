"""What is sent to an upstream: bodies, backpressure, early answers, cancelling, stale connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatekit.core.events import EndpointFailed
from gatekit.errors import ClientDisconnected, UpstreamError

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def once(answer: bytes, *, close: bool = False) -> Any:
    """A script: each request gets this answer."""

    async def script(peer: Any) -> None:
        while True:
            await peer.request()
            await peer.send(answer)
            if close:
                peer.close()
                return

    return script


# -- kept connections that turn out to be closed


def stale(requests: list[bytes], *, answered: bytes = b"") -> Any:
    """A script: one answer, and then the connection is closed under the next request."""

    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(OK)
        requests.append(await peer.head())
        if answered:
            await peer.send(answered)
        peer.close()

    return script


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_a_stale_connection_is_replaced_once(world: Any, method: str) -> None:
    lost: list[bytes] = []
    server = await world.serve(stale(lost), once(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"))
    cluster = world.cluster(server)
    await world.get(cluster)
    response, _ = await world.get(cluster, method, "/again")
    assert response.status == 200
    assert lost[0].startswith(method.encode() + b" /again ")
    assert server.connections == 2


async def test_not_twice(world: Any) -> None:
    async def hang_up(peer: Any) -> None:
        await peer.head()
        peer.close()

    server = await world.serve(stale([]), hang_up)
    cluster = world.cluster(server)
    await world.get(cluster)
    with pytest.raises(UpstreamError, match=r"upstream\.closed"):
        await world.get(cluster)
    assert server.connections == 2


async def test_not_on_a_new_connection(world: Any) -> None:
    async def hang_up(peer: Any) -> None:
        await peer.head()
        peer.close()

    server = await world.serve(hang_up)
    with pytest.raises(UpstreamError, match=r"upstream\.closed"):
        await world.get(world.cluster(server))
    assert server.connections == 1


@pytest.mark.parametrize("body", [b"", b"paid"], ids=["empty", "body"])
async def test_a_request_that_may_have_had_an_effect_is_not_repeated(world: Any, body: bytes) -> None:
    server = await world.serve(stale([]), once(OK))
    cluster = world.cluster(server)
    await world.get(cluster)
    with pytest.raises(UpstreamError, match=r"upstream\.closed"):
        await world.get(cluster, "POST", "/pay", body=body)
    assert server.connections == 1


async def test_not_once_a_byte_was_answered(world: Any) -> None:
    server = await world.serve(stale([], answered=b"HTTP/1.1 2"), once(OK))
    cluster = world.cluster(server)
    await world.get(cluster)
    with pytest.raises(UpstreamError, match=r"upstream\.closed"):
        await world.get(cluster)
    assert server.connections == 1


async def test_a_post_of_which_no_body_was_sent_is_repeated(world: Any) -> None:
    server = await world.serve(stale([]), once(OK))
    cluster = world.cluster(server)
    await world.get(cluster)
    stream = world.Body(length=4)
    opening = asyncio.ensure_future(cluster.open(world.request("POST", stream=stream)))
    await world.until(lambda: server.connections == 2)
    stream.put(b"paid")
    stream.put(b"")
    response = await opening
    assert await world.body(response) == b"ok"
    response.close()


async def test_a_buffered_put_is_repeated_with_its_body(world: Any) -> None:
    bodies: list[bytes] = []

    async def keep(peer: Any) -> None:
        bodies.append((await peer.request())[1])
        await peer.send(OK)
        await peer.gone()

    server = await world.serve(stale([]), keep)
    cluster = world.cluster(server)
    await world.get(cluster)
    exchange = world.request("PUT", body=b"whole")
    await exchange.body.buffer(1024)
    response = await cluster.open(exchange)
    response.close()
    assert bodies == [b"whole"]


# -- request bodies


async def sent(world: Any, *args: Any, **fields: Any) -> tuple[bytes, bytes]:
    """The request as the upstream saw it."""
    seen: list[tuple[bytes, bytes]] = []

    async def script(peer: Any) -> None:
        seen.append(await peer.request())
        await peer.send(OK)
        await peer.gone()

    await world.get(world.cluster(await world.serve(script)), *args, **fields)
    return seen[0]


async def test_a_body_of_known_length(world: Any) -> None:
    head, body = await sent(world, "POST", "/a?b=c", body=[b"one", b"two"])
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:")
    assert head.count(b"content-length: 6\r\n") == 1
    assert b"transfer-encoding" not in head
    assert body == b"onetwo"


async def test_a_body_of_unknown_length_is_chunked(world: Any) -> None:
    stream = world.Body(b"one", b"two", ended=True)
    head, body = await sent(world, "POST", stream=stream)
    assert b"transfer-encoding: chunked\r\n" in head
    assert b"content-length" not in head
    assert body == b"onetwo"


@pytest.mark.parametrize(
    ("parts", "length"), [((b"abc",), 2), ((b"ab", b"c"), 2), ((b"a",), 2)], ids=["more", "more-later", "less"]
)
async def test_a_body_that_is_not_as_long_as_declared(world: Any, parts: tuple[bytes, ...], length: int) -> None:
    server = await world.serve(once(OK))
    cluster = world.cluster(server)
    stream = world.Body(*parts, length=length, ended=True)
    with pytest.raises(UpstreamError) as caught:
        await world.get(cluster, "POST", stream=stream)
    assert (caught.value.reason, caught.value.status) == ("request.bad_length", 400)
    await world.until(lambda: world.pool(cluster).open == 0)


async def test_a_client_that_leaves_in_its_body(world: Any) -> None:
    seen: list[EndpointFailed] = []
    world.ports.events.subscribe(EndpointFailed, seen.append)
    server = await world.serve(once(OK))
    stream = world.Body(b"ab", length=4)
    opening = asyncio.ensure_future(world.cluster(server).open(world.request("POST", stream=stream)))
    await world.until(lambda: server.connections == 1)
    stream.put(None)
    with pytest.raises(ClientDisconnected):
        await opening
    await world.until(lambda: server.closed == 1)
    assert not seen


async def test_an_early_answer_ends_the_upload(world: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too large\r\ncontent-length: 3\r\n\r\nbig")
        await peer.gone()

    server = await world.serve(script)
    cluster = world.cluster(server)
    stream = world.Body(b"part", length=1_000_000)
    response = await cluster.open(world.request("POST", stream=stream))
    assert response.status == 413
    assert await world.body(response) == b"big"
    response.close()
    assert world.pool(cluster).idle == 0
    await world.until(lambda: server.closed == 1)


async def test_an_early_answer_while_the_upstream_takes_no_more(world: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await full.wait()
        await peer.send(b"HTTP/1.1 413 Too large\r\ncontent-length: 3\r\n\r\nbig")
        await done.wait()

    full, done = asyncio.Event(), asyncio.Event()
    cluster = world.cluster(await world.serve(script))
    exchange = world.request("PUT", body=b"x" * 32_000_000)
    await exchange.body.buffer(64_000_000)
    opening = asyncio.ensure_future(cluster.open(exchange))
    await world.settle(20)
    assert not opening.done()
    full.set()
    response = await opening
    assert response.status == 413
    response.close()
    done.set()


async def test_a_slow_upstream_holds_the_client_up(world: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await go.wait()
        await peer.reader.readexactly(total)
        await peer.send(OK)
        await peer.gone()

    go = asyncio.Event()
    cluster = world.cluster(await world.serve(script))
    part, total = b"x" * 65_536, 65_536 * 512
    stream = world.Body(*[part] * 512, length=total, ended=True)
    opening = asyncio.ensure_future(cluster.open(world.request("POST", stream=stream)))
    reads = -1
    while reads != stream.reads:
        reads = stream.reads
        await world.settle(50)
    assert reads < 512
    assert not opening.done()
    go.set()
    response = await opening
    response.close()


async def test_a_slow_reader_holds_the_upstream_up(world: Any) -> None:
    written = 0

    async def script(peer: Any) -> None:
        nonlocal written
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 33554432\r\n\r\n")
        for _ in range(512):
            await peer.send(b"x" * 65_536)
            written += 65_536
        await peer.gone()

    cluster = world.cluster(await world.serve(script))
    response = await cluster.open(world.request())
    before = -1
    while before != written:
        before = written
        await world.settle(50)
    assert written < 33_554_432
    first = len(response.take()[0])
    assert first == 64 * 1024
    assert first + len(await world.body(response)) == 33_554_432
    response.close()
    assert world.pool(cluster).idle == 1


# -- cancelling


@pytest.mark.parametrize("body", [b"", b"x" * 10], ids=["no-body", "body"])
async def test_cancelling_closes_the_connection(world: Any, body: bytes) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        await peer.gone()

    server = await world.serve(script)
    cluster = world.cluster(server)
    opening = asyncio.ensure_future(cluster.open(world.request("POST", body=body)))
    await world.until(lambda: server.connections == 1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await world.until(lambda: server.closed == 1)
    assert world.pool(cluster).open == 0


async def test_cancelling_while_the_client_sends(world: Any) -> None:
    server = await world.serve(once(OK))
    cluster = world.cluster(server)
    opening = asyncio.ensure_future(cluster.open(world.request("POST", stream=world.Body(b"a", length=2))))
    await world.until(lambda: server.connections == 1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await world.until(lambda: server.closed == 1)


# -- the whole time


async def test_the_whole_time_of_a_response_that_goes_on_and_on(world: Any) -> None:
    more = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        while True:
            await peer.send(b"data: x\n\n")
            await more.wait()
            more.clear()

    cluster = world.cluster(await world.serve(script), total_timeout=100.0, idle_timeout=60.0)
    response = await cluster.open(world.request())
    for _ in range(3):
        assert await response.read() == b"data: x\n\n"
        world.clock.advance(30.0)
        more.set()
    assert await response.read() == b"data: x\n\n"
    world.clock.advance(11.0)
    with pytest.raises(UpstreamError) as caught:
        await response.read()
    assert (caught.value.reason, caught.value.began) == ("upstream.total_timeout", True)
    response.close()
    assert world.pool(cluster).idle == 0


async def test_the_whole_time_ends_with_the_response(world: Any) -> None:
    async def script(peer: Any) -> None:
        while await peer.request():
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    cluster = world.cluster(await world.serve(script), total_timeout=10.0, keepalive=1000.0)
    for _ in range(3):
        assert (await world.get(cluster))[1] == b"ok"
        world.clock.advance(9.0)
    assert world.pool(cluster).idle == 1
    assert cluster.plan.total_timeout == 10.0


async def test_no_head_within_the_whole_time(world: Any) -> None:
    async def silent(peer: Any) -> None:
        await peer.gone()

    server = await world.serve(silent)
    cluster = world.cluster(server, total_timeout=5.0, timeout=15.0)
    opening = asyncio.ensure_future(cluster.open(world.request()))
    await world.until(lambda: server.connections == 1)
    world.clock.advance(6.0)
    with pytest.raises(UpstreamError, match=r"upstream\.timeout"):
        await opening
