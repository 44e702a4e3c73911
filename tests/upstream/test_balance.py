"""Balancing rules: exact shares, state that outlives a reload, rules that packages add."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.plan import Endpoint
from gatekit.core.ports import Cells, Ports
from gatekit.testing import FixedRandom, SeededRandom
from gatekit.upstream import balance
from gatekit.upstream.balance import BALANCERS, NONE, LeastRequests, RoundRobin, UnknownBalancer, make_balancer

WEIGHTS = st.lists(st.integers(0, 6), min_size=1, max_size=6)


def endpoints(*weights: int, first: int = 0) -> list[Endpoint]:
    return [Endpoint("127.0.0.1", 9000 + first + place, weight=weight) for place, weight in enumerate(weights)]


def ports(cells: Cells | None = None, **fields: Any) -> Ports:
    return Ports(random=fields.pop("random", SeededRandom()), cells=cells)


@pytest.mark.parametrize("rule", sorted(BALANCERS))
@settings(max_examples=40, deadline=None)
@given(weights=WEIGHTS)
def test_every_rule_picks_only_what_may_be_picked(rule: str, weights: list[int]) -> None:
    found = make_balancer(rule, "c", endpoints(*weights), ports())
    for _ in range(50):
        place = found.pick()
        if not any(weights):
            assert place == NONE
        else:
            assert weights[place] > 0
            found.done(place)


@pytest.mark.parametrize("rule", sorted(BALANCERS))
def test_no_endpoints(rule: str) -> None:
    assert make_balancer(rule, "c", [], ports()).pick() == NONE


@settings(max_examples=60, deadline=None)
@given(WEIGHTS.filter(any))
def test_round_robin_gives_exact_shares(weights: list[int]) -> None:
    found = RoundRobin("c", endpoints(*weights), ports())
    total = sum(weights)
    picks = [found.pick() for _ in range(3 * total)]
    for start in range(0, 3 * total, total):
        counted = Counter(picks[start : start + total])
        if len({weight for weight in weights if weight}) > 1:
            assert [counted[place] for place in range(len(weights))] == weights
    counted = Counter(picks)
    assert [counted[place] for place in range(len(weights))] == [3 * weight for weight in weights]


def test_round_robin_interleaves() -> None:
    found = RoundRobin("c", endpoints(3, 1), ports())
    assert [found.pick() for _ in range(8)] == [0, 0, 1, 0, 0, 0, 1, 0]


def test_round_robin_goes_on_after_a_reload() -> None:
    cells = Cells()
    before = RoundRobin("c", endpoints(1, 1, 1), ports(cells))
    first = [before.pick(), before.pick()]
    after = RoundRobin("c", endpoints(1, 1, 1), ports(cells))
    assert sorted([*first, after.pick()]) == [0, 1, 2]
    RoundRobin("c", endpoints(2, 1), ports(cells)).pick()
    fewer = RoundRobin("c", endpoints(2, 1, first=1), ports(cells))
    assert fewer.pick() in (0, 1)
    assert set(fewer._state.credit) == {endpoint.key for endpoint in endpoints(2, 1, first=1)}


@pytest.mark.parametrize(("at", "place"), [(0.0, 0), (0.24, 0), (0.25, 1), (0.74, 1), (0.75, 3), (0.999, 3)], ids=str)
def test_random_follows_the_weights(at: float, place: int) -> None:
    found = make_balancer("random", "c", endpoints(1, 2, 0, 1), ports(random=FixedRandom(at)))
    assert found.pick() == place


def test_least_requests_fills_up_evenly() -> None:
    found = LeastRequests("c", endpoints(1, 1, 1), ports())
    assert sorted(found.pick() for _ in range(3)) == [0, 1, 2]
    found.done(1)
    assert found.pick() == 1
    assert Counter(found.pick() for _ in range(3)) == {0: 1, 1: 1, 2: 1}


def test_least_requests_by_weight() -> None:
    found = LeastRequests("c", endpoints(2, 1), ports())
    assert Counter(found.pick() for _ in range(9)) == {0: 6, 1: 3}


def test_least_requests_counts_over_generations_and_keeps_nothing() -> None:
    cells = Cells()
    before = LeastRequests("c", endpoints(1, 1), ports(cells))
    held = [before.pick(), before.pick()]
    after = LeastRequests("c", endpoints(1, 1, first=1), ports(cells))
    # The one endpoint that both have is busy.
    assert after.pick() == 1
    after.done(1)
    for place in held:
        before.done(place)
    assert after._state.in_flight == {}
    before.done(0)
    assert after._state.in_flight == {}


@settings(max_examples=60, deadline=None)
@given(WEIGHTS.filter(any), st.lists(st.booleans(), max_size=60))
def test_least_requests_is_the_least(weights: list[int], steps: list[bool]) -> None:
    found = LeastRequests("c", endpoints(*weights), ports())
    flight: list[int] = []
    for arrives in steps:
        if arrives or not flight:
            counted = Counter(flight)
            loads = {place: (counted[place] + 1) / weight for place, weight in enumerate(weights) if weight}
            place = found.pick()
            assert loads[place] == min(loads.values())
            flight.append(place)
        else:
            found.done(flight.pop(0))


def test_unknown() -> None:
    with pytest.raises(UnknownBalancer, match="least_requests, random, round_robin"):
        make_balancer("fair", "c", endpoints(1), ports())


def test_a_rule_from_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loaded(EntryPoint):
        def load(self) -> Any:
            return RoundRobin

    def entry_points(*, group: str, name: str) -> EntryPoints:
        return EntryPoints([Loaded("fair", "x:y", "gatekit.balancers")]).select(group=group, name=name)

    monkeypatch.setattr(balance, "entry_points", entry_points)
    assert isinstance(make_balancer("fair", "c", endpoints(1), ports()), RoundRobin)
