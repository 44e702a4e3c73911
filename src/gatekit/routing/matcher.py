"""`Matcher`: the rule a request belongs to, found in a time that does not grow with the table.

The order of rules is one total order, settled when the table is built:

1. higher `priority`;
2. host: exact, then the longer wildcard, then any; of two alike the one with a port;
3. path: exact; then templates and prefixes segment by segment, where a literal beats `{name}`, which beats the rest,
   and longer beats shorter; then regex;
4. a rule that names methods before one that does not;
5. more header predicates, then more query predicates, then more of the other kinds (cookie, client, custom);
6. the place in the list.

The first rule in that order whose host, path, method and predicates all match wins. A rule that names GET answers HEAD
too: for a HEAD request step 4 puts rules that name HEAD first, then those that name GET, then those that name none.
OPTIONS is implied by nothing.

The index (`index.py`) walks in that same order, so the first full match is the winner and nothing is collected or
sorted for a request. What a match costs grows with the depth of the path and with the number of distinct priorities,
of regex paths on one host and of rules that differ only in predicates, and with nothing else. Matching reads
`exchange.path`, the canonical one, and no other form of the path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Generic, TypeVar

from gatekit.core.exchange import Exchange
from gatekit.errors import RouteFailed
from gatekit.routing.hosts import ANY_HOST, HostPattern
from gatekit.routing.index import Level, search, search_table, walk_all
from gatekit.routing.pattern import PathPattern
from gatekit.routing.pause import Pause, no_pause
from gatekit.routing.predicates import Predicate, PredicateKind

T = TypeVar("T")


class Rule(Generic[T]):
    """One rule and the value it stands for. No `hosts` means any, no `methods` any, all `predicates` must hold.

    Methods are case-sensitive (RFC 9110 section 9.1). `id` is what messages and errors call it.
    """

    __slots__ = ("hosts", "id", "methods", "path", "predicates", "priority", "value")

    def __init__(
        self,
        id: str,
        value: T,
        path: PathPattern,
        hosts: Iterable[HostPattern] = (),
        methods: Iterable[str] = frozenset(),
        predicates: Iterable[Predicate] = (),
        priority: int = 0,
    ) -> None:
        self.id = id
        self.value = value
        self.path = path
        self.hosts: tuple[HostPattern, ...] = tuple(dict.fromkeys(hosts)) or (ANY_HOST,)
        self.methods = frozenset(methods)
        self.predicates = tuple(predicates)
        self.priority = priority

    def __repr__(self) -> str:
        return f"Rule({self.id!r})"


class Entry(Generic[T]):
    """A rule under one of its hosts: what the index holds. `rank` is its place in the total order, 0 the first.

    `order` is what the rank was sorted by; its first three parts (priority, host, path) are its place in the index.
    """

    __slots__ = ("accepts", "host", "implies_head", "order", "picks", "predicates", "rank", "regex", "rest", "rule")

    def __init__(self, rule: Rule[T], host: HostPattern, position: int) -> None:
        self.rule = rule
        self.host = host
        self.rank = -1
        methods = rule.methods
        self.implies_head = "GET" in methods and "HEAD" not in methods
        self.accepts = (methods | {"HEAD"} if self.implies_head else methods) or None
        self.predicates = rule.predicates
        self.regex = rule.path.regex
        # Where in the split path the parameters lie; the part before the first slash is number 0.
        self.picks: tuple[tuple[str, int], ...] = ()
        if rule.path.names:
            places = [place for place, segment in enumerate(rule.path.segments, start=1) if segment is None]
            self.picks = tuple(zip(rule.path.names, places, strict=True))
        self.rest = None if rule.path.rest is None else (rule.path.rest, len(rule.path.segments) + 1)
        count = _counted(rule.predicates) if rule.predicates else _NONE
        self.order = (
            -rule.priority,
            host.precedence,
            rule.path.precedence,
            int(not methods),
            -count["header"],
            -count["query"],
            -count["cookie"] - count["client"] - count["custom"],
            position,
        )

    def __repr__(self) -> str:
        return f"Entry({self.rule.id!r}, {self.host.text!r})"

    def holds(self, exchange: Exchange) -> bool:
        """Whether all predicates hold. Raises RouteFailed when one raises: the request must not fall through."""
        try:
            for predicate in self.predicates:
                if not predicate.matches(exchange):
                    return False
        except Exception as error:
            raise RouteFailed(self.rule.id, error) from error
        return True


_NONE: Mapping[PredicateKind, int] = {"header": 0, "query": 0, "cookie": 0, "client": 0, "custom": 0}


def _counted(predicates: Iterable[Predicate]) -> Mapping[PredicateKind, int]:
    count = {**_NONE}
    for predicate in predicates:
        count[predicate.kind] += 1
    return count


class Matcher(Generic[T]):
    """A table of rules, compiled. Immutable; building it twice from the same rules gives the same ranks.

    `entries` has every rule under every of its hosts in rank order.
    """

    __slots__ = ("_levels", "entries", "rules")

    def __init__(self, rules: Iterable[Rule[T]], pause: Pause = no_pause) -> None:
        """Raises ValueError when two rules have the same id. `pause` is called between entries."""
        self.rules: tuple[Rule[T], ...] = tuple(rules)
        seen: set[str] = set()
        for rule in self.rules:
            if rule.id in seen:
                raise ValueError(f"two rules have the id {rule.id!r}; give each its own")
            seen.add(rule.id)
        # Entries come in the order of the list, so only what goes before that is sorted: there are few of those, and
        # to sort all entries would be one long call.
        alike: dict[tuple[Any, ...], list[Entry[T]]] = {}
        for position, rule in enumerate(self.rules):
            for host in rule.hosts:
                entry = Entry(rule, host, position)
                alike.setdefault(entry.order[:-1], []).append(entry)
            pause()
        self.entries: Sequence[Entry[T]] = tuple(chain.from_iterable(alike[order] for order in sorted(alike)))
        levels: dict[int, list[Entry[T]]] = {}
        for rank, entry in enumerate(self.entries):
            pause()
            entry.rank = rank
            levels.setdefault(entry.rule.priority, []).append(entry)
        self._levels: tuple[Level[T], ...] = tuple(Level(level, pause) for level in levels.values())

    def match(self, exchange: Exchange) -> T | None:
        """The value of the rule that wins, with `exchange.params` set from its path; None when no rule matches.

        Raises RouteFailed when a predicate raises before a winner is found.
        """
        for level in self._levels:
            plain = level.plain
            found = search(level, exchange) if plain is None else search_table(plain, exchange)
            if found is not None:
                return found.rule.value
        return None

    def winner(self, exchange: Exchange) -> Entry[T] | None:
        """As `match`, but the entry itself."""
        for level in self._levels:
            found = search(level, exchange)
            if found is not None:
                return found
        return None

    def allowed_methods(self, exchange: Exchange) -> frozenset[str]:
        """The methods of the rules that would match but for the method: the Allow of a 405. Empty means 404.

        For requests that `match` had no rule for. HEAD is there wherever GET is. Raises RouteFailed as `match` does.
        """
        allowed: set[str] = set()
        for entry in self.reachable(exchange):
            if entry.accepts is not None and not entry.accepts <= allowed and entry.holds(exchange):
                allowed |= entry.accepts
        return frozenset(allowed)

    def reachable(self, exchange: Exchange) -> Iterator[Entry[T]]:
        """The entries whose host and path match, in rank order, whatever the method and predicates."""
        for level in self._levels:
            yield from walk_all(level, exchange)

    def parts(self, pause: Pause = no_pause) -> list[object]:
        """All that there may be thousands of, what holds another after it: see `let_go`."""
        found: list[object] = [*self.rules, *self.entries]
        for level in self._levels:
            found += level.parts(pause)
        return found

    @property
    def levels(self) -> Sequence[Level[T]]:
        """The index, one level for each priority, the highest first. To be read only."""
        return self._levels
