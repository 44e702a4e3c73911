"""The matcher: order, methods, failing predicates, and the work a match does."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.errors import RouteFailed
from gatekit.routing.hosts import parse_host
from gatekit.routing.matcher import Matcher, Rule
from gatekit.routing.pattern import parse_path
from gatekit.routing.predicates import ClientMatch, CookieMatch, Custom, HeaderMatch, Predicate, QueryMatch


def rule(
    name: str,
    path: str = "/*",
    hosts: Iterable[str] = (),
    methods: Iterable[str] = (),
    predicates: Iterable[Predicate] = (),
    priority: int = 0,
) -> Rule[str]:
    return Rule(name, name, parse_path(path), [parse_host(host) for host in hosts], methods, predicates, priority)


# Pairs that one request matches: the first must win, whichever comes first in the list.
ORDER: list[tuple[str, Rule[str], Rule[str]]] = [
    ("priority over host", rule("a", priority=1), rule("b", hosts=["a.b.test"])),
    ("negative priority", rule("a"), rule("b", "/x/y", priority=-1)),
    ("exact host over wildcard", rule("a", hosts=["a.b.test"]), rule("b", "/x/y", ["*.b.test"])),
    ("exact host without port over wildcard with one", rule("a", hosts=["a.b.test"]), rule("b", hosts=["*.b.test:80"])),
    ("longer wildcard", rule("a", hosts=["*.b.test"]), rule("b", "/x/y", ["*.test:80"])),
    ("wildcard over any", rule("a", hosts=["*.test"]), rule("b", "/x/y", ["*:80"])),
    ("a host with port over the same without", rule("a", hosts=["a.b.test:80"]), rule("b", "/x/y", ["a.b.test"])),
    ("any with port over any", rule("a", hosts=["*:80"]), rule("b", "/x/y")),
    ("exact path over template", rule("a", "/x/y"), rule("b", "/x/{n}", methods=["GET"])),
    ("literal over name", rule("a", "/x/{n}"), rule("b", "/{n}/y", methods=["GET"])),
    ("longer prefix over shorter template", rule("a", "/x/y/*"), rule("b", "/x/{n}")),
    ("name over rest", rule("a", "/x/{n}"), rule("b", "/x/{rest:path}")),
    ("rest over prefix", rule("a", "/x/{rest:path}"), rule("b", "/x/*")),
    ("longer prefix", rule("a", "/x/*"), rule("b", "/*", methods=["GET"])),
    ("prefix over regex", rule("a", "/*"), rule("b", "~/x/y", methods=["GET"])),
    ("names a method", rule("a", methods=["GET"]), rule("b", predicates=[HeaderMatch("h", "present")])),
    (
        "more headers",
        rule("a", predicates=[HeaderMatch("h", "present")]),
        rule("b", predicates=[QueryMatch("q", "present"), QueryMatch("r", "absent")]),
    ),
    (
        "more queries",
        rule("a", predicates=[QueryMatch("q", "present")]),
        rule("b", predicates=[CookieMatch("c", "absent"), ClientMatch(["192.0.2.0/24"])]),
    ),
    (
        "more of the others",
        rule("a", predicates=[CookieMatch("c", "absent"), ClientMatch(["192.0.2.0/24"])]),
        rule("b", predicates=[Custom("any", lambda exchange: True)]),
    ),
]


@pytest.mark.parametrize("swap", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(("first", "second"), [(a, b) for _, a, b in ORDER], ids=[name for name, _, _ in ORDER])
def test_the_order_of_rules(first: Rule[str], second: Rule[str], swap: bool, ask: Any) -> None:
    exchange = ask("GET", "/x/y?q=1", "a.b.test", [("h", "1")])
    assert Matcher([first]).match(exchange) == "a"
    assert Matcher([second]).match(exchange) == "b"
    both = Matcher([second, first] if swap else [first, second])
    assert both.match(exchange) == "a"
    assert [entry.rule.id for entry in both.entries] == ["a", "b"]


def test_the_list_order_decides_last(ask: Any) -> None:
    assert Matcher([rule("b"), rule("a")]).match(ask()) == "b"


def test_a_rule_that_fails_to_match_in_full_leaves_the_request_to_the_next(ask: Any) -> None:
    never: list[Predicate] = [HeaderMatch("never", "present")]
    rules = [rule(f"n{at}", path, predicates=never) for at, path in enumerate(["/x/y", "/x/{n}", "/x/{r:path}", "~.*"])]
    exchange = ask(target="/x/y")
    assert Matcher([*rules, rule("all", "~/.*")]).match(exchange) == "all"
    assert Matcher(rules).match(exchange) is None
    assert Matcher([*rules, rule("deep", "/x/y/z/*", predicates=never)]).match(ask(target="/x/y/z/a")) is None


def test_a_literal_that_leads_nowhere_does_not_hide_a_name(ask: Any) -> None:
    matcher = Matcher([rule("one", "/a/b/{x}/d"), rule("two", "/{x}/b/c/e")])
    exchange = ask(target="/a/b/c/e")
    assert matcher.match(exchange) == "two"
    assert exchange.params == {"x": "a"}
    assert matcher.match(ask(target="/a/b/c/f")) is None


def test_params_are_set_by_the_winner_only(ask: Any) -> None:
    matcher = Matcher(
        [rule("t", "/a/{x}", methods=["POST"]), rule("p", "/a/*"), rule("e", "/e"), rule("r", "~/r/(?P<y>.*)")]
    )
    exchange = ask(target="/a/1")
    assert matcher.match(exchange) == "p"
    assert exchange.params == {}
    exchange.method = "POST"
    assert matcher.match(exchange) == "t"
    assert exchange.params == {"x": "1"}
    exchange.path = "/e"
    assert matcher.match(exchange) == "e"
    assert exchange.params == {}
    exchange.path = "/r/s"
    assert matcher.match(exchange) == "r"
    assert exchange.params == {"y": "s"}


def test_methods(ask: Any) -> None:
    matcher = Matcher(
        [rule("g", "/a", methods=["GET"]), rule("p", "/a", methods=["POST"]), rule("x", "/{x}", methods=["PUT"])]
    )
    assert [matcher.match(ask(method, "/a")) for method in ("GET", "POST", "PUT", "HEAD", "DELETE", "get")] == [
        "g", "p", "x", "g", None, None,
    ]  # fmt: skip
    assert matcher.allowed_methods(ask("DELETE", "/a")) == {"GET", "HEAD", "POST", "PUT"}
    assert matcher.allowed_methods(ask("OPTIONS", "/b")) == {"PUT"}
    assert matcher.allowed_methods(ask("GET", "/a/b")) == frozenset()


def test_the_methods_of_a_405_are_those_of_rules_whose_predicates_hold(ask: Any) -> None:
    matcher = Matcher([rule("a", "~/a", methods=["GET"], predicates=[HeaderMatch("h", "present")])])
    assert matcher.allowed_methods(ask("POST", "/a")) == frozenset()
    assert matcher.allowed_methods(ask("POST", "/a", headers=[("h", "")])) == {"GET", "HEAD"}
    assert matcher.allowed_methods(ask("POST", "/b", headers=[("h", "")])) == frozenset()


def test_head_prefers_a_rule_that_names_it_on_the_same_host_and_path(ask: Any) -> None:
    plain, get, head = rule("any", "/a"), rule("get", "/a", methods=["GET"]), rule("head", "/a", methods=["HEAD"])
    assert Matcher([plain, get, head]).match(ask("HEAD", "/a")) == "head"
    assert Matcher([plain, get]).match(ask("HEAD", "/a")) == "get"
    assert Matcher([get, rule("head", "/*", methods=["HEAD"])]).match(ask("HEAD", "/a")) == "get"
    regexes = [rule("get", "~/a", methods=["GET"]), rule("head", "~/.*", methods=["HEAD"])]
    assert Matcher(regexes).match(ask("HEAD", "/a")) == "head"


def broken(exchange: Exchange) -> bool:
    raise KeyError("secret")


@pytest.mark.parametrize("path", ["/a", "/{x}", "/*", "~/a"])
def test_a_predicate_that_raises_refuses_the_request(path: str, ask: Any) -> None:
    matcher = Matcher([rule("bad", path, methods=["GET"], predicates=[Custom("broken", broken)]), rule("open", "~/.*")])
    with pytest.raises(RouteFailed) as failed:
        matcher.match(ask(target="/a"))
    assert failed.value.route == "bad"
    assert isinstance(failed.value.error, KeyError)
    with pytest.raises(RouteFailed):
        matcher.allowed_methods(ask("PUT", "/a"))


def test_a_predicate_of_a_rule_below_the_winner_is_not_asked(ask: Any) -> None:
    matcher = Matcher([rule("low", "/{x}", predicates=[Custom("broken", broken)]), rule("top", "/a")])
    assert matcher.match(ask(target="/a")) == "top"
    matcher = Matcher([rule("other", "/a", methods=["POST"], predicates=[Custom("broken", broken)]), rule("get", "/a")])
    assert matcher.match(ask(target="/a")) == "get"


def test_two_rules_of_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="two rules have the id 'a'"):
        Matcher([rule("a"), rule("a", "/b")])


def test_an_empty_table_matches_nothing(ask: Any) -> None:
    assert Matcher[str]([]).match(ask()) is None


def test_rules_and_entries_show_what_they_are() -> None:
    matcher = Matcher([rule("a", hosts=["B.test", "b.test"])])
    assert repr(matcher.rules[0]) == "Rule('a')"
    assert repr(matcher.entries) == "(Entry('a', 'b.test'),)"


def calls(matcher: Matcher[str], exchange: Exchange) -> int:
    """Python and C calls of one match, the switching of the profiler itself included."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    matcher.match(exchange)
    sys.setprofile(None)
    return count


@cache
def ordinary(size: int, host: str) -> Matcher[str]:
    hosts = [host]
    rules = [rule(f"s{n}", f"/static/group{n % 7}/item{n}", hosts, ["GET"]) for n in range(size // 2)]
    rules += [rule(f"t{n}", f"/v1/service{n}/orders/{{id}}", hosts, ["GET"]) for n in range(size // 2)]
    rules += [rule(f"p{n}", f"/p{n}/*", hosts) for n in range(size // 10)]
    return Matcher(rules)


@pytest.mark.parametrize("host", ["*", "*.shop.test"])
@pytest.mark.parametrize(
    ("target", "found"),
    [("/static/group0/item0", "s0"), ("/v1/service3/orders/7", "t3"), ("/p0/a/b", "p0"), ("/v1/no/orders/7", None)],
)
def test_rt3_the_work_of_a_match_does_not_grow_with_the_table(
    target: str, found: str | None, host: str, ask: Any
) -> None:
    exchange = ask(target=target, host="a.shop.test")
    small, large = ordinary(10, host), ordinary(10_000, host)
    assert small.match(exchange) == large.match(exchange) == found
    assert calls(small, exchange) == calls(large, exchange) <= 30


def test_rt3_a_path_deeper_than_the_table_costs_no_more(ask: Any) -> None:
    matcher = Matcher([rule("p", "/a/*"), rule("t", "/{x}/{y}")])
    assert calls(matcher, ask(target="/a/b/c")) == calls(matcher, ask(target="/a" + "/b" * 4000))


@pytest.mark.parametrize(
    "target",
    [
        "/admin/users",
        "//admin//users",
        "/x/../admin/users",
        "/%61dmin/users",
        "/admin/./users",
        "/x/%2e%2e/admin/users",
    ],
)
def test_rt6_every_spelling_of_a_path_meets_the_same_rule(target: str, ask: Any) -> None:
    matcher = Matcher([rule("admin", "/admin/*"), rule("rest", "/*"), rule("any", "~.*admin.*")])
    assert matcher.match(ask(target=target)) == "admin"


def test_rt6_matching_reads_the_canonical_path_and_no_other_form(ask: Any) -> None:
    exchange = ask(target="/public")
    exchange.path = "/admin/x"
    exchange.raw_path = b"/public"
    exchange.scope["raw_path"] = b"/public"
    matcher = Matcher([rule("admin", "/admin/{name}"), rule("public", "/public"), rule("regex", "~/public")])
    assert matcher.match(exchange) == "admin"
    assert exchange.params == {"name": "x"}


def test_rt6_an_escaped_slash_is_no_separator(ask: Any) -> None:
    matcher = Matcher([rule("two", "/a/{x}/{y}"), rule("one", "/a/{x}")])
    exchange = ask(target="/a/b%2Fc")
    assert matcher.match(exchange) == "one"
    assert exchange.params == {"x": "b%2Fc"}
