"""The exchanges that are drilled: what the client asks, what the upstream answers, and how many bytes that takes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from gatekit import Exchange, Gateway, ResponseHead, Spec
from gatekit.core.headers import Headers
from gatekit.testing import Answer, Probe, Replacing, Seen, TestResponse, Upstream, call
from gatekit.testing.connection import Connection
from gatekit.testing.exchanges import HeaderItems
from gatekit.testing.upstream import Script

TEXT = bytes(range(32, 127)) * 3
NESTED = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen"
"""A body that reads as answers to other requests, should it ever be taken for those."""
LARGE = NESTED * 16_000
HUGE = bytes(12 * 1024 * 1024)
"""Twice this is more than the buffers of two connections take."""
TRAILERS: dict[str, Any] = {"http.response.trailers": {}}
WARM, NEXT = "/warm", "/next"
NEXT_BODY = b"the next one, whole and its own"


@dataclass(frozen=True)
class Shape:
    """One kind of exchange. `early` is answered before the body has come; an upload that is not, with what came of it.

    `policies` stand on the route. `ends_with_connection` says that only the FIN ends the body of the answer, so that a
    FIN is a legitimate end of it anywhere.
    """

    method: str = "GET"
    answer: Answer = field(default_factory=lambda: Answer(body=TEXT))
    headers: HeaderItems | None = None
    body: bytes | tuple[bytes, ...] = b""
    policies: tuple[Spec, ...] = ()
    early: bool = False
    ends_with_connection: bool = False

    @property
    def repeatable(self) -> bool:
        """Idempotent: may be sent twice (RFC 9110 section 9.2.2)."""
        return self.method != "POST"

    async def send(self, gateway: Gateway) -> TestResponse:
        """The exchange as a client has it. In an early one it waits in its upload until the answer begins."""
        begun = asyncio.Event()

        async def waiting() -> AsyncIterator[bytes]:
            for part in self.body:
                assert isinstance(part, bytes)
                yield part
            await begun.wait()
            yield b"never asked for"

        async def on_send(message: dict[str, Any]) -> None:
            begun.set()

        return await call(
            gateway, self.method, "/case", headers=self.headers, body=waiting() if self.early else self.body,
            on_send=on_send, extensions=TRAILERS, raise_app_exceptions=False,
        )  # fmt: skip

    def script(self, seen: Seen) -> Answer:
        """What the upstream answers."""
        if seen.path == WARM:
            return Answer(body=b"warm")
        if seen.path == NEXT:
            return Answer(body=NEXT_BODY)
        if self.body and not self.early:
            return replace(self.answer, body=hashlib.sha256(seen.body).hexdigest().encode())
        return self.answer


def _upper(exchange: Exchange, head: ResponseHead) -> Replacing | None:
    return Replacing(tail=b"!") if head.status == 200 else None


SHAPES = {
    "length": Shape(),
    "nested": Shape(answer=Answer(body=NESTED * 4)),
    "large": Shape(answer=Answer(body=LARGE)),
    "chunked": Shape(answer=Answer(chunks=[b"one,", b"two,", b"three"])),
    "large-chunked": Shape(answer=Answer(chunks=[LARGE[:300_000], LARGE[300_000:]])),
    "trailers": Shape(
        headers={"te": "trailers"}, answer=Answer(chunks=[b"one,", b"two"], trailers={"x-sum": "2", "x-end": "yes"})
    ),
    "head": Shape("HEAD"),
    "no-content": Shape("DELETE", Answer(204, {"x-kept": "no"})),
    "not-modified": Shape(answer=Answer(304, {"etag": '"a"', "content-length": "285"})),
    "interim": Shape(answer=Answer(body=TEXT, informational=(102, 103))),
    "until-close": Shape(
        answer=Answer(raw=b"HTTP/1.1 200 OK\r\nx-framing: none\r\n\r\n" + TEXT, close=True), ends_with_connection=True
    ),
    "old": Shape(answer=Answer(raw=b"HTTP/1.0 200 OK\r\ncontent-length: 285\r\n\r\n" + TEXT, close=True)),
    "surplus": Shape(answer=Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 285\r\n\r\n" + TEXT + NESTED)),
    "filtered": Shape(policies=(Probe("upper", [], body_filter=_upper),)),
    "closing": Shape(answer=Answer(headers={"connection": "close"}, body=TEXT, close=True)),
    "post": Shape("POST", Answer(201, body=b"made")),
    "upload": Shape("POST", Answer(201), {"content-length": "9"}, (b"one", b"two", b"six")),
    "upload-chunked": Shape("POST", Answer(201), body=(b"one", b"two", b"six")),
    "upload-large": Shape("POST", Answer(201), body=(LARGE[:300_000], LARGE[300_000:])),
    "upload-huge": Shape("POST", Answer(201), body=(HUGE, HUGE)),
    "put": Shape("PUT", Answer(200), {"content-length": "95"}, (TEXT[:95],)),
    "put-buffered": Shape("PUT", body=(b"one", b"two"), policies=(Probe("buffer", [], needs_body=100),)),
    "post-buffered": Shape("POST", body=b"one", policies=(Probe("buffer", [], needs_body=100),)),
    "early": Shape("POST", Answer(413, body=b"too large"), {"content-length": "900"}, (b"one", b"two"), early=True),
    "early-chunked": Shape("POST", Answer(413, body=b"too large"), body=(b"one", b"two"), early=True),
}


BODY_COMES_LAST = frozenset({"closing", "interim", "large", "length", "nested", "old", "post", "until-close"})
"""Shapes whose answer ends with the bytes of its body, as the client gets them."""


class Hasty(Upstream):
    """An upstream that answers each request as soon as it has its head, and reads the body after that."""

    def __init__(self, *answers: Answer | Script) -> None:
        super().__init__(*answers)
        self._owed: dict[Connection, Headers] = {}

    async def _read(self, connection: Connection) -> Seen | None:
        owed = self._owed.pop(connection, None)
        if owed is not None:
            await connection.body(owed)
            connection.raw.clear()
        line = await connection.line()
        if not line:
            return None
        method, target, version = line.decode("latin-1").rstrip("\r\n").split(" ")
        headers = await connection.headers()
        self._owed[connection] = headers
        return Seen(method, target, version, headers, b"", bytes(connection.raw), connection.number)
