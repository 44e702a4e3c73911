"""The models, one entry at a time: what may be written, what it means, and what is refused."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

import gatekit.asgi
from gatekit.config.cluster import Cluster, app_interface
from gatekit.config.endpoints import parse_endpoint
from gatekit.config.matches import ValueMatch, destinations, split_match, value_match
from gatekit.config.model import GatewayConfig, Route, marks
from gatekit.core.plan import Endpoint
from gatekit.core.units import Duration, seconds
from gatekit.policies.telemetry import Telemetry


async def asgi_app(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    return []


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


def three(scope: Any, receive: Any, send: Any, extra: int = 0) -> Any: ...


def one(argument: Any) -> Any: ...


@pytest.mark.parametrize(
    ("text", "value"),
    [("250ms", 0.25), ("1.5s", 1.5), ("2 m", 120.0), ("1h", 3600.0), ("1d", 86400.0), ("3", 3.0), (2, 2.0), (0.5, 0.5)],
)
def test_a_duration_is_seconds_or_text_with_a_unit(text: object, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "m", "1w", "-1s", "1 2", "1e3", True, None, [], float("inf"), float("nan")])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="a duration is a number of seconds, or text"):
        seconds(text)


@pytest.mark.parametrize("value", [0, -1, "0s", 86400 * 400])
def test_a_timeout_is_above_zero_and_has_an_end(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[float](Duration).validate_python(value)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://a:1", Endpoint("a", 1)),
        ("http://A.Example/", Endpoint("a.example", 80)),
        ("https://a", Endpoint("a", 443, tls=True)),
        ("http://[::1]:9001", Endpoint("::1", 9001)),
        ("unix:/run/a.sock", Endpoint("localhost", 80, uds="/run/a.sock")),
        ("unix:///run/a.sock", Endpoint("localhost", 80, uds="/run/a.sock")),
    ],
)
def test_an_upstream_url_names_an_endpoint(url: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(url) == endpoint


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("a", "begins with http://, https:// or unix:"),
        ("ftp://a", "the scheme of an upstream URL"),
        ("a:9001", "the scheme of an upstream URL"),
        ("unix:run/a.sock", "absolute path"),
        ("unix:/run/\x00", "absolute path"),
        ("http://u:hunter2@a", "may not hold a user name"),
        ("http://a/path", "no path, query or fragment"),
        ("http://a?x=1", "no path, query or fragment"),
        ("http://a#x", "no path, query or fragment"),
        ("http://a?", "no path, query or fragment"),
        ("http://", "names a host"),
        ("http://a b", "names a host"),
        ("http://a:0", "1 to 65535"),
        ("http://a:99999", "cannot be read"),
        ("http://[::1", "cannot be read"),
    ],
)
def test_what_is_no_upstream_url_is_refused_without_repeating_it(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_endpoint(url)
    assert "hunter2" not in str(caught.value)


def test_a_cluster_takes_its_urls_by_position() -> None:
    cluster = Cluster("http://a:1", "http://b:2", timeout="2s", balance="random")
    assert cluster.endpoints == (Endpoint("a", 1), Endpoint("b", 2))
    assert cluster.timeout == 2.0
    assert Cluster(urls="http://a:1").endpoints == (Endpoint("a", 1),)
    with pytest.raises(TypeError, match="urls twice"):
        Cluster("http://a", urls=["http://b"])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "either urls or an app; here: neither"),
        ({"urls": ["http://a"], "app": wsgi_app}, "either urls or an app; here: both"),
        ({"urls": ["http://a", "http://b"], "transport": object()}, "a transport carries requests to exactly one URL"),
        ({"app": wsgi_app, "transport": object()}, "a transport carries requests to exactly one URL"),
        ({"urls": ["https://a"], "tls": {"key": "k.pem"}}, "key is the private key of cert"),
        ({"urls": ["https://a"], "tls": {}, "tls_context": object}, "tls and tls_context both say"),
        ({"app": "shop:app"}, "only Python can name"),
        ({"urls": ["http://a"], "interface": "asgi"}, "this cluster has no app"),
        ({"app": one}, 'add interface="asgi" or "wsgi"'),
        ({"urls": ["http://a", "http://a:80/"]}, "URL 2 of 2 names the same endpoint"),
        ({"urls": ["http://a", "x"]}, "URL 2 of 2: an upstream URL begins with"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Cluster(**fields)


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (asgi_app, "asgi"), (AsgiObject(), "asgi"), (three, "asgi"), (wsgi_app, "wsgi"), (WsgiObject(), "wsgi"),
        (functools.partial(three, extra=1), "asgi"), (one, None), (dict, None),
    ],
)  # fmt: skip
def test_what_an_app_speaks_is_seen_from_its_signature(app: Any, interface: str | None) -> None:
    assert app_interface(app) == interface


def test_what_an_app_speaks_may_be_stated() -> None:
    assert Cluster(app=one, interface="wsgi").app_interface == "wsgi"
    assert Cluster(app=wsgi_app).app_interface == "wsgi"
    assert Cluster("http://a").app_interface == "asgi"


@pytest.mark.parametrize(
    ("written", "match"),
    [
        ("gold", ValueMatch("exact", "gold")),
        ({"exact": "g"}, ValueMatch("exact", "g")),
        ({"prefix": "g"}, ValueMatch("prefix", "g")),
        ({"regex": "g+"}, ValueMatch("regex", "g+")),
        ({"present": True}, ValueMatch("present")),
        ({"absent": True}, ValueMatch("absent")),
        ({"not": "gold"}, ValueMatch("exact", "gold", negate=True)),
        ({"not": {"prefix": "g"}}, ValueMatch("prefix", "g", negate=True)),
        (ValueMatch("present"), ValueMatch("present")),
    ],
)
def test_the_short_forms_of_a_value(written: object, match: ValueMatch) -> None:
    assert value_match(written) == match


def test_a_value_match_reads_in_words() -> None:
    assert str(ValueMatch("prefix", "g", negate=True)) == "not prefix 'g'"
    assert str(ValueMatch("absent")) == "absent"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (3, "a value is text, or one of"),
        ({}, "a value is text, or one of"),
        ({"exact": "a", "prefix": "b"}, "a value is text, or one of"),
        ({"prefx": "a"}, "a value is text, or one of"),
        ({"exact": 3}, "put a number in quotation marks"),
        ({"present": False}, "present is true, or left out"),
        ({"absent": "yes"}, "absent is true, or left out"),
        ({"not": {"not": "a"}}, "a not within a not"),
    ],
)
def test_what_is_no_value_match_is_refused(written: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        value_match(written)


@pytest.mark.parametrize(
    ("text", "methods", "path"),
    [
        ("/a", set(), "/a"),
        ("GET /a", {"GET"}, "/a"),
        (" get,Post  /a ", {"GET", "POST"}, "/a"),
        ("M-SEARCH /a", {"M-SEARCH"}, "/a"),
        ("~/a b", set(), "~/a b"),
        ("/a b", set(), "/a b"),
    ],
)
def test_a_match_is_methods_and_a_path(text: str, methods: set[str], path: str) -> None:
    assert split_match(text) == (frozenset(methods), path)


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        (None, ()), ("a", (("a", 1),)), ({"a": 70, "b": 30}, (("a", 70), ("b", 30))), ([("a", 70)], (("a", 70),)),
        ([["a", 0], ["b", 1]], (("a", 0), ("b", 1))),
    ],
)  # fmt: skip
def test_a_destination_is_a_cluster_or_a_split(written: object, parts: object) -> None:
    assert destinations(written) == parts


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({}, "a destination is"), ([], "a destination is"), (3, "a destination is"), (["a"], "each destination"),
        ([["a"]], "each destination"), ([[1, 2]], "each destination"), ({"a": -1}, "a whole number"),
        ({"a": True}, "a whole number"), ({"a": 0.5}, "a whole number"), ({"a": 1_000_001}, "a whole number"),
        ([["a", 1], ["a", 2]], "given twice"),
    ],
)  # fmt: skip
def test_what_is_no_destination_is_refused(written: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        destinations(written)


def test_a_route_is_called_by_its_name_or_by_its_match_and_hosts() -> None:
    assert Route("GET /a", to="x", name="a").id == "a"
    assert Route("GET /a", to="x").id == "GET /a"
    assert Route("/a", to="x", hosts=["a.example", "b.example"]).id == "/a host a.example host b.example"


def test_a_route_makes_the_rule_that_the_router_matches_by() -> None:
    route = Route(
        "/v1/{id}", to="x", methods=["get", "PUT"], hosts="*.a.example", headers={"x-tier": "gold"},
        query={"q": {"present": True}}, cookies={"c": {"not": "1"}}, client="10.0.0.0/8", when=lambda exchange: True,
        priority=3,
    )  # fmt: skip
    rule = route.rule("value")
    assert (rule.id, rule.value, rule.path.text, rule.priority) == (route.id, "value", "/v1/{id}", 3)
    assert rule.methods == {"GET", "PUT"}
    assert [host.text for host in rule.hosts] == ["*.a.example"]
    assert [predicate.kind for predicate in rule.predicates] == ["header", "query", "cookie", "client", "custom"]


def test_a_matcher_of_ones_own_is_named_after_itself() -> None:
    class Night:
        def __call__(self, exchange: Any) -> bool:
            return True

    rule = Route("GET /a", to="x", when=[Night(), one]).rule(None)
    assert [predicate.name for predicate in rule.predicates][1] == "one"
    assert "Night" in rule.predicates[0].name
    assert rule.methods == {"GET"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"match": "a"}, "must begin with a slash"),
        ({"match": "GET ~("}, "regex"),
        ({"match": "GET /a", "methods": ["PUT"]}, "given twice"),
        ({"match": "/a", "hosts": ["a b"]}, "host"),
        ({"match": "/a", "headers": {"x y": "1"}}, "x y"),
        ({"match": "/a", "query": {"q": {"regex": "("}}}, "q: "),
        ({"match": "/a", "client": ["10.0.0.0/99"]}, "10.0.0.0/99"),
        ({"match": "/a", "allow": ["slashes"]}, "encoded_slash"),
        ({"match": "/a", "when": [3]}, "callable"),
        ({}, "required"),
    ],
)
def test_a_route_that_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Route(**fields)


def test_a_route_takes_its_match_by_position_only_once() -> None:
    with pytest.raises(TypeError, match="match twice"):
        Route("/a", match="/b")


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Telemetry, r"Telemetry is a class: write Telemetry\(\.\.\.\)"),
        (gatekit.asgi.Telemetry, r"gatekit.asgi.Telemetry is no policy"),
        (asgi_app, "a middleware or an application is none"),
        ("telemetry", "a policy is a spec"),
    ],
)
def test_what_is_no_policy_gets_a_sentence_of_its_own(policy: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Route("/a", policies=[policy])


def test_models_do_not_repeat_what_they_refuse() -> None:
    with pytest.raises(ValidationError) as caught:
        Cluster("http://u:hunter2@a")
    assert "hunter2" not in str(caught.value)


def test_a_configuration_knows_its_limits() -> None:
    config = GatewayConfig(trusted_proxies="10.0.0.0/8", allow="encoded_slash")
    assert config.trusted_proxies == ("10.0.0.0/8",)
    assert config.warnings is None
    assert marks(["encoded_slash", "semicolon"]) == 5
    with pytest.raises(ValidationError, match="nowhere"):
        GatewayConfig(trusted_proxies=["nowhere"])


def test_the_header_that_tells_the_client_is_kept_in_lower_case() -> None:
    assert GatewayConfig().client_ip_header is None
    config = GatewayConfig(trusted_proxies="10.0.0.0/8", client_ip_header="CF-Connecting-IP")
    assert config.client_ip_header == "cf-connecting-ip"
    assert GatewayConfig(client_ip_header=None).client_ip_header is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"client_ip_header": "cf-connecting-ip"}, "name the networks of the proxies that set it in trusted_proxies"),
        ({"client_ip_header": "X-Forwarded-For", "trusted_proxies": "10.0.0.0/8"}, "is read already"),
        ({"client_ip_header": "forwarded", "trusted_proxies": "10.0.0.0/8"}, "is read already"),
        ({"client_ip_header": "not a name", "trusted_proxies": "10.0.0.0/8"}, "not a header name"),
        ({"client_ip_header": "", "trusted_proxies": "10.0.0.0/8"}, "at least 1 character"),
        ({"client_ip_header": "cf-connecting-ip", "trusted_proxies": "nowhere"}, "nowhere"),
    ],
)
def test_a_header_that_nobody_can_be_believed_in_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as refused:
        GatewayConfig(**fields)
    (error,) = refused.value.errors()
    assert error["loc"] == ("trusted_proxies" if message == "nowhere" else "client_ip_header",)
