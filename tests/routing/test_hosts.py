"""Host patterns."""

from __future__ import annotations

from typing import Any

import pytest

from gatekit.routing.hosts import ANY_HOST, parse_host
from gatekit.routing.matcher import Matcher, Rule
from gatekit.routing.pattern import parse_path

MATCHES = [
    ("shop.example.com", "shop.example.com", True), ("shop.example.com", "SHOP.Example.com:81", True),
    ("shop.example.com.", "shop.example.com", True), ("Shop.Example.com", "shop.example.com.", True),
    ("shop.example.com", "a.shop.example.com", False), ("*.example.com", "a.example.com", True),
    ("*.example.com", "a.b.example.com", True), ("*.example.com", "example.com", False),
    ("*.example.com", "aexample.com", False), ("*.com", "a.com", True), ("*.com", "com", False), ("*", "anything", True),
    ("a.test:8080", "a.test:8080", True), ("a.test:8080", "a.test:81", False), ("a.test:80", "a.test", True),
    ("a.test:443", "a.test", False), ("*.test:80", "a.test", True), ("*:8080", "b:8080", True), ("*:8080", "b", False),
    ("bücher.example", "xn--bcher-kva.example", True), ("*.bücher.example", "a.xn--bcher-kva.example", True),
    ("[::1]", "[::1]:80", True), ("[::1]:80", "[::1]", True), ("127.0.0.1", "127.0.0.1", True), ("a_b.test", "a_b.test", True),
]  # fmt: skip


@pytest.mark.parametrize(("text", "host", "expected"), MATCHES, ids=[f"{text} {host}" for text, host, _ in MATCHES])
def test_a_host_matches_alone_and_in_the_index_alike(text: str, host: str, expected: bool, ask: Any) -> None:
    exchange = ask(host=host)
    pattern = parse_host(text)
    assert pattern.match(exchange) is expected
    assert (Matcher([Rule("r", 1, parse_path("/*"), [pattern])]).match(exchange) == 1) is expected


def test_the_default_port_is_that_of_the_scheme(ask: Any) -> None:
    assert parse_host("a.test:443").match(ask(host="a.test", scheme="https"))
    assert parse_host("a.test:443").match(ask(host="a.test", scheme="wss"))


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "label ''"), ("a..b", "label ''"), ("a.test:", "host:port"), ("a.test:x", "host:port"), ("a.test:0", "host:port"),
        ("a.test:65536", "host:port"), ("a.*.test", "as in *.example.com"), ("*a.test", "as in *.example.com"),
        ("-a.test", "write a host name only"), ("a b", "write a host name only"), ("http://a", "host:port"),
        ("a/b", "write a host name only"), ("ü" * 70, "punycode"),
    ],
)  # fmt: skip
def test_what_is_no_host_is_refused_with_what_to_do(text: str, advice: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_host(text)
    assert advice in str(refused.value)


def test_hosts_are_values() -> None:
    assert parse_host("A.test.") == parse_host("a.test") != parse_host("a.test:80")
    assert len({parse_host("*"), ANY_HOST}) == 1
    assert parse_host("*") != "*"
    assert (str(parse_host("*.A.test:80")), repr(parse_host("*"))) == ("*.a.test:80", "HostPattern('*')")


def test_a_host_of_very_many_labels_costs_no_more_than_the_longest_wildcard(ask: Any) -> None:
    matcher = Matcher([Rule("r", 1, parse_path("/*"), [parse_host("*.a.test")])])
    assert matcher.match(ask(host="x." * 4000 + "a.test")) == 1
    (level,) = matcher.levels
    assert level.labels == 2
