"""WebSockets over a cluster: messages, close codes, refusals, failures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from gatekit.core.destination import WebSocketDestination
from gatekit.core.plan import Endpoint
from gatekit.errors import UpstreamError
from gatekit.upstream import Cluster


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def cluster_at(world: Any, port: int, **fields: Any) -> Cluster:
    made: Cluster = world.cluster(endpoints=(Endpoint("127.0.0.1", port),), **fields)
    return made


def port_of(server: Any) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


def opening(
    world: Any, destination: Any, session: Any, target: str = "ws://gateway.test/chat?x=1", **headers: str
) -> Any:
    exchange = world.request("GET", target, kind="websocket", headers=headers)
    return asyncio.ensure_future(destination.websocket(exchange, session))


def test_a_cluster_takes_websockets(world: Any) -> None:
    assert isinstance(world.cluster(), WebSocketDestination)


async def test_messages_go_both_ways(world: Any) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        session = world.Session()
        running = opening(world, cluster_at(world, port_of(server)), session)
        for message in ("text", b"bytes", "", "é" * 1000, b"x" * 300_000):
            session.say(message)
            assert await session.got.get() == message
        session.leave(1000)
        await running
        assert session.closed is None


async def test_the_handshake(world: Any) -> None:
    seen: list[Request] = []

    def look(connection: ServerConnection, request: Request) -> None:
        seen.append(request)

    def add(connection: ServerConnection, request: Request, response: Response) -> None:
        response.headers["Set-Cookie"] = "a=1"

    protocols = [Subprotocol("v2"), Subprotocol("v1")]
    async with serve(
        echo, "127.0.0.1", 0, process_request=look, process_response=add, subprotocols=protocols, origins=None
    ) as server:
        session = world.Session("v1", "v3")
        running = opening(
            world,
            cluster_at(world, port_of(server)),
            session,
            cookie="c=1",
            origin="https://a.test",
            **{
                "sec-websocket-key": "forged",
                "sec-websocket-extensions": "permessage-deflate",
                "connection": "upgrade",
            },
        )
        session.say("x")
        await session.got.get()
        session.leave(1001)
        await running
    assert session.accepted is not None
    subprotocol, headers = session.accepted
    assert subprotocol == "v1"
    assert (b"set-cookie", b"a=1") in headers
    assert not [name for name, _ in headers if name.startswith(b"sec-") or name in (b"upgrade", b"connection")]
    request = seen[0]
    assert request.path == "/chat?x=1"
    assert request.headers["Cookie"] == "c=1"
    assert request.headers["Origin"] == "https://a.test"
    assert request.headers["X-Forwarded-For"] == "192.0.2.1"
    assert request.headers.get_all("Host") == [f"127.0.0.1:{port_of_key(request)}"]
    assert request.headers["Sec-WebSocket-Key"] != "forged"
    assert "Sec-WebSocket-Extensions" not in request.headers


def port_of_key(request: Request) -> str:
    return request.headers["Host"].rpartition(":")[2]


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [(1000, "bye", (1000, "bye")), (3999, "own", (3999, "own")), (1011, "", (1011, "")), (None, "", (1000, ""))],
)
async def test_the_upstreams_close_code_is_passed_on(
    world: Any, code: int | None, reason: str, expected: tuple[int, str]
) -> None:
    async def close(connection: ServerConnection) -> None:
        if code is None:
            connection.protocol.send_close()
            for data in connection.protocol.data_to_send():
                connection.transport.write(data)
            await connection.wait_closed()
        else:
            await connection.close(code, reason)

    async with serve(close, "127.0.0.1", 0) as server:
        session = world.Session()
        await opening(world, cluster_at(world, port_of(server)), session)
        assert session.closed == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [(1000, 1000), (4001, 4001), (1012, 1012), (1005, 1005), (1006, 1001), (1015, 1001), (2999, 1001)],
)
async def test_the_clients_close_code_is_passed_on(world: Any, code: int, expected: int) -> None:
    closed: list[tuple[int | None, str | None]] = []

    async def look(connection: ServerConnection) -> None:
        await connection.wait_closed()
        closed.append((connection.close_code, connection.close_reason))

    async with serve(look, "127.0.0.1", 0) as server:
        session = world.Session()
        running = opening(world, cluster_at(world, port_of(server)), session)
        session.leave(code)
        await running
        await world.until(lambda: bool(closed))
    # Without a code there can be no reason (RFC 6455 section 5.5.1).
    assert closed == [(expected, "" if code == 1005 else "because")]


async def test_a_client_that_vanishes_while_it_is_sent_to(world: Any) -> None:
    closed: list[int | None] = []

    async def talk(connection: ServerConnection) -> None:
        await connection.send("hello")
        await connection.wait_closed()
        closed.append(connection.close_code)

    async with serve(talk, "127.0.0.1", 0) as server:
        session = world.Session()
        session.gone = True
        await opening(world, cluster_at(world, port_of(server)), session)
        await world.until(lambda: bool(closed))
    assert closed == [1001]


@pytest.mark.parametrize("status", [401, 200, 503])
async def test_a_refusal_is_passed_on(world: Any, status: int) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(
            b"HTTP/1.1 %d No\r\nwww-authenticate: x\r\nconnection: x-hop\r\nx-hop: 1\r\ncontent-length: 4\r\n\r\nsays"
            % status
        )
        await peer.gone()

    server = await world.serve(script)
    session = world.Session()
    await opening(world, world.cluster(server), session)
    assert session.accepted is None
    assert session.denied == (status, [(b"www-authenticate", b"x"), (b"content-length", b"4")], b"says")


GOOD = b"HTTP/1.1 101 Go\r\nupgrade: websocket\r\nconnection: upgrade\r\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "upstream.closed"),
        (b"HTTP/1.1 101 ", "upstream.closed"),
        (b"SSH-2.0-OpenSSH\r\n", "upstream.bad_response"),
        (GOOD + b"sec-websocket-accept: wrong\r\n\r\n", "upstream.bad_response"),
        (b"HTTP/1.1 101 Go\r\n\r\n", "upstream.bad_response"),
        (b"HTTP/1.1 600 Odd\r\ncontent-length: 0\r\n\r\n", "upstream.bad_response"),
    ],
)
async def test_a_handshake_that_fails(world: Any, answer: bytes, reason: str) -> None:
    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(answer)
        peer.close()

    session = world.Session()
    with pytest.raises(UpstreamError) as caught:
        await opening(world, world.cluster(await world.serve(script)), session)
    assert caught.value.reason == reason
    assert (session.accepted, session.denied, session.closed) == (None, None, None)


async def test_no_answer_to_the_handshake(world: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.gone()

    server = await world.serve(script)
    running = opening(world, world.cluster(server, timeout=15.0), world.Session())
    await world.until(lambda: server.connections == 1)
    await world.settle(20)
    world.clock.advance(16.0)
    with pytest.raises(UpstreamError) as caught:
        await running
    assert (caught.value.reason, caught.value.status) == ("upstream.timeout", 504)


async def test_refused(world: Any) -> None:
    with pytest.raises(UpstreamError, match="connect_failed"):
        await opening(world, cluster_at(world, 1), world.Session())


async def broken(world: Any, act: Callable[[ServerConnection], Any]) -> Any:
    """How the client's side ends when the upstream acts like this."""

    async def run(connection: ServerConnection) -> None:
        act(connection)
        await connection.wait_closed()

    async with serve(run, "127.0.0.1", 0) as server:
        session = world.Session()
        await opening(world, cluster_at(world, port_of(server)), session)
        return session.closed


async def test_an_upstream_that_just_goes(world: Any) -> None:
    assert await broken(world, lambda connection: connection.transport.abort()) == (1014, "")


async def test_an_upstream_that_breaks_the_protocol(world: Any) -> None:
    closed = await broken(world, lambda connection: connection.transport.write(b"\x83\x00"))
    assert closed[0] == 1002


async def test_text_that_is_no_text(world: Any) -> None:
    closed = await broken(world, lambda connection: connection.transport.write(b"\x81\x01\xff"))
    assert closed[0] == 1007


async def test_fragments_are_put_together_and_pings_stay_on_their_hop(world: Any) -> None:
    async def run(connection: ServerConnection) -> None:
        await (await connection.ping())
        await connection.send(["a", "b", "c"])
        await connection.send([b"1", b"2"])
        await connection.close()

    async with serve(run, "127.0.0.1", 0) as server:
        session = world.Session()
        await opening(world, cluster_at(world, port_of(server)), session)
        assert [session.got.get_nowait(), session.got.get_nowait()] == ["abc", b"12"]
        assert session.got.empty()


async def test_no_more_sessions_than_there_may_be(world: Any) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        cluster = cluster_at(world, port_of(server), max_websockets=1, balance="least_requests")
        first = world.Session()
        running = opening(world, cluster, first)
        first.say("x")
        await first.got.get()
        second = world.Session()
        with pytest.raises(UpstreamError) as caught:
            await opening(world, cluster, second)
        assert (caught.value.reason, caught.value.status) == ("upstream.overloaded", 503)
        first.leave(1000)
        await running
        third = world.Session()
        running = opening(world, cluster, third)
        third.say("y")
        assert await third.got.get() == "y"
        third.leave(1000)
        await running


async def test_silence_ends_the_session(world: Any) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        session = world.Session()
        running = opening(world, cluster_at(world, port_of(server), websocket_idle_timeout=60.0), session)
        for _ in range(3):
            session.say("x")
            await session.got.get()
            world.clock.advance(40.0)
            await world.settle(20)
        assert not running.done()
        world.clock.advance(21.0)
        await running
        assert session.closed == (1001, "idle")


async def test_an_upstream_that_does_not_answer_a_close(world: Any) -> None:
    async def script(peer: Any) -> None:
        head = (await peer.head()).decode()
        from websockets.utils import accept_key

        key = head.lower().split("sec-websocket-key: ")[1].split("\r\n")[0]
        key = head[head.lower().index(key) :][: len(key)]
        await peer.send(GOOD + b"sec-websocket-accept: " + accept_key(key).encode() + b"\r\n\r\n")
        await peer.gone()

    server = await world.serve(script)
    session = world.Session()
    running = opening(world, world.cluster(server), session)
    await world.until(lambda: session.accepted is not None)
    session.leave(1000)
    await world.settle(20)
    assert not running.done()
    world.clock.advance(3.0)
    await running
    await world.until(lambda: server.closed == 1)


async def test_a_slow_client_holds_the_upstream_up(world: Any) -> None:
    sent = 0

    async def run(connection: ServerConnection) -> None:
        nonlocal sent
        for _ in range(512):
            await connection.send(b"x" * 65_536)
            sent += 1

    async with serve(run, "127.0.0.1", 0, ping_interval=None) as server:
        session = world.Session()
        session.room.clear()
        running = opening(world, cluster_at(world, port_of(server)), session)
        before = -1
        while before != sent:
            before = sent
            await world.settle(50)
        assert sent < 512
        session.room.set()
        await running
        assert session.got.qsize() == 512


async def test_a_slow_upstream_holds_the_client_up(world: Any) -> None:
    go = asyncio.Event()

    async def run(connection: ServerConnection) -> None:
        await go.wait()
        async for _ in connection:
            pass

    async with serve(run, "127.0.0.1", 0, ping_interval=None) as server:
        session = world.Session()
        running = opening(world, cluster_at(world, port_of(server)), session)
        for _ in range(512):
            session.say(b"x" * 65_536)
        left = -1
        while left != session._sent.qsize():
            left = session._sent.qsize()
            await world.settle(50)
        assert left > 0
        go.set()
        session.leave(1000)
        await running


async def test_cancelling_leaves_nothing(world: Any) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        session = world.Session()
        running = opening(world, cluster_at(world, port_of(server)), session)
        await world.until(lambda: session.accepted is not None)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_session_that_fails_is_heard_of(world: Any) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        session = world.Session()

        async def fail() -> None:
            raise ValueError("a bug")

        session.receive = fail
        with pytest.raises(ValueError, match="a bug"):
            await opening(world, cluster_at(world, port_of(server)), session)
