"""RT5: why a request goes where it goes."""

from __future__ import annotations

from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.routing.explain import FEW_RULES, MOST_CANDIDATES, explain
from gatekit.routing.hosts import parse_host
from gatekit.routing.matcher import Matcher, Rule
from gatekit.routing.pattern import parse_path
from gatekit.routing.predicates import CookieMatch, Custom, HeaderMatch


def broken(exchange: Exchange) -> bool:
    raise KeyError("no tablet")


RULES: list[Rule[int]] = [
    Rule(
        "gold", 1, parse_path("/v1/orders/{id}"), methods=["GET"], predicates=[HeaderMatch("x-tier", "exact", "gold")]
    ),
    Rule("write", 2, parse_path("/v1/orders/{id}"), methods=["POST", "PUT"]),
    Rule("read", 3, parse_path("/v1/orders/{id}"), methods=["GET"]),
    Rule("api", 4, parse_path("/v1/*"), methods=["GET"]),
    Rule("other", 5, parse_path("/v2/*")),
    Rule("admin", 6, parse_path("/*"), hosts=[parse_host("admin.test"), parse_host("*.admin.test")]),
    Rule("both", 7, parse_path("/v1/*"), hosts=[parse_host("*:80"), parse_host("*")], methods=["GET"]),
]


def test_rt5_every_rule_says_why_it_lost(ask: Any) -> None:
    exchange = ask(target="/v1/orders/7")
    found = explain(Matcher(RULES), exchange)
    assert found.winner is not None
    assert found.winner.id == "both"
    found = explain(Matcher(RULES[:-1]), ask(target="/v1/orders/7", headers=[("x-tier", "silver")]))
    assert str(found).splitlines() == [
        "GET gateway.test/v1/orders/7 -> rule read (/v1/orders/{id}) with id=7",
        "  not admin: host gateway.test is not admin.test or *.admin.test",
        "  not gold: not true that header x-tier is 'gold'",
        "  not write: method GET is not POST or PUT",
        "  not api: ranked below read by path",
        "  not other: path /v1/orders/7 does not match /v2/*",
    ]
    assert "silver" not in str(found)
    assert found.winner is RULES[2]


@pytest.mark.parametrize(
    ("request_line", "line"),
    [
        (("GET", "/v1/orders/7"), "  not gold: header x-tier is absent"),
        (("GET", "/v1/x"), "GET gateway.test/v1/x -> rule api (/v1/*)"),
        (("PATCH", "/v1/orders/7"), "PATCH gateway.test/v1/orders/7 -> no rule: 405, allowed are GET, HEAD, POST, PUT"),
        (("PATCH", "/v3"), "PATCH gateway.test/v3 -> no rule: 404"),
    ],
)
def test_rt5_the_verdict(request_line: tuple[str, str], line: str, ask: Any) -> None:
    assert line in str(explain(Matcher(RULES[:-1]), ask(*request_line))).splitlines()


@pytest.mark.parametrize(
    ("winner", "loser", "by"),
    [
        (Rule("w", 1, parse_path("/a"), priority=1), Rule("l", 2, parse_path("/a")), "priority"),
        (Rule("w", 1, parse_path("/*"), [parse_host("a.test")]), Rule("l", 2, parse_path("/a")), "host"),
        (Rule("w", 1, parse_path("/a"), methods=["GET"]), Rule("l", 2, parse_path("/a")), "method"),
        (
            Rule("w", 1, parse_path("/a"), predicates=[HeaderMatch("h", "absent")]),
            Rule("l", 2, parse_path("/a"), predicates=[CookieMatch("h", "absent")]),
            "header predicates",
        ),
        (
            Rule("w", 1, parse_path("/a"), predicates=[CookieMatch("h", "absent")]),
            Rule("l", 2, parse_path("/a")),
            "other predicates",
        ),
        (Rule("w", 1, parse_path("/a")), Rule("l", 2, parse_path("/a")), "list order"),
    ],
)
def test_rt5_what_decided_between_two_matches(winner: Rule[int], loser: Rule[int], by: str, ask: Any) -> None:
    found = explain(Matcher([winner, loser]), ask(target="/a", host="a.test"))
    assert [(one.rule_id, one.why) for one in found.candidates] == [("l", f"ranked below w by {by}")]


def test_rt5_head_may_be_decided_against_the_rank(ask: Any) -> None:
    rules = [Rule("get", 1, parse_path("/a"), methods=["GET"]), Rule("head", 2, parse_path("/a"), methods=["HEAD"])]
    found = explain(Matcher(rules), ask("HEAD", "/a"))
    assert found.winner is rules[1]
    assert found.candidates[0].why == "ranked below head by method: it names HEAD"


def test_rt5_a_predicate_that_raises_is_shown(ask: Any) -> None:
    rules = [
        Rule("bad", 1, parse_path("/a"), methods=["GET"], predicates=[Custom("tablet", broken)]),
        Rule("open", 2, parse_path("/a")),
    ]
    found = explain(Matcher(rules), ask(target="/a"))
    assert str(found).splitlines() == [
        "GET gateway.test/a -> refused with 500: a predicate of route 'bad' raised KeyError('no tablet')",
        "  not bad: it failed: tablet holds raised KeyError('no tablet')",
        "  not open: an earlier rule failed",
    ]


def test_rt5_of_a_large_table_only_the_near_rules_are_listed(ask: Any) -> None:
    far = [Rule(f"far{n}", n, parse_path(f"/far/{n}")) for n in range(FEW_RULES)]
    near = [
        Rule(f"near{n}", n, parse_path("/near"), predicates=[HeaderMatch("h", "exact", str(n))])
        for n in range(MOST_CANDIDATES + 5)
    ]
    found = explain(Matcher([*far, *near]), ask(target="/near", headers=[("h", "3")]))
    assert found.winner is near[3]
    assert len(found.candidates) == MOST_CANDIDATES
    assert (found.mismatched, found.unlisted) == (FEW_RULES, 4)
    assert str(found).splitlines()[-2:] == [
        "  and 4 more candidates",
        f"  {FEW_RULES} other rules: host or path does not match",
    ]


def test_rt5_the_winner_is_the_one_of_live_traffic(ask: Any) -> None:
    matcher = Matcher(RULES)
    for target in ("/v1/orders/7", "/v2/a", "/", "/v1"):
        for host in ("gateway.test", "a.admin.test", "admin.test"):
            found = explain(matcher, ask(target=target, host=host))
            live = matcher.match(ask(target=target, host=host))
            assert (None if found.winner is None else found.winner.value) == live
