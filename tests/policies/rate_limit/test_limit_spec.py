"""What may be asked of a rate limit, where it stands, and what is doubtful."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from tests.policies.rate_limit.limit_scene import Clock, Store, ports_for

from gatekit.config.schema import json_schema
from gatekit.core.exchange import Exchange
from gatekit.core.policy import IDENTITY, Stage
from gatekit.policies.rate_limit import LimitRule, RateLimit
from gatekit.policies.rate_limit.rules import Quota


async def waits(exchange: Exchange) -> Any:
    return ""


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "Field required"),
        ({"limit": []}, "at least one limit"),
        ({"limit": "often"}, "not a limit"),
        ({"limit": 5}, "valid string"),
        ({"limit": "10/second;20/second"}, "two limits for a period of 1 second"),
        ({"limit": "10/second;3/minute", "cost": 4}, "costs 4 and 3 is all there is"),
        ({"limit": "1/second", "cost": 0}, "set charge, or a cost"),
        ({"limit": "1/second", "cost": -1}, "from 0 to"),
        ({"limit": "1/second", "cost": "x"}, "cost"),
        ({"limit": "1/second", "cost": waits}, "a cost function is a plain function"),
        ({"limit": "1/second", "by": "clientip"}, "no key 'clientip'"),
        ({"limit": "1/second", "by": "header:"}, "not a header name"),
        ({"limit": "1/second", "by": "claim:"}, "path to a claim"),
        ({"limit": "1/second", "by": "param:"}, "name of a path parameter"),
        ({"limit": "1/second", "by": []}, "at least one key"),
        ({"limit": "1/second", "by": ["user", "user"]}, "named twice"),
        ({"limit": "1/second", "by": 3}, "valid string"),
        ({"limit": "1/second", "by": waits}, "a key function is a plain function"),
        ({"limit": "1/second", "name": 'a"b'}, "a name is made of"),
        ({"limit": "1/second", "on_error": "ignore"}, "'allow', 'deny' or 'local'"),
        ({"limit": "1/second", "max_keys": 0}, "greater than or equal to 1"),
        ({"limit": "1/second", "instances": 0}, "greater than or equal to 1"),
        ({"limit": "1/second", "near": 0}, "greater than 0"),
        ({"limit": "1/second", "window": 3}, "Extra inputs"),
        ({"limit": "1/second", "algorithm": "leaky"}, "no algorithm 'leaky'"),
        ({"limit": "1/second", "algorithm": "concurrency"}, "write limit: 20 concurrent"),
        ({"limit": "5000/second", "algorithm": "sliding_log"}, "at most 1000"),
        ({"limit": "1/hour", "calendar": True}, "per day, week, month or year, not per hour"),
        ({"limit": "1 per 2 days", "calendar": True}, "not per 2-days"),
        ({"limit": "1/day", "calendar": True, "algorithm": "sliding_window"}, "leave algorithm out"),
        ({"limit": "1/day", "zone": "Europe/Zurich"}, "set calendar: true"),
        ({"limit": "1MiB/day"}, "charge: response_bytes"),
        ({"limit": "1/day", "charge": "bytes"}, "charge is response_bytes, header:NAME"),
        ({"limit": "1/day", "charge": "header:"}, "not a header name"),
        ({"limit": "1/day", "charge": waits}, "a charge function is a plain function"),
        ({"limit": "1/day", "hold": 0}, "greater than 0"),
        ({"limit": "1/day", "overrides": {"acme": "2/day"}}, "'acme' names nobody: begin with one of user:"),
        ({"limit": "1/day", "overrides": {"tenant:": "2/day"}}, "write tenant:NAME"),
        ({"limit": "1/day", "overrides": {"tenant:a*b": "2/day"}}, "a * stands for any end"),
        ({"limit": "1/day", "overrides": {"client_ip:10.0.0.1/8": "2/day"}}, "is no network"),
        ({"limit": "1/day", "overrides": {"tenant:a": "lots"}}, "not a limit"),
        ({"limit": "1/day", "overrides": {"tenant:a": []}}, "at least one limit"),
        ({"limit": "1/day", "overrides": "lots"}, "valid dictionary"),
        ({"limit": "1/day", "plan": "claim:plan"}, "needs plans that have limits, or plans_from"),
        ({"limit": "1/day", "plans": {"pro": "5/day"}}, "say with plan where a caller's plan is found"),
        ({"limit": "1/day", "plans_from": "redis://s"}, "say with plan where a caller's plan is found"),
        ({"limit": "1/day", "plan": "tenant", "plans": {"pro": "5/day"}}, "is looked up in plans_from"),
        ({"limit": "1/day", "plan": "route", "plans": {"pro": "5/day"}}, "plan is claim:PATH, one of"),
        ({"limit": "1/day", "plan": "claim:", "plans": {"pro": "5/day"}}, "path to a claim"),
        ({"limit": "1/day", "plan": waits, "plans": {"pro": "5/day"}}, "a plan function is a plain function"),
        ({"limit": "1/day", "plan": "claim:plan", "plans": {"pro": "lots"}}, "not a limit"),
        ({"limit": "3/day", "cost": 3, "plan": "claim:plan", "plans": {"free": "1/day"}}, "costs 3 and 1"),
        ({"limit": "1/day", "plan": "tenant", "plans_from": "redis://:pw@s"}, "as env:NAME"),
        ({"limit": "1/day", "store": "redis://s"}, "with a store, give a name"),
        ({"limit": "1/day", "store": "redis://s", "name": "default"}, "with a store, give a name"),
        ({"limit": "1/day", "store": "redis://:pw@s", "name": "n"}, "as env:NAME"),
        ({"limit": "1/day", "store": "redis://s", "name": "n", "divide": True}, "leave divide out"),
        ({"rules": []}, "Field required"),
        ({"rules": [{}]}, "Field required"),
        ({"rules": [{"limit": []}]}, "at least one limit"),
        ({"rules": [{"limit": "1/day", "store": "redis://s"}]}, "Extra inputs"),
        ({"rules": [{"limit": "1/day"}], "by": "user"}, "by belongs into each of them"),
        ({"rules": [{"limit": "1/day"}], "limit": "2/day", "cost": 2}, "cost and limit belongs into each"),
        ({"rules": [{"limit": "1/day"}, {"limit": "1/hour"}]}, "two rules are called 'client_ip'"),
        ({"rules": [{"limit": "1/day", "name": "a b"}]}, "a name is made of"),
    ],
)  # fmt: skip
def test_what_is_no_rate_limit(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(problem)) as caught:
        RateLimit(**given)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "stage"),
    [
        ({"by": "client_ip"}, Stage.LIMIT_ANONYMOUS),
        ({"by": ["global", "header:x-a", "param:shop", "method"]}, Stage.LIMIT_ANONYMOUS),
        ({"by": lambda e: None}, Stage.LIMIT_ANONYMOUS),
        ({"overrides": {"client_ip:10.0.0.0/8": "unlimited", "route:a": "5/day"}}, Stage.LIMIT_ANONYMOUS),
        ({"plan": lambda e: None, "plans": {"pro": "5/day"}}, Stage.LIMIT_ANONYMOUS),
        ({"by": "user"}, Stage.LIMIT),
        ({"by": "client"}, Stage.LIMIT),
        ({"by": "api_key"}, Stage.LIMIT),
        ({"by": "claim:org"}, Stage.LIMIT),
        ({"by": ["route", "tenant"]}, Stage.LIMIT),
        ({"overrides": {"tenant:acme": "5/day"}}, Stage.LIMIT),
        ({"plan": "claim:plan", "plans": {"pro": "5/day"}}, Stage.LIMIT),
        ({"plan": "tenant", "plans_from": "redis://s"}, Stage.LIMIT),
    ],
)
def test_rl11_limits_by_identity_stand_behind_identification_all_others_before(
    given: dict[str, Any], stage: Stage
) -> None:
    requires = {IDENTITY} if stage is Stage.LIMIT else set()
    for spec in (RateLimit("1/second", **given), RateLimit(rules=[LimitRule("1/second", **given)])):
        placement = spec.placement()
        assert (placement.stage, set(placement.requires)) == (stage, requires)


def test_rules_of_both_kinds_stand_behind_identification_together() -> None:
    spec = RateLimit(rules=[LimitRule("1/second"), LimitRule("1/second", by="user")])
    assert spec.placement().stage is Stage.LIMIT
    (remark,) = spec.remarks()
    assert "client_ip need no identity" in remark


@pytest.mark.parametrize(
    ("given", "remark"),
    [
        ({"limit": "1/second", "by": "header:x-a"}, "who chooses what he is counted by"),
        ({"limit": "1/second", "by": ["header:x-a", "param:b"]}, "who chooses what he is counted by"),
        ({"limit": "1/day", "calendar": True}, "forgotten when the process restarts"),
        ({"limit": "1/week"}, "forgotten when the process restarts"),
        ({"limit": "1/second;5/minute", "algorithm": "sliding_log"}, "sliding_log remembers every request"),
        ({"limit": ["1/second", "5/minute"], "algorithm": "sliding_log"}, "sliding_log remembers every request"),
        ({"limit": "1/second", "instances": 2}, "instances changes nothing here"),
        ({"limit": "1/second", "shadow": True}, "nothing is refused as long as"),
        ({"limit": "1/second", "plan": "claim:plan", "plans": {"pro": "5/second"}}, "counted by address"),
        ({"rules": [{"limit": "1/week", "name": "a"}, {"limit": "1/hour", "name": "b"}]}, "the rule a: what was used"),
    ],
)
def test_what_is_doubtful_is_remarked(given: dict[str, Any], remark: str) -> None:
    (found,) = RateLimit(**given).remarks()
    assert remark in found


@pytest.mark.parametrize(
    "given",
    [
        {"limit": "1/second"},
        {"limit": "20 concurrent"},
        {"limit": "unlimited"},
        {"limit": "1/second", "by": ["header:x-a", "client_ip"]},
        {"limit": "1/day", "calendar": True, "store": "redis://s", "name": "n"},
        {"limit": "1/second", "algorithm": "sliding_log"},
        {"limit": "1/second", "instances": 2, "divide": True},
        {"limit": "1/second", "instances": 2, "store": "redis://s", "name": "n"},
        {"rules": [{"limit": "1/second", "by": "user"}, {"limit": "1/second", "by": "tenant", "shadow": True}]},
    ],
)
def test_what_is_not_doubtful_is_not_remarked(given: dict[str, Any]) -> None:
    assert list(RateLimit(**given).remarks()) == []


def test_limits_are_named_by_their_periods() -> None:
    spec = RateLimit(["10/second; 30 per 5 minutes", "1000/day"], name="api")
    assert spec.quotas() == (
        Quota("api-second", 10, 1, "token_bucket"),
        Quota("api-5-minutes", 30, 300, "token_bucket"),
        Quota("api-day", 1_000, 86_400, "token_bucket"),
    )


def test_rules_are_named_by_what_they_count_by_unless_they_have_names() -> None:
    def shop(exchange: Exchange) -> str:
        return ""

    rules = [
        LimitRule("10/second", by=["tenant", "route"]),
        LimitRule("9MiB/day;5 concurrent", by=shop, charge="response_bytes", hold="5m"),
        LimitRule("9/month", name="own", by="claim:a.b", calendar=True),
        LimitRule("unlimited", by=lambda e: None),
    ]
    assert RateLimit(rules=rules).quotas() == (
        Quota("tenant-route", 10, 1, "token_bucket"),
        Quota("shop-day", 9 << 20, 86_400, "token_bucket", None, True),
        Quota("shop-concurrent", 5, 300.0, "concurrency"),
        Quota("own", 9, 30 * 86_400, "fixed_window", "month"),
    )
    assert [name for name, _, _ in RateLimit(rules=rules).named_rules()] == ["tenant-route", "shop", "own", "lambda"]


def test_a_configuration_may_give_just_the_limit_or_rules() -> None:
    assert RateLimit.shorthand("5/second") == RateLimit("5/second")
    assert RateLimit.shorthand({"limit": ["5/second"], "by": "user"}).by == ("user",)
    given = {
        "rules": [{"limit": "5/second"}, {"limit": "5/day", "by": "tenant", "on_error": "deny"}],
        "on_error": "allow",
    }
    assert [on_error for _, _, on_error in RateLimit.shorthand(given).named_rules()] == ["allow", "deny"]


@pytest.mark.parametrize(
    ("settings", "good"),
    [
        ("5/second", True),
        (["5/second", "9/day"], True),
        ({"limit": "5/second", "by": ["tenant", "route"], "algorithm": "sliding_log", "cost": 2}, True),
        ({"rules": [{"limit": "5/second", "plans": {"pro": "9/day"}, "plan": "claim:plan"}]}, True),
        ({"limit": "5/month", "calendar": True, "zone": "Europe/Zurich", "overrides": {"tenant:a": ["5/day"]}}, True),
        ({"limit": "5/day", "charge": "response_bytes", "hold": "1m", "near": 0.5, "instances": 3}, True),
        ({}, False),
        ({"by": "user"}, False),
        ({"rules": [{}]}, False),
        ({"limit": "5/day", "algorithm": "leaky"}, False),
        ({"limit": "5/day", "cost": -1}, False),
    ],
)
def test_the_schema_takes_what_may_be_written(settings: Any, good: bool) -> None:
    validator = Draft202012Validator(json_schema())
    assert validator.is_valid({"policies": [{"rate_limit": settings}]}) is good


def test_equal_settings_are_equal_and_show_no_url() -> None:
    spec = RateLimit(
        "1/day", name="n", store="redis://host.example/0", plan="user", plans_from="redis://host.example/1"
    )
    assert spec == RateLimit(
        "1/day", name="n", store="redis://host.example/0", plan="user", plans_from="redis://host.example/1"
    )
    assert "host.example" not in repr(spec)


def test_a_zone_that_there_is_not_is_said_when_it_is_bound() -> None:
    with pytest.raises(ValueError, match="Europe/Zurich cannot be looked up here"):
        RateLimit("5/day", calendar=True, zone="Europe/Zurich").bind(ports_for(Clock()))


def test_a_store_is_opened_by_what_a_reference_leads_to() -> None:
    clock = Clock()
    ports = ports_for(
        clock, Store(clock), {}, secrets={"env:COUNTS": "redis://c", "env:PLANS": "redis://p"}.__getitem__
    )
    spec = RateLimit("5/day", name="n", store="env:COUNTS", plan="tenant", plans_from="env:PLANS")
    spec.bind(ports)
    spec.bind(ports)
    assert ports.stores.opened == ["redis://c", "redis://p"]  # type: ignore[attr-defined]
