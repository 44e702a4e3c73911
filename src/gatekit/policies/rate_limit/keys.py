"""Whom a request counts against: the text under which it is counted.

Keys of different kinds never meet, whatever a client puts into a header. What a client can make long is hashed, so
that a key has a bounded size, and header values always are, since they may be credentials.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from gatekit.core.exchange import Exchange
from gatekit.core.headers import encode_name
from gatekit.core.peers import address_key

KeyFunction = Callable[[Exchange], str | None]
"""The key of an exchange, None where it has none."""

IDENTITY_KEYS: Final = frozenset({"client", "tenant", "user"})
"""The keys that are not known before identification."""

_LONGEST: Final = 128

# A busy caller's address is parsed once, not for every request.
_address_key = lru_cache(maxsize=4096)(address_key)


def client_ip(exchange: Exchange) -> str:
    """The client's address behind trusted proxies, IPv6 by its /64; peers without an address share one key."""
    return "ip:" + _address_key(exchange.client_ip)


def _user(exchange: Exchange) -> str | None:
    who = exchange.identity
    if who is None or not who.is_authenticated:
        return None
    return f"user:{len(who.issuer)}:{who.issuer}{who.subject}"


def _tenant(exchange: Exchange) -> str | None:
    who = exchange.identity
    return None if who is None or who.tenant is None else "tenant:" + who.tenant


def _client(exchange: Exchange) -> str | None:
    who = exchange.identity
    return None if who is None or who.client is None else "client:" + who.client


def _route(exchange: Exchange) -> str | None:
    return None if exchange.route is None else "route:" + exchange.route.id


def _global(exchange: Exchange) -> str:
    return "global"


KEYS: Final[dict[str, KeyFunction]] = {
    "client": _client,
    "client_ip": client_ip,
    "global": _global,
    "route": _route,
    "tenant": _tenant,
    "user": _user,
}
"""Every key that has a name."""


def check(by: str) -> None:
    """Raises ValueError unless `by` names a key."""
    if by.startswith("header:"):
        encode_name(by[7:])
    elif by not in KEYS:
        raise ValueError(f"there is no key {by!r}: take one of {', '.join(sorted(KEYS))}, or header:NAME")


def key_of(parts: tuple[str | Callable[..., Any], ...]) -> Callable[[Exchange], str]:
    """One function for all parts. A part that the exchange has not is replaced by the client's address."""
    functions = tuple(_function(part) for part in parts)
    if len(functions) == 1:
        (only,) = functions

        def single(exchange: Exchange) -> str:
            key = only(exchange)
            return client_ip(exchange) if key is None else _bounded(key)

        return single

    def combined(exchange: Exchange) -> str:
        keys = [function(exchange) or client_ip(exchange) for function in functions]
        # The lengths make it unambiguous where one part ends.
        return _bounded("".join([f"{len(key)}:{key}" for key in keys]))

    return combined


def _function(part: str | Callable[..., Any]) -> KeyFunction:
    if not isinstance(part, str):
        return _called(part)
    if part.startswith("header:"):
        return _header(part[7:])
    return KEYS[part]


def _called(function: Callable[..., Any]) -> KeyFunction:
    def called(exchange: Exchange) -> str | None:
        key: str | None = function(exchange)
        return None if key is None else "key:" + key

    return called


def _header(name: str) -> KeyFunction:
    raw = encode_name(name)

    def header(exchange: Exchange) -> str | None:
        value = exchange.headers.get_bytes(raw)
        return "header:" + hashlib.blake2b(value, digest_size=16).hexdigest() if value else None

    return header


def _bounded(key: str) -> str:
    if len(key) <= _LONGEST:
        return key
    return "hash:" + hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
