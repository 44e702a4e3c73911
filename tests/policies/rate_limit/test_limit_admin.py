"""What an operator may look at and change, and what a policy says of one request."""

from __future__ import annotations

from typing import Any

import pytest
from tests.policies.rate_limit.limit_scene import Clock, Store, ask, exchange, passes, ports_for, step

from gatekit.core.identity import Identity
from gatekit.errors import StoreUnavailable
from gatekit.policies.rate_limit import LimitRule, RateLimit
from gatekit.policies.rate_limit.keys import digest

SHARED: dict[str, Any] = {"store": "redis://s", "name": "api"}
ANN = Identity("ann", issuer="https://id.example", tenant="acme", client="app", claims={"plan": "pro"}, scheme="jwt")
KEY = Identity("ann", client="reports", scheme="api_key")
both = pytest.mark.parametrize("more", [{}, SHARED], ids=["here", "in a store"])


@both
def test_somebody_who_is_limited_is_shown_and_freed(more: dict[str, Any]) -> None:
    clock = Clock()
    policy = RateLimit("2/minute;100/hour", by="tenant", **more).bind(ports_for(clock, Store(clock)))
    for _ in range(3):
        passes(policy, identity=ANN)
    name = more.get("name", "default")
    shown = step(policy.admin().peek(tenant="acme"))
    assert shown == [
        {
            "rule": name, "limit": f"{name}-minute", "amount": 2, "remaining": 0, "limited": True, "reset_after": 60.0,
            "key": shown[0]["key"], "caller": digest("tenant:acme"), "by": "limit", "plan": None,
        },
        {
            "rule": name, "limit": f"{name}-hour", "amount": 100, "remaining": 98, "limited": False, "reset_after": 72.0,
            "key": shown[1]["key"], "caller": digest("tenant:acme"), "by": "limit", "plan": None,
        },
    ]  # fmt: skip
    # To look takes nothing, and nobody else is meant.
    assert step(policy.admin().peek(tenant="acme")) == shown
    assert step(policy.admin().peek(tenant="other"))[0]["remaining"] == 2
    assert step(policy.admin().reset(tenant="acme")) == [one["key"] for one in shown]
    assert [passes(policy, identity=ANN) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("by", "given", "who"),
    [
        ("client_ip", {"peer": "2001:db8::7"}, {"client_ip": "2001:db8::1"}),
        ("user", {"identity": ANN}, {"user": "ann", "issuer": "https://id.example"}),
        ("user", {"identity": KEY}, {"user": "ann"}),
        ("client", {"identity": ANN}, {"client": "app"}),
        ("api_key", {"identity": KEY}, {"api_key": "reports"}),
        ("client", {"identity": KEY}, {"client": "reports"}),
        ("method", {"method": "POST"}, {"method": "POST"}),
        ("global", {}, {}),
        ("header:X-Key", {"headers": {"x-key": "a"}}, {"header:x-key": "a"}),
        ("claim:org.id", {"identity": Identity("a", claims={"org": {"id": 7}}, scheme="x")}, {"claim:org.id": "7"}),
        ("claim:plan", {"identity": ANN}, {"claim:plan": "pro"}),
        ("param:shop", {"params": {"shop": "a"}}, {"param:shop": "a"}),
        (["tenant", "method"], {"identity": ANN, "method": "PUT"}, {"tenant": "acme", "method": "PUT"}),
        (lambda made: made.method, {"method": "PUT"}, {"key": "PUT"}),
    ],
)  # fmt: skip
@both
def test_somebody_is_named_as_settings_name_him(more: dict[str, Any], by: Any, given: Any, who: dict[str, str]) -> None:
    clock = Clock()
    policy = RateLimit("5/minute", by=by, **more).bind(ports_for(clock, Store(clock)))
    assert passes(policy, **given)
    if isinstance(by, str) and ":" in by:
        who = {name.replace("x-key", "X-Key"): value for name, value in who.items()}
    (shown,) = step(policy.admin().peek(who))
    assert shown["remaining"] == 4
    (shown,) = step(policy.admin().peek(more.get("name", "default"), who))
    assert shown["remaining"] == 4


def test_a_rule_is_asked_if_all_is_said_that_it_counts_by() -> None:
    rules = [
        LimitRule("5/minute"),
        LimitRule("9/hour", by="tenant", name="quota"),
        LimitRule("7/day", by=["tenant", "route"]),
    ]
    admin = RateLimit(rules=rules).bind(ports_for(Clock())).admin()
    assert [one["rule"] for one in step(admin.peek(tenant="acme"))] == ["quota"]
    assert [one["rule"] for one in step(admin.peek(tenant="acme", route="orders"))] == ["quota", "tenant-route"]
    assert [one["rule"] for one in step(admin.peek("quota", tenant="acme", route="orders"))] == ["quota"]
    for call in (admin.peek(user="ann"), admin.reset("quota", user="ann"), admin.peek("nowhere", tenant="acme")):
        with pytest.raises(ValueError, match="there is client_ip by client_ip, quota by tenant"):
            step(call)
    with pytest.raises(ValueError, match="nobody is named by 'tennant': take api_key"):
        step(admin.peek(tennant="acme"))


def test_what_all_share_is_meant_where_it_is_asked_for_or_nobody_is_named() -> None:
    rules = [LimitRule("5/minute", by="global", name="all"), LimitRule("9/hour", by="tenant")]
    admin = RateLimit(rules=rules).bind(ports_for(Clock())).admin()
    assert [one["rule"] for one in step(admin.peek())] == ["all"]
    assert [one["rule"] for one in step(admin.peek("all", tenant="acme"))] == ["all"]
    # To free one of them frees nobody else.
    assert [key.split("|")[0] for key in step(admin.reset(tenant="acme"))] == ["tenant"]


@both
def test_where_the_plan_is_not_known_each_is_looked_at(more: dict[str, Any]) -> None:
    clock = Clock()
    spec = RateLimit(
        "5/minute",
        by="tenant",
        plan="claim:plan",
        plans={"pro": "9/minute", "gold": "9/minute", "free": "1/minute"},
        **more,
    )
    policy = spec.bind(ports_for(clock, Store(clock)))
    passes(policy, identity=ANN)
    shown = step(policy.admin().peek(tenant="acme"))
    assert [(one["amount"], one["remaining"], one["by"], one["plan"]) for one in shown] == [
        (5, 5, "limit", None), (9, 8, "plan", "pro"),
    ]  # fmt: skip
    (shown,) = step(policy.admin().peek(tenant="acme", plan="pro"))
    assert shown["remaining"] == 8
    assert len(step(policy.admin().reset(tenant="acme"))) == 3
    (shown,) = step(policy.admin().peek({"claim:plan": "pro"}, tenant="acme"))[:1]
    assert (shown["amount"], shown["remaining"]) == (9, 9)


def test_a_plan_of_a_store_is_found_by_name_and_may_be_given_as_text() -> None:
    spec = RateLimit("5/minute", by="tenant", plan="tenant", plans_from="file:///plans.yaml")
    policy = spec.bind(ports_for(Clock(), plans={"acme": "3/minute"}))
    passes(policy, identity=ANN)
    assert [one["remaining"] for one in step(policy.admin().peek(tenant="acme"))] == [2]
    assert [one["remaining"] for one in step(policy.admin().peek(tenant="acme", plan="3/minute"))] == [2]


def test_nothing_is_left_of_what_is_unlimited() -> None:
    policy = RateLimit("5/minute", by="tenant", overrides={"tenant:acme": "unlimited"}, **SHARED).bind(
        ports_for(Clock())
    )
    (own,) = step(policy.admin().peek(tenant="other"))
    assert own["amount"] == 5
    assert step(policy.admin().peek(tenant="acme")) == []


@both
def test_what_top_shows_can_be_looked_at_and_freed_by_its_key(more: dict[str, Any]) -> None:
    clock = Clock()
    store = Store(clock)
    policy = RateLimit(
        rules=[LimitRule("9/minute", name="a"), LimitRule("5 concurrent", name="b", by="tenant")], **more
    ).bind(ports_for(clock, store))
    for peer, times in (("192.0.2.1", 3), ("192.0.2.2", 7), ("192.0.2.3", 1)):
        for _ in range(times):
            passes(policy, peer=peer, identity=ANN)
    shown = policy.admin().top(2)
    if more:
        assert shown == []
        deaf = RateLimit("1/minute", on_error="deny", **more).bind(ports_for(clock, store))
        assert deaf.admin().top() == []
    else:
        assert (shown[0]["rule"], shown[0]["remaining"], shown[0]["reset_after"]) == ("b", 0, None)
        assert (shown[1]["rule"], shown[1]["remaining"]) == ("a", 6)
    assert [(one["limit"], one["refused"]) for one in policy.admin().refused(1)] == [("b", 6)]
    (tenant,) = step(policy.admin().peek(tenant="acme"))
    assert step(policy.admin().peek_key(tenant["key"])) == {
        name: value for name, value in tenant.items() if name not in ("by", "plan")
    }
    step(policy.admin().reset_key(tenant["key"]))
    assert step(policy.admin().peek_key(tenant["key"]))["remaining"] == 5
    for key in ("nonsense", "", tenant["key"].replace("tenant:acme", "")):
        with pytest.raises(ValueError, match="no such key"):
            step(policy.admin().reset_key(key))


def test_who_was_refused_is_remembered_within_bounds() -> None:
    from gatekit.policies.rate_limit.telling import MAX_REFUSED

    clock = Clock()
    policy = RateLimit("1/hour").bind(ports_for(clock))
    for index in range(MAX_REFUSED + 20):
        for _ in range(2):
            passes(policy, peer=f"10.0.{index // 250}.{index % 250}")
    assert len(policy.admin().refused(10**6)) == MAX_REFUSED


def test_a_lost_store_is_no_secret_to_an_operator_and_resetting_frees_here_too() -> None:
    clock = Clock()
    store = Store(clock)
    policy = RateLimit("1/hour", **SHARED).bind(ports_for(clock, store))
    store.down = True
    assert [passes(policy) for _ in range(2)] == [True, False]
    assert policy.admin().top(5)[0]["remaining"] == 0
    for call in (policy.admin().peek(client_ip="203.0.113.9"), policy.admin().reset(client_ip="203.0.113.9")):
        with pytest.raises(StoreUnavailable):
            step(call)
    store.down = False
    step(policy.admin().reset(client_ip="203.0.113.9"))
    store.down = True
    assert passes(policy)


@pytest.mark.parametrize(
    ("given", "who", "lines"),
    [
        ({"limit": "5/minute"}, None, ["default: 5 per 60 s (token_bucket) by client_ip, the limit of the rule", "default: left are 5 of default"]),
        ({"limit": "5/minute", **SHARED}, None, ["api: 5 per 60 s (token_bucket) by client_ip, the limit of the rule"]),
        (
            {"limit": "5/month;3 concurrent", "calendar": True, "shadow": True, "by": ["tenant", "route"], **SHARED}, ANN,
            ["api (in shadow): 5 per month:UTC (fixed_window), 3 concurrent by tenant and route, the limit of the rule"],
        ),
        (
            {"limit": "5/minute", "by": "tenant", "plan": "claim:plan", "plans": {"pro": "9/minute"}, **SHARED}, ANN,
            ["api: 9 per 60 s (token_bucket) by tenant, the plan pro"],
        ),
        (
            {"limit": "5/minute", "by": "tenant", "plan": "claim:plan", "plans": {"gold": "9/minute"}, **SHARED}, ANN,
            ["api: 5 per 60 s (token_bucket) by tenant, the limit of the rule; the caller's plan is none that there is"],
        ),
        (
            {"limit": "5/minute", "by": "tenant", "overrides": {"tenant:acme": "unlimited"}, **SHARED}, ANN,
            ["api: unlimited, an override"],
        ),
    ],
)  # fmt: skip
def test_what_is_explained(given: dict[str, Any], who: Identity | None, lines: list[str]) -> None:
    clock = Clock()
    policy = RateLimit(**given).bind(ports_for(clock))
    for _ in range(2):
        # To explain takes nothing.
        assert list(policy.explain(exchange(identity=who))) == lines


def test_what_is_explained_tells_what_is_left() -> None:
    policy = RateLimit("5/minute;9/hour").bind(ports_for(Clock()))
    ask(policy, exchange())
    assert list(policy.explain(exchange()))[1] == "default: left are 4 of default-minute, 8 of default-hour"
