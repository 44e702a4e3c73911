"""What may be asked of a rate limit, and where it stands."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from gatekit.core.exchange import Exchange
from gatekit.core.policy import IDENTITY, Stage
from gatekit.policies.rate_limit import RateLimit


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"limit": []}, "at least one limit"),
        ({"limit": "often"}, "not a limit"),
        ({"limit": "1/fortnight"}, "not a limit"),
        ({"limit": 5}, "valid string"),
        ({"limit": "0/second"}, "from 1 to"),
        ({"limit": "9999999999999/second"}, "from 1 to"),
        ({"limit": "10/second;20/second"}, "two limits for a period of 1 second"),
        ({"limit": ["60/minute", "1 per 60 second"]}, "two limits for a period of 60 second"),
        ({"limit": "10/second;3/minute", "cost": 4}, "costs 4 and 3 is all there is"),
        ({"limit": "1/second", "cost": 0}, "greater than or equal to 1"),
        ({"limit": "1/second", "by": "clientip"}, "no key 'clientip'"),
        ({"limit": "1/second", "by": "header:"}, "not a header name"),
        ({"limit": "1/second", "by": []}, "at least one key"),
        ({"limit": "1/second", "by": ["user", "user"]}, "named twice"),
        ({"limit": "1/second", "by": 3}, "valid string"),
        ({"limit": "1/second", "name": 'a"b'}, "a name is made of"),
        ({"limit": "1/second", "on_error": "ignore"}, "'allow', 'deny' or 'local'"),
        ({"limit": "1/second", "max_keys": 0}, "greater than or equal to 1"),
        ({"limit": "1/second", "window": 3}, "Extra inputs"),
    ],
)
def test_what_is_no_rate_limit(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(problem)):
        RateLimit(**given)


def test_a_key_function_may_not_wait() -> None:
    async def waits(exchange: Exchange) -> str:
        return ""

    function: Any = waits
    with pytest.raises(ValidationError, match="plain function"):
        RateLimit("1/second", by=function)


@pytest.mark.parametrize(
    ("by", "stage", "requires"),
    [
        ("client_ip", Stage.LIMIT_ANONYMOUS, set[str]()),
        ("route", Stage.LIMIT_ANONYMOUS, set[str]()),
        (["global", "header:x-a"], Stage.LIMIT_ANONYMOUS, set[str]()),
        (lambda e: None, Stage.LIMIT_ANONYMOUS, set[str]()),
        ("user", Stage.LIMIT, {IDENTITY}),
        ("client", Stage.LIMIT, {IDENTITY}),
        (["route", "tenant"], Stage.LIMIT, {IDENTITY}),
    ],
)
def test_rl11_limits_by_identity_stand_behind_identification_all_others_before(
    by: Any, stage: Stage, requires: set[str]
) -> None:
    placement = RateLimit("1/second", by=by).placement()
    assert (placement.stage, set(placement.requires)) == (stage, requires)


def test_limits_are_named_by_their_periods() -> None:
    spec = RateLimit(["10/second; 30 per 5 minutes", "1000/day"], name="api")
    assert spec.quotas() == (("api-second", 10, 1), ("api-5-minutes", 30, 300), ("api-day", 1_000, 86_400))


def test_a_configuration_may_give_just_the_limit() -> None:
    assert RateLimit.shorthand("5/second") == RateLimit("5/second")
    assert RateLimit.shorthand({"limit": ["5/second"], "by": "user"}).by == ("user",)
    assert RateLimit.model_json_schema()["required"] == ["limit"]
