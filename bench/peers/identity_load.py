"""The load of `bench/identity.py`: so many keep-alive connections, each asking again once it is answered.

Run: python bench/peers/identity_load.py PORT CONNECTIONS SECONDS PATH TOKENS
TOKENS is a file with a token in each line, which take turns. Prints how many answers were 200, how many were not, and the seconds.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import uvloop

OK = b"HTTP/1.1 200"


class Load:
    """What is asked for, what came, and whether it is still going on."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.requests = requests
        self.good = self.bad = 0
        self.over = False


class Asking(asyncio.Protocol):
    """One connection. Answers are short and have a Content-Length: the end of the body is the end of the data."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._transport.write(next(self._load.requests))

    def data_received(self, data: bytes) -> None:
        came = self._came = self._came + data if self._came else data
        head, end, body = came.partition(b"\r\n\r\n")
        if not end:
            return
        _, _, rest = head.lower().partition(b"content-length:")
        if len(body) < int(rest.partition(b"\r\n")[0] or 0):
            return
        self._came = b""
        load = self._load
        if load.over:
            return
        if came.startswith(OK):
            load.good += 1
        else:
            load.bad += 1
        self._transport.write(next(load.requests))

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.bad += not self._load.over


async def run(port: int, connections: int, seconds: float, path: str, tokens: list[str]) -> None:
    head = (
        f"GET {path} HTTP/1.1\r\nhost: shop.example\r\nuser-agent: bench/1.0\r\naccept: */*\r\nauthorization: Bearer "
    )
    load = Load(cycle([f"{head}{token}\r\n\r\n".encode() for token in tokens]))
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    made = [await loop.create_connection(lambda: Asking(load), "127.0.0.1", port) for _ in range(connections)]
    over: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, over.set_result, None)
    await over
    load.over = True
    took = time.perf_counter() - begun
    for transport, _ in made:
        transport.close()
    print(load.good, load.bad, took)  # noqa: T201


if __name__ == "__main__":
    port, connections, seconds, path, file = sys.argv[1:]
    tokens = Path(file).read_text().split()
    gc.disable()
    uvloop.run(run(int(port), int(connections), float(seconds), path, tokens))
