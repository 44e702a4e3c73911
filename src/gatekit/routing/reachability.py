"""What is wrong with a table before it serves anything: rules that can never win, and pairs only the list order decides.

An error is certain: a rule that ranks higher matches every request that the reported one does. Not every such case is
found (two different regexes are not compared for containment). A warning is proven by a request that both rules match.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any, Final, Literal, NamedTuple

from gatekit.errors import RouteFailed
from gatekit.routing.cover import AnyEntry, Covers, Pin, pins
from gatekit.routing.index import Leaf, Node, Table
from gatekit.routing.matcher import Matcher, Rule
from gatekit.routing.pattern import PathPattern
from gatekit.routing.pause import Pause, let_go, no_pause
from gatekit.routing.regex import match_range
from gatekit.routing.witness import Witness, find_witness

MOST_COMPARISONS: Final = 400_000
"""How many pairs are looked at for each of the two questions. Only tables with very many rules of one path get there."""


_WITNESS_COST: Final = 20
"""Looking for a witness takes about as long as this many comparisons."""


class Finding(NamedTuple):
    """One finding: `rule_id` is the rule it is about, `other_id` the one that stands above it.

    `witness` is a request that both match, where one could be made; every warning about a pair has one.
    """

    severity: Literal["error", "warning"]
    rule_id: str
    other_id: str | None
    message: str
    witness: Witness | None


def examine(rules: Iterable[Rule[Any]] | Matcher[Any], pause: Pause = no_pause) -> list[Finding]:
    """Every finding of a table, in rank order, errors first. Takes a few seconds for 10,000 rules at most.

    `pause` is called between rules, and while what was made only to look at the table is let go again.
    """
    matcher = rules if isinstance(rules, Matcher) else Matcher(rules, pause)
    covers = Covers(matcher, pause)
    errors = list(_unreachable(matcher, covers, pause))
    dead = {finding.rule_id for finding in errors if finding.severity == "error"}
    found = errors + list(_ambiguous(matcher, dead, pause))
    parts = [*(() if matcher is rules else matcher.parts(pause)), *covers.parts(pause)]
    del rules, matcher, covers
    let_go(parts, pause)
    return found


def _unreachable(matcher: Matcher[Any], covers: Covers, pause: Pause) -> Iterator[Finding]:
    covered: dict[str, list[tuple[AnyEntry, AnyEntry]]] = {}
    left = MOST_COMPARISONS
    for lower in matcher.entries:
        pause()
        for upper in covers.above(lower):
            left -= 1
            if upper.rule is not lower.rule and covers.covers(upper, lower):
                covered.setdefault(lower.rule.id, []).append((upper, lower))
                break
            if not left:
                yield _unfinished("unreachable rules")
                break
        if not left:
            break
    for rule in matcher.rules if covered else ():
        pairs = covered.get(rule.id, [])
        if len(pairs) == len(rule.hosts):
            yield _never_wins(pairs)


def _never_wins(pairs: Sequence[tuple[AnyEntry, AnyEntry]]) -> Finding:
    upper, lower = pairs[0]
    witness = _shared_request(upper, lower)
    others = dict.fromkeys(f"{one.rule.id!r}" for one, _ in pairs)
    example = "" if witness is None else f", for example {witness}"
    message = (
        f"rule {lower.rule.id!r} can never win: {' and '.join(others)} ranks above it and matches everything that it "
        f"matches{example}; remove it, or make its path, host, priority or predicates narrower or higher"
    )
    return Finding("error", lower.rule.id, upper.rule.id, message, witness)


def _ambiguous(matcher: Matcher[Any], dead: set[str], pause: Pause) -> Iterator[Finding]:
    left = MOST_COMPARISONS
    told: set[tuple[str, str]] = set()
    for leaf in _all_leaves(matcher):
        pause()
        if len(leaf.entries) == 1:
            continue
        for _, group in groupby(leaf.entries, key=lambda entry: entry.order[:-1]):
            peers = _Peers()
            for lower in group:
                pause()
                if lower.rule.id in dead:
                    continue
                for upper in peers.possible(lower):
                    near = _may_share_path(upper.rule.path, lower.rule.path)
                    left -= _WITNESS_COST if near else 1
                    if left <= 0:
                        yield _unfinished("ambiguous pairs")
                        return
                    if not near:
                        continue
                    if (lower.rule.id, upper.rule.id) in told:
                        break
                    witness = _shared_request(upper, lower)
                    if witness is not None and not _wins(matcher, lower, witness):
                        told.add((lower.rule.id, upper.rule.id))
                        yield _only_by_order(upper, lower, witness)
                        break
                peers.add(lower)


def _may_share_path(one: PathPattern, other: PathPattern) -> bool:
    """False where two paths of one leaf certainly match nothing in common: two regexes with bounds apart."""
    if one.regex is None or other.regex is None or one.text == other.text:
        return True
    mine, its = match_range(one.regex.pattern), match_range(other.regex.pattern)
    return mine is None or its is None or (mine[0] <= its[1] and its[0] <= mine[1])


def _only_by_order(upper: AnyEntry, lower: AnyEntry, witness: Witness) -> Finding:
    message = (
        f"rules {upper.rule.id!r} and {lower.rule.id!r} both match {witness}, and only their order in the list says "
        f"that {upper.rule.id!r} wins; give one of them a priority, or a predicate that tells them apart"
    )
    return Finding("warning", lower.rule.id, upper.rule.id, message, witness)


def _unfinished(what: str) -> Finding:
    message = (
        f"the search for {what} stopped after {MOST_COMPARISONS} comparisons: too many rules share host and path; "
        "what is reported is true, but there may be more"
    )
    return Finding("warning", "", None, message, None)


def _shared_request(upper: AnyEntry, lower: AnyEntry) -> Witness | None:
    """A request that both match, checked with their own patterns and predicates."""
    methods = lower.rule.methods or upper.rule.methods
    if upper.accepts is not None and lower.rule.methods:
        methods = lower.rule.methods & upper.accepts
    paths = list({path.text: path for path in (lower.rule.path, upper.rule.path)}.values())
    return find_witness([lower.host, upper.host], paths, methods, (*lower.predicates, *upper.predicates))


def _wins(matcher: Matcher[Any], entry: AnyEntry, witness: Witness) -> bool:
    """Whether that rule gets the witness all the same, under another of its hosts."""
    made = witness.exchange()
    try:
        won = None if made is None else matcher.winner(made)
    except RouteFailed:
        return False
    return won is not None and won.rule is entry.rule


class _Peers:
    """Entries whose rank only the list order decided, by the values they fix: those of another value cannot overlap."""

    __slots__ = ("_fixed", "_free")

    def __init__(self) -> None:
        self._free: list[AnyEntry] = []
        self._fixed: dict[tuple[str, str], dict[str, list[AnyEntry]]] = {}

    def add(self, entry: AnyEntry) -> None:
        pin: Pin | None = next(iter(pins(entry.predicates)), None)
        if pin is None:
            self._free.append(entry)
        else:
            self._fixed.setdefault(pin[:2], {}).setdefault(pin[2], []).append(entry)

    def possible(self, entry: AnyEntry) -> Iterator[AnyEntry]:
        """Those that may share a request with `entry`: same or no method, and no value fixed otherwise."""
        own = {pin[:2]: pin[2] for pin in pins(entry.predicates)}
        methods = entry.rule.methods
        groups = [self._free]
        for name, values in self._fixed.items():
            groups += [values.get(own[name], [])] if name in own else values.values()
        for other in chain.from_iterable(groups):
            if not methods or methods & other.rule.methods:
                yield other


def _all_leaves(matcher: Matcher[Any]) -> Iterator[Leaf[Any]]:
    for level in matcher.levels:
        for table in level.tables.values():
            yield from _leaves_of_table(table)


def _leaves_of_table(table: Table[Any]) -> Iterator[Leaf[Any]]:
    yield from table.static.values()
    if table.root is not None:
        yield from _below(table.root)
    if table.regexes is not None:
        yield table.regexes


def _below(node: Node[Any]) -> Iterator[Leaf[Any]]:
    for leaf in (node.ends, node.rest, node.prefix):
        if leaf is not None:
            yield leaf
    for child in (*(node.literals or {}).values(), *(() if node.param is None else (node.param,))):
        yield from _below(child)
