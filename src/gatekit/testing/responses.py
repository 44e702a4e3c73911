"""What came back from an application that a test called, and the breach of an interface that it may have committed."""

from __future__ import annotations

import json
from typing import Any

from gatekit.core.headers import Headers, RawHeaders


class ProtocolBroken(AssertionError):
    """An application broke the rules of ASGI or of PEP 3333. The text says which."""


class TestResponse:
    """A response, whole or broken off.

    `messages` has what an ASGI app sent, verbatim and in order, up to the disconnect; `late` what it sent after.
    `parts` are the pieces of the body as they were sent. `complete` says whether the response was ended; `error` is
    what the app raised.
    """

    __test__ = False
    __slots__ = ("complete", "error", "headers", "late", "messages", "parts", "reason", "status", "trailers")

    def __init__(self) -> None:
        self.status: int | None = None
        self.reason = ""
        self.headers = Headers()
        self.parts: list[bytes] = []
        self.trailers: RawHeaders = []
        self.messages: list[dict[str, Any]] = []
        self.late: list[dict[str, Any]] = []
        self.complete = False
        self.error: BaseException | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first response header of that name, or None."""
        return self.headers.get(name)

    def __repr__(self) -> str:
        return f"TestResponse({self.status}, {self.body[:60]!r}, complete={self.complete}, error={self.error!r})"
