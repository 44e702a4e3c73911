"""A reader of HTTP/1.1 requests that knows one reading of everything and refuses the rest.

It stands for the strictest upstream there is. It shares no code with the gateway or with any server. Sources: RFC
9112 sections 2 to 7, RFC 9110 section 5, RFC 3986 section 3.3. Where they let a recipient be lenient, this is not, with
one exception: control characters other than CR, LF and NUL may stand in a value, as they move no boundary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Pairs = list[tuple[str, str]]
CHUNKED = -1

_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.1")
_FIELD = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[^ \t](?:.*[^ \t])?)?)[ \t]*", re.DOTALL)
_ORIGIN = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*)+(?:\?[!\"$-~]*)?")
_HOST = re.compile(r"(?:[a-z0-9.\-]+|\[[0-9a-f:]+\])(?::[0-9]+)?")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,15}")
_CHUNK_SIZE = re.compile(rb"0|[1-9a-fA-F][0-9a-fA-F]{0,7}")


class Malformed(ValueError):
    """These bytes are not a request, or could be read as two different ones."""


@dataclass(frozen=True)
class Request:
    """One request. Names are in lower case; `body` is without its framing."""

    method: str
    target: str
    headers: Pairs
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of that header."""
        return [value for key, value in self.headers if key == name]


def take(data: bytes) -> tuple[Request, bytes] | None:
    """The first request and what follows it, None while it is not complete. Raises Malformed."""
    found = take_head(data)
    if found is None:
        return None
    request, length, rest = found
    if length == CHUNKED:
        read = _chunks(rest)
    else:
        read = (rest[:length], rest[length:]) if len(rest) >= length else None
    return None if read is None else (Request(request.method, request.target, request.headers, read[0]), read[1])


def take_head(data: bytes) -> tuple[Request, int, bytes] | None:
    """The first request without its body, how long that is (or CHUNKED), and what follows the head."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        _lines(head.removesuffix(b"\r"))
        return None
    first, *fields = _lines(head)
    line = _LINE.fullmatch(first)
    if line is None:
        raise Malformed(f"request line {first!r}")
    method, target = line[1], line[2]
    if not (_ORIGIN.fullmatch(target) or (target == "*" and method == "OPTIONS")) or method == "CONNECT":
        raise Malformed(f"target {target!r} of {method}")
    headers: Pairs = []
    for field in fields:
        found = _FIELD.fullmatch(field)
        if found is None:
            raise Malformed(f"header {field!r}")
        headers.append((found[1].lower(), found[2]))
    request = Request(method, target, headers, b"")
    return request, _length(request), rest


def _length(request: Request) -> int:
    hosts, lengths, codings = (request.all(name) for name in ("host", "content-length", "transfer-encoding"))
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise Malformed(f"Host {hosts!r}")
    if len(lengths) + len(codings) > 1 or codings not in ([], ["chunked"]):
        raise Malformed(f"framing {lengths!r} {codings!r}")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise Malformed(f"Content-Length {lengths[0]!r}")
    return CHUNKED if codings else int(lengths[0]) if lengths else 0


def _lines(head: bytes) -> list[str]:
    lines = head.decode("latin-1").split("\r\n")
    for line in lines:
        if "\r" in line or "\n" in line or "\0" in line:
            raise Malformed(f"CR, LF or NUL in {line!r}")
    return lines


def _chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    """The body that these chunks make and what follows it. No extensions and no trailers are known."""
    body = b""
    while True:
        size_line, end, rest = rest.partition(b"\r\n")
        if not end:
            if len(size_line) > 9:
                raise Malformed(f"chunk size {size_line[:20]!r}")
            return None
        if not _CHUNK_SIZE.fullmatch(size_line):
            raise Malformed(f"chunk size {size_line[:20]!r}")
        size = int(size_line, 16)
        if len(rest) < size + 2:
            return None
        if rest[size : size + 2] != b"\r\n":
            raise Malformed(f"no CRLF after a chunk but {rest[size : size + 2]!r}")
        body, rest = body + rest[:size], rest[size + 2 :]
        if size == 0:
            return body, rest
