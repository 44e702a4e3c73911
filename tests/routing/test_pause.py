"""Work on large tables in small parts: it pauses between them, and what it made is freed piece by piece."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest

from gatekit.core.exchange import Exchange
from gatekit.routing.hosts import parse_host
from gatekit.routing.matcher import Matcher, Rule
from gatekit.routing.pattern import parse_path
from gatekit.routing.pause import let_go, no_pause
from gatekit.routing.predicates import Custom, HeaderMatch, Predicate
from gatekit.routing.reachability import examine

COUNT = 300
AT_ONCE = 20
"""The most rules that may go between two pauses; those of one wide node are fewer than `MANY`."""


class Marked:
    """A condition that holds, and whose end can be seen."""

    def __call__(self, exchange: Exchange) -> bool:
        return True


def made(number: int, path: str, host: str = "*", value: str | None = None, priority: int = 0) -> Rule[int]:
    predicates: list[Predicate] = [Custom("marked", Marked())]
    if value is not None:
        predicates.append(HeaderMatch("x-value", "exact", value))
    return Rule(f"r{number}", number, parse_path(path), [parse_host(host)], predicates=predicates, priority=priority)


def marks(rule: Rule[int]) -> list[Callable[[Exchange], bool]]:
    return [one.function for one in rule.predicates if isinstance(one, Custom)]


SHAPES: Mapping[str, Callable[[int], Rule[int]]] = {
    "exact": lambda n: made(n, f"/exact/{n}"),
    "templates": lambda n: made(n, f"/s{n}/{{id}}"),
    "below one node": lambda n: made(n, f"/v1/api/s{n}/{{id}}/items"),
    "two wide levels": lambda n: made(n, f"/s{n % 17}/t{n}/{{id}}"),
    "prefixes": lambda n: made(n, f"/s{n}/*"),
    "regexes": lambda n: made(n, f"~/r{n}x?"),
    "hosts": lambda n: made(n, "/", host=f"h{n}.test"),
    "one path": lambda n: made(n, "/", value=str(n)),
    "priorities": lambda n: made(n, f"/p/{n}", priority=n % 3),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_matcher_is_freed_piece_by_piece(shape: str) -> None:
    matcher = Matcher([SHAPES[shape](number) for number in range(COUNT)])
    left = weakref.WeakSet(mark for rule in matcher.rules for mark in marks(rule))
    seen = [len(left)]
    parts = matcher.parts()
    del matcher
    assert len(left) == COUNT
    let_go(parts, lambda: seen.append(len(left)))
    assert (seen[0], seen[-1], len(left)) == (COUNT, 0, 0)
    assert max(before - after for before, after in pairwise(seen)) <= AT_ONCE


@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_made_to_examine_a_table_is_freed_piece_by_piece(shape: str) -> None:
    left: weakref.WeakSet[Callable[[Exchange], bool]] = weakref.WeakSet()
    seen: list[int] = []

    def rule(number: int) -> Rule[int]:
        found = SHAPES[shape](number)
        left.update(marks(found))
        return found

    examine(map(rule, range(COUNT)), lambda: seen.append(len(left)))
    assert max(seen) == COUNT
    assert len(left) == 0
    assert max(before - after for before, after in pairwise(seen)) <= AT_ONCE


def test_a_matcher_that_somebody_keeps_is_left_whole() -> None:
    matcher = Matcher([made(0, "/a"), made(1, "/b/{id}")])
    assert examine(matcher) == []
    let_go(matcher.parts(), no_pause)
    assert [rule.value for rule in matcher.rules] == [0, 1]


def test_a_table_is_built_and_examined_with_a_pause_for_each_rule() -> None:
    paused: list[None] = []
    rules = [SHAPES["templates"](number) for number in range(COUNT)]
    Matcher(rules, lambda: paused.append(None))
    built = len(paused)
    assert built >= COUNT
    examine(Matcher(rules), lambda: paused.append(None))
    assert len(paused) - built >= 2 * COUNT
