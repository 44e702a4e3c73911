"""The index behind `Matcher`: host dict, then static path dict, then segment trie, then the ordered regexes.

A level holds the rules of one priority. Hosts lead to tables, a table's paths to leaves, a leaf has its entries in rank
order. Walking hosts from exact to any, and in a table static paths, then the trie depth first (literal, `{name}`, rest,
prefix), then regexes, visits entries in exactly the rank order. Built once, never changed after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from gatekit.core.exchange import Exchange
from gatekit.routing.hosts import effective_port
from gatekit.routing.pattern import NO_PARAMS, regex_params
from gatekit.routing.pause import Pause, no_pause

if TYPE_CHECKING:
    from gatekit.routing.matcher import Entry

T = TypeVar("T")


MANY: Final = 16
"""With so many children a node is wide: freed in one go, they would take their time."""


class Leaf(Generic[T]):
    """The entries of one host and path pattern in rank order, and in the order that HEAD requests see them."""

    __slots__ = ("entries", "head")

    def __init__(self, entries: Sequence[Entry[T]]) -> None:
        self.entries = tuple(entries)
        self.head = self.entries
        if len(entries) == 1:
            return
        named = [entry for entry in entries if "HEAD" in entry.rule.methods]
        if named and any(entry.implies_head for entry in entries):
            implied = [entry for entry in entries if entry.implies_head]
            others = [entry for entry in entries if entry.accepts is None]
            self.head = (*named, *implied, *others)


class Node(Generic[T]):
    """One segment of the trie. `ends`: the path stops here; `rest`, `prefix`: whatever follows is taken."""

    __slots__ = ("ends", "literals", "param", "prefix", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, Node[T]] | None = None
        self.param: Node[T] | None = None
        self.ends: Leaf[T] | None = None
        self.rest: Leaf[T] | None = None
        self.prefix: Leaf[T] | None = None


class Table(Generic[T]):
    """The paths of one host pattern. `depth` is how many segments of a path the trie can look at; `wide` are the nodes
    that many others hang on, with their depth."""

    __slots__ = ("depth", "regexes", "root", "static", "wide")

    def __init__(self, entries: Sequence[Entry[T]], pause: Pause = no_pause) -> None:
        static: dict[str, list[Entry[T]]] = {}
        shapes: dict[tuple[tuple[str | None, ...], str], list[Entry[T]]] = {}
        regexes: list[Entry[T]] = []
        for entry in entries:
            path = entry.rule.path
            if path.kind == "exact":
                static.setdefault(path.text, []).append(entry)
            elif path.kind == "regex":
                regexes.append(entry)
            else:
                end = "prefix" if path.kind == "prefix" else "ends" if path.rest is None else "rest"
                shapes.setdefault((path.segments, end), []).append(entry)
            pause()
        self.static: dict[str, Leaf[T]] = {}
        for text, found in static.items():
            self.static[text] = Leaf(found)
            pause()
        self.regexes: Leaf[T] | None = Leaf(regexes) if regexes else None
        self.root: Node[T] | None = Node() if shapes else None
        self.depth = 0
        self.wide: list[tuple[int, Node[T]]] = []
        for (segments, end), found in shapes.items():
            self.depth = max(self.depth, len(segments) + 1)
            self._grow(segments, end, Leaf(found))
            pause()

    def _grow(self, segments: tuple[str | None, ...], end: str, leaf: Leaf[T]) -> None:
        node = self.root
        assert node is not None
        for depth, segment in enumerate(segments):
            if segment is None:
                if node.param is None:
                    node.param = Node()
                node = node.param
            else:
                if node.literals is None:
                    node.literals = {}
                child = node.literals.get(segment)
                if child is None:
                    child = node.literals[segment] = Node()
                    if len(node.literals) == MANY:
                        self.wide.append((depth, node))
                node = child
        setattr(node, end, leaf)

    def parts(self) -> list[object]:
        """All that there may be thousands of, what holds another after it: see `let_go`."""
        found: list[object] = []
        for _, node in sorted(self.wide, key=lambda one: -one[0]):
            found += (node.literals or {}).values()
        return found + list(self.static.values())


class Level(Generic[T]):
    """The tables of one priority by the text of their host pattern.

    `plain` is the table for any host where there is no other. `labels` is how many labels the longest wildcard has.
    """

    __slots__ = ("labels", "plain", "ports", "tables")

    def __init__(self, entries: Sequence[Entry[T]], pause: Pause = no_pause) -> None:
        hosts: dict[str, list[Entry[T]]] = {}
        self.labels = 0
        self.ports = False
        for entry in entries:
            pause()
            hosts.setdefault(entry.host.text, []).append(entry)
            self.ports = self.ports or entry.host.port is not None
            if entry.host.kind == "wildcard":
                self.labels = max(self.labels, entry.host.name.count(".") + 1)
        self.tables: dict[str, Table[T]] = {text: Table(found, pause) for text, found in hosts.items()}
        self.plain: Table[T] | None = self.tables["*"] if len(self.tables) == 1 and "*" in self.tables else None

    def parts(self, pause: Pause) -> list[object]:
        """All that there may be thousands of, what holds another after it: see `let_go`."""
        found: list[object] = []
        for table in self.tables.values():
            found += table.parts()
            pause()
        return found + list(self.tables.values())

    def for_host(self, exchange: Exchange) -> list[Table[T]]:
        """The tables whose host matches, the most exact first."""
        host = exchange.host
        names = [host]
        if self.labels:
            # From the right, and no further than the longest wildcard: a client may send any number of labels.
            at = len(host)
            suffixes = []
            for _ in range(self.labels):
                at = host.rfind(".", 0, at)
                if at < 1:
                    break
                suffixes.append(f"*{host[at:]}")
            names += reversed(suffixes)
        names.append("*")
        if self.ports:
            port = effective_port(exchange)
            names = [key for name in names for key in (f"{name}:{port}", name)]
        tables = self.tables
        return [tables[name] for name in names if name in tables]


def search(level: Level[T], exchange: Exchange) -> Entry[T] | None:
    """The first entry in rank order that matches in full; its parameters are then on the exchange."""
    plain = level.plain
    if plain is not None:
        return search_table(plain, exchange)
    for table in level.for_host(exchange):
        found = search_table(table, exchange)
        if found is not None:
            return found
    return None


def search_table(table: Table[T], exchange: Exchange) -> Entry[T] | None:
    """`search` in one table, whose host is known to match."""
    path = exchange.path
    method = exchange.method
    leaf = table.static.get(path)
    if leaf is not None:
        found = _first(leaf, exchange, method)
        if found is not None:
            exchange.params = NO_PARAMS
            return found
    if table.root is not None:
        # What lies deeper than the trie stays in one piece: no segment of a pattern is compared with it.
        parts = path.split("/", table.depth)
        found = _descend(table.root, parts, 1, exchange, method)
        if found is not None:
            params = NO_PARAMS
            if found.picks:
                params = {name: parts[place] for name, place in found.picks}
            if found.rest is not None:
                name, place = found.rest
                params = {**params, name: "/".join(parts[place:])}
            exchange.params = params
            return found
    if table.regexes is not None:
        return _by_regex(table.regexes, exchange, path, method)
    return None


def _first(leaf: Leaf[T], exchange: Exchange, method: str) -> Entry[T] | None:
    for entry in leaf.head if method == "HEAD" else leaf.entries:
        accepts = entry.accepts
        if (accepts is None or method in accepts) and (not entry.predicates or entry.holds(exchange)):
            return entry
    return None


def _descend(node: Node[T], parts: list[str], at: int, exchange: Exchange, method: str) -> Entry[T] | None:
    while at < len(parts):
        part = parts[at]
        child = None if node.literals is None else node.literals.get(part)
        if child is None:
            child = node.param if part else None
            other = None
        else:
            other = node.param if part else None
        if other is None and node.rest is None and node.prefix is None:
            # There is one way and no way back.
            if child is None:
                return None
            node = child
            at += 1
            continue
        for way in (child, other):
            if way is not None:
                found = _descend(way, parts, at + 1, exchange, method)
                if found is not None:
                    return found
        if node.rest is not None and (part or at + 1 < len(parts)):
            found = _first(node.rest, exchange, method)
            if found is not None:
                return found
        return None if node.prefix is None else _first(node.prefix, exchange, method)
    if node.ends is not None:
        found = _first(node.ends, exchange, method)
        if found is not None:
            return found
    return None if node.prefix is None else _first(node.prefix, exchange, method)


def _by_regex(leaf: Leaf[T], exchange: Exchange, path: str, method: str) -> Entry[T] | None:
    for entry in leaf.head if method == "HEAD" else leaf.entries:
        if entry.accepts is None or method in entry.accepts:
            assert entry.regex is not None
            groups = entry.regex.fullmatch(path)
            if groups is not None and (not entry.predicates or entry.holds(exchange)):
                exchange.params = regex_params(groups.groupdict())
                return entry
    return None


def walk_all(level: Level[T], exchange: Exchange) -> Iterator[Entry[T]]:
    """Every entry whose host and path match, in rank order. For everything but the match itself."""
    path = exchange.path
    for table in level.for_host(exchange):
        leaf = table.static.get(path)
        if leaf is not None:
            yield from leaf.entries
        if table.root is not None:
            for leaf in leaves_of(table.root, path.split("/", table.depth), 1):
                yield from leaf.entries
        if table.regexes is not None:
            for entry in table.regexes.entries:
                assert entry.regex is not None
                if entry.regex.fullmatch(path) is not None:
                    yield entry


def leaves_of(node: Node[T], parts: list[str], at: int) -> Iterator[Leaf[T]]:
    """The leaves that a split path meets, in rank order; `parts[at]` is the first segment below `node`."""
    if at == len(parts):
        if node.ends is not None:
            yield node.ends
    else:
        part = parts[at]
        if node.literals is not None and part in node.literals:
            yield from leaves_of(node.literals[part], parts, at + 1)
        if node.param is not None and part:
            yield from leaves_of(node.param, parts, at + 1)
        if node.rest is not None and (part or at + 1 < len(parts)):
            yield node.rest
    if node.prefix is not None:
        yield node.prefix
