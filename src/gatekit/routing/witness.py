"""Made-up requests that show what a finding means, checked against the rules they are made for before they are shown.

A witness goes through the real door and is matched by the real patterns and predicates. One that cannot be found is
left out; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from urllib.parse import quote_plus

from gatekit.core.door import Door
from gatekit.core.exchange import Exchange, NoBody
from gatekit.core.headers import Headers, encode_value
from gatekit.core.paths import MARKS, encode
from gatekit.routing.hosts import HostPattern
from gatekit.routing.pattern import PathPattern
from gatekit.routing.predicates import ClientMatch, Predicate, ValuePredicate
from gatekit.routing.sample import samples

CLIENT = "192.0.2.1"
"""The client of a witness that may have any (RFC 5737: nobody's address)."""

_TRIES = 64


class Witness:
    """One request: what `exchange` makes and what `str()` shows."""

    __slots__ = ("client", "headers", "host", "method", "path", "query")

    def __init__(
        self, method: str, host: str, path: str, query: str, headers: tuple[tuple[str, str], ...], client: str
    ) -> None:
        self.method = method
        self.host = host
        self.path = path
        self.query = query
        self.headers = headers
        self.client = client

    def __str__(self) -> str:
        target = self.path + (f"?{self.query}" if self.query else "")
        extra = [f"{name}: {value}" for name, value in self.headers]
        if self.client != CLIENT:
            extra.append(f"from {self.client}")
        return f"{self.method} {self.host}{target}" + (f" ({', '.join(extra)})" if extra else "")

    def __repr__(self) -> str:
        return f"Witness({str(self)!r})"

    def exchange(self) -> Exchange | None:
        """The request behind the door, None when the door refuses it or gives it another path."""
        try:
            raw = [(b"host", encode_value(self.host))]
            raw += [(name.encode("latin-1"), encode_value(value)) for name, value in self.headers]
        except ValueError:
            return None
        door = Door(_NoChance(), max_target=1 << 20, allowed_marks=sum(MARKS.values()))
        made = Exchange(
            "http", self.method, "http", Headers(raw), self.client, "1.1", {"type": "http"}, door, NoBody(), 0.0
        )  # fmt: skip
        if door.admit(made, encode(self.path), self.query.encode("latin-1")) is not None or made.path != self.path:
            return None
        return made


def find_witness(
    hosts: Sequence[HostPattern],
    paths: Sequence[PathPattern],
    methods: Iterable[str],
    predicates: Sequence[Predicate],
) -> Witness | None:
    """A request that every one of these hosts, paths and predicates matches, with one of `methods` (none: any).

    The hosts must be given with the narrowest first.
    """
    method = min(methods, default="GET")
    values = _values(predicates)
    if values is None:
        return None
    query, headers, client = values
    for path in islice(_paths(paths), _TRIES):
        found = Witness(method, _host(hosts[0]), path, query, headers, client)
        made = found.exchange()
        if (
            made is not None
            and all(host.match(made) for host in hosts)
            and all(pattern.match(made.path) is not None for pattern in paths)
            and _all_hold(predicates, made)
        ):
            return found
    return None


def _all_hold(predicates: Sequence[Predicate], made: Exchange) -> bool:
    try:
        return all(predicate.matches(made) for predicate in predicates)
    except Exception:
        return False


def _host(host: HostPattern) -> str:
    name = {"exact": host.name, "wildcard": f"any.{host.name}", "any": "any.test"}[host.kind]
    return name if host.port is None else f"{name}:{host.port}"


def _paths(patterns: Sequence[PathPattern]) -> Iterator[str]:
    """Paths that may match all patterns: what each of them suggests, those it must share a shape with left to the check."""
    for pattern in patterns:
        yield from _suggested(pattern)


def _suggested(pattern: PathPattern) -> Sequence[str]:
    if pattern.kind == "exact":
        return [pattern.text]
    if pattern.kind == "regex":
        return samples(pattern.text[1:])
    fixed = "".join("/x" if segment is None else f"/{segment}" for segment in pattern.segments)
    if pattern.rest is not None:
        return [f"{fixed}/x", f"{fixed}/x/y"]
    return [fixed or "/", f"{fixed}/x"] if pattern.kind == "prefix" else [fixed]


def _values(predicates: Sequence[Predicate]) -> tuple[str, tuple[tuple[str, str], ...], str] | None:
    """Query, headers and client address that satisfy all built-in predicates, None where none were found."""
    groups: dict[tuple[str, str], list[ValuePredicate]] = {}
    networks: list[ClientMatch] = []
    for predicate in predicates:
        if isinstance(predicate, ValuePredicate):
            groups.setdefault((predicate.kind, predicate.name), []).append(predicate)
        elif isinstance(predicate, ClientMatch):
            networks.append(predicate)
    chosen: dict[str, list[tuple[str, str]]] = {"header": [], "query": [], "cookie": []}
    for (kind, name), group in groups.items():
        fits = [value for one in group for value in one.witnesses() if all(other.accepts(value) for other in group)]
        if not fits:
            return None
        value = min(fits, key=lambda text: text is not None)
        if value is not None:
            chosen[kind].append((name, value))
    clients = [text for one in networks for text in one.witnesses() if all(other.accepts(text) for other in networks)]
    if networks and not clients:
        return None
    query = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in chosen["query"])
    headers = chosen["header"]
    if chosen["cookie"]:
        headers = [*headers, ("cookie", "; ".join(f"{name}={value}" for name, value in chosen["cookie"]))]
    return query, tuple(headers), next(iter(clients), None) or CLIENT


class _NoChance:
    """A door asks for randomness only to name a request, and nobody asks a witness for its name."""

    def random(self) -> float:
        return 0.0

    def token(self, size: int) -> bytes:
        return bytes(size)
