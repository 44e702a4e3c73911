"""The matcher and the findings against a reference written on its own: a sort and a linear scan.

The reference shares no code with the index: it parses nothing, it compares the small descriptions the strategies drew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gatekit.core.exchange import Exchange
from gatekit.routing.hosts import parse_host
from gatekit.routing.matcher import Matcher, Rule
from gatekit.routing.pattern import parse_path
from gatekit.routing.predicates import CookieMatch, HeaderMatch, QueryMatch
from gatekit.routing.reachability import examine

_PATHS = [
    "/", "/a", "/a/", "/a/b", "/b", "/b/c/d", "/{x}", "/{x}/", "/a/{y}", "/{x}/b", "/{x}/{y}", "/{x}/b/{z}", "/a/{x}/d",
    "/{rest:path}", "/a/{rest:path}", "/{x}/{rest:path}", "/{x}/b/{rest:path}", "/*", "/a/*", "/a/b/*", "/b/*",
    "~/a/.*", "~/[ab]/b", "~^/a$", "~/(?P<one>[a-z])(/(?P<two>b))?", "~.*", "~/a/b/[a-z]+",
]  # fmt: skip
_HOSTS = ["a.b.c", "b.c", "*.b.c", "*.c", "*", "*:80", "*.b.c:8080", "a.b.c:8080", "*.c:80", "c"]
_METHODS: list[list[str]] = [[], [], ["GET"], ["HEAD"], ["POST"], ["GET", "POST"], ["GET", "HEAD"]]
# (kind, name, mode, value, negate)
_Condition = tuple[str, str, Any, str | None, bool]
_CONDITIONS: list[_Condition] = [
    ("header", "h", "exact", "1", False), ("header", "h", "exact", "2", False), ("header", "h", "prefix", "1", False),
    ("header", "h", "present", None, False), ("header", "h", "absent", None, False), ("header", "h", "exact", "1", True),
    ("header", "g", "regex", "[12]+", False), ("query", "q", "exact", "1", False), ("query", "q", "present", None, False),
    ("query", "q", "regex", "1|22", True), ("cookie", "k", "exact", "1", False), ("cookie", "k", "absent", None, False),
]  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A rule as the strategies drew it: plain data."""

    path: str
    hosts: tuple[str, ...]
    methods: tuple[str, ...]
    conditions: tuple[_Condition, ...]
    priority: int


_rules = st.builds(
    Drawn,
    path=st.sampled_from(_PATHS),
    hosts=st.lists(st.sampled_from(_HOSTS), max_size=2, unique=True).map(tuple),
    methods=st.sampled_from(_METHODS).map(tuple),
    conditions=st.lists(st.sampled_from(_CONDITIONS), max_size=2).map(tuple),
    priority=st.sampled_from([0, 0, 0, 1, -1]),
)
_tables = st.lists(_rules, min_size=1, max_size=9)


@dataclass(frozen=True)
class Sent:
    """A request as plain data."""

    method: str
    host: str
    port: int | None
    path: str
    values: tuple[tuple[str, str, str], ...]


_segments = st.sampled_from(["a", "b", "c", "d", "x", ""])
_requests = st.builds(
    Sent,
    method=st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT"]),
    host=st.sampled_from(["a.b.c", "z.b.c", "y.a.b.c", "b.c", "c", "other"]),
    port=st.sampled_from([None, None, 80, 8080]),
    path=st.lists(_segments, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    values=st.lists(
        st.tuples(st.sampled_from(["header", "query", "cookie"]), st.sampled_from("hgqk"), st.sampled_from(["1", "2", "12", "22", ""])),
        max_size=3,
    ).map(tuple),
)  # fmt: skip


def _target(sent: Sent) -> tuple[str, str, list[tuple[str, str]]]:
    query = "&".join(f"{name}={value}" for kind, name, value in sent.values if kind == "query")
    cookies = "; ".join(f"{name}={value}" for kind, name, value in sent.values if kind == "cookie")
    headers = [(name, value) for kind, name, value in sent.values if kind == "header"]
    if cookies:
        headers.append(("cookie", cookies))
    host = sent.host if sent.port is None else f"{sent.host}:{sent.port}"
    return f"{sent.path}?{query}" if query else sent.path, host, headers


# -- the reference


def _host_matches(host: str, sent: Sent) -> bool:
    name, _, port = host.partition(":")
    if port and int(port) != (sent.port or 80):
        return False
    if name == "*":
        return True
    return sent.host.endswith(name[1:]) and len(sent.host) > len(name[1:]) if name[0] == "*" else sent.host == name


def _path_params(path: str, given: str) -> dict[str, str] | None:
    if path[0] == "~":
        found = re.fullmatch(path[1:], given, re.DOTALL)
        return None if found is None else {k: v for k, v in found.groupdict().items() if v is not None}
    if path.endswith("/*"):
        return {} if (given + "/").startswith(path[:-1]) or path == "/*" else None
    written = re.escape(path).replace(r"\{", "{").replace(r"\}", "}")
    written = re.sub(r"\{(\w+):path\}", r"(?P<\1>.+)", written)
    written = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", written)
    found = re.fullmatch(written, given, re.DOTALL)
    return None if found is None else found.groupdict()


def _condition_holds(condition: _Condition, sent: Sent) -> bool:
    kind, name, mode, wanted, negate = condition
    value = next((v for k, n, v in sent.values if k == kind and n == name), None)
    if mode == "present":
        held = value is not None
    elif mode == "absent":
        held = value is None
    elif value is None or wanted is None:
        held = False
    elif mode == "exact":
        held = value == wanted
    elif mode == "prefix":
        held = value[: len(wanted)] == wanted
    else:
        held = re.fullmatch(wanted, value) is not None
    return held != negate


def _sort_key(rule: Drawn, host: str, position: int, method: str) -> tuple[object, ...]:
    name, _, port = host.partition(":")
    if name == "*":
        host_key = (3, 0, not port)
    elif name[0] == "*":
        host_key = (2, -name.count("."), not port)
    else:
        host_key = (1, 0, not port)
    path_key: list[int]
    if rule.path[0] == "~":
        path_key = [3]
    elif "{" not in rule.path and "*" not in rule.path:
        path_key = [1]
    else:
        path_key = [2]
        for part in rule.path[1:].split("/"):
            path_key.append(13 if part == "*" else 12 if part.endswith(":path}") else 11 if part[:1] == "{" else 10)
    names_it = 0
    if not rule.methods:
        names_it = 2
    elif method == "HEAD" and "HEAD" not in rule.methods:
        names_it = 1
    kinds = [condition[0] for condition in rule.conditions]
    counts = (-kinds.count("header"), -kinds.count("query"), -kinds.count("cookie"))
    return (-rule.priority, host_key, path_key, names_it, counts, position)


def reference(table: list[Drawn], sent: Sent) -> tuple[int, dict[str, str]] | None:
    """The position of the winning rule and its parameters."""
    best: tuple[tuple[object, ...], int, dict[str, str]] | None = None
    for position, rule in enumerate(table):
        methods = set(rule.methods) | ({"HEAD"} if "GET" in rule.methods else set())
        params = _path_params(rule.path, sent.path)
        if params is None or (methods and sent.method not in methods):
            continue
        if not all(_condition_holds(condition, sent) for condition in rule.conditions):
            continue
        for host in rule.hosts or ("*",):
            if _host_matches(host, sent):
                key = _sort_key(rule, host, position, sent.method)
                if best is None or key < best[0]:
                    best = (key, position, params)
    return None if best is None else best[1:]


def reference_allowed(table: list[Drawn], sent: Sent) -> set[str]:
    allowed: set[str] = set()
    for rule in table:
        if (
            _path_params(rule.path, sent.path) is not None
            and any(_host_matches(host, sent) for host in rule.hosts or ("*",))
            and all(_condition_holds(condition, sent) for condition in rule.conditions)
        ):
            allowed |= set(rule.methods) | ({"HEAD"} if "GET" in rule.methods else set())
    return allowed


# -- the thing itself

_TYPES: dict[str, type[HeaderMatch] | type[QueryMatch] | type[CookieMatch]] = {
    "header": HeaderMatch,
    "query": QueryMatch,
    "cookie": CookieMatch,
}


def compiled(table: list[Drawn]) -> list[Rule[int]]:
    return [
        Rule(
            f"r{position}",
            position,
            parse_path(rule.path),
            [parse_host(host) for host in rule.hosts],
            rule.methods,
            [_TYPES[kind](name, mode, value, negate) for kind, name, mode, value, negate in rule.conditions],
            rule.priority,
        )
        for position, rule in enumerate(table)
    ]


_slow_to_draw = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@given(table=_tables, requests=st.lists(_requests, min_size=1, max_size=6))
@_slow_to_draw
def test_matcher_equals_the_reference(table: list[Drawn], requests: list[Sent], ask_often: Any) -> None:
    matcher = Matcher(compiled(table))
    for sent in requests:
        target, host, headers = _target(sent)
        exchange: Exchange = ask_often(sent.method, target, host, headers, merge_slashes=False)
        expected = reference(table, sent)
        ranks = [entry.rank for entry in matcher.reachable(exchange)]
        assert ranks == sorted(ranks)
        found = matcher.match(exchange)
        if expected is None:
            assert found is None
            assert matcher.allowed_methods(exchange) == reference_allowed(table, sent)
        else:
            assert found == expected[0]
            assert dict(exchange.params) == expected[1]


@given(table=_tables)
@settings(_slow_to_draw, max_examples=60)
def test_rt5_findings_are_true(table: list[Drawn], ask_often: Any) -> None:
    rules = compiled(table)
    matcher = Matcher(rules)
    findings = examine(rules)
    assume(findings)
    for finding in findings:
        lower = next(rule for rule in rules if rule.id == finding.rule_id)
        upper = next(rule for rule in rules if rule.id == finding.other_id)
        if finding.severity == "warning":
            assert finding.witness is not None
        if finding.witness is None:
            continue
        exchange = finding.witness.exchange()
        assert exchange is not None
        # Each alone matches it, and together the lower one never wins.
        assert Matcher([lower]).match(exchange) == lower.value
        assert Matcher([upper]).match(exchange) == upper.value
        assert matcher.match(exchange) != lower.value


@given(table=_tables, requests=st.lists(_requests, min_size=1, max_size=8))
@settings(_slow_to_draw, max_examples=60)
def test_rt5_an_unreachable_rule_is_never_returned(table: list[Drawn], requests: list[Sent]) -> None:
    dead = {int(finding.rule_id[1:]) for finding in examine(compiled(table)) if finding.severity == "error"}
    assume(dead)
    for sent in requests:
        found = reference(table, sent)
        assert found is None or found[0] not in dead


@pytest.mark.parametrize("seed", range(3))
def test_ranks_do_not_depend_on_anything_but_the_rules(seed: int) -> None:
    rules = compiled([Drawn(path, (), (), (), 0) for path in _PATHS[seed:]])
    assert [entry.rule.id for entry in Matcher(rules).entries] == [entry.rule.id for entry in Matcher(rules).entries]
