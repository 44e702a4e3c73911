"""Predicates on headers, query, cookies, client and custom functions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.exchange import Exchange
from gatekit.routing.predicates import (
    ClientMatch,
    CookieMatch,
    Custom,
    HeaderMatch,
    Predicate,
    QueryMatch,
    ValuePredicate,
    implied,
    query_values,
)

# mode, value, and whether it holds for: "gold", "goldfish", "", nothing
MODES: list[tuple[Any, str | None, list[bool]]] = [
    ("exact", "gold", [True, False, False, False]),
    ("exact", "", [False, False, True, False]),
    ("prefix", "gold", [True, True, False, False]),
    ("regex", "go.d", [True, False, False, False]),
    ("regex", "^go.d.*$", [True, True, False, False]),
    ("present", None, [True, True, True, False]),
    ("absent", None, [False, False, False, True]),
]


@pytest.mark.parametrize("negate", [False, True])
@pytest.mark.parametrize(("mode", "value", "expected"), MODES, ids=[f"{mode} {value}" for mode, value, _ in MODES])
@pytest.mark.parametrize("kind", [HeaderMatch, QueryMatch, CookieMatch])
def test_every_mode_on_every_kind(
    kind: type[ValuePredicate], mode: Any, value: str | None, expected: list[bool], negate: bool, ask: Any
) -> None:
    predicate = kind("tier", mode, value, negate)
    for given_value, holds in zip(["gold", "goldfish", "", None], expected, strict=True):
        if given_value is None:
            exchange = ask()
        elif kind is HeaderMatch:
            exchange = ask(headers=[("tier", given_value)])
        elif kind is QueryMatch:
            exchange = ask(target=f"/?tier={given_value}")
        else:
            exchange = ask(headers=[("cookie", f"tier={given_value}")])
        assert predicate.matches(exchange) is (holds is not negate)
        assert predicate.accepts(given_value) is (holds is not negate)
    assert all(predicate.accepts(candidate) for candidate in predicate.witnesses())
    assert predicate.witnesses()
    assert isinstance(predicate, Predicate)


def test_header_names_know_no_case_and_other_names_do(ask: Any) -> None:
    assert HeaderMatch("X-Tier", "exact", "a").matches(ask(headers=[("x-tIER", "a")]))
    assert not QueryMatch("Tier", "present").matches(ask(target="/?tier=1"))
    assert not CookieMatch("Tier", "present").matches(ask(headers=[("cookie", "tier=1")]))


def test_of_what_comes_twice_the_first_counts(ask: Any) -> None:
    assert HeaderMatch("a", "exact", "1").matches(ask(headers=[("a", "1"), ("a", "2")]))
    assert QueryMatch("a", "exact", "1").matches(ask(target="/?a=1&a=2"))
    assert CookieMatch("a", "exact", "1").matches(ask(headers=[("cookie", "a=1; a=2")]))
    assert not CookieMatch("a", "exact", "2").matches(ask(headers=[("cookie", "a=1"), ("cookie", "a=2")]))


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [("q=a+b%26c", "q", "a b&c"), ("%71=x", "q", "x"), ("&&q", "q", ""), ("q=a=b", "q", "a=b"), ("q=%C3%A9", "q", "é"),
     ("q=%ff", "q", "�"), ("a;q=1", "a;q", "1"), ("=x", "", "x")],
)  # fmt: skip
def test_a_query_is_decoded(query: str, name: str, value: str, ask: Any) -> None:
    assert QueryMatch(name, "exact", value).matches(ask(target=f"/?{query}"))


@pytest.mark.parametrize(
    ("line", "value"),
    [("a=1", "1"), (" x=2 ;a=1", "1"), ('a="1"', "1"), ("junk; a=1", "1"), ("=1; a=1", "1"), ('a="', '"'), ("a=%20", "%20"), ("a = 1 ", "1"), ('a="1', '"1')],
)  # fmt: skip
def test_cookies_are_read_leniently(line: str, value: str, ask: Any) -> None:
    assert CookieMatch("a", "exact", value).matches(ask(headers=[("cookie", line)]))


def test_cookies_may_come_in_several_lines(ask: Any) -> None:
    assert CookieMatch("b", "exact", "2").matches(ask(headers=[("cookie", "a=1"), ("cookie", "b=2")]))


def test_a_client_is_matched_by_network(ask: Any) -> None:
    inside = ClientMatch(["10.0.0.0/8", "2001:db8::/32"])
    assert inside.matches(ask(client="10.1.2.3"))
    assert inside.matches(ask(client="::ffff:10.1.2.3"))
    assert inside.matches(ask(client="2001:db8::1"))
    assert not inside.matches(ask(client="11.0.0.1"))
    assert not inside.matches(ask(client=None))
    assert not inside.matches(ask(client="no address"))
    assert inside.witnesses() == ["10.0.0.0", "2001:db8::"]


def test_a_custom_predicate_asks_its_function(ask: Any) -> None:
    def tablet(exchange: Exchange) -> bool:
        return "tablet" in (exchange.header("user-agent") or "")

    predicate = Custom("tablet", tablet)
    assert predicate.matches(ask(headers=[("user-agent", "a tablet")]))
    assert not predicate.matches(ask())
    assert isinstance(predicate, Predicate)


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: HeaderMatch("a", "suffix", "x"), "use one of exact, prefix, regex, present, absent"),  # type: ignore[arg-type]
        (lambda: HeaderMatch("a", "exact"), "header a: the mode exact needs a value"),
        (lambda: QueryMatch("a", "present", "x"), "query a: the mode present takes no value"),
        (lambda: HeaderMatch("a b", "present"), "not a header name"),
        (lambda: CookieMatch("a", "regex", "("), "does not compile"),
        (lambda: ClientMatch([]), "would match nobody"),
        (lambda: ClientMatch(["10.0.0.0/40"]), "10.0.0.0/40"),
    ],
)
def test_a_bad_predicate_is_refused_with_what_to_do(make: Any, advice: str) -> None:
    with pytest.raises(ValueError) as refused:
        make()
    assert advice in str(refused.value)


def test_predicates_speak_in_words() -> None:
    assert [
        repr(HeaderMatch("A", "exact", "x")), repr(QueryMatch("a", "prefix", "x")), repr(CookieMatch("a", "regex", "x")),
        repr(HeaderMatch("a", "present")), repr(HeaderMatch("a", "absent", negate=True)),
        repr(HeaderMatch("a", "exact", "x", True)), repr(HeaderMatch("a", "prefix", "x", True)),
        repr(ClientMatch(["10.0.0.0/8"])), repr(Custom("tablet", bool)),
    ] == [
        "<header a is 'x'>", "<query a begins with 'x'>", "<cookie a matches 'x'>", "<header a is present>",
        "<header a is not absent>", "<header a is not 'x'>", "<header a not: begins with 'x'>",
        "<client address is in 10.0.0.0/8>", "<tablet holds>",
    ]  # fmt: skip


def test_a_query_is_parsed_once_for_all_rules(ask: Any) -> None:
    exchange = ask(target="/?only=once")
    assert query_values(exchange.query) is query_values(exchange.query)


_values = st.sampled_from(["", "a", "ab", "b"])
_drawn = st.one_of(
    st.builds(HeaderMatch, st.sampled_from(["h", "g"]), st.sampled_from(["exact", "prefix"]), _values, st.booleans()),
    st.builds(HeaderMatch, st.just("h"), st.sampled_from(["present", "absent"]), st.none(), st.booleans()),
    st.builds(HeaderMatch, st.just("h"), st.just("regex"), st.sampled_from(["a.*", "a|b", "[^a]*"]), st.booleans()),
    st.builds(QueryMatch, st.just("h"), st.just("exact"), _values),
)


@given(one=_drawn, other=_drawn)
@settings(max_examples=300)
def test_what_is_implied_holds_for_every_value(one: ValuePredicate, other: ValuePredicate) -> None:
    if implied(other, [one]):
        for value in (None, "", "a", "ab", "abc", "b", "ba", "z"):
            assert other.accepts(value) or not one.accepts(value)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (HeaderMatch("a", "exact", "x"), HeaderMatch("A", "exact", "x"), True),
        (HeaderMatch("a", "exact", "xy"), HeaderMatch("a", "prefix", "x"), True),
        (HeaderMatch("a", "exact", "xy"), HeaderMatch("a", "exact", "z", True), True),
        (HeaderMatch("a", "exact", "xy"), HeaderMatch("b", "present"), False),
        (HeaderMatch("a", "exact", "x"), QueryMatch("a", "exact", "x"), False),
        (HeaderMatch("a", "prefix", "xy"), HeaderMatch("a", "prefix", "x"), True),
        (HeaderMatch("a", "prefix", "x"), HeaderMatch("a", "prefix", "xy"), False),
        (HeaderMatch("a", "regex", "x"), HeaderMatch("a", "present"), True),
        (HeaderMatch("a", "absent", negate=True), HeaderMatch("a", "present"), True),
        (HeaderMatch("a", "present"), HeaderMatch("a", "absent", negate=True), True),
        (HeaderMatch("a", "present", negate=True), HeaderMatch("a", "exact", "x", True), True),
        (HeaderMatch("a", "exact", "x", True), HeaderMatch("a", "absent"), False),
        (ClientMatch(["10.1.0.0/16"]), ClientMatch(["11.0.0.0/8", "10.0.0.0/8"]), True),
        (ClientMatch(["10.0.0.0/8"]), ClientMatch(["10.1.0.0/16"]), False),
        (ClientMatch(["2001:db8::/48"]), ClientMatch(["10.0.0.0/8", "2001:db8::/32"]), True),
        (ClientMatch(["2001:db8::/48"]), HeaderMatch("a", "present"), False),
        (HeaderMatch("a", "present"), ClientMatch(["10.0.0.0/8"]), False),
        (Custom("one", bool), Custom("other", bool), True),
        (Custom("one", bool), Custom("one", callable), False),
        (Custom("one", bool), HeaderMatch("a", "present"), False),
    ],
)
def test_one_predicate_implies_another(one: Predicate, other: Predicate, expected: bool) -> None:
    assert implied(other, [one]) is expected
    assert implied(one, [one])
    assert not implied(one, [])
