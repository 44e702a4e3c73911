"""Who waits: in order of importance, bounded by whoever asks, newest first once it stands."""

from __future__ import annotations

from typing import NamedTuple

from gatekit.mechanisms.queue import PATIENCE, Queue


class One(NamedTuple):
    name: str
    level: int = 1
    since: float = 0.0


def take(waits: Queue[One], level: int, now: float) -> str:
    one = waits.next(level, now, 1.0)
    assert waits.remove(one)
    return one.name


def queue(*waiters: One) -> Queue[One]:
    made: Queue[One] = Queue(4)
    for one in waiters:
        made.add(one)
    return made


def test_an_empty_queue_has_nobody() -> None:
    empty = queue()
    assert (empty.first_level(), empty.oldest(), empty.length, empty.lengths()) == (None, None, 0, (0, 0, 0, 0))
    assert empty.late(100.0, 1.0) == []
    assert empty.yield_to(0, 100.0, 1.0) is None
    assert list(empty) == []


def test_the_oldest_goes_first_as_long_as_it_is_empty_now_and_then() -> None:
    waits = queue(One("a", since=0.0), One("b", since=0.5))
    assert take(waits, 1, 1.0) == "a"
    assert waits.length == 1


def test_the_newest_goes_first_once_it_has_not_been_empty_for_longer_than_the_interval() -> None:
    waits = queue(One("a", since=0.0), One("b", since=0.5))
    assert take(waits, 1, 1.001) == "b"
    assert take(waits, 1, 1.001) == "a"
    waits.add(One("c", since=2.0))
    waits.add(One("d", since=2.1))
    assert take(waits, 1, 2.5) == "c", "it was empty: it stands no more"


def test_each_level_stands_for_itself() -> None:
    waits = queue(One("bulk", 3, 0.0), One("a", 0, 5.0), One("b", 0, 5.1))
    assert waits.first_level() == 0
    assert take(waits, 0, 5.5) == "a"
    assert take(waits, 0, 5.5) == "b"
    assert waits.first_level() == 3
    assert waits.standing(3, 5.5, 1.0)


def test_who_is_removed_does_not_wait() -> None:
    a, b = One("a"), One("b", 2)
    waits = queue(a, b)
    assert waits.remove(a)
    assert not waits.remove(a)
    assert list(waits) == [b]
    assert waits.oldest() == 0.0


def test_the_least_important_yields_and_of_them_who_would_be_served_last() -> None:
    waits = queue(One("old", 3, 0.0), One("new", 3, 0.1), One("mid", 2, 0.0))
    gone = waits.yield_to(1, 0.2, 1.0)
    assert gone is not None
    assert gone.name == "new"
    standing = queue(One("old", 3, 0.0), One("new", 3, 0.1))
    gone = standing.yield_to(1, 5.0, 1.0)
    assert gone is not None
    assert gone.name == "old", "when the newest goes first, the oldest would be last"


def test_nobody_yields_to_his_like() -> None:
    assert queue(One("a", 2)).yield_to(2, 0.0, 1.0) is None
    assert queue(One("a", 1)).yield_to(2, 0.0, 1.0) is None


def test_the_late_are_let_go_from_a_standing_line_only() -> None:
    waits = queue(One("a", 1, 0.0), One("b", 1, 0.5), One("c", 0, 2.0))
    assert waits.late(PATIENCE * 1.0, 1.0) == []
    assert [one.name for one in waits.late(PATIENCE * 1.0 + 0.1, 1.0)] == ["a"]
    assert waits.lengths() == (1, 1, 0, 0)
    assert [one.name for one in waits.late(50.0, 1.0)] == ["c", "b"]
    assert waits.length == 0
