"""The door: what is settled about a request before any policy sees it.

Limits on the head, exactly one Host, a canonical path. It belongs to no policy and cannot be left out: a policy that
ran before it could be shown another path than the one that is served. Defaults are those of the field (Envoy, Kestrel:
100 headers, 32 KiB).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gatekit.core.paths import PathRefused, canonical, check_query
from gatekit.core.peers import Trust, parse_address
from gatekit.core.verdict import Reply

if TYPE_CHECKING:
    from gatekit.core.exchange import Exchange
    from gatekit.core.ports import Random

_TOKENS = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z\n]*")
_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_CONTROL = re.compile(rb"[\x00\r]")
_HOST = re.compile(r"(?P<host>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{0,5}))?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Door:
    """What is checked on entry, compiled: limits, trusted peers, and which odd paths are allowed everywhere."""

    __slots__ = ("allowed_marks", "max_header_bytes", "max_headers", "max_target", "merge_slashes", "random", "trust")

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
    ) -> None:
        self.random = random
        self.trust = Trust() if trust is None else trust
        self.max_headers = max_headers
        self.max_header_bytes = max_header_bytes
        self.max_target = max_target
        self.merge_slashes = merge_slashes
        self.allowed_marks = allowed_marks

    def admit(self, exchange: Exchange, raw_path: bytes, query: bytes) -> Reply | None:
        """Fill in host, path and query, or say why the request is refused (400, 414, 431).

        A refused exchange still has its method and headers, and what of the rest was understood.
        """
        headers = exchange.headers.raw
        if headers:
            names, values = zip(*headers, strict=True)
            all_names, all_values = b"\n".join(names), b"\n".join(values)
            count = len(headers)
            if count > self.max_headers or len(all_names) + len(all_values) > self.max_header_bytes:
                return Reply(431, "door.headers_too_large", "The request has too many or too large headers.")
            breaks = count - 1
            if (
                not _TOKENS.fullmatch(all_names)
                or all_names.count(b"\n") != breaks
                or b"" in names
                or all_values.count(b"\n") != breaks
                or _CONTROL.search(all_values)
            ):
                return Reply(400, "door.bad_header", "A header name or value holds a character that may not be there.")
            hosts = names.count(b"host")
        else:
            hosts = 0
        if not _METHOD.fullmatch(exchange.method):
            return Reply(400, "door.bad_method", "The method is not a token.")
        if hosts != 1:
            return Reply(400, "door.bad_host", "The request must have exactly one Host header.")
        authority = values[names.index(b"host")].decode("latin-1").lower()
        host_and_port = parse_authority(authority)
        if host_and_port is None:
            return Reply(400, "door.bad_host", "The Host header is not a host.")
        exchange.authority = authority
        exchange.host, exchange.port = host_and_port
        if len(raw_path) + len(query) > self.max_target:
            return Reply(414, "door.target_too_long", "The request target is too long.")
        try:
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
