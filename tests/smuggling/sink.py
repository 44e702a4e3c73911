"""The raw upstream: it keeps every byte of every connection and answers what the strict reader takes for a request.

Each answer names the request it is for: `x-saw` has its x-request-id, `x-saw-target` its target. Requests below `/e/`
are answered as soon as their head is there, while their body is still on its way.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .strict import Malformed, Request, take, take_head

T = TypeVar("T")
PATIENCE = 10.0


class Connection(asyncio.Protocol):
    """One connection: `data` is every byte that came, `requests` what was read of it, `rest` what was not."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._transport: asyncio.Transport | None = None
        self.data = b""
        self.rest = b""
        self.requests: list[Request] = []
        self.malformed: str | None = None
        self._early = False
        sink.connections.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._sink.open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._transport is not None
        self._sink.open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self.data += data
        if self.malformed is not None:
            return
        self.rest += data
        try:
            while self.rest and (found := take(self.rest)) is not None:
                request, self.rest = found
                self.requests.append(request)
                self._answer(request)
                self._early = False
            begun = take_head(self.rest)
            if begun is not None and begun[0].target.startswith("/e/"):
                self._answer(begun[0])
                self._early = True
        except Malformed as error:
            self.malformed = str(error)
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    def _answer(self, request: Request) -> None:
        if not self._early:
            assert self._transport is not None
            self._transport.write(self._sink.answer(request))


def saw(request: Request) -> bytes:
    """200, and what it is an answer to."""
    id = ",".join(request.all("x-request-id")).encode("latin-1")
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-saw: %b\r\nx-saw-target: %b\r\n\r\n" % (
        id,
        request.target.encode(),
    )
    return head if request.method == "HEAD" else head + b"ok"


class Sink:
    """One listening socket on a free port, served by the loop of `Loop`."""

    def __init__(self, answer: Callable[[Request], bytes] = saw) -> None:
        self.answer = answer
        self.connections: list[Connection] = []
        self.open: set[asyncio.Transport] = set()
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: Connection(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for transport in tuple(self.open):
            transport.abort()
        await self._server.wait_closed()


class Loop:
    """An event loop in a thread of its own, so that sinks answer whatever the test does meanwhile."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sinks", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()
