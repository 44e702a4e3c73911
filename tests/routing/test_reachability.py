"""RT5: rules that can never win, and pairs that only their order in the list tells apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.routing import reachability
from gatekit.routing.hosts import parse_host
from gatekit.routing.matcher import Matcher, Rule
from gatekit.routing.pattern import parse_path
from gatekit.routing.predicates import ClientMatch, CookieMatch, Custom, HeaderMatch, Predicate, QueryMatch
from gatekit.routing.reachability import Finding, examine
from gatekit.routing.witness import find_witness


def rule(
    name: str,
    path: str = "/*",
    hosts: Iterable[str] = (),
    methods: Iterable[str] = (),
    predicates: Iterable[Predicate] = (),
    priority: int = 0,
) -> Rule[str]:
    return Rule(name, name, parse_path(path), [parse_host(host) for host in hosts], methods, predicates, priority)


def seen(findings: list[Finding]) -> list[tuple[str, str, str | None]]:
    return [(finding.severity, finding.rule_id, finding.other_id) for finding in findings]


H = HeaderMatch("h", "exact", "1")
# The upper rule, the lower rule, and the request that both match.
UNREACHABLE: list[tuple[Rule[str], Rule[str], str]] = [
    (rule("u", "/a"), rule("l", "/a"), "GET any.test/a"),
    (rule("u", "/a", methods=["GET", "POST"]), rule("l", "/a", methods=["POST"]), "POST any.test/a"),
    (rule("u", "/a", methods=["GET"]), rule("l", "/a", methods=["GET"], predicates=[]), "GET any.test/a"),
    (rule("u", "/{x}"), rule("l", "/{y}"), "GET any.test/x"),
    (rule("u", "/*", priority=1), rule("l", "/a/b"), "GET any.test/a/b"),
    (rule("u", "/a/*", priority=1), rule("l", "/a/*"), "GET any.test/a"),
    (rule("u", "/a/*", priority=1), rule("l", "/a/{x}"), "GET any.test/a/x"),
    (rule("u", "/a/*", priority=1), rule("l", "/a/b/{r:path}"), "GET any.test/a/b/x"),
    (rule("u", "/{x}/{y}", priority=1), rule("l", "/a/{z}"), "GET any.test/a/x"),
    (rule("u", "/a/{r:path}", priority=1), rule("l", "/a/{z}"), "GET any.test/a/x"),
    (rule("u", "/a/{r:path}", priority=1), rule("l", "/a/b/*"), "GET any.test/a/b"),
    (rule("u", "/a/{r:path}", priority=1), rule("l", "/a/{z:path}"), "GET any.test/a/x"),
    (rule("u", "~/a.*", priority=1), rule("l", "/ab"), "GET any.test/ab"),
    (rule("u", "~/a.*"), rule("l", "~/a.*"), "GET any.test/a"),
    (rule("u", "/*"), rule("l", "~/a|/b"), "GET any.test/a"),
    (rule("u", "/v1/*"), rule("l", "~^/v1/[0-9]+$"), "GET any.test/v1/0"),
    (rule("u", "/v1/{r:path}"), rule("l", "~/v1/x[0-9]+"), "GET any.test/v1/x0"),
    (rule("u", "/a"), rule("l", "~/a"), "GET any.test/a"),
    (rule("u", "/*"), rule("l", "~/a"), "GET any.test/a"),
    (rule("u", "/*"), rule("l", "~/a\\b.*"), "GET any.test/a"),
    (rule("u", priority=1), rule("l", hosts=["a.b.test"]), "GET a.b.test/"),
    (rule("u", hosts=["*.test"], priority=1), rule("l", hosts=["a.b.test:81"]), "GET a.b.test:81/"),
    (rule("u", hosts=["*.test:81"], priority=1), rule("l", hosts=["*.b.test:81"]), "GET any.b.test:81/"),
    (rule("u", hosts=["*:81"], priority=1), rule("l", hosts=["*:81"]), "GET any.test:81/"),
    (rule("u", methods=["GET"], priority=1), rule("l", methods=["HEAD"]), "HEAD any.test/"),
    (rule("u", "/a", predicates=[H]), rule("l", "/a", predicates=[H]), "GET any.test/a (h: 1)"),
    (
        rule("u", predicates=[HeaderMatch("h", "prefix", "1")], priority=1),
        rule("l", predicates=[HeaderMatch("h", "exact", "12"), QueryMatch("q", "exact", "a b")]),
        "GET any.test/?q=a+b (h: 12)",
    ),
    (
        rule("u", predicates=[CookieMatch("c", "present")], priority=1),
        rule("l", predicates=[CookieMatch("c", "regex", "[a-f]+"), CookieMatch("d", "exact", "1")]),
        "GET any.test/ (cookie: c=a; d=1)",
    ),
    (
        rule("u", predicates=[ClientMatch(["10.0.0.0/8"])], priority=1),
        rule("l", predicates=[ClientMatch(["10.1.0.0/16"])]),
        "GET any.test/ (from 10.1.0.0)",
    ),
]


@pytest.mark.parametrize(("upper", "lower", "witness"), UNREACHABLE)
def test_rt5_a_rule_that_can_never_win_is_an_error(upper: Rule[str], lower: Rule[str], witness: str) -> None:
    findings = examine([upper, lower])
    assert seen(findings) == [("error", "l", "u")]
    (finding,) = findings
    assert str(finding.witness) == witness
    assert repr(finding.witness) == f"Witness({witness!r})"
    assert "rule 'l' can never win: 'u' ranks above it" in finding.message
    assert witness in finding.message
    assert finding.witness is not None
    made = finding.witness.exchange()
    assert made is not None
    assert Matcher([lower]).match(made) == "l"
    assert Matcher([upper, lower]).match(made) == "u"


REACHABLE: list[tuple[Rule[str], Rule[str]]] = [
    (rule("u", "/a"), rule("l", "/b")),
    (rule("u", "/a"), rule("l", "/{x}")),
    (rule("u", "/a"), rule("l", "/a/*")),
    (rule("u", "/a", methods=["GET"]), rule("l", "/a")),
    (rule("u", "/a", methods=["GET"]), rule("l", "/a", methods=["HEAD"])),
    (rule("u", "/a", predicates=[H]), rule("l", "/a")),
    (rule("u", "/a/{r:path}", priority=1), rule("l", "/a/*")),
    (rule("u", "/a/{r:path}", priority=1), rule("l", "/{x}/{r:path}")),
    (rule("u", "/{x}/{y}", priority=1), rule("l", "/a/")),
    (rule("u", "/{x}/{y}", priority=1), rule("l", "/{x}/")),
    (rule("u", "/{x}/{r:path}", priority=1), rule("l", "/{y}/")),
    (rule("u", "/{x}", priority=1), rule("l", "/*")),
    (rule("u", "/a/*"), rule("l", "~/a.*")),
    (rule("u", "/v1/{r:path}"), rule("l", "~/v1/[0-9]*")),
    (rule("u", "/a/b"), rule("l", "~/a/.*")),
    (rule("u", "/b/bx"), rule("l", "~/b(/bx)?\\b(/x)?")),
    (rule("u", "/b"), rule("l", "~/b\\b(?:/a)?")),
    (rule("u", "/{x}"), rule("l", "~/a\\b.*")),
    (rule("u", "/a"), rule("l", "~/.*\\C*")),
    (rule("u", "~/a.*", priority=1), rule("l", "/b")),
    (rule("u", "~/a", priority=1), rule("l", "/{x}")),
    (rule("u", hosts=["a.test"]), rule("l")),
    (rule("u", hosts=["*.a.test"], priority=1), rule("l", hosts=["*.test"])),
    (rule("u", hosts=["*:81"], priority=1), rule("l", hosts=["a.test"])),
    (rule("u", hosts=["a.test"], priority=1), rule("l", hosts=["a.test", "b.test"])),
]


@pytest.mark.parametrize(("upper", "lower"), REACHABLE)
def test_rt5_a_rule_that_can_win_is_no_error(upper: Rule[str], lower: Rule[str]) -> None:
    assert examine([upper, lower]) == []


def test_rt5_a_rule_covered_host_by_host_names_both_that_cover_it() -> None:
    rules = [
        rule("a", hosts=["a.test"], priority=1), rule("b", hosts=["b.test"], priority=1), rule("l", hosts=["a.test", "b.test"]),
    ]  # fmt: skip
    (finding,) = examine(Matcher(rules))
    assert (finding.rule_id, finding.other_id) == ("l", "a")
    assert "'a' and 'b' ranks above it" in finding.message


def test_rt5_an_error_without_a_witness_is_still_an_error() -> None:
    torn: list[Predicate] = [HeaderMatch("h", "exact", "1"), HeaderMatch("h", "exact", "2")]
    elsewhere: list[Predicate] = [ClientMatch(["10.0.0.0/8"]), ClientMatch(["11.0.0.0/8"])]
    unreadable = [rule("l3", r"~/\pLzz")]
    unsendable: list[Predicate] = [HeaderMatch("h", "exact", "€")]
    odd_path = [rule("l5", "/a%2Fb")]
    rules = [rule("u", priority=1), rule("l1", predicates=torn), rule("l2", predicates=elsewhere), *unreadable]
    findings = examine([*rules, rule("l4", predicates=unsendable), *odd_path])
    assert {finding.rule_id for finding in findings} == {"l1", "l2", "l3", "l4", "l5"}
    assert all(finding.witness is None and "for example" not in finding.message for finding in findings)


AMBIGUOUS: list[tuple[Rule[str], Rule[str], str]] = [
    (
        rule("a", predicates=[HeaderMatch("h", "exact", "1")]),
        rule("b", predicates=[HeaderMatch("g", "exact", "2")]),
        "GET any.test/ (g: 2, h: 1)",
    ),
    (
        rule("a", predicates=[HeaderMatch("h", "prefix", "1")]),
        rule("b", predicates=[HeaderMatch("h", "regex", "[0-9]2")]),
        "GET any.test/ (h: 12)",
    ),
    (rule("a", methods=["GET", "PUT"]), rule("b", methods=["POST", "PUT"]), "PUT any.test/"),
    (rule("a", "~/a.*"), rule("b", "~/[ab]b"), "GET any.test/ab"),
    (
        rule("a", hosts=["*.a.test:81"], predicates=[QueryMatch("q", "present")]),
        rule("b", hosts=["*.a.test:81"], predicates=[QueryMatch("q", "exact", "1", negate=True)]),
        "GET any.a.test:81/?q=gatekit",
    ),
    (
        rule("a", predicates=[CookieMatch("c", "present")]),
        rule("b", predicates=[Custom("tablet", lambda exchange: exchange.method == "GET")]),
        "GET any.test/ (cookie: c=gatekit)",
    ),
]


@pytest.mark.parametrize(("first", "second", "witness"), AMBIGUOUS)
def test_rt5_a_pair_only_the_list_order_decides_is_a_warning(first: Rule[str], second: Rule[str], witness: str) -> None:
    findings = examine([first, second])
    assert seen(findings) == [("warning", "b", "a")]
    (finding,) = findings
    assert str(finding.witness) == witness
    assert "rules 'a' and 'b' both match" in finding.message
    assert finding.witness is not None
    made = finding.witness.exchange()
    assert made is not None
    assert [Matcher([first]).match(made), Matcher([second]).match(made)] == ["a", "b"]
    assert Matcher([first, second]).match(made) == "a"
    assert Matcher([second, first]).match(made) == "b"


def broken(exchange: Exchange) -> bool:
    raise KeyError


CLEAR: list[tuple[Rule[str], Rule[str]]] = [
    (rule("a", predicates=[HeaderMatch("h", "exact", "1")]), rule("b", predicates=[HeaderMatch("h", "exact", "2")])),
    (rule("a", predicates=[HeaderMatch("h", "present")]), rule("b", predicates=[HeaderMatch("h", "absent")])),
    (rule("a", methods=["GET"]), rule("b", methods=["POST"])),
    (rule("a", "~/a.*"), rule("b", "~/b.*")),
    (rule("a", "/a/{x}"), rule("b", "/b/{x}")),
    (rule("a", predicates=[QueryMatch("q", "present")]), rule("b", predicates=[HeaderMatch("h", "present")])),
    (rule("a", predicates=[CookieMatch("c", "present")]), rule("b", predicates=[Custom("broken", broken)])),
    (
        rule("a", predicates=[CookieMatch("c", "present")]),
        rule("b", predicates=[Custom("never", lambda exchange: False)]),
    ),
]


@pytest.mark.parametrize(("first", "second"), CLEAR)
def test_rt5_a_pair_that_shares_no_request_or_is_ordered_is_no_finding(first: Rule[str], second: Rule[str]) -> None:
    assert examine([first, second]) == []


def test_rt5_a_pair_is_told_once_and_only_where_the_order_decides() -> None:
    torn = [rule("a", predicates=[QueryMatch("q", "present")]), rule("b", predicates=[QueryMatch("r", "present")])]
    twice = [
        Rule(one.id, one.value, one.path, [parse_host("a.test"), parse_host("b.test")], (), one.predicates)
        for one in torn
    ]
    assert seen(examine(twice)) == [("warning", "b", "a")]
    # On port 80 b has a host of its own that wins, and the witness would be such a request.
    higher = Rule("b", "b", torn[1].path, [parse_host("*"), parse_host("*:80")], (), torn[1].predicates)
    assert examine([torn[0], higher]) == []


def test_rt5_another_rule_that_fails_on_the_witness_does_not_hide_the_pair() -> None:
    pair = [rule("a", predicates=[QueryMatch("q", "present")]), rule("b", predicates=[QueryMatch("r", "present")])]
    assert seen(examine([*pair, rule("bad", predicates=[Custom("broken", broken)], priority=1)])) == [
        ("warning", "b", "a")
    ]


def test_rt5_the_search_says_so_when_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [
        rule(f"r{n}", predicates=[HeaderMatch("h", "regex", f"{n}"), QueryMatch(f"q{n}", "absent")]) for n in range(9)
    ]
    assert examine(rules) == []
    monkeypatch.setattr(reachability, "MOST_COMPARISONS", 20)
    findings = examine(rules)
    assert seen(findings) == [("warning", "", None)] * 2
    assert "stopped after 20 comparisons" in findings[0].message


@pytest.mark.parametrize("shape", ["ordinary", "one path", "regexes", "regexes above", "priorities"])
def test_rt5_ten_thousand_rules_are_examined_in_seconds(shape: str) -> None:
    count = 10_000 if shape == "ordinary" else 2_000
    made: dict[str, Callable[[int], Rule[str]]] = {
        "ordinary": lambda n: rule(f"r{n}", f"/v1/s{n}/{{id}}" if n % 2 else f"/v2/s{n}", methods=["GET"]),
        "one path": lambda n: rule(f"r{n}", "/a", predicates=[HeaderMatch("tenant", "exact", str(n))]),
        "regexes": lambda n: rule(f"r{n}", f"~/r{n}/[0-9]+"),
        "regexes above": lambda n: rule(f"r{n}", f"~/r{n}/[0-9]+" if n % 2 else f"/s{n}", priority=n % 2),
        "priorities": lambda n: rule(f"r{n}", f"/p{n}/{{id}}", priority=n),
    }
    begun = time.process_time()
    findings = examine([made[shape](n) for n in range(count)])
    assert [finding for finding in findings if finding.rule_id] == []
    assert time.process_time() - begun < 20


def test_a_witness_never_has_a_path_that_the_door_changes() -> None:
    assert find_witness([parse_host("*")], [parse_path("~/a/(\\.\\.|b)")], [], []) is not None
    assert find_witness([parse_host("*")], [parse_path("~/a/\\.\\.")], [], []) is None
    assert find_witness([parse_host("*")], [parse_path("~a")], [], []) is None


def test_a_witness_body_is_empty() -> None:
    import asyncio

    found = find_witness([parse_host("*")], [parse_path("/a")], [], [])
    assert found is not None
    made: Any = found.exchange()

    async def read() -> list[bytes | None]:
        return [await made.body.buffer(1), await made.body.read()]

    assert asyncio.run(read()) == [b"", b""]
    assert len(made.request_id) == 32
    assert made.door.random.random() == 0.0
