"""One payload, and the few words that all of them are built from.

Every request asks for `/p/#####`; what is hidden in it asks for `/h/#####`. Whoever sends a payload puts five
characters of their own in the place of `#####`, so that lengths stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

PATH = b"/p/#####"
HIDDEN = b"GET /h/##### HTTP/1.1\r\nhost: a.test\r\n\r\n"
HIDDEN_POST = b"POST /h/##### HTTP/1.1\r\nhost: a.test\r\ncontent-length: 60\r\n\r\n"
CODING = b"transfer-encoding: chunked"
LAST = b"0\r\n\r\n"
CHUNKED = b"5\r\nhello\r\n" + LAST


@dataclass(frozen=True)
class Payload:
    """`parts` are written one after the other. With `answers` the request is in order, and so many answers of the
    upstream have to come; without, anything may come of it as long as nobody is deceived."""

    id: str
    about: str
    parts: tuple[bytes, ...]
    answers: int = 0


def asks(method: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """A request line."""
    return b" ".join((method, PATH, version))


def post(*lines: bytes, body: bytes = b"", line: bytes = asks(b"POST")) -> bytes:
    """A request with these header lines after a good Host."""
    return b"\r\n".join([line, b"host: a.test", *lines, b"", b""]) + body


def get(*lines: bytes, body: bytes = b"") -> bytes:
    return post(*lines, body=body, line=asks(b"GET"))


def bare(*lines: bytes, body: bytes = b"") -> bytes:
    """A request with exactly these lines."""
    return b"\r\n".join([*lines, b"", b""]) + body


def sized(body: bytes) -> bytes:
    return b"content-length: %d" % len(body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
