"""Connections between requests: order, caps, queue, expiry, timeouts, reloads, forks, TLS, Unix sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from gatekit.core.plan import Endpoint
from gatekit.errors import UpstreamError
from gatekit.upstream import Pools, pool_keys

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def answering(peer: Any) -> None:
    while True:
        await peer.request()
        await peer.send(OK)


async def silent(peer: Any) -> None:
    await peer.gone()


def gated(gate: asyncio.Event) -> Any:
    async def script(peer: Any) -> None:
        while True:
            await peer.request()
            await gate.wait()
            await peer.send(OK)

    return script


async def test_the_connection_used_last_is_used_next(world: Any) -> None:
    server = await world.serve(answering)
    cluster = world.cluster(server)
    first = await cluster.open(world.request())
    second = await cluster.open(world.request())
    pool = world.pool(cluster)
    assert pool.open == 2
    await world.body(first)
    await world.body(second)
    first.close()
    last = second._connection
    second.close()
    assert pool.idle == 2
    assert pool.borrow() is last
    pool.close()


async def test_idle_connections_expire_without_traffic(world: Any) -> None:
    server = await world.serve(answering)
    cluster = world.cluster(server, keepalive=0.01)
    await world.get(cluster)
    pool, sweeper = world.pool(cluster), world.pools.on(asyncio.get_running_loop()).sweeper
    assert pool.idle == 1
    world.clock.advance(0.02)
    await world.until(lambda: server.closed == 1)
    assert pool.open == pool.idle == 0
    await world.until(lambda: not sweeper.running)


async def test_an_expired_connection_is_not_borrowed(world: Any) -> None:
    server = await world.serve(answering)
    cluster = world.cluster(server, keepalive=15)
    for _ in range(2):
        await world.get(cluster)
    world.clock.advance(15)
    await world.get(cluster)
    assert server.connections == 2
    await world.until(lambda: world.pool(cluster).open == 1)


async def test_the_timer_stops_when_nothing_waits(world: Any) -> None:
    sweeper = world.pools.on(asyncio.get_running_loop()).sweeper
    cluster = world.cluster(await world.serve(answering))
    assert not sweeper.running
    await world.get(cluster)
    assert sweeper.running
    world.pools.retain(())
    await world.until(lambda: not sweeper.running)


# -- cap and queue


async def test_the_cap_and_the_queue(world: Any) -> None:
    gate = asyncio.Event()
    server = await world.serve(gated(gate))
    cluster = world.cluster(server, max_connections=2)
    order: list[int] = []

    async def one(number: int) -> None:
        await world.get(cluster)
        order.append(number)

    tasks = [asyncio.ensure_future(one(number)) for number in range(6)]
    await world.until(lambda: server.connections == 2 and world.pool(cluster).waiting == 4)
    gate.set()
    await asyncio.gather(*tasks)
    # The first two have connections of their own and may end in either order.
    assert sorted(order[:2]) == [0, 1]
    assert order[2:] == [2, 3, 4, 5]
    assert server.connections == 2
    assert world.pool(cluster).waiting == 0


async def test_a_place_that_comes_free_goes_to_the_queue(world: Any) -> None:
    async def closing(peer: Any) -> None:
        await peer.request()
        await gate.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    gate = asyncio.Event()
    server = await world.serve(closing)
    cluster = world.cluster(server, max_connections=1)
    tasks = [asyncio.ensure_future(world.get(cluster)) for _ in range(3)]
    await world.until(lambda: world.pool(cluster).waiting == 2)
    gate.set()
    await asyncio.gather(*tasks)
    assert server.connections == 3


async def test_a_full_queue_refuses(world: Any) -> None:
    gate = asyncio.Event()
    server = await world.serve(gated(gate))
    cluster = world.cluster(server, max_connections=1, max_waiting=1)
    tasks = [asyncio.ensure_future(world.get(cluster)) for _ in range(2)]
    await world.until(lambda: world.pool(cluster).waiting == 1)
    with pytest.raises(UpstreamError) as caught:
        await world.get(cluster)
    assert (caught.value.reason, caught.value.status, caught.value.sent) == ("upstream.overloaded", 503, False)
    gate.set()
    await asyncio.gather(*tasks)


async def test_nobody_waits_longer_than_the_bound(world: Any) -> None:
    gate = asyncio.Event()
    server = await world.serve(gated(gate))
    cluster = world.cluster(server, max_connections=1, timeout=1000.0)
    first = asyncio.ensure_future(world.get(cluster))
    await world.until(lambda: server.connections == 1)
    second = asyncio.ensure_future(world.get(cluster))
    await world.until(lambda: world.pool(cluster).waiting == 1)
    world.clock.advance(5.0)
    with pytest.raises(UpstreamError) as caught:
        await second
    assert (caught.value.reason, caught.value.status) == ("upstream.overloaded", 503)
    gate.set()
    await first


@pytest.mark.parametrize("granted", [False, True], ids=["waiting", "granted"])
@pytest.mark.parametrize("keep", [True, False], ids=["connection", "place"])
async def test_who_is_cancelled_in_the_queue_takes_nothing_along(world: Any, granted: bool, keep: bool) -> None:
    server = await world.serve(answering)
    cluster = world.cluster(server, max_connections=1)
    pool = world.pool(cluster)
    first = await cluster.open(world.request())
    if keep:
        await world.body(first)
    second, third = (asyncio.ensure_future(world.get(cluster)) for _ in range(2))
    await world.until(lambda: pool.waiting == 2)
    if granted:
        first.close()
        if not keep:
            await world.until(lambda: pool.waiting == 1 and not second.done())
        second.cancel()
    else:
        second.cancel()
        await world.until(second.done)
        first.close()
    assert (await third)[1] == b"ok"
    with pytest.raises(asyncio.CancelledError):
        await second
    assert (pool.open, pool.idle, pool.waiting) == (1, 1, 0)


async def test_a_failed_dial_hands_its_place_on(world: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        cluster = world.cluster(endpoints=(Endpoint("127.0.0.1", port),), max_connections=1)
        results = await asyncio.gather(*(world.get(cluster) for _ in range(3)), return_exceptions=True)
    assert [getattr(error, "reason", error) for error in results] == ["upstream.connect_failed"] * 3
    assert world.pool(cluster).open == 0


# -- reloads, loops, forks


async def test_an_unchanged_cluster_keeps_its_connections(world: Any) -> None:
    server = await world.serve(answering)
    before, after = world.cluster(server, balance="random"), world.cluster(server, name="renamed")
    await world.get(before)
    await world.get(after)
    assert server.connections == 1
    assert pool_keys(before.plan) == pool_keys(after.plan)
    assert pool_keys(before.plan) != pool_keys(world.plan(server, keepalive=99.0))


async def test_forgotten_pools_close_what_is_idle_now_and_the_rest_later(world: Any) -> None:
    server = await world.serve(answering)
    cluster = world.cluster(server)
    held = await cluster.open(world.request())
    await world.get(cluster)
    pool = world.pool(cluster)
    assert (pool.open, pool.idle) == (2, 1)
    world.pools.retain(())
    await world.until(lambda: pool.open == 1)
    assert await world.body(held) == b"ok"
    held.close()
    await world.until(lambda: pool.open == 0)
    assert world.pool(cluster) is not pool


async def test_closing_a_loop_ends_what_is_in_flight(world: Any) -> None:
    server = await world.serve(silent)
    cluster = world.cluster(server, max_connections=1)
    opening = asyncio.ensure_future(cluster.open(world.request()))
    waiting = asyncio.ensure_future(cluster.open(world.request()))
    await world.until(lambda: server.connections == 1 and world.pool(cluster).waiting == 1)
    world.pools.close_loop(asyncio.get_running_loop())
    for task, reason in ((opening, "upstream.closed"), (waiting, "upstream.overloaded")):
        with pytest.raises(UpstreamError) as caught:
            await task
        assert caught.value.reason == reason
    await world.until(lambda: server.closed == 1)


async def test_another_thread_may_retain_and_close(world: Any) -> None:
    server = await world.serve(answering)
    cluster = world.cluster(server)
    await world.get(cluster)
    await asyncio.to_thread(world.pools.retain, ())
    await world.until(lambda: server.closed == 1)
    await world.get(cluster)
    await asyncio.to_thread(world.pools.close_loop, asyncio.get_running_loop())
    await world.until(lambda: server.closed == 2)
    loop = asyncio.get_running_loop()
    await loop.shutdown_default_executor()


def test_a_loop_that_was_closed_is_forgotten() -> None:
    pools = Pools()
    loops = [asyncio.new_event_loop() for _ in range(2)]
    first = pools.on(loops[0])
    loops[0].close()
    pools.retain(["nothing"])
    pools.on(loops[1])
    assert list(pools._loops) == [loops[1]]
    pools._loops[loops[0]] = first
    pools.close_loop(loops[0])
    pools.close_loop(loops[1])
    pools.close_loop(loops[1])
    loops[1].close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_a_fork_leaves_the_parents_connections_to_the_parent(world: Any) -> None:
    server = await world.serve(answering)
    cluster = world.cluster(server)
    await world.get(cluster)
    connection = world.pool(cluster)._idle[0]
    number = connection.transport.get_extra_info("socket").fileno()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            world.pools.reset_after_fork()
            told = f"{len(world.pools._loops)} {os.readlink(f'/proc/self/fd/{number}')}"
        except BaseException as error:
            told = repr(error)
        os.write(write, told.encode())
        os._exit(0)
    told = os.read(read, 1000).decode()
    await asyncio.to_thread(os.waitpid, child, 0)
    os.close(read)
    os.close(write)
    assert told == "0 /dev/null"
    _, body = await world.get(cluster)
    assert body == b"ok"
    assert server.connections == 1


def test_on_uvloop(make_world: Any) -> None:
    """Its transports are classes of their own: connect, upload, read, keep, expire, close."""
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async def script(peer: Any) -> None:
            while True:
                bodies.append((await peer.request())[1])
                await peer.send(OK)

        bodies: list[bytes] = []
        world = make_world()
        server = await world.serve(script)
        cluster = world.cluster(server)
        for part in (b"", b"x" * 1_000_000):
            assert (await world.get(cluster, "POST", body=part))[1] == b"ok"
        assert (server.connections, list(map(len, bodies))) == (1, [0, 1_000_000])
        assert world.pool(cluster).idle == 1
        await world.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
