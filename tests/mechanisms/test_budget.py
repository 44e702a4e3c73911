"""The retry budget."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.mechanisms.budget import Reservation, RetryBudget


def test_rs4_a_thousand_failures_at_once_give_two_hundred_and_thirty_retries() -> None:
    budget = RetryBudget()
    for _ in range(1_000):
        budget.request(5.0)
    assert sum(budget.reserve(5.0) is not None for _ in range(1_000)) == 230


def test_an_idle_upstream_has_the_floor() -> None:
    budget = RetryBudget(ratio=0.2, per_second=0.5)
    assert [budget.reserve(0.0) is not None for _ in range(6)] == [True] * 5 + [False]
    assert budget.reserve(10.9) is None
    assert budget.reserve(11.0) is not None


def test_what_was_not_used_can_be_used_by_another() -> None:
    budget = RetryBudget(per_second=0.1)
    first = budget.reserve(0.0)
    assert first is not None
    assert budget.reserve(0.0) is None
    budget.release(first, 0.0)
    budget.release(first, 0.0)
    assert budget.reserve(0.0) is not None
    assert budget.reserve(0.0) is None


def test_releasing_what_has_been_forgotten_gives_nothing_back() -> None:
    budget = RetryBudget(per_second=0.1)
    old = budget.reserve(0.0)
    assert old is not None
    assert budget.reserve(20.0) is not None
    budget.release(old, 20.0)
    assert budget.reserve(20.0) is None


Steps = st.lists(
    st.tuples(st.sampled_from(["request", "reserve", "release"]), st.integers(0, 4_000).map(lambda ms: ms / 1_000)),
    max_size=120,
)


@given(Steps, st.sampled_from([(0.2, 0.3), (0.5, 0.0), (0.0, 0.2)]))
@settings(max_examples=150, deadline=None)
def test_the_bound_holds_for_the_exact_window(steps: list[tuple[str, float]], rule: tuple[float, float]) -> None:
    ratio, per_second = rule
    budget = RetryBudget(ratio, per_second)
    now = 0.0
    requests: list[float] = []
    retries: list[tuple[float, Reservation]] = []
    for what, passed in steps:
        now += passed
        if what == "request":
            budget.request(now)
            requests.append(now)
        elif what == "release":
            if retries:
                budget.release(retries.pop()[1], now)
        else:
            found = budget.reserve(now)
            if found is not None:
                retries.append((now, found))
                recent = sum(at > now - 10.0 for at, _ in retries)
                assert recent <= ratio * sum(at > now - 10.0 for at in requests) + per_second * 10.0
