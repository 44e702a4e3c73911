"""Several limits at once: whatever order takes come in, none admits more than it allows and what one refuses costs nothing
of the others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest

from gatekit.core.counters import Ask, Limit, Taken
from gatekit.mechanisms.windows import ALGORITHMS
from gatekit.policies.rate_limit.local import LocalCounters
from gatekit.testing import ManualClock

TAKES: Sequence[tuple[tuple[str, int], ...]] = (
    (("a", 1), ("b", 1)),
    (("b", 2),),
    (("c", 1), ("a", 2), ("b", 1)),
    (("a", 1),),
    (("b", 1), ("c", 2)),
    (("c", 1), ("a", 1)),
)
AMOUNTS = {"a": 3, "b": 3, "c": 2}


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_no_order_of_takes_admits_too_much_or_spends_for_what_is_refused(name: str) -> None:
    limits = {key: Limit(amount, 1_000_000.0, name) for key, amount in AMOUNTS.items()}
    outcomes = set()
    for order in permutations(TAKES):
        counters = LocalCounters(ManualClock())
        left, passed = dict(AMOUNTS), []
        for take in order:
            answers = counters.take_now([Ask(key, limits[key], cost, 1) for key, cost in take])
            fits = [cost <= left[key] for key, cost in take]
            assert [taken.allowed for taken in answers] == fits
            if all(fits):
                passed.append(take)
                for key, cost in take:
                    left[key] -= cost
            assert [taken.remaining for taken in answers] == [left[key] for key, _ in take]
        assert all(counters.take_one(Ask(key, limits[key], 0)).remaining == left[key] for key in limits)
        outcomes.add(tuple(sorted(left.items())))
    assert len(outcomes) > 1


def test_interleaved_coroutines_take_one_after_the_other() -> None:
    """A take never suspends, so there is no point at which another could come between its asks."""
    limit = Limit(1, 60.0)
    for order in permutations(range(4)):
        counters = LocalCounters(ManualClock())
        pending = [counters.take([Ask("a", limit), Ask(str(number), limit)]) for number in range(4)]
        passed = []
        for number in order:
            with pytest.raises(StopIteration) as ended:
                pending[number].send(None)
            answers: Sequence[Taken] = ended.value.value
            if all(taken.allowed for taken in answers):
                passed.append(number)
        assert passed == [order[0]]
        assert [counters.take_one(Ask(str(number), limit, 0)).remaining for number in order] == [0, 1, 1, 1]
