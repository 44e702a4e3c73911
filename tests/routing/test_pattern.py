"""Path patterns: what may be written, what it matches, what is refused and with which advice."""

from __future__ import annotations

import random
import time
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.routing.matcher import Matcher, Rule
from gatekit.routing.pattern import MAX_SEGMENTS, parse_path
from gatekit.routing.regex import MAX_PROGRAM, compile_regex, match_range
from gatekit.routing.sample import samples

MATCHES: list[tuple[str, str, dict[str, str] | None]] = [
    ("/", "/", {}), ("/", "/a", None), ("/a/b", "/a/b", {}), ("/a/b", "/a/b/", None), ("/a/b", "/A/b", None),
    ("/a/", "/a/", {}), ("/é", "/%C3%A9", {}), ("/a%2Fb", "/a%2fb", {}), ("/a:b", "/a:b", {}),
    ("/v1/orders/{id}", "/v1/orders/7", {"id": "7"}), ("/v1/orders/{id}", "/v1/orders/", None),
    ("/v1/orders/{id}", "/v1/orders", None), ("/v1/orders/{id}", "/v1/orders/7/", None),
    ("/v1/orders/{id}/", "/v1/orders/7/", {"id": "7"}), ("/v1/orders/{id}", "/v1/order/7", None),
    ("/{a}/{b}", "/x/y", {"a": "x", "b": "y"}), ("/{a}", "/%7Bx%7D", {"a": "{x}"}),
    ("/files/{rest:path}", "/files/a/b", {"rest": "a/b"}), ("/files/{rest:path}", "/files/a/", {"rest": "a/"}),
    ("/files/{rest:path}", "/files/", None), ("/files/{rest:path}", "/files", None),
    ("/{rest:path}", "/a", {"rest": "a"}), ("/{rest:path}", "/", None), ("/{a}/{rest:path}", "/x/y/z", {"a": "x", "rest": "y/z"}),
    ("/admin/*", "/admin", {}), ("/admin/*", "/admin/", {}), ("/admin/*", "/admin/x/y", {}), ("/admin/*", "/adminx", None),
    ("/admin/*", "/x/admin", None), ("/*", "/", {}), ("/*", "/a/b", {}), ("/*", "*", {}), ("/{rest:path}", "*", None),
    ("~^/v[0-9]+/x$", "/v12/x", {}), ("~/v[0-9]+/x", "/v12/x/y", None), ("~/v[0-9]+", "/a/v1", None),
    ("~/(?P<v>v[0-9])(/(?P<rest>.*))?", "/v1", {"v": "v1"}), ("~/(?P<v>v[0-9])(/(?P<rest>.*))?", "/v1/a", {"v": "v1", "rest": "a"}),
    ("~/a.*", "/a%0Ab", {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "target", "expected"), MATCHES, ids=[f"{text} {target}" for text, target, _ in MATCHES]
)
def test_a_pattern_matches_alone_and_in_the_index_alike(
    text: str, target: str, expected: dict[str, str] | None, ask: Any
) -> None:
    exchange = ask("OPTIONS", target)
    pattern = parse_path(text)
    assert pattern.match(exchange.path) == expected
    found = Matcher([Rule("r", 1, pattern)]).match(exchange)
    assert (found, dict(exchange.params)) == ((None, {}) if expected is None else (1, expected))


REFUSED = [
    ("", "must begin with a slash"), ("a/b", "must begin with a slash"), ("*", "write /* for every path"),
    ("/a//b", "write them so"), ("//", "write them so"), ("/a//*", "write them so"), ("/a/./b", "the path it leads to"),
    ("/a/../b", "the path it leads to"), ("/a?x=1", "with a query predicate"), ("/a#b", "with a query predicate"),
    ("/a*", "as in /admin/*"), ("/*/b", "as in /admin/*"), ("/a\\b", "write %5C"), ("/a\0", "remove it"),
    ("/a%20b", "write the character itself"), ("/a%2f", "write the character itself"), ("/{a", "for a part of a segment use a regex"),
    ("/x-{a}", "for a part of a segment use a regex"), ("/{a:int}", "{name:path}"), ("/{1}", "{name}"),
    ("/{a}/*", "{rest:path} instead"), ("/{a}/{a}", "'a' twice"), ("/{a}/{a:path}", "'a' twice"),
    ("/{a:path}/b", "must be the last segment"), ("/a" * (MAX_SEGMENTS + 1), "more than 64 segments"),
    ("~(", "does not compile: missing )"), ("~/a(?=b)", "no look-around"), ("~(a)\\1", "no back-references"),
    ("~(?:a{100}){100}", "smaller repetitions"), ("~/[\\pL]{1,200}", "smaller repetitions"), ("~/\udc00", "UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "advice"), REFUSED, ids=[repr(text[:20]) for text, _ in REFUSED])
def test_what_can_never_match_is_refused_with_what_to_do(text: str, advice: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_path(text)
    assert advice in str(refused.value)


def test_a_pattern_tells_what_it_is() -> None:
    kinds = {"/a": "exact", "/{a}": "template", "/a/*": "prefix", "~/a": "regex"}
    assert {text: parse_path(text).kind for text in kinds} == kinds
    assert parse_path("/{a}/{b:path}").parameters == ("a", "b")
    assert parse_path("/{a}").parameters == ("a",)
    assert parse_path("~/(?P<n>x)").parameters == ("n",)
    assert (str(parse_path("/a")), repr(parse_path("/a"))) == ("/a", "PathPattern('/a')")


CATASTROPHIC = [
    "(x+x+)+y", "(a|a)*b", "(a*)*b", "(a|aa)+$", "([a-z]+)*[0-9]", "(.*)(.*)(.*)(.*)(.*)z", "(?:a?){30}a{30}", ".*a.{12}b",
    "(?:.*a.*b){200}c", ".*a.{500}b", "(?:.*a){20}b", "^(([a-z])+.)+[A-Z]([a-z])+$", "(([a-z0-9])+.)+", "(a+)+$b",
]  # fmt: skip
PROBES = [
    "/" + "".join(random.Random(7).choices("ab", k=8191)),
    "/" + "x" * 8191,
    "/" + "a" * 8191,
    "/" + "ab" * 4095,
    "/" + "a" * 8190 + "!",
    "/" + "é" * 4095,
]


@pytest.mark.parametrize("pattern", CATASTROPHIC)
def test_rt7_no_pattern_can_hang_a_match(pattern: str) -> None:
    """The bar is 10 ms. A backtracking engine needs longer than the universe for most of these; 1 s cannot flake."""
    compiled = parse_path(f"~/{pattern}")
    for probe in PROBES:
        begun = time.process_time()
        compiled.match(probe)
        assert time.process_time() - begun < 1.0


def test_rt7_a_compiled_pattern_has_a_size_limit_and_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="too large - compile failed; write smaller repetitions and fewer"):
        compile_regex(r"[\pL]{1,200}")
    with pytest.raises(ValueError, match=f"instructions of at most {MAX_PROGRAM}; write smaller"):
        compile_regex("/.*a.{1000}")
    with pytest.raises(ValueError, match="missing"):
        compile_regex("(")
    assert compile_regex("/.{1,255}").programsize < MAX_PROGRAM
    assert capfd.readouterr() == ("", "")


def test_rt7_the_error_of_another_release_of_re2_is_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    import re2

    def refuse(pattern: str, options: object) -> None:
        raise re2.error("in words")

    match_range.cache_clear()
    monkeypatch.setattr(re2, "compile", refuse)
    with pytest.raises(ValueError, match="does not compile: in words"):
        compile_regex("a")
    assert match_range("a") is None
    match_range.cache_clear()


_ATOMS = ["/", "a", "b", ".", "[ab]", "[^a]", r"\b", r"\B", "^", "$", "(?i)A", r"\z", "(?m)^", r"\w", r"\W", "(?:a|/b)"]
_PATTERNS = st.lists(
    st.builds(str.__add__, st.sampled_from(_ATOMS), st.sampled_from(["", "", "*", "+", "?"])), min_size=1, max_size=5
).map("".join)
_TEXTS = [part.replace("_", "") for part in map("".join, product("/ab_", repeat=4))]


@given(_PATTERNS)
@settings(max_examples=200, deadline=None)
def test_rt5_the_bounds_of_a_pattern_leave_out_nothing_it_matches(pattern: str) -> None:
    bounds = match_range(pattern)
    if bounds is not None:
        compiled = compile_regex(pattern)
        assert all(bounds[0] <= text.encode() <= bounds[1] for text in _TEXTS if compiled.fullmatch(text) is not None)


def test_rt5_a_pattern_with_a_word_boundary_has_no_bounds() -> None:
    assert match_range(r"/b\B/?") is None
    assert match_range(r"/b\bx*") is None
    assert match_range("/b/x") == (b"/b/x", b"/b/x")


@pytest.mark.parametrize(
    "pattern",
    [
        "/a", "^/v[0-9]+/x$", "/(a|b)/c", "/a{3}", "/a{2,}b", "/x+?y*?z??", "/(?:a|b)", "/(?P<n>a.c)", "/(?<n>ac)", "(?i)/a",
        r"/\d\w\s", r"/\D\W\S", r"/\.\*", r"\A/a\z", r"/\bx", r"/\t", "/[]a]", "/[^]a]", "/[^a]", r"/[\]x]", "/[[:digit:]]",
        "/[é]", "/(a|)", "/a|/b",
    ],
)  # fmt: skip
def test_samples_of_a_pattern_match_it(pattern: str) -> None:
    found = samples(pattern)
    assert found
    compiled = compile_regex(pattern)
    assert all(compiled.fullmatch(text) for text in found)


@pytest.mark.parametrize("pattern", [r"/\pL", r"/\x41", r"[^\x00-\x{10FFFF}]", "/a$b", "(" * 900 + "a" + ")" * 900])
def test_a_pattern_that_cannot_be_read_has_no_samples(pattern: str) -> None:
    assert samples(pattern) == ()
