"""Limits of single callers, by name: which of them counts for whom.

A user's counts before an API key's, that before a client's, a tenant's, a network's and a route's. Of one sort an exact name
counts before a beginning, a longer beginning before a shorter one, a smaller network before a larger one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Generic, TypeVar

from gatekit.core.identity import Identity
from gatekit.core.networks import network
from gatekit.core.peers import parse_address
from gatekit.policies.rate_limit.keys import API_KEY, Caller

V = TypeVar("V")
_SEEN: Final = 4096


def _of_identity(found: Callable[[Identity], str | None]) -> Callable[[Caller], str | None]:
    def of(caller: Caller) -> str | None:
        who = caller.identity
        return found(who) if who is not None and who.is_authenticated else None

    return of


NAMES: Final[Mapping[str, Callable[[Caller], str | None]]] = {
    "user": _of_identity(lambda who: who.subject),
    "api_key": _of_identity(lambda who: who.client if who.scheme == API_KEY else None),
    "client": _of_identity(lambda who: who.client),
    "tenant": _of_identity(lambda who: who.tenant),
    "client_ip": lambda caller: caller.client_ip,
    "route": lambda caller: None if caller.route is None else caller.route.id,
}
"""Whom there can be limits of, the most specific first, and their names as they are."""


def kind_of(name: str) -> str:
    """The kind in `tenant:acme`. Raises ValueError on what names nobody."""
    kind, _, rest = name.partition(":")
    if kind not in NAMES:
        raise ValueError(f"{name!r} names nobody: begin with one of {', '.join(f'{one}:' for one in NAMES)}")
    if not rest:
        raise ValueError(f"{name!r} names nobody: write {kind}:NAME")
    if kind == "client_ip":
        network(rest)
    elif "*" in rest[:-1]:
        raise ValueError(f"{name!r}: a * stands for any end, so it is the last character")
    return kind


class Overrides(Generic[V]):
    """What there is for single callers. `find` gives the most specific, None where there is nothing."""

    __slots__ = ("_kinds", "values")

    def __init__(self, given: Mapping[str, V]) -> None:
        self.values = tuple(given.values())
        by_kind: dict[str, dict[str, V]] = {}
        for name, value in given.items():
            by_kind.setdefault(kind_of(name), {})[name.partition(":")[2]] = value
        self._kinds = tuple(
            (NAMES[kind], (_networks if kind == "client_ip" else _names)(by_kind[kind]))
            for kind in NAMES
            if kind in by_kind
        )

    def find(self, caller: Caller) -> V | None:
        for name_of, find in self._kinds:
            name = name_of(caller)
            if name is not None:
                found = find(name)
                if found is not None:
                    return found
        return None


def _names(given: Mapping[str, V]) -> Callable[[str], V | None]:
    exact = {name: value for name, value in given.items() if not name.endswith("*")}
    begun = {name[:-1]: value for name, value in given.items() if name.endswith("*")}
    lengths = sorted({len(name) for name in begun}, reverse=True)

    def find(name: str) -> V | None:
        found = exact.get(name)
        if found is None:
            for length in lengths:
                found = begun.get(name[:length])
                if found is not None:
                    break
        return found

    return find


def _networks(given: Mapping[str, V]) -> Callable[[str], V | None]:
    smallest_first = sorted(
        ((network(text), value) for text, value in given.items()), key=lambda one: one[0].prefixlen, reverse=True
    )

    @lru_cache(maxsize=_SEEN)
    def find(text: str) -> V | None:
        address = parse_address(text)
        if address is None:
            return None
        return next((value for net, value in smallest_first if address in net), None)

    return find
