"""Requests without a server: an `Exchange` as a driver would make it, taken through the real door."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from gatekit.core.door import Door
from gatekit.core.exchange import Exchange
from gatekit.core.headers import Headers, RawHeaders
from gatekit.core.identity import Identity
from gatekit.core.peers import Trust
from gatekit.errors import BodyRefused, ClientDisconnected, GatekitError
from gatekit.testing.clock import FixedRandom

HeaderItems = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
"""Headers as a test writes them: a mapping, or pairs where order or repetition matters."""

HOST = "gateway.test"
"""The Host of a request that names none."""

CLIENT = "192.0.2.1"
"""The peer of a request that names none (RFC 5737, never a real address)."""


class DoorRefused(GatekitError):
    """The door refused a request that a test built. Ask with `allow_refused=True` where that is what is tested."""


class MemoryBody:
    """`core.exchange.Body` over parts in memory. `broken` says that the client leaves instead of finishing."""

    __slots__ = ("_broken", "_parts", "data", "length", "limit")

    def __init__(self, parts: Iterable[bytes] = (), *, length: int | None = None, broken: bool = False) -> None:
        self._parts = [part for part in parts if part]
        self._broken = broken
        self.data: bytes | None = None
        self.length = length
        self.limit: int | None = None

    async def buffer(self, cap: int) -> bytes | None:
        if self.limit is not None and sum(map(len, self._parts)) > self.limit:
            raise BodyRefused(413, "body.too_large")
        if self.data is None:
            if (self.length is not None and self.length > cap) or sum(map(len, self._parts)) > cap:
                return None
            if self._broken:
                raise ClientDisconnected("the client went away before its request was read")
            self.data = b"".join(self._parts)
            self._parts = [self.data] if self.data else []
            self.length = len(self.data)
        return self.data if len(self.data) <= cap else None

    def abandon(self) -> None:
        self._parts = []
        self._broken = False

    async def read(self) -> bytes:
        if self._parts:
            return self._parts.pop(0)
        if self._broken:
            raise ClientDisconnected("the client went away before its request was read")
        return b""


def raw_headers(headers: HeaderItems | None) -> RawHeaders:
    """The headers as a server hands them over: bytes, names in lower case, order and repetition kept."""
    if headers is None:
        return []
    items: Iterable[tuple[str | bytes, str | bytes]] = headers.items() if isinstance(headers, Mapping) else headers
    return [
        (
            (name.encode("latin-1") if isinstance(name, str) else name).lower(),
            value.encode("latin-1") if isinstance(value, str) else value,
        )
        for name, value in items
    ]


def split_target(target: str) -> tuple[str | None, str | None, bytes, bytes]:
    """Scheme and authority (None in origin form), raw path and query of a request target."""
    scheme: str | None = None
    authority: str | None = None
    if "://" in target:
        parts = urlsplit(target)
        scheme, authority = parts.scheme, parts.netloc
        target = target.split("://", 1)[1][len(authority) :] or "/"
    path, _, query = target.partition("?")
    return scheme, authority, path.encode("utf-8"), query.encode("utf-8")


def request(
    method: str = "GET",
    target: str = "/",
    *,
    client: str | None = CLIENT,
    headers: HeaderItems | None = None,
    body: bytes | Iterable[bytes] = b"",
    scheme: str = "http",
    http_version: str = "1.1",
    kind: Literal["http", "websocket"] = "http",
    params: Mapping[str, str] | None = None,
    identity: Identity | None = None,
    facts: Mapping[str, Any] | None = None,
    trusted: Iterable[str] = (),
    started: float = 0.0,
    door: Door | None = None,
    allow_refused: bool = False,
) -> Exchange:
    """The exchange of one request, as policies get it.

    `target` is a path with an optional query, or a whole URL that also gives scheme and Host. A Host is added where
    none is given. `trusted` are the networks whose forwarding headers are believed; `params`, `identity` and `facts`
    are what routing and earlier policies would have found. Raises DoorRefused when the door refuses the request,
    unless `allow_refused` is set; then `exchange.refusal` has the reply.
    """
    given_scheme, authority, raw_path, query = split_target(target)
    raw = raw_headers(headers)
    if not any(name == b"host" for name, _ in raw):
        raw.insert(0, (b"host", (authority or HOST).encode("latin-1")))
    parts = [body] if isinstance(body, bytes) else list(body)
    size = sum(map(len, parts))
    if parts and size and not any(name in (b"content-length", b"transfer-encoding") for name, _ in raw):
        raw.append((b"content-length", b"%d" % size))
    scope: dict[str, Any] = {
        "type": kind, "method": method, "scheme": given_scheme or scheme, "http_version": http_version,
        "raw_path": raw_path, "query_string": query, "headers": raw, "client": None if client is None else (client, 0),
    }  # fmt: skip
    the_door = Door(FixedRandom(), trust=Trust(trusted)) if door is None else door
    exchange = Exchange(
        kind, method, given_scheme or scheme, Headers(raw, shared=True), client, http_version, scope, the_door,
        MemoryBody(parts, length=size), started,
    )  # fmt: skip
    exchange.refusal = the_door.admit(exchange, raw_path, query) or the_door.odd_path(exchange)
    if exchange.refusal is not None and not allow_refused:
        reply = exchange.refusal
        raise DoorRefused(
            f"the door refused {method} {target}: {reply.status} {reply.reason}, {reply.detail} "
            "Pass allow_refused=True if that is what the test is about."
        )
    if params is not None:
        exchange.params = params
    exchange.identity = identity
    if facts is not None:
        exchange.facts.update(facts)
    return exchange
