"""When one rule matches everything that another matches. It may answer no where the truth is yes, never the reverse.

Rules that could cover a given one are looked up in an index over the whole table, by walking the trie with a pattern in
place of a path; what is found there covers the path and host by construction, and methods and predicates are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from gatekit.routing.hosts import HostPattern
from gatekit.routing.index import Leaf, Level, Node, Table, leaves_of
from gatekit.routing.matcher import Entry, Matcher
from gatekit.routing.pattern import PathPattern
from gatekit.routing.pause import Pause, no_pause
from gatekit.routing.predicates import Predicate, ValuePredicate, implied
from gatekit.routing.regex import match_range

Pin = tuple[str, str, str]
AnyEntry = Entry[Any]


def pins(predicates: Sequence[Predicate]) -> list[Pin]:
    """The values that predicates fix: two rules that fix one name to different values share no request."""
    return [one.pinned for one in predicates if isinstance(one, ValuePredicate) and one.pinned is not None]


def methods_covered(upper: AnyEntry, lower: AnyEntry) -> bool:
    """Whether every request that `lower` takes by its method is taken by `upper`, which ranks above it."""
    if upper.accepts is None:
        return True
    if not lower.rule.methods:
        return False
    # Of one host and path, a rule that names HEAD is asked before one that only implies it.
    same_place = upper.order[:3] == lower.order[:3]
    return lower.rule.methods <= (upper.rule.methods if same_place else upper.accepts)


class Covers:
    """The entries of a matcher, indexed so that those which could cover one are found without comparing all pairs."""

    __slots__ = ("_by_pin", "_own", "_tables")

    def __init__(self, matcher: Matcher[Any], pause: Pause = no_pause) -> None:
        # One index for all priorities. Where there is only one, the matcher has it.
        levels = matcher.levels
        self._own: Level[Any] | None = None if len(levels) == 1 else Level(matcher.entries, pause)
        self._tables = (self._own or levels[0]).tables
        self._by_pin: dict[int, dict[Pin | None, list[AnyEntry]]] = {}

    def above(self, lower: AnyEntry) -> Iterator[AnyEntry]:
        """Entries that rank above `lower`, whose host and path cover its own; of a regex `covers` must ask about that."""
        own = pins(lower.predicates)
        for table in self._covering_tables(lower.host):
            for leaf in _covering_leaves(table, lower.rule.path):
                if leaf.entries[0].rank >= lower.rank:
                    continue
                by_pin = self._pinned(leaf)
                for pin in (None, *own):
                    for entry in by_pin.get(pin, ()):
                        if entry.rank >= lower.rank:
                            break
                        yield entry
            if table.regexes is not None:
                yield from takewhile(lambda entry: entry.rank < lower.rank, table.regexes.entries)

    def covers(self, upper: AnyEntry, lower: AnyEntry) -> bool:
        """Whether an entry that `above` gave takes every request of `lower`."""
        return (
            methods_covered(upper, lower)
            and (upper.regex is None or _regex_covers(upper.rule.path, lower.rule.path))
            and all(implied(one, lower.predicates) for one in upper.predicates)
        )

    def parts(self, pause: Pause = no_pause) -> list[object]:
        """All that there may be thousands of beside the matcher: see `let_go`."""
        return [*self._by_pin.values(), *(() if self._own is None else self._own.parts(pause))]

    def _covering_tables(self, host: HostPattern) -> Iterator[Table[Any]]:
        names = ["*"]
        if host.kind != "any":
            names = [HostPattern(host.kind, host.name, None).text]
            labels = host.name.split(".")
            names += [f"*.{'.'.join(labels[at:])}" for at in range(1, len(labels))]
            names.append("*")
        for name in names:
            keys = (name,) if host.port is None else (f"{name}:{host.port}", name)
            for key in keys:
                if key in self._tables:
                    yield self._tables[key]

    def _pinned(self, leaf: Leaf[Any]) -> dict[Pin | None, list[AnyEntry]]:
        """The entries of a leaf by the first value they fix: one that fixes a value covers none that does not fix it."""
        found = self._by_pin.get(id(leaf))
        if found is None:
            found = self._by_pin[id(leaf)] = {}
            for entry in leaf.entries:
                found.setdefault(next(iter(pins(entry.predicates)), None), []).append(entry)
        return found


def _covering_leaves(table: Table[Any], path: PathPattern) -> Iterator[Leaf[Any]]:
    """The leaves of the dict and the trie whose pattern matches every path that `path` matches."""
    if path.regex is not None:
        bounds = match_range(path.regex.pattern)
        if bounds is None:
            if table.root is not None and table.root.prefix is not None:
                yield table.root.prefix
            return
        if bounds[0] == bounds[1]:
            yield from _matching_leaves(table, bounds[0].decode("utf-8", "replace"))
        elif table.root is not None:
            # Everything between two bounds that begin alike begins so too.
            known, _, tail = _shared_start(*bounds).rpartition(b"/")
            segments = known.decode("utf-8", "replace").split("/")[1:]
            yield from _symbolic(table.root, segments, 0, "rest" if tail else "prefix")
        return
    if path.kind == "exact":
        yield from _matching_leaves(table, path.text)
    elif table.root is not None:
        end = "prefix" if path.kind == "prefix" else "ends" if path.rest is None else "rest"
        yield from _symbolic(table.root, path.segments, 0, end)


def _matching_leaves(table: Table[Any], path: str) -> Iterator[Leaf[Any]]:
    leaf = table.static.get(path)
    if leaf is not None:
        yield leaf
    if table.root is not None:
        yield from leaves_of(table.root, path.split("/", table.depth), 1)


def _shared_start(one: bytes, other: bytes) -> bytes:
    length = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _symbolic(node: Node[Any], segments: Sequence[str | None], at: int, end: str) -> Iterator[Leaf[Any]]:
    """As the walk for a request, with a pattern in place of the path: what it meets matches all that the pattern does."""
    if at == len(segments):
        leaf = {"ends": node.ends, "rest": node.rest, "prefix": None}[end]
        if leaf is not None:
            yield leaf
    else:
        segment = segments[at]
        if segment is not None and node.literals is not None and segment in node.literals:
            yield from _symbolic(node.literals[segment], segments, at + 1, end)
        if node.param is not None and segment != "":
            yield from _symbolic(node.param, segments, at + 1, end)
        if node.rest is not None and segment != "":
            yield node.rest
    if node.prefix is not None:
        yield node.prefix


def _regex_covers(upper: PathPattern, lower: PathPattern) -> bool:
    """Whether it can be told that a regex matches all that `lower` does: the same text, or one path that it matches."""
    return upper.text == lower.text or (lower.kind == "exact" and upper.match(lower.text) is not None)
