"""The request body under WSGI: read from `wsgi.input` when asked, never past what the request declares."""

from __future__ import annotations

import asyncio
import io
import threading
from typing import Any

from gatekit.core.headers import is_length
from gatekit.errors import BodyRefused, ClientDisconnected

_PART = 64 * 1024


class WsgiBody:
    """`core.exchange.Body` over `wsgi.input`.

    `buffer` reads here and now and never suspends; `read` is for the loop thread and reads in a worker, since the
    server's stream blocks.
    """

    __slots__ = ("_abandoned", "_count", "_input", "_left", "_reading", "data", "kept", "length", "limit")

    def __init__(self, environ: dict[str, Any]) -> None:
        self._input = environ["wsgi.input"]
        declared = environ.get("CONTENT_LENGTH") or ""
        coded = environ.get("HTTP_TRANSFER_ENCODING")
        # HTTP/1 without either header has no body (RFC 9112 section 6.3); later versions need neither.
        framed = coded or not environ.get("SERVER_PROTOCOL", "HTTP/1.1").startswith("HTTP/1")
        self.length: int | None = 0
        if declared:
            # One that is no length is refused at the door.
            self.length = int(declared) if is_length(declared.encode("latin-1", "replace")) else None
        elif framed and environ.get("wsgi.input_terminated"):
            # Only a server that marks the end of its stream can be read without a declared length.
            self.length = None
        self._left = self.length
        self._count = 0
        self._reading = threading.Lock()
        self._abandoned = False
        self.limit: int | None = None
        self.data: bytes | None = None
        self.kept = b""

    def _pull(self, size: int) -> bytes:
        size = size if self._left is None else min(size, self._left)
        try:
            part: bytes = self._input.read(size) if size else b""
        except Exception as error:
            # The server's own complaint about chunks that are none, or about a client that left.
            raise BodyRefused(400, "body.unreadable") from error
        if self._left is not None:
            if size and not part:
                raise ClientDisconnected("the client went away before its request was read")
            self._left -= len(part)
        self._count += len(part)
        if self.limit is not None and self._count > self.limit:
            raise BodyRefused(413, "body.too_large")
        return part

    async def buffer(self, cap: int) -> bytes | None:
        if self.data is not None:
            return self.data if len(self.data) <= cap else None
        if self.length is not None and self.length > cap:
            return None
        while len(self.kept) <= cap:
            part = self._pull(min(_PART, cap + 1 - len(self.kept)))
            if not part:
                self.data, self.kept = self.kept, b""
                self.length = len(self.data)
                return self.data
            self.kept += part
        return None

    async def read(self) -> bytes:
        if self.data is not None:
            part, self.data = self.data, b""
            return part
        if self.kept:
            part, self.kept = self.kept, b""
            return part
        if self._left == 0:
            return b""
        return await asyncio.get_running_loop().run_in_executor(None, self._pull_apart)

    def _pull_apart(self) -> bytes:
        with self._reading:
            return b"" if self._abandoned else self._pull(_PART)

    def abandon(self) -> None:
        self._abandoned = True

    def settle(self) -> None:
        """Let no worker read any more, and wait for one that does: the server is about to read the next request from
        the same connection."""
        self._abandoned = True
        with self._reading:
            pass

    def rest(self) -> io.BufferedReader:
        """A stream of what was read already and then of what the server still has."""
        return io.BufferedReader(_Rest(self))


class _Rest(io.RawIOBase):
    def __init__(self, body: WsgiBody) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        body = self._body
        if body.kept:
            part, body.kept = body.kept[: len(buffer)], body.kept[len(buffer) :]
        else:
            part = body._pull(len(buffer))
        buffer[: len(part)] = part
        return len(part)
