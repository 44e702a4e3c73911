"""What the gateways of the drills forward to, in this process: short answers at once, and long ones in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

BODY = b'{"id": 42, "name": "' + b"a" * 70 + b'"}'
SHORT = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
PIECES, EVERY = 20, 0.1
"""How many pieces a long answer has, and how many seconds apart they are."""
PIECE = b"b" * 500
LONG = PIECE * PIECES
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%s\r\n" % (len(PIECE), PIECE)


class Answering(asyncio.Protocol):
    """One connection. `/long` is answered in pieces, `/late` after as long at once, anything else right away."""

    def __init__(self) -> None:
        self._tail = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *heads, self._tail = (self._tail + data).split(b"\r\n\r\n")
        for head in heads:
            path = head.split(b" ", 2)[1]
            if path.startswith(b"/long"):
                self._transport.write(HEAD)
                self._loop.call_later(EVERY, self._piece, 1)
            elif path.startswith(b"/late"):
                self._loop.call_later(PIECES * EVERY, self._transport.write, SHORT)
            else:
                self._transport.write(SHORT)

    def _piece(self, number: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(CHUNK)
        if number < PIECES:
            self._loop.call_later(EVERY, self._piece, number + 1)
        else:
            self._transport.write(b"0\r\n\r\n")


@asynccontextmanager
async def backend() -> AsyncIterator[str]:
    """Its URL, while it listens."""
    transports: set[asyncio.BaseTransport] = set()

    class Known(Answering):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            transports.add(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            transports.discard(self._transport)

    server = await asyncio.get_running_loop().create_server(Known, "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for transport in list(transports):
            transport.close()
        await server.wait_closed()
