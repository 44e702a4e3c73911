"""The door: what is settled about a request before any policy sees it.

Limits on the head, exactly one Host, a canonical path. It belongs to no policy and cannot be left out: a policy that
ran before it could be shown another path than the one that is served. Defaults are those of the field (Envoy, Kestrel:
100 headers, 32 KiB).
"""

from __future__ import annotations

import re
from operator import itemgetter
from typing import TYPE_CHECKING

from gatekit.core.headers import is_length, shape_of
from gatekit.core.paths import PathRefused, canonical, check_query, is_plain
from gatekit.core.peers import Trust, parse_address
from gatekit.core.verdict import Reply

if TYPE_CHECKING:
    from gatekit.core.exchange import Exchange
    from gatekit.core.ports import Random

_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"))
_HOST = re.compile(r"(?P<host>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{0,5}))?")
_value_of = itemgetter(1)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

BODY_GRACE = 5.0
"""Seconds in which a body need not come at the minimum rate (Kestrel's default)."""

# Clients ask for the same host again and again. A client that fills this costs others the short cut now and then.
_KEPT = 1024
_KEPT_BYTES = 128
_authorities: dict[bytes, tuple[str, str, int | None]] = {}


class Door:
    """What is checked on entry, compiled: limits, trusted peers, and which odd paths are allowed everywhere."""

    __slots__ = (
        "allowed_marks", "max_body", "max_header_bytes", "max_headers", "max_target", "merge_slashes", "min_body_rate",
        "random", "trust",
    )  # fmt: skip

    def __init__(
        self,
        random: Random,
        *,
        trust: Trust | None = None,
        max_headers: int = 100,
        max_header_bytes: int = 32 * 1024,
        max_target: int = 8 * 1024,
        merge_slashes: bool = True,
        allowed_marks: int = 0,
        max_body: int | None = None,
        min_body_rate: float = 0.0,
    ) -> None:
        self.random = random
        self.trust = Trust() if trust is None else trust
        self.max_headers = max_headers
        self.max_header_bytes = max_header_bytes
        self.max_target = max_target
        self.merge_slashes = merge_slashes
        self.allowed_marks = allowed_marks
        self.max_body = max_body
        self.min_body_rate = min_body_rate

    def admit(self, exchange: Exchange, raw_path: bytes, query: bytes) -> Reply | None:
        """Fill in host, path and query, or say why the request is refused (400, 414, 431).

        A refused exchange still has its method and headers, and what of the rest was understood.
        """
        headers = exchange.headers
        raw = headers.raw
        shape = headers.shape or shape_of(raw)
        trust = self.trust
        if trust.any:
            if trust.header is not None:
                # Before anything is refused: what sees a refused request too must not see what is not believed. The
                # checks below are of the request as it came.
                trust.settle(exchange.peer, headers)
            exchange.note_client()
        if shape.told and exchange.parent is None:
            # Of nested drivers the outermost: what it and its policies say is no client's word any more.
            trust.sift(exchange.peer, headers)
        text = b"".join(map(_value_of, raw))
        if len(raw) > self.max_headers or len(text) + shape.size > self.max_header_bytes:
            return Reply(431, "door.headers_too_large", "The request has too many or too large headers.")
        if not shape.good or b"\n" in text or b"\r" in text or b"\x00" in text:
            return Reply(400, "door.bad_header", "A header name or value holds a character that may not be there.")
        method = exchange.method
        if method not in _METHODS:
            if not _METHOD.fullmatch(method):
                return Reply(400, "door.bad_method", "The method is not a token.")
            if method.upper() == "CONNECT":
                # What follows its 2xx is no body: an upstream that opens a tunnel would take the next request for data.
                return Reply(501, "door.no_tunnel", "No tunnels are opened here.")
        if shape.host < 0:
            return Reply(400, "door.bad_host", "The request must have exactly one Host header.")
        for place in shape.lengths:
            if not is_length(raw[place][1]):
                return Reply(400, "door.bad_length", "The Content-Length is not a length.")
        host = raw[shape.host][1]
        found = _authorities.get(host) or _authority(host)
        if found is None:
            return Reply(400, "door.bad_host", "The Host header is not a host.")
        exchange.authority, exchange.host, exchange.port = found
        if len(raw_path) + len(query) > self.max_target:
            return Reply(414, "door.target_too_long", "The request target is too long.")
        try:
            if is_plain(raw_path):
                exchange.path, exchange.raw_path, exchange.path_marks = raw_path.decode("ascii"), raw_path, 0
            elif raw_path == b"*" and method != "OPTIONS":
                raise PathRefused("only OPTIONS asks for the asterisk")
            else:
                exchange.path, exchange.raw_path, exchange.path_marks = canonical(
                    raw_path, merge_slashes=self.merge_slashes
                )
            if query:
                exchange.query = check_query(query)
        except PathRefused as refused:
            return Reply(400, "door.bad_path", f"The request target was refused: {refused}.")
        return None

    def odd_path(self, exchange: Exchange, allowed: int = 0) -> Reply | None:
        """A refusal when the path has an oddity that neither the door nor the route (`allowed`) lets pass."""
        if exchange.path_marks & ~(self.allowed_marks | allowed):
            return Reply(400, "door.odd_path", "The path holds an escape or character that has two readings.")
        return None

    def limit_body(self, exchange: Exchange, limit: int | None) -> Reply | None:
        """Let no more than `limit` bytes of body pass. A refusal when the request declares more; what is not declared
        is counted as it comes."""
        body = exchange.body
        body.limit = limit
        length = body.length
        if limit is not None and length is not None and length > limit:
            return Reply(413, "body.too_large", f"The body is larger than {limit} bytes.")
        return None

    def canonical_again(self, raw: bytes, allowed: int) -> bytes:
        """A rewritten path made canonical. Raises PathRefused when it has an oddity the request had not."""
        again = canonical(raw, merge_slashes=self.merge_slashes)
        if again.marks & ~allowed:
            raise PathRefused("the rewritten path has two readings")
        return again.raw

    def checked_query(self, query: bytes) -> bytes:
        """A rewritten query as it may be sent. Raises PathRefused on what would end it, or the line it is on."""
        return check_query(query)

    def checked_host(self, host: str) -> bytes:
        """A rewritten Host. Raises PathRefused unless it is a host, with or without a port."""
        if parse_authority(host.lower()) is None:
            raise PathRefused("the rewritten host is not a host")
        return host.encode("ascii")

    def request_id(self, exchange: Exchange) -> str:
        """The X-Request-Id of a trusted peer if it is well formed, else 128 random bits in hex."""
        if self.trust.any and self.trust.trusts(exchange.peer):
            offered = exchange.headers.get("x-request-id")
            if offered is not None and _REQUEST_ID.fullmatch(offered):
                return offered
        return self.random.token(16).hex()


def parse_authority(authority: str) -> tuple[str, int | None] | None:
    """Host (no trailing dot) and port of an authority in lower case, or None if it is not one (RFC 3986 section 3.2)."""
    parsed = _HOST.fullmatch(authority)
    if parsed is None:
        return None
    host, port = parsed["host"].rstrip("."), parsed["port"]
    if host.startswith("[") and parse_address(host) is None:
        return None
    if not port:
        return host, None
    return (host, int(port)) if int(port) <= 65535 else None


def _authority(value: bytes) -> tuple[str, str, int | None] | None:
    """A Host header as authority in lower case, host and port; None if it is none. Good ones are remembered."""
    authority = value.decode("latin-1").lower()
    parsed = parse_authority(authority)
    if parsed is None:
        return None
    found = (authority, *parsed)
    if len(value) <= _KEPT_BYTES:
        if len(_authorities) >= _KEPT:
            _authorities.clear()
        _authorities[value] = found
    return found
