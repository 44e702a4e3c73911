"""The request body under ASGI: streamed as it comes, kept only when somebody asked for all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekit.core.headers import Headers
from gatekit.errors import ClientDisconnected

if TYPE_CHECKING:
    from asgiref.typing import ASGIReceiveCallable, ASGIReceiveEvent

_SMALL_VERSIONS = ("1.1", "1.0")


def declared_length(headers: Headers, http_version: str) -> int | None:
    """The length the headers declare: 0 for no body, None for one of unknown length.

    HTTP/1 without Content-Length and Transfer-Encoding has none (RFC 9112 section 6.3); later versions need neither.
    """
    length: int | None = None if http_version not in _SMALL_VERSIONS else 0
    for name, value in headers.raw:
        if name == b"content-length":
            length = int(value) if value.isdigit() else None
        elif name == b"transfer-encoding":
            return None
    return length


class AsgiBody:
    """`core.exchange.Body` over `receive`. `done` says that the last part has come, `gone` that the client left first."""

    __slots__ = ("_kept", "_receive", "data", "done", "gone", "length")

    def __init__(self, receive: ASGIReceiveCallable, length: int | None) -> None:
        self._receive = receive
        self._kept: list[bytes] = []
        self.data: bytes | None = None
        self.length = length
        self.done = False
        self.gone = False

    async def _pull(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":
            self.gone = True
            raise ClientDisconnected("the client went away before its request was read")
        if not message.get("more_body", False):
            self.done = True
        return message.get("body", b"")

    async def peek(self) -> None:
        """Settle whether there is a body at all, where only the first message can tell (HTTP/2 without a length)."""
        if not self.done and not self._kept:
            first = await self._pull()
            if first:
                self._kept.append(first)
            elif self.done:
                self.length = 0

    async def buffer(self, cap: int) -> bytes | None:
        """The whole body, or None as soon as it is longer than `cap`; what was read is replayed by `read`."""
        if self.data is not None:
            return self.data if len(self.data) <= cap else None
        if self.length is not None and self.length > cap:
            return None
        held = sum(map(len, self._kept))
        while not self.done and held <= cap:
            part = await self._pull()
            held += len(part)
            self._kept.append(part)
        if held > cap:
            return None
        self.data = b"".join(self._kept)
        self._kept = [self.data] if self.data else []
        self.length = held
        return self.data

    async def read(self) -> bytes:
        if self._kept:
            return self._kept.pop(0)
        while not self.done:
            part = await self._pull()
            if part:
                return part
        return b""

    @property
    def untouched(self) -> bool:
        """Whether the app can be handed `receive` itself."""
        return self.data is None and not self._kept and not self.done

    async def replay(self) -> ASGIReceiveEvent:
        """`receive` for the app behind: first what was read already, as one message, then what the server has."""
        if self._kept or self.data is not None:
            body, self._kept, self.data = b"".join(self._kept), [], None
            return {"type": "http.request", "body": body, "more_body": not self.done}
        return await self._receive()
