"""Requests per second of `Cluster.open` and of `httpx.AsyncClient`, side by side in one run on loopback.

Both send the same small GET to the same upstream (an asyncio protocol in a process of its own) at the same concurrency,
in interleaved rounds. What counts is the ratio; the figures themselves belong to the machine. Takes under 10 seconds:

    python bench/forward_pool.py
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import httpx

from gatekit.core.door import Door
from gatekit.core.exchange import Exchange, NoBody
from gatekit.core.headers import Headers
from gatekit.core.plan import ClusterPlan, Endpoint
from gatekit.core.ports import Ports
from gatekit.upstream import Cluster, Pools

ROUNDS = 3
SECONDS = 1.0
CONCURRENCY = 32
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n" + b'{"ok": "really"}'
HEADERS = [
    (b"host", b"shop.test"),
    (b"user-agent", b"bench"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip"),
    (b"authorization", b"Bearer " + b"x" * 200),
]


class Answering(asyncio.Protocol):
    """Answers every head that arrives. The requests of this bench have no bodies and come one at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        heads = data.count(b"\r\n\r\n")
        self.rest = data.rpartition(b"\r\n\r\n")[2] if heads else data
        self.transport.write(ANSWER * heads)


def upstream(told: Connection) -> None:
    """The upstream process: tells its port and serves until it is ended."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answering, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


class Tokens:
    """Request ids that cost next to nothing: the bench is about forwarding."""

    def random(self) -> float:
        return 0.5

    def token(self, size: int) -> bytes:
        return bytes(size)


async def rate(once: Callable[[], Awaitable[None]]) -> float:
    """Completed calls per second at CONCURRENCY."""
    end = time.perf_counter() + SECONDS
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await once()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return done / (time.perf_counter() - began)


async def measure(port: int) -> None:
    pools = Pools()
    cluster = Cluster(ClusterPlan("bench", (Endpoint("127.0.0.1", port),)), Ports(), pools)
    door, body = Door(Tokens()), NoBody()
    scope = {"headers": HEADERS}

    async def ours() -> None:
        headers = Headers(HEADERS, shared=True)
        exchange = Exchange("http", "GET", "http", headers, "192.0.2.1", "1.1", scope, door, body, 0.0)
        door.admit(exchange, b"/v1/orders/42", b"")
        response = await cluster.open(exchange)
        part, last = response.take()
        while not last:
            part = await response.read()
            last = not part
        response.close()

    plain = [(name.decode(), value.decode()) for name, value in HEADERS]
    url = f"http://127.0.0.1:{port}/v1/orders/42"
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=512, max_keepalive_connections=512)) as client:

        async def theirs() -> None:
            async with client.stream("GET", url, headers=plain) as response:
                async for _ in response.aiter_raw():
                    pass

        rates: dict[str, list[float]] = {"Cluster.open": [], "httpx.AsyncClient": []}
        for _ in range(ROUNDS):
            rates["Cluster.open"].append(await rate(ours))
            rates["httpx.AsyncClient"].append(await rate(theirs))
    pools.close_loop(asyncio.get_running_loop())
    for name, found in rates.items():
        print(f"{name:18} {statistics.median(found):9.0f} requests/s  ({', '.join(f'{one:.0f}' for one in found)})")  # noqa: T201
    ratio = statistics.median(rates["Cluster.open"]) / statistics.median(rates["httpx.AsyncClient"])
    print(f"ratio {ratio:.1f}")  # noqa: T201


def main() -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=upstream, args=(theirs,), daemon=True)
    process.start()
    try:
        asyncio.run(measure(ours.recv()))
    finally:
        process.terminate()
        process.join()


if __name__ == "__main__":
    main()
