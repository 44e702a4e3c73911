"""One exchange with an upstream over a real socket: framing, reuse, failures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatekit.core.events import EndpointFailed
from gatekit.errors import UpstreamError
from gatekit.upstream.inflow import HIGH_WATER

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


@pytest.mark.parametrize(
    ("answer", "status", "body", "kept"),
    [
        pytest.param(OK, 200, b"ok", 1, id="content-length"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, b"", 1, id="empty"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            200,
            b"abcde",
            1,
            id="chunked",
        ),
        pytest.param(b"HTTP/1.1 204 No\r\n\r\n", 204, b"", 1, id="204"),
        pytest.param(b"HTTP/1.1 304 Same\r\ncontent-length: 9\r\n\r\n", 304, b"", 1, id="304"),
        pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", 0, id="http-1.0"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", 0, id="asks-to-close"
        ),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\n" + OK, 200, b"ok", 1, id="interim"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nok",
            200,
            b"ok",
            1,
            id="offers-an-upgrade",
        ),
        pytest.param(OK + OK, 200, b"ok", 0, id="second-answer-unasked"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok" + OK,
            200,
            b"ok",
            0,
            id="data-after-close",
        ),
    ],
)
async def test_an_answer_is_read_to_its_end(world: Any, answer: bytes, status: int, body: bytes, kept: int) -> None:
    server = await world.serve(once(answer))
    cluster = world.cluster(server)
    response, got = await world.get(cluster)
    assert (response.status, got) == (status, body)
    assert all(name != b"link" for name, _ in response.headers)
    assert world.pool(cluster).idle == kept


async def test_every_byte_alone(world: Any) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\nset-cookie: a=b\r\n\r\n"
    )

    async def script(peer: Any) -> None:
        await peer.request()
        for at in range(len(answer)):
            await peer.send(answer[at : at + 1])
            await world.settle(1)
        await peer.gone()

    cluster = world.cluster(await world.serve(script))
    response, body = await world.get(cluster)
    assert body == b"abc"
    assert response.trailers == [(b"x-sum", b"1")]
    assert world.pool(cluster).idle == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["content-length", "chunked", "neither"],
)
async def test_head_ends_with_its_head(world: Any, head: bytes) -> None:
    server = await world.serve(once(head))
    cluster = world.cluster(server)
    for _ in range(3):
        response, body = await world.get(cluster, "HEAD")
        assert (response.status, body) == (200, b"")
    assert server.connections == 1
    assert world.pool(cluster).idle == 1


async def test_a_body_after_a_head_response_spoils_the_connection(world: Any) -> None:
    server = await world.serve(once(OK))
    cluster = world.cluster(server)
    _, body = await world.get(cluster, "HEAD")
    assert body == b""
    assert world.pool(cluster).idle == 0


async def test_a_head_response_that_asks_to_close(world: Any) -> None:
    cluster = world.cluster(await world.serve(once(b"HTTP/1.1 200 OK\r\nconnection: Close\r\n\r\n")))
    await world.get(cluster, "HEAD")
    assert world.pool(cluster).idle == 0


async def test_a_body_that_ends_with_the_connection(world: Any) -> None:
    server = await world.serve(once(b"HTTP/1.1 200 OK\r\n\r\nall of it", close=True))
    cluster = world.cluster(server)
    _, body = await world.get(cluster)
    assert body == b"all of it"
    assert world.pool(cluster).open == 0


@pytest.mark.parametrize(
    ("part", "began"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", True, id="content-length"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", True, id="chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-le", False, id="in-the-head"),
        pytest.param(b"", False, id="before-the-head"),
    ],
)
async def test_truncated(world: Any, part: bytes, began: bool) -> None:
    server = await world.serve(once(part, close=True))
    cluster = world.cluster(server)
    seen: list[EndpointFailed] = []
    world.ports.events.subscribe(EndpointFailed, seen.append)
    with pytest.raises(UpstreamError) as caught:
        await world.get(cluster)
    error = caught.value
    assert (error.reason, error.status) == ("upstream.truncated" if began else "upstream.closed", 502)
    assert (error.sent, error.began) == (True, began)
    assert [event.reason for event in seen] == [error.reason]
    assert seen[0].endpoint == cluster.plan.endpoints[0].key


async def test_what_came_before_the_break_is_delivered(world: Any) -> None:
    server = await world.serve(once(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", close=True))
    response = await world.cluster(server).open(world.request())
    assert await response.read() == b"abc"
    assert response.take() == (b"", False)
    with pytest.raises(UpstreamError, match="truncated"):
        await response.read()
    response.close()


async def test_a_reset_in_a_body_without_length_is_no_end(world: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await world.until(lambda: got.is_set())
        peer.reset()

    got = asyncio.Event()
    response = await world.cluster(await world.serve(script)).open(world.request())
    assert await response.read() == b"abc"
    got.set()
    with pytest.raises(UpstreamError, match="truncated"):
        await response.read()
    response.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="both"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", id="doubled-length"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok", id="signed-length"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n", id="empty-length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n", id="folded-line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx : a\r\n\r\n", id="space-before-colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: a\x00\r\n\r\n", id="nul"),
        pytest.param(b"HTTP/1.1 200 OK\nx: a\n\n", id="bare-lf"),
        pytest.param(b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n", id="version"),
        pytest.param(b"HTTP/1.1 600 Odd\r\ncontent-length: 0\r\n\r\n", id="status-600"),
        pytest.param(b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n", id="status-099"),
        pytest.param(b"HTTP/1.1 101 Go\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nraw", id="upgrade-nobody-asked-for"),
        pytest.param(b"HTTP/1.1 101 Go\r\n\r\n", id="upgrade-without-header"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="not-http"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"a" * 70_000 + b"\r\n\r\n", id="large-header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"a" * 300_000, id="endless-header"),
        pytest.param(b"HTTP/1.1 102 Wait\r\n\r\n" * 5_000, id="endless-interim"),
    ],
)
async def test_a_bad_answer(world: Any, answer: bytes) -> None:
    cluster = world.cluster(await world.serve(once(answer)))
    with pytest.raises(UpstreamError) as caught:
        await cluster.open(world.request())
    assert (caught.value.reason, caught.value.status) == ("upstream.bad_response", 502)
    await world.until(lambda: world.pool(cluster).open == 0)


@pytest.mark.parametrize(
    "rest",
    [b"zz\r\n", b"0\r\n" + b"x: " + b"a" * 200_000 + b"\r\n\r\n", b"0\r\n" + b"x: " + b"a" * 2_000_000],
    ids=["chunk-size", "trailers", "endless-trailer"],
)
async def test_a_body_that_turns_bad(world: Any, rest: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
    cluster = world.cluster(await world.serve(once(answer + rest)))
    with pytest.raises(UpstreamError) as caught:
        await world.get(cluster)
    assert (caught.value.reason, caught.value.began) == ("upstream.bad_response", True)


async def test_one_connection_carries_one_request_after_another(world: Any) -> None:
    server = await world.serve(once(OK))
    cluster = world.cluster(server)
    for number in range(5):
        exchange = world.request("POST", "/", body=b"x" * number)
        response = await cluster.open(exchange)
        assert await world.body(response) == b"ok"
        response.close()
        assert exchange.backend == cluster.plan.endpoints[0].key
        assert exchange.attempts == 1
    assert server.connections == 1


async def test_a_response_closed_before_its_end_cuts_the_connection(world: Any) -> None:
    server = await world.serve(once(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc"))
    cluster = world.cluster(server)
    response = await cluster.open(world.request())
    response.close()
    response.close()
    await world.until(lambda: server.closed == 1)
    with pytest.raises(RuntimeError):
        response.take()
    with pytest.raises(RuntimeError):
        await response.read()


async def test_unasked_bytes_on_an_idle_connection_drop_it(world: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(OK)
        await idle.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await peer.gone()

    idle = asyncio.Event()
    server = await world.serve(script, once(OK))
    cluster = world.cluster(server)
    await world.get(cluster)
    assert world.pool(cluster).idle == 1
    idle.set()
    await world.until(lambda: world.pool(cluster).idle == 0)
    _, body = await world.get(cluster)
    assert body == b"ok"


async def test_no_endpoint(world: Any) -> None:
    with pytest.raises(UpstreamError) as caught:
        await world.cluster().open(world.request())
    assert (caught.value.reason, caught.value.status) == ("upstream.no_endpoint", 503)


async def test_a_connection_whose_answer_was_not_read_to_its_end_can_be_used_again(world: Any) -> None:
    """The body has filled the buffer and ended, so that reading stands still when the client leaves."""

    async def script(peer: Any) -> None:
        await peer.request()
        size = HIGH_WATER + 1
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
        await peer.request()
        await peer.send(OK)

    cluster = world.cluster(await world.serve(script))
    left = await cluster.open(world.request())
    connection = left._connection
    assert connection is not None
    while not connection.ended:
        await connection.wait(connection.sweeper.now() + 5)
    assert connection.paused
    left.close()
    assert world.pool(cluster).idle == 1
    assert connection.buffered == 0
    response = await asyncio.wait_for(cluster.open(world.request()), 5)
    assert response._connection is connection
    assert await world.body(response) == b"ok"
    response.close()
