"""Upstreams that fail, each in its way, and what a client may not learn of them.

The last segment of the path says what the faulty one does.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from pathlib import Path

import trustme

SECRET = "orders-secret-5432"
"""What the faulty upstream says where it says what cannot be taken for an answer."""
_HEADER = b"x-secret: " + SECRET.encode()
_LEAK = f"Traceback (most recent call last):\r\n  File /srv/orders/app.py\r\nOSError: {SECRET}\r\n".encode()

ANSWERS = {
    "garbage": _LEAK,
    "garbage-status": b"HTTP/1.1 2OO " + _LEAK,
    "garbage-header": b"HTTP/1.1 200 OK\r\nx y z " + _LEAK + b"\r\n",
    "status-000": b"HTTP/1.1 000 No\r\n" + _HEADER + b"\r\ncontent-length: 0\r\n\r\n",
    "status-999": b"HTTP/1.1 999 No\r\n" + _HEADER + b"\r\ncontent-length: 0\r\n\r\n",
    "status-101": b"HTTP/1.1 101 Switching\r\nupgrade: orders\r\nconnection: upgrade\r\n\r\n" + _LEAK,
    "two-lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 3\r\n" + _HEADER + b"\r\n\r\nabc",
    "both-framings": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "huge-head": b"HTTP/1.1 200 OK\r\nx-secret: " + SECRET.encode() * 20_000 + b"\r\n\r\n",
    "http2": b"\0\0\0\4\0\0\0\0\0\0\0\x08\7\0\0\0\0\0\0\0\1" + _LEAK,
    "tls": b"\x15\3\1\0\2\2\x46",
    "only-100": b"HTTP/1.1 100 Continue\r\n" + _HEADER + b"\r\n\r\n",
}  # fmt: skip
"""What is sent before the connection is closed."""
CUT = {
    "truncated": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun",
    "bad-chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n" + _LEAK,
}
"""The same, where an answer has begun: the client gets a broken one."""
OTHERS = {"redirect": b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"}
SILENT = ("reset", "closed")


class Faulty(asyncio.Protocol):
    """One connection to the faulty upstream."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._data = b""
        self._acted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._faults.open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._faults.open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if data.startswith(b"\x16"):
            # A TLS handshake where there is no TLS.
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + _LEAK)
            self._transport.close()
        if self._acted or b"\r\n\r\n" not in self._data:
            return
        self._acted = True
        target = self._data.split(b" ", 2)[1].decode()
        fault = target.rpartition("/")[2]
        if fault == "hang":
            return
        if fault == "reset":
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
            return
        self._transport.write((ANSWERS | CUT | OTHERS).get(fault, b""))
        self._transport.close()


class Faults:
    """Everything that can go wrong, listening: `environment` is what `app` wants to know of it."""

    def __init__(self, folder: Path) -> None:
        self.open: set[asyncio.Transport] = set()
        self.ports: dict[str, int] = {}
        self._authority = folder / "authority.pem"
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []

    @property
    def environment(self) -> dict[str, str]:
        return {"GATEKIT_TEST_FAULTS": json.dumps({**self.ports, "authority": str(self._authority)})}

    async def start(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self._authority))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("orders.test").configure_cert(context)
        for name, tls in (("faulty", None), ("tls", context)):
            server = await asyncio.get_running_loop().create_server(lambda: Faulty(self), "127.0.0.1", 0, ssl=tls)
            self._servers.append(server)
            self.ports[name] = server.sockets[0].getsockname()[1]
        # A port that is taken and not listened on refuses; a listener whose backlog is full answers no SYN.
        refused, deaf = socket.socket(), socket.socket()
        self._sockets += [refused, deaf]
        for name, one in (("refused", refused), ("deaf", deaf)):
            one.bind(("127.0.0.1", 0))
            self.ports[name] = one.getsockname()[1]
        deaf.listen(0)
        for _ in range(3):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
            self._sockets.append(waiting)

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for transport in tuple(self.open):
            transport.abort()
        for server in self._servers:
            await server.wait_closed()
        for one in self._sockets:
            one.close()
