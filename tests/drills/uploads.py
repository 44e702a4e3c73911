"""Uploads to an upstream that takes nothing, as two processes: `python uploads.py upstream`, `python uploads.py clients HOST
PORT COUNT`.

The upstream reads the head of each request and no more until `/.told/go`; then it reads all there is, answers, and counts.
The clients connect, send a head and then write whatever is taken from them. Both say how far they are in JSON lines, twice a
second. Nothing of ours is imported here.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
from collections import Counter
from typing import Any

SIZE = 1024 * 1024
PIECE = b"u" * 65536
SMALL = 16 * 1024
"""The socket buffers of both ends, in bytes: the kernel keeps what it keeps for the gateway's own ends."""
BATCH = 200
"""Connections that are made at a time."""
HEAD = b"POST /uploads HTTP/1.1\r\nhost: shop.test\r\ncontent-length: %d\r\n\r\n" % SIZE
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Upstream:
    """What has come."""

    def __init__(self) -> None:
        self.heads = 0
        self.whole = 0
        self.cut = 0
        self.received = 0
        self.going = False
        self.held: list[asyncio.Transport] = []

    def said(self) -> dict[str, Any]:
        return {"heads": self.heads, "whole": self.whole, "cut": self.cut, "received": self.received}

    def go(self) -> None:
        """Read from now on."""
        self.going = True
        for transport in self.held:
            if not transport.is_closing():
                transport.resume_reading()
        self.held.clear()


class Taking(asyncio.Protocol):
    """One connection to the upstream, one request."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._head: bytes | None = b""
        self._body = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        upstream = self._upstream
        if self._head is not None:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._head = None
            if head.startswith(b"GET /.told/go "):
                upstream.go()
                self._transport.write(ANSWER)
                self._transport.close()
                return
            upstream.heads += 1
            if not upstream.going:
                self._transport.pause_reading()
                upstream.held.append(self._transport)
        self._body += len(data)
        upstream.received += len(data)
        if self._body == SIZE:
            upstream.whole += 1
            self._transport.write(ANSWER)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head is None and self._body < SIZE:
            self._upstream.cut += 1


class Clients:
    """What became of the uploads."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.connected = 0
        self.failed = 0
        self.written = 0
        self.statuses: Counter[int] = Counter()
        self.lost = 0

    def said(self) -> dict[str, Any]:
        return {
            "connected": self.connected, "failed": self.failed, "written": self.written, "lost": self.lost,
            "statuses": self.statuses, "over": sum(self.statuses.values()) + self.lost + self.failed == self.count,
        }  # fmt: skip


class Upload(asyncio.Protocol):
    """One client."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._left = SIZE
        self._writing = True
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        self._clients.connected += 1
        transport.write(HEAD)
        self._write()

    def pause_writing(self) -> None:
        self._writing = False

    def resume_writing(self) -> None:
        self._writing = True
        self._write()

    def _write(self) -> None:
        while self._left and self._writing and not self._transport.is_closing():
            piece = PIECE[: min(len(PIECE), self._left)]
            self._left -= len(piece)
            self._clients.written += len(piece)
            self._transport.write(piece)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if b"\r\n\r\n" in self._answer:
            self._left = 0
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        line = self._answer.partition(b"\r\n")[0].split(b" ")
        if len(line) > 1:
            self._clients.statuses[int(line[1])] += 1
        else:
            self._clients.lost += 1


async def _say(said: Upstream | Clients) -> None:
    while True:
        sys.stdout.write(json.dumps(said.said()) + "\n")
        sys.stdout.flush()
        turn = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.5, turn.set_result, None)
        await turn


async def upstream() -> None:
    seen = Upstream()
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    listening.bind(("127.0.0.1", 0))
    await asyncio.get_running_loop().create_server(lambda: Taking(seen), sock=listening, backlog=4096)
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    await _say(seen)


async def clients(host: str, port: int, count: int) -> None:
    seen = Clients(count)
    saying = asyncio.ensure_future(_say(seen))
    for begun in range(0, count, BATCH):
        made = await asyncio.gather(
            *(_connect(seen, host, port) for _ in range(min(BATCH, count - begun))), return_exceptions=True
        )
        seen.failed += sum(isinstance(one, BaseException) for one in made)
    await saying


async def _connect(seen: Clients, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    async with asyncio.timeout(20):
        await loop.sock_connect(sock, (host, port))
        await loop.create_connection(lambda: Upload(seen), sock=sock)


def most_files() -> int:
    """As many open files as this process can have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


if __name__ == "__main__":
    most_files()
    if sys.argv[1] == "upstream":
        asyncio.run(upstream())
    else:
        asyncio.run(clients(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
