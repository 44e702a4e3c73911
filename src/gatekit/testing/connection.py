"""One connection of the in-process upstream: bytes in, bytes out, and when the client has gone.

It reads requests as they are written and never repairs one; what it sends may be cut after any byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gatekit.core.headers import Headers


class Ended(Exception):
    """The client closed the connection, or it broke, before what was waited for had come."""


class Connection(asyncio.Protocol):
    """A connection with its own buffer. `gone` is set as soon as the client has closed its side or the line broke.

    `raw` has the bytes of the request that is being read; `left` is how much may still be written, None for all.
    """

    def __init__(self, number: int, opened: Callable[[Connection], None], closed: Callable[[Connection], None]) -> None:
        self.number = number
        self.gone = asyncio.Event()
        self.raw = bytearray()
        self.left: int | None = None
        self._opened = opened
        self._closed = closed
        self._buffer = bytearray()
        self._fed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._fed.set()

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self._closed(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _end(self) -> None:
        self.gone.set()
        self._fed.set()
        self._writable.set()

    # -- reading

    async def line(self) -> bytes:
        """The next line with its end; b"" when the client closed before one began. Raises Ended in the middle."""
        while (at := self._buffer.find(b"\n")) < 0:
            if self.gone.is_set():
                if self._buffer:
                    raise Ended
                return b""
            await self._more()
        return self._take(at + 1)

    async def exactly(self, size: int) -> bytes:
        """The next `size` bytes. Raises Ended."""
        while len(self._buffer) < size:
            if self.gone.is_set():
                raise Ended
            await self._more()
        return self._take(size)

    async def _more(self) -> None:
        self._fed.clear()
        await self._fed.wait()

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        self.raw += taken
        return taken

    async def headers(self) -> Headers:
        """Header lines up to the empty one, in order, names in lower case."""
        found = Headers()
        while (line := await self.line()) not in (b"\r\n", b"\n"):
            if not line:
                raise Ended
            name, _, value = line.partition(b":")
            found.raw.append((name.lower(), value.strip()))
        return found

    async def body(self, headers: Headers) -> bytes:
        """The request body by its framing (RFC 9112 section 6.3)."""
        if "chunked" in (headers.get("transfer-encoding") or "").lower():
            parts = []
            while (size := int((await self.line()).partition(b";")[0] or b"0", 16)) > 0:
                parts.append(await self.exactly(size))
                await self.exactly(2)
            await self.headers()
            return b"".join(parts)
        return await self.exactly(int(headers.get("content-length") or 0))

    # -- writing

    async def write(self, data: bytes) -> None:
        """Write and wait until there is room again. Raises Ended once the answer was cut or the client has gone."""
        assert self._transport is not None
        if self.left is not None:
            data = data[: self.left]
            self.left -= len(data)
        if data:
            self._transport.write(data)
        await self._writable.wait()
        if self.left == 0 or self._transport.is_closing():
            raise Ended

    def close(self) -> None:
        """Close once everything written has gone out."""
        assert self._transport is not None
        self._transport.close()

    def abort(self) -> None:
        """Cut the line at once; what was not sent yet is lost."""
        assert self._transport is not None
        self._transport.abort()
