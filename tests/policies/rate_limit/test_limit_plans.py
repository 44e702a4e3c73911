"""How much somebody may: by his own limits, by his plan, or by the rule's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.policies.rate_limit.limit_scene import Clock, Store, ask, exchange, fields, passes, ports_for

from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.ports import Ports
from gatekit.policies.rate_limit import LimitRule, RateLimit
from gatekit.policies.rate_limit.plans import TEXTS_KEPT

PLANS = {"free": "1/minute", "pro": ["3/minute", "100/day"], "internal": "unlimited"}


def tenant(name: str | None, plan: Any = None) -> Identity:
    return Identity("ann", tenant=name, client="app", claims={} if plan is None else {"plan": plan}, scheme="jwt")


def passed(policy: Any, who: Identity, most: int = 9) -> int:
    """How many requests pass at once."""
    return [passes(policy, identity=who) for _ in range(most)].count(True)


def unknown(policy: Any) -> int:
    figures: dict[str, int] = policy.status()["rules"]["default"]
    return figures["unknown_plans"]


@pytest.mark.parametrize(
    ("plan", "may", "counted"),
    [
        ("free", 1, 0),
        ("pro", 3, 0),
        ("internal", 9, 0),
        (None, 2, 0),
        ("gold", 2, 9),
        ("9/second", 2, 9),
        ("unlimited", 2, 9),
        (["pro"], 2, 0),
    ],
)
def test_a_plan_by_a_claim_is_a_name_and_never_a_limit(plan: Any, may: int, counted: int) -> None:
    policy = RateLimit("2/minute", by="tenant", plan="claim:plan", plans=PLANS).bind(ports_for(Clock()))
    assert passed(policy, tenant("acme", plan)) == may
    assert unknown(policy) == counted


def test_a_plan_by_a_function() -> None:
    def plan(made: Any) -> str | None:
        return made.identity.client if made.identity is not None else None

    policy = RateLimit("2/minute", by="tenant", plan=plan, plans={"app": "4/minute"}).bind(ports_for(Clock()))
    assert passed(policy, tenant("acme")) == 4
    assert [passes(policy) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("kept", "may", "counted"),
    [
        ({}, 2, 0),
        ({"acme": "free"}, 1, 0),
        ({"acme": "5/minute"}, 5, 0),
        ({"acme": "5/minute; 4/hour"}, 4, 0),
        ({"acme": "unlimited"}, 9, 0),
        ({"acme": "3 concurrent"}, 3, 0),
        ({"acme": "gold"}, 2, 9),
        ({"acme": "5MiB/minute"}, 2, 9),
        # The name of a tenant is not that of a plan, whatever he calls himself.
        ({"other": "pro"}, 2, 0),
    ],
)
def test_a_plan_by_a_store_is_a_name_or_limits(kept: dict[str, str], may: int, counted: int) -> None:
    spec = RateLimit("2/minute", by="tenant", plan="tenant", plans=PLANS, plans_from="file:///plans.yaml")
    policy = spec.bind(ports_for(Clock(), plans=kept))
    assert passed(policy, tenant("acme")) == may
    assert unknown(policy) == counted


def test_nobody_of_the_name_of_a_plan_has_it_by_his_name() -> None:
    spec = RateLimit("2/minute", by="tenant", plan="tenant", plans=PLANS, plans_from="file:///plans.yaml")
    policy = spec.bind(ports_for(Clock(), plans={}))
    assert passed(policy, tenant("internal")) == 2
    assert unknown(policy) == 0


@pytest.mark.parametrize(
    ("plan", "who", "found"),
    [
        ("user", "ann", 1),
        ("client", "app", 1),
        ("api_key", "app", 2),
        ("claim:plan", "basic", 1),
    ],
)
def test_what_is_looked_up(plan: str, who: str, found: int) -> None:
    spec = RateLimit("2/minute", by="tenant", plan=plan, plans_from="file:///plans.yaml")
    policy = spec.bind(ports_for(Clock(), plans={who: "1/minute"}))
    assert passed(policy, tenant("acme", "basic")) == found
    assert passed(policy, ANONYMOUS) == 2


def test_a_claim_that_is_not_in_the_store_is_the_name_of_a_plan() -> None:
    spec = RateLimit("2/minute", by="tenant", plan="claim:plan", plans=PLANS, plans_from="file:///plans.yaml")
    policy = spec.bind(ports_for(Clock(), plans={"basic": "1/minute"}))
    assert [passed(policy, tenant(name, name)) for name in ("basic", "pro", "gold")] == [1, 3, 2]


def test_a_plan_that_changes_in_the_store_counts_from_the_next_request_on() -> None:
    ports = ports_for(Clock(), plans={"acme": "1/minute"})
    policy = RateLimit("2/minute", by="tenant", plan="tenant", plans_from="file:///plans.yaml").bind(ports)
    assert passed(policy, tenant("acme")) == 1
    known = ports.stores.planned  # type: ignore[attr-defined]
    known.plans["acme"] = "5/minute"
    assert passed(policy, tenant("acme")) == 5
    del known.plans["acme"]
    assert passed(policy, tenant("acme")) == 2


def test_what_is_made_of_texts_of_a_store_is_bounded() -> None:
    ports = ports_for(Clock(), plans={"acme": "1/minute"})
    policy = RateLimit("2/minute", by="tenant", plan="tenant", plans_from="file:///plans.yaml").bind(ports)
    known = ports.stores.planned  # type: ignore[attr-defined]
    for amount in range(TEXTS_KEPT + 50):
        known.plans["acme"] = f"{amount + 10}/minute"
        assert passes(policy, identity=tenant("acme"))
    (counting,) = policy._setting.countings
    assert len(counting.allowances.all) == TEXTS_KEPT + 1


def test_an_override_counts_before_a_plan_and_a_plan_before_the_rule() -> None:
    spec = RateLimit(
        "2/minute",
        by="tenant",
        plan="claim:plan",
        plans=PLANS,
        overrides={"tenant:acme": "4/minute", "tenant:lab-*": "unlimited"},
    )
    policy = spec.bind(ports_for(Clock()))
    names = ["acme", "lab-1", "other"]
    assert [passed(policy, tenant(name, "free")) for name in names] == [4, 9, 1]
    assert passed(policy, tenant("plain")) == 2


def test_each_of_whom_an_override_covers_has_a_count_of_his_own() -> None:
    policy = RateLimit("2/minute", by="tenant", overrides={"tenant:lab-*": "3/minute"}).bind(ports_for(Clock()))
    assert [passed(policy, tenant(name)) for name in ("lab-1", "lab-2")] == [3, 3]


def test_headers_tell_the_limits_of_the_caller_and_nothing_where_there_are_none() -> None:
    policy = RateLimit("2/minute", by="tenant", plan="claim:plan", plans=PLANS).bind(ports_for(Clock()))
    told = []
    for plan in ("pro", None, "internal"):
        made = exchange(identity=tenant("acme", plan))
        assert ask(policy, made) is None
        told.append(fields(made).get("ratelimit-policy"))
    assert told == ['"default-minute";q=3;w=60, "default-day";q=100;w=86400', '"default";q=2;w=60', None]


def test_rules_have_plans_of_their_own() -> None:
    rules = [
        LimitRule("3/second", by="client_ip"),
        LimitRule("2/day", by="tenant", plan="claim:plan", plans={"pro": "8/day", "internal": "unlimited"}),
    ]
    clock = Clock()
    policy = RateLimit(rules=rules).bind(ports_for(clock))
    made = exchange(identity=tenant("acme", "internal"))
    assert ask(policy, made) is None
    assert fields(made)["ratelimit-policy"] == '"client_ip";q=3;w=1'
    clock.now += 1
    assert passed(policy, tenant("acme", "pro")) == 3
    clock.now += 1
    assert passed(policy, tenant("acme")) == 2


@pytest.mark.parametrize("shared", [False, True])
def test_nobody_is_without_a_plan_before_the_plans_were_read(shared: bool) -> None:
    ports = ports_for(Clock(), plans={"acme": "1/minute"})
    more: dict[str, Any] = {"store": "redis://s", "name": "n"} if shared else {}
    spec = RateLimit("2/minute", by="tenant", plan="tenant", plans_from="file:///plans.yaml", **more)
    policy = spec.bind(ports)
    first = policy.decide(exchange(identity=tenant("acme")))
    assert isinstance(first, Awaitable)
    first.close()  # type: ignore[attr-defined]
    assert passed(policy, tenant("acme")) == 1
    assert passed(spec.bind(ports), tenant("acme")) == 0
    assert ports.stores.planned.reads == 1  # type: ignore[attr-defined]


def test_jobs_and_figures_of_the_store_are_passed_on() -> None:
    job = object()

    class Plans:
        find: Callable[[str], str | None] = {"acme": "1/minute"}.get

        def jobs(self) -> list[object]:
            return [job]

        def status(self) -> dict[str, int]:
            return {"entries": 1}

    class Opens:
        def plans(self, url: str, ports: Ports) -> Any:
            return Plans()

    clock = Clock()
    policy = RateLimit("2/minute", by="tenant", plan="tenant", plans_from="file:///plans.yaml").bind(
        ports_for(clock, Store(clock), stores=Opens())
    )
    assert policy.jobs() == [job]
    assert policy.status()["plans"] == {"default": {"entries": 1}}
    assert not passes(policy, identity=tenant("acme")) or not passes(policy, identity=tenant("acme"))
