"""The request body under ASGI: streamed as it comes, kept only when somebody asked for all of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatekit.core.door import BODY_GRACE
from gatekit.core.headers import Headers, is_length, shape_of
from gatekit.errors import BodyRefused, ClientDisconnected

if TYPE_CHECKING:
    from asgiref.typing import ASGIReceiveCallable, ASGIReceiveEvent

_NO_BODY = frozenset(("GET", "HEAD", "OPTIONS", "DELETE", "TRACE"))


def declared_length(headers: Headers, method: str, http_version: str) -> tuple[int | None, bool]:
    """The length the headers declare, None for one that is not known, and whether they declare anything at all.

    HTTP/1 without Content-Length and Transfer-Encoding has no body (RFC 9112 section 6.3), but a middleware in front may
    have taken them away: that is believed of methods that seldom have one, and settled by `peek` for the rest.
    """
    shape = headers.shape = shape_of(headers.raw)
    if shape.coded:
        return None, True
    if shape.lengths:
        value = headers.raw[shape.lengths[-1]][1]
        # One that is no length is refused at the door.
        return int(value) if is_length(value) else None, True
    return (0, True) if method in _NO_BODY and http_version in ("1.1", "1.0") else (None, False)


class AsgiBody:
    """`core.exchange.Body` over `receive`.

    `declared` says that the headers tell whether there is one, `done` that the last part has come, `gone` that the client
    left first, `exceeded` that there was more than `limit`. `min_rate` is the fewest bytes a second while it is buffered.
    """

    __slots__ = (
        "_count", "_kept", "_receive", "data", "declared", "done", "exceeded", "gone", "length", "limit", "min_rate",
    )  # fmt: skip

    def __init__(
        self, receive: ASGIReceiveCallable, length: int | None, declared: bool = True, min_rate: float = 0.0
    ) -> None:
        self._receive = receive
        self._count = 0
        self.limit: int | None = None
        self.min_rate = min_rate
        self.exceeded = False
        self._kept: list[bytes] = []
        self.data: bytes | None = None
        self.length = length
        self.declared = declared
        self.done = False
        self.gone = False

    async def _pull(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":
            self.gone = True
            raise ClientDisconnected("the client went away before its request was read")
        if not message.get("more_body", False):
            self.done = True
        part = message.get("body", b"")
        if self.limit is not None and not self._fits(part):
            raise BodyRefused(413, "body.too_large")
        return part

    def _fits(self, part: bytes) -> bool:
        """Count this part. False once there is more than may be."""
        self._count += len(part)
        self.exceeded = self.limit is not None and self._count > self.limit
        return not self.exceeded

    async def peek(self) -> None:
        """Settle whether there is a body at all, where only the first message can tell."""
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
        try:
            # A whole body at the minimum rate takes no longer than this.
            async with asyncio.timeout(BODY_GRACE + cap / self.min_rate if self.min_rate else None):
                held = await self._fill(cap)
        except TimeoutError:
            raise BodyRefused(408, "body.too_slow") from None
        if held > cap:
            return None
        self.data = b"".join(self._kept)
        self._kept = [self.data] if self.data else []
        self.length = held
        return self.data

    async def _fill(self, cap: int) -> int:
        held = sum(map(len, self._kept))
        while not self.done and held <= cap:
            part = await self._pull()
            held += len(part)
            self._kept.append(part)
        return held

    async def read(self) -> bytes:
        if self._kept:
            return self._kept.pop(0)
        while not self.done:
            part = await self._pull()
            if part:
                return part
        return b""

    def abandon(self) -> None:
        # What still comes is thrown away by the watch, which from now on may listen for the client's leaving.
        self.done = True
        self._kept = []

    @property
    def untouched(self) -> bool:
        """Whether the app can be handed `receive` itself."""
        return self.data is None and not self._kept and not self.done

    async def replay(self) -> ASGIReceiveEvent:
        """`receive` for the app behind: first what was read already, as one message, then what the server has.

        To an app whose client sends more than may be, the client has left: `exceeded` tells the driver why.
        """
        if self._kept or self.data is not None:
            body, self._kept, self.data = b"".join(self._kept), [], None
            return {"type": "http.request", "body": body, "more_body": not self.done}
        message = await self._receive()
        if self.limit is not None and message["type"] == "http.request" and not self._fits(message.get("body", b"")):
            return {"type": "http.disconnect"}
        return message
