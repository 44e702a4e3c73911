"""What clients are told: header fields and problem documents."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policies.rate_limit.limit_scene import Clock, Store, ask, exchange, fields, passes, ports_for, refused
from tests.policies.rate_limit.structured import Token, read_list

from gatekit.core.counters import Taken
from gatekit.core.verdict import render
from gatekit.policies.rate_limit import LimitRule, RateLimit

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ('"a";q=10;w=1', [("a", {"q": 10, "w": 1})]),
        ('"a\\"b";r=0 ,\t"c"; r=-1', [('a"b', {"r": 0}), ("c", {"r": -1})]),
        ("tok/en;a;b=?0;c=:aGk=:;d=1.5", [(Token("tok/en"), {"a": True, "b": False, "c": b"hi", "d": 1.5})]),
    ],
)
def test_the_reader_of_structured_fields_reads(text: str, found: list[Any]) -> None:
    assert [tuple(item) for item in read_list(text)] == found


@pytest.mark.parametrize(
    "text",
    ['"a', '"a";', '"a";Q=1', '"a" "b"', '"a",', ',"a"', '"ä"', '"a";q=', '"a";q=1234567890123456', '"a";q=1.0000', "'a'",
     '"a";q=01.', '"a\\b"', ";q=1"],
)  # fmt: skip
def test_the_reader_of_structured_fields_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_list(text)


def test_headers_tell_each_limit_and_what_is_left() -> None:
    clock = Clock()
    policy = RateLimit("10/second;100/minute", name="burst").bind(ports_for(clock))
    first, second = exchange(), exchange()
    ask(policy, first)
    clock.now += 1
    ask(policy, second)
    assert first.queue == [
        (0, b"ratelimit-policy", b'"burst-second";q=10;w=1, "burst-minute";q=100;w=60'),
        (0, b"ratelimit", b'"burst-second";r=9;t=1, "burst-minute";r=99;t=1'),
    ]
    assert fields(second)["ratelimit"] == '"burst-second";r=9;t=1, "burst-minute";r=99;t=1'


def test_rules_are_told_together_under_their_names() -> None:
    rules = [
        LimitRule("10/second", name="burst"),
        LimitRule("5MiB/minute", name="bytes", charge="response_bytes"),
        LimitRule("7 concurrent", name="open"),
        LimitRule("9/month", name="quota", by="global", calendar=True),
    ]
    made = exchange()
    assert ask(RateLimit(rules=rules).bind(ports_for(Clock())), made) is None
    told = fields(made)
    assert [tuple(item) for item in read_list(told["ratelimit-policy"])] == [
        ("burst", {"q": 10, "w": 1}),
        ("bytes", {"q": 5 << 20, "qu": "content-bytes", "w": 60}),
        ("open", {"q": 7, "qu": "concurrent-requests"}),
        # A month is no number of seconds, and when what is under way ends nobody knows.
        ("quota", {"q": 9}),
    ]
    left = {item.value: item.parameters for item in read_list(told["ratelimit"])}
    assert left["burst"] == {"r": 9, "t": 1}
    assert left["open"] == {"r": 6}
    assert left["quota"].keys() == {"r", "t"}


@pytest.mark.parametrize("limits", ["1/minute", ["1/minute", "9/hour"]])
def test_headers_can_be_left_out(limits: Any) -> None:
    policy = RateLimit(limits, headers=False).bind(ports_for(Clock()))
    made = exchange()
    assert ask(policy, made) is None
    assert fields(made) == {}
    assert fields(refused(ask(policy, exchange()))) == {"retry-after": "60"}


def test_several_limits_that_are_far_from_used_up_may_go_without_headers() -> None:
    policy = RateLimit("100/minute;900/hour", headers=False).bind(ports_for(Clock()))
    made = exchange()
    assert ask(policy, made) is None
    assert fields(made) == {}
    assert policy.status()["rules"]["default"]["allowed"] == 1


def test_rl6_a_429_is_a_problem_document_that_names_the_limits() -> None:
    policy = RateLimit("1/minute;9/hour").bind(ports_for(Clock()))
    ask(policy, exchange())
    head, body = render(refused(ask(policy, exchange())), exchange())
    assert (head.status, head.get("content-type")) == (429, "application/problem+json")
    assert head.get("retry-after") == "60"
    # Of those that would allow it nothing is told that Retry-After would be earlier than.
    assert head.get("ratelimit") == '"default-minute";r=0;t=60'
    assert head.get("ratelimit-policy") == '"default-minute";q=1;w=60, "default-hour";q=9;w=3600'
    document = json.loads(body)
    assert document["type"] == QUOTA_EXCEEDED
    assert (document["code"], document["status"]) == ("rate_limit.exceeded", 429)
    assert document["violated-policies"] == ["default-minute"]


def test_rl6_of_several_that_refuse_the_longest_is_to_be_waited_for() -> None:
    for limits in ("1/minute;1/hour", "1/hour;1/minute"):
        policy = RateLimit(limits).bind(ports_for(Clock()))
        ask(policy, exchange())
        told = fields(refused(ask(policy, exchange())))
        assert told["retry-after"] == "3600"
        assert sorted(item.parameters["t"] for item in read_list(told["ratelimit"])) == [60, 3600]


def test_a_store_that_refuses_and_names_no_time_is_waited_for_a_second() -> None:
    clock = Clock()
    store = Store(clock, Taken(False, 0, 0.0, 0.0))
    told = fields(refused(ask(RateLimit("5/hour").bind(ports_for(clock, counters=store)), exchange())))
    assert (told["retry-after"], told["ratelimit"]) == ("1", '"default";r=0;t=1')


def test_what_never_fits_is_told_no_time() -> None:
    policy = RateLimit("5/minute;9/hour", cost=lambda made: int(made.header("x-cost") or 0)).bind(ports_for(Clock()))
    reply = refused(ask(policy, exchange(headers={"x-cost": "6"})))
    assert (reply.status, reply.reason) == (429, "rate_limit.too_costly")
    assert "retry-after" not in fields(reply)
    assert fields(reply)["ratelimit"] == '"default-minute";r=5'
    # That one limit will fit in time is of no use where another never will.
    assert passes(policy, headers={"x-cost": "5"})
    reply = refused(ask(policy, exchange(headers={"x-cost": "9"})))
    assert fields(reply)["ratelimit"] == '"default-minute";r=0, "default-hour";r=4;t=2000'


def test_rl6_legacy_headers_are_opt_in_and_tell_of_the_tightest() -> None:
    spec = {"legacy_headers": True, "headers": False}
    policy = RateLimit("3/minute;100/hour", **spec).bind(ports_for(Clock()))  # type: ignore[arg-type]
    made = exchange()
    ask(policy, made)
    assert fields(made) == {"x-ratelimit-limit": "3", "x-ratelimit-remaining": "2", "x-ratelimit-reset": "20"}
    ask(policy, exchange())
    ask(policy, exchange())
    assert fields(refused(ask(policy, exchange()))) == {
        "retry-after": "20", "x-ratelimit-limit": "3", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "20",
    }  # fmt: skip
    plain = exchange()
    ask(RateLimit("3/minute").bind(ports_for(Clock())), plain)
    assert not any(name.startswith("x-") for name in fields(plain))


def test_legacy_headers_of_what_is_under_way_and_of_what_never_fits() -> None:
    policy = RateLimit("1 concurrent", legacy_headers=True).bind(ports_for(Clock()))
    made = exchange()
    assert ask(policy, made) is None
    assert fields(made)["x-ratelimit-reset"] == "1"
    reply = fields(refused(ask(policy, exchange())))
    assert (reply["retry-after"], reply["x-ratelimit-reset"], reply["ratelimit"]) == ("1", "1", '"default";r=0')
    never = RateLimit("5/minute", cost=lambda _: 6, legacy_headers=True).bind(ports_for(Clock()))
    assert "x-ratelimit-reset" not in fields(refused(ask(never, exchange())))


def test_what_the_store_refuses_is_refused() -> None:
    clock = Clock()
    store = Store(clock, Taken(True, 3, 1.0, 0.0), Taken(False, 0, 9.5, 2.5))
    policy = RateLimit("9/second;5/hour", on_error="allow").bind(ports_for(clock, counters=store))
    assert fields(refused(ask(policy, exchange()))) == {
        "retry-after": "3",
        "ratelimit-policy": '"default-second";q=9;w=1, "default-hour";q=5;w=3600',
        "ratelimit": '"default-hour";r=0;t=3',
    }


limits = st.one_of(
    st.builds("{} per {} {}".format, st.integers(1, 10**12), st.integers(1, 90), st.sampled_from(["second", "minute", "hour"])),
    st.builds("{}/{}".format, st.integers(1, 1000), st.sampled_from(["day", "week", "month", "year"])),
    st.builds("{} concurrent".format, st.integers(1, 1000)),
)  # fmt: skip
rules: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        dict[str, Any],
        limit=limits,
        name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True),
        algorithm=st.sampled_from(["token_bucket", "fixed_window", "sliding_window"]),
        charge=st.sampled_from([None, "response_bytes"]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda rule: str(rule["name"]),
)


@given(rules=rules, times=st.lists(st.floats(0, 100), min_size=1, max_size=8), legacy=st.booleans())
@settings(max_examples=80, deadline=None)
def test_rl6_fields_are_structured_and_retry_after_is_at_no_time_before_one_of_theirs(
    rules: list[dict[str, Any]], times: list[float], legacy: bool
) -> None:
    clock = Clock()
    policy = RateLimit(rules=rules, legacy_headers=legacy).bind(ports_for(clock))  # type: ignore[arg-type]
    for passed in times:
        clock.now += passed
        made = exchange()
        reply = ask(policy, made)
        told = fields(made if reply is None else reply)
        policies = read_list(told["ratelimit-policy"])
        assert [item.value for item in policies] == [rule["name"] for rule in rules]
        assert all(item.parameters["q"] >= 1 for item in policies)
        left = read_list(told["ratelimit"])
        assert all(0 <= item.parameters["r"] <= 10**12 for item in left)
        if reply is None:
            assert [item.value for item in left] == [item.value for item in policies]
        else:
            assert [item.value for item in left] == reply.members["violated-policies"]  # type: ignore[index]
            wait = int(told["retry-after"])
            assert wait >= max((item.parameters.get("t", 0) for item in left), default=0)
            assert wait >= 1
            if not any("concurrent" in rule["limit"] for rule in rules):
                # Whoever waits as long as he was told gets through.
                clock.now += wait
                assert passes(policy)


def test_seconds_are_rounded_up() -> None:
    clock = Clock()
    store = Store(clock, Taken(False, 0, 9.5, math.nextafter(2, 3)))
    policy = RateLimit("5/hour", on_error="deny").bind(ports_for(clock, counters=store))
    assert fields(refused(ask(policy, exchange())))["retry-after"] == "3"
