"""Whom a request counts against: the text under which it is counted.

Keys of different kinds never meet, whatever a client puts into a header. What a client can make long is hashed, so
that a key has a bounded size; header and claim values always are, since they may be credentials or tell of a person.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, Protocol

from gatekit.core.claims import Path, parse_claim_path
from gatekit.core.exchange import Exchange
from gatekit.core.headers import Headers, encode_name
from gatekit.core.identity import Identity
from gatekit.core.peers import address_key

KeyFunction = Callable[[Exchange], str | None]
"""The key of an exchange, None where it has none."""


class Named(Protocol):
    """What a key needs to know of a route."""

    @property
    def id(self) -> str: ...


class Caller(Protocol):
    """What keys are made of: an exchange, or somebody whom an operator asks about."""

    @property
    def identity(self) -> Identity | None: ...
    @property
    def client_ip(self) -> str | None: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def method(self) -> str: ...
    @property
    def params(self) -> Mapping[str, str]: ...
    @property
    def route(self) -> Named | None: ...


Key = Callable[[Any], str | None]
"""The key of a `Caller`. Functions of users are given the exchange itself."""

IDENTITY_KEYS: Final = frozenset({"api_key", "client", "tenant", "user"})
"""The keys that are not known before identification; so is every claim."""

API_KEY: Final = "api_key"
"""The scheme of an identity that was found by an API key: `client` is then the id of the key."""

_LONGEST: Final = 128
_PLAIN: Final = re.compile(r"[\x21-\x7a|~]{1,128}")

# A busy caller's address is parsed once, not for every request.
_address_key = lru_cache(maxsize=4096)(address_key)


def client_ip(caller: Caller) -> str:
    """The client's address behind trusted proxies, IPv6 by its /64; peers without an address share one key."""
    return "ip:" + _address_key(caller.client_ip)


def _user(caller: Caller) -> str | None:
    who = caller.identity
    if who is None or not who.is_authenticated:
        return None
    return f"user:{len(who.issuer)}:{who.issuer}{who.subject}"


def _tenant(caller: Caller) -> str | None:
    who = caller.identity
    return None if who is None or who.tenant is None else "tenant:" + who.tenant


def _client(caller: Caller) -> str | None:
    who = caller.identity
    return None if who is None or who.client is None else "client:" + who.client


def _api_key(caller: Caller) -> str | None:
    who = caller.identity
    return None if who is None or who.scheme != API_KEY or who.client is None else "api_key:" + who.client


def _route(caller: Caller) -> str | None:
    return None if caller.route is None else "route:" + caller.route.id


def _method(caller: Caller) -> str:
    return "method:" + caller.method


def _global(caller: Caller) -> str:
    return "global"


KEYS: Final[dict[str, Key]] = {
    "api_key": _api_key,
    "client": _client,
    "client_ip": client_ip,
    "global": _global,
    "method": _method,
    "route": _route,
    "tenant": _tenant,
    "user": _user,
}
"""Every key that has a name."""


def check(by: str) -> None:
    """Raises ValueError unless `by` names a key."""
    kind, colon, name = by.partition(":")
    if colon and kind == "header":
        encode_name(name)
    elif colon and kind == "claim":
        parse_claim_path(name)
    elif colon and kind == "param":
        if not name:
            raise ValueError("param: is followed by the name of a path parameter, as in param:shop")
    elif by not in KEYS:
        raise ValueError(
            f"there is no key {by!r}: take one of {', '.join(sorted(KEYS))}, or header:NAME, claim:PATH, param:NAME"
        )


def needs_identity(parts: Iterable[object]) -> bool:
    """Whether one of these is not known before identification."""
    return any(isinstance(part, str) and (part in IDENTITY_KEYS or part.startswith("claim:")) for part in parts)


def key_of(parts: tuple[str | Callable[..., Any], ...]) -> Callable[[Caller], str]:
    """One function for all parts. A part that the exchange has not is replaced by the client's address."""
    functions = tuple(key_function(part) for part in parts)
    if len(functions) == 1:
        (only,) = functions

        def single(caller: Caller) -> str:
            key = only(caller)
            return client_ip(caller) if key is None else _bounded(key)

        return client_ip if only is client_ip else single

    def combined(caller: Caller) -> str:
        keys = [function(caller) or client_ip(caller) for function in functions]
        # The lengths make it unambiguous where one part ends.
        return _bounded("".join([f"{len(key)}:{key}" for key in keys]))

    return combined


def key_function(part: str | Callable[..., Any]) -> Key:
    """The function for one part."""
    if not isinstance(part, str):
        return _called(part)
    kind, _, name = part.partition(":")
    if kind == "header":
        return _header(name)
    if kind == "claim":
        return _claim(name)
    if kind == "param":
        return _param(name)
    return KEYS[part]


def claim_text(who: Identity | None, path: Path) -> str | None:
    """A claim that is text or a whole number, as text; None where it is neither, or is not there."""
    value: Any = None if who is None else who.claims
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def digest(key: str) -> str:
    """What stands for a caller where nobody is to be named: the same for the same one."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def plain(key: str) -> str:
    """The key for a store that others look into: visible ASCII without braces, of a bounded length."""
    return key if _PLAIN.fullmatch(key) else _hashed("hash:", key.encode("utf-8", "surrogatepass"))


def named(part: str | Callable[..., Any]) -> str:
    """A part of `by` in words."""
    return part if isinstance(part, str) else getattr(part, "__qualname__", type(part).__name__)


def _called(function: Callable[..., Any]) -> Key:
    def called(caller: Any) -> str | None:
        # Of somebody whom an operator asks about, he says himself what the function would give.
        key: str | None = function(caller) if isinstance(caller, Exchange) else caller.key
        return None if key is None else "key:" + key

    return called


def _header(name: str) -> Key:
    raw = encode_name(name)

    def header(caller: Caller) -> str | None:
        value = caller.headers.get_bytes(raw)
        return _hashed("header:", value) if value else None

    return header


def _claim(name: str) -> Key:
    path = parse_claim_path(name)

    def claim(caller: Caller) -> str | None:
        value = claim_text(caller.identity, path)
        return None if value is None else _hashed("claim:", value.encode("utf-8", "surrogatepass"))

    return claim


def _param(name: str) -> Key:
    def param(caller: Caller) -> str | None:
        value = caller.params.get(name)
        return "param:" + value if value else None

    return param


def _hashed(kind: str, value: bytes) -> str:
    return kind + hashlib.blake2b(value, digest_size=16).hexdigest()


def _bounded(key: str) -> str:
    return key if len(key) <= _LONGEST else _hashed("hash:", key.encode("utf-8", "surrogatepass"))
