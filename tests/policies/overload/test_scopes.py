"""What a limit is for: the gateway, a route or a destination; and what of it outlives a reload."""

from __future__ import annotations

from typing import Any

import pytest

from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Fault, Grade, Outcome
from gatekit.policies.overload import Overload
from gatekit.policies.overload.scope import IDLE, Scopes
from gatekit.testing import decide, request

from .conftest import Scene, figures, plan, reason


def routed(route: str | None, destination: str | None = None) -> Any:
    exchange = request()
    if route is not None:
        exchange.route = plan(route, destination)
    return exchange


def test_each_route_has_a_limit_of_its_own(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=0, per="route"))
    first = routed("a")
    assert decide(policy, first) is None
    assert decide(policy, routed("a")) is not None
    assert decide(policy, routed("b")) is None
    assert decide(policy, routed(None)) is None
    assert sorted(policy.status()["scopes"]) == ["-", "a", "b"]
    first.route = plan("of an inner gateway")
    policy.observe(first, Outcome(200))
    assert figures(policy, "a")["in_flight"] == 0, "its place is found by where it was taken"
    assert first not in policy._where, "and nothing of it is kept"


def test_each_destination_has_a_limit_of_its_own(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=0, per="upstream"))
    assert decide(policy, routed("a", "orders")) is None
    assert decide(policy, routed("b", "orders")) is not None
    assert decide(policy, routed("c", "stock")) is None
    assert decide(policy, routed("d")) is None
    assert sorted(policy.status()["scopes"]) == ["-", "orders", "stock"]
    policy.on_response(routed("never asked about"), ResponseHead(200))
    policy.observe(routed("never asked about"), Outcome(200))
    assert policy.status()["scopes"]["orders"]["in_flight"] == 1


def test_a_reload_keeps_who_is_under_way_and_who_waits(scene: Scene) -> None:
    before = scene.bind(Overload(2, queue=5))
    held = [scene.come(before) for _ in range(2)]
    waiting = scene.come(before)
    after = scene.bind(Overload(1, queue=5), scene.ports.afresh())
    new = scene.come(after, started=1.0)
    assert new.waiting
    assert figures(after)["limit"] == 1
    scene.finish(before, held[0])
    assert waiting.waiting, "one is under way, and that is the limit now"
    assert new.waiting
    scene.finish(before, held[1])
    assert reason(waiting) is None
    assert new.waiting
    scene.finish(before, waiting)
    assert reason(new) is None
    assert figures(after)["in_flight"] == 1


def test_a_reload_that_raises_the_limit_lets_in_who_waits(scene: Scene) -> None:
    before = scene.bind(Overload(1, queue=5))
    scene.come(before)
    waiting = scene.come(before)
    after = scene.bind(Overload(3, queue=5), scene.ports.afresh())
    scene.come(after)
    scene.signals.settle()
    assert reason(waiting) is None


def test_an_older_generation_does_not_bring_its_limit_back(scene: Scene) -> None:
    before = scene.bind(Overload(3, queue=0))
    after = scene.bind(Overload(1, queue=0), scene.ports.afresh())
    new, old = request(), request()
    new.generation, old.generation = 2, 1
    assert decide(before, old) is None
    assert decide(after, new) is not None
    late = request()
    late.generation = 1
    assert decide(before, late) is not None


def test_scopes_of_routes_that_are_no_more_are_forgotten_before_they_become_many(scene: Scene) -> None:
    rules = Overload(1).rules()
    scopes = Scopes(scene.ports.lock, most=3)
    busy = scopes.get("busy", rules, 0.0)
    busy.turn(rules, 1, 0.0)
    busy.limiter.force(request(), 0.0)
    for name in ("a", "b"):
        scopes.get(name, rules, 0.0).turn(rules, 1, 0.0)
    assert scopes.get("a", rules, 0.0) is scopes.get("a", rules, 0.0)
    assert scopes.get("c", rules, 2 * IDLE) is not None
    assert len(scopes) == 2
    assert scopes.get("busy", rules, 2 * IDLE) is busy, "what is under way in it is not forgotten"


def test_timeouts_lower_an_adaptive_limit_and_other_failures_do_not(scene: Scene) -> None:
    for status, falls in ((504, True), (503, True), (None, True), (500, False)):
        policy = scene.bind(Overload("adaptive", queue=0, name=f"for-{status}", lag=False))
        came = [scene.come(policy) for _ in range(40)]
        for one in came:
            scene.finish(policy, one, Outcome(status, fault=Fault.UPSTREAM, grade=Grade.BAD))
        scene.signals.advance(6.0)
        scene.come(policy)
        assert (figures(policy)["limit"] < 50) is falls, status


def test_an_adaptive_limit_is_forgotten_when_a_number_takes_its_place(scene: Scene) -> None:
    before = scene.bind(Overload("adaptive", lag=False))
    scene.come(before)
    assert figures(before)["limit"] == 50
    after = scene.bind(Overload(7, lag=False), scene.ports.afresh())
    scene.come(after)
    assert figures(after)["limit"] == 7


def test_only_what_was_answered_is_measured(scene: Scene) -> None:
    policy = scene.bind(Overload("adaptive", queue=0, lag=False))
    for status, reason_of in ((500, None), (200, "cors.preflight"), (200, None)):
        one = scene.come(policy)
        assert one.exchange is not None
        one.exchange.reason = reason_of
        scene.signals.advance(0.01)
        policy.on_response(one.exchange, ResponseHead(status))
        policy.observe(one.exchange, Outcome(status))
    policy.on_response(request(), ResponseHead(200))
    (measured,) = [scope._adaptive.latencies for scope in [policy._one]]
    assert measured == [pytest.approx(0.01)]
