"""Documents into a configuration: every finding with its place, several documents, and no secret repeated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from gatekit.config import entries
from gatekit.config.cluster import Cluster
from gatekit.config.documents import config_from
from gatekit.config.entries import Unreadable, near, read_policy
from gatekit.config.model import Route
from gatekit.core.plan import Document
from gatekit.core.policy import Spec
from gatekit.errors import ConfigRefused, Problem
from gatekit.policies.telemetry import Telemetry
from gatekit.providers.file import parse_text

Refused = Callable[..., list[Problem]]


def limit(text: str) -> Spec:
    return read_policy({"rate_limit": text})


CLUSTERS = {"clusters": {"x": {"urls": ["http://127.0.0.1:9001"]}}}


def test_a_document_says_the_same_as_python() -> None:
    written = config_from(
        parse_text(
            """
            trusted_proxies: 10.0.0.0/8
            policies: [telemetry, rate_limit: 50/second]
            routes:
              - {match: "GET /v1/{id}", to: x, policies: [{rate_limit: {limit: 2/second}}], headers: {x-tier: {prefix: g}}}
            clusters:
              x: {urls: "http://127.0.0.1:9001", timeout: 250ms}
            """
        )
    )
    made = config_from(
        {
            "trusted_proxies": ["10.0.0.0/8"],
            "policies": [Telemetry(), limit("50/second")],
            "routes": [
                Route("GET /v1/{id}", to="x", policies=[limit("2/second")], headers={"x-tier": {"prefix": "g"}})
            ],
            "clusters": {"x": Cluster("http://127.0.0.1:9001", timeout=0.25)},
        }
    )
    assert written.model_dump(exclude={"policies", "routes"}) == made.model_dump(exclude={"policies", "routes"})
    assert (written.policies, written.routes) == (made.policies, made.routes)
    assert written.warnings == made.warnings == ()


def test_every_finding_is_kept_with_its_path_and_line(refused: Refused) -> None:
    found = refused(
        """\
polices: []
max_headers: lots
policies:
  - telemtry
  - rate_limit: 50
  - rate_limit: {limt: x}
routes:
  - match: orders
    to: bleu
    headers: {x-tier: {prefx: g}}
  - match: GET /a
    to: bleu
    policies: [{rate_limit: {limit: nonsense}}]
  - match: GET /b
  - match: GET /b
    to: blue
clusters:
  blue: {urls: ["http://user:hunter2@a"], timeout: soon, balnce: x}
  green: {urls: ["http://127.0.0.1:2"]}
"""
    )
    places = [(problem.line, problem.path) for problem in found]
    assert places == [
        (1, "polices"),
        (2, "max_headers"),
        (4, "policies[0]"),
        (5, "policies[1].rate_limit"),
        (6, "policies[2].rate_limit.limit"),
        (6, "policies[2].rate_limit.limt"),
        (8, "routes[0].match"),
        (9, "routes[0].to"),
        (10, "routes[0].headers.x-tier"),
        (12, "routes[1].to"),
        (13, places[10][1]),
        (14, "routes[2]"),
        (15, "routes[3]"),
        (18, "clusters.blue.urls"),
        (18, "clusters.blue.timeout"),
        (18, "clusters.blue.balnce"),
        (19, "clusters.green"),
    ]
    assert places[10][1].startswith("routes[1].policies[0].rate_limit")
    text = str(ConfigRefused(found))
    assert "hunter2" not in text
    assert "'polices'" not in text
    assert "did you mean 'policies'?" in text
    assert "there is no policy 'telemtry': did you mean 'telemetry'?" in text
    assert "there is no cluster 'bleu': did you mean 'blue'?" in text
    assert "is called 'GET /b', as is routes[2] in gw.yaml:14: give it a name" in text
    assert "gw.yaml:19: clusters.green: warning: no route leads to this cluster" in text


@pytest.mark.parametrize(
    ("source", "path", "words"),
    [
        ({"routes": {"a": 1}}, "routes", "is a list"),
        ({"policies": "telemetry"}, "policies", "is a list"),
        ({"clusters": ["x"]}, "clusters", "is a mapping of names to clusters"),
        ({"routes": ["/a"]}, "routes[0]", "is a mapping of settings"),
        ({"routes": [{1: 2}]}, "routes[0]", "the names of settings are text"),
        ({"routes": [{"match": "/a", "policies": 3}]}, "routes[0].policies", "is a list"),
        ({"routes": [{"match": "/a", "to": {"x": -1}}]}, "routes[0].to", "a whole number"),
        ({"routes": [{"name": "x"}]}, "routes[0].match", "is required"),
        ({"clusters": {"x": None}}, "clusters.x", "is a mapping of settings"),
        ({"clusters": {"x": {"self": 1}}}, "clusters.x.self", "there is no such setting"),
        ({"clusters": {"a b": {"urls": "http://a"}}}, "clusters.a b", "pattern"),
        ({"allow": ["slashes"]}, "allow[0]", "input should be"),
        ({1: 2}, "1", "there is no such setting"),
        ({"policies": [3]}, "policies[0]", "is the name of a policy"),
        ({"policies": [{}]}, "policies[0]", "is the name of a policy"),
        ({"policies": [{1: 2}]}, "policies[0]", "is the name of a policy"),
        ({"policies": [{"rate_limit": None, "limit": "1/second"}]}, "policies[0]", "indent the settings of rate_limit"),
        ({"policies": [{"telemetry": {}, "rate_limit": 1}]}, "policies[0]", "give each policy an entry of its own"),
        ({"policies": [{"telemetry": {1: 2}}]}, "policies[0].telemetry", "the names of settings are text"),
        ({"policies": [{"telemetry": {"self": 2}}]}, "policies[0].telemetry.self", "there is no such setting"),
        ({"policies": ["rate_limit"]}, "policies[0]", "is required"),
        ({"policies": [{"request_headers": "x"}]}, "policies[0].request_headers", "takes a mapping"),
        ({"policies": [Telemetry]}, "policies[0]", "is the name of a policy"),
    ],
)
def test_what_cannot_be_read_is_said_at_its_place(refused: Refused, source: Any, path: str, words: str) -> None:
    found = refused(source)
    assert [problem.path for problem in found] == [path]
    assert words in found[0].message


def test_entries_that_are_left_empty_are_nothing() -> None:
    config = config_from({"routes": None, "policies": None, "clusters": None})
    assert (config.routes, config.policies, config.clusters) == ((), (), {})


def test_several_documents_add_up_and_keep_who_said_what(refused: Refused) -> None:
    base = parse_text(
        "max_headers: 50\nclusters:\n  x: {urls: 'http://127.0.0.1:1'}\npolicies: [telemetry]", "base.yaml"
    )
    shop = parse_text(
        "max_headers: 50\nroutes:\n  - {match: /a, to: x}\npolicies: [{rate_limit: 1/second}]", "shop.yaml"
    )
    config = config_from(base, shop)
    assert [spec.kind for spec in config.policies] == ["telemetry", "rate_limit"]
    assert config.max_headers == 50
    found = refused(base, shop, parse_text("routes:\n  - {match: /b, to: y}", "third.yaml"))
    assert [str(problem) for problem in found] == ["third.yaml:2: routes[0].to: there is no cluster 'y': there is x"]


def test_two_documents_that_contradict_each_other_are_refused(refused: Refused) -> None:
    one = parse_text(
        "max_headers: 50\nclusters: {x: {urls: 'http://127.0.0.1:1'}}\nroutes:\n  - {match: /a, to: x}", "one.yaml"
    )
    two = parse_text(
        "max_headers: 60\nclusters: {x: {urls: 'http://127.0.0.1:2'}}\nroutes:\n  - {match: /a, to: x}", "two.yaml"
    )
    assert [str(problem) for problem in refused(one, two)] == [
        "two.yaml:1: max_headers: something else was said before (max_headers in one.yaml:1): keep one of them",
        "two.yaml:2: clusters.x: there is a cluster of that name already (clusters.x in one.yaml:2): rename one of them",
        "two.yaml:4: routes[0]: is called '/a', as is routes[0] in one.yaml:4: give it a name",
    ]


def test_a_cluster_that_cannot_be_read_is_still_there(refused: Refused) -> None:
    routes = [{"match": "/a", "to": "x"}, {"match": "b", "to": "x"}]
    found = refused({"routes": routes[:1], "clusters": {"x": {"urls": "nonsense"}}})
    assert [problem.path for problem in found] == ["clusters.x.urls"]
    both = refused({"routes": routes, "clusters": {"x": {"urls": "nonsense"}}})
    assert [problem.path for problem in both] == ["routes[1].match", "clusters.x.urls"]
    twice = refused({"clusters": {"x": {}}}, Document("", {"clusters": {"x": {}}}))
    assert [problem.path for problem in twice] == ["clusters.x", "clusters.x"]


def test_a_policy_that_cannot_be_read_says_nothing_of_the_order(refused: Refused) -> None:
    found = refused({"policies": [{"authn": 3}, {"rate_limit": {"limit": "1/second", "by": "user"}}]})
    assert all(problem.path.startswith("policies[0]") for problem in found)


def test_a_name_that_is_given_is_to_be_given_otherwise(refused: Refused) -> None:
    routes = [{"match": "/a", "to": "x", "name": "n"}, {"match": "/b", "to": "x", "name": "n"}]
    found = refused({"routes": routes, **CLUSTERS})
    assert [problem.message for problem in found] == ["is called 'n', as is routes[0]: give it another name"]


class _Inner(BaseModel):
    model_config = {"extra": "forbid"}
    token: SecretStr
    size: int | bool
    pair: Annotated[int, Field(gt=9)] | Annotated[int, Field(gt=9)] | str = ""


class Keyed(Spec):
    kind: ClassVar[str] = "keyed"
    positional: ClassVar[tuple[str, ...]] = ("keys",)
    keys: list[_Inner]


class Grumpy(Spec):
    kind: ClassVar[str] = "grumpy"

    @classmethod
    def shorthand(cls, value: Any) -> Any:
        raise ValueError("not today")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekit.config.entries.spec_class", {"keyed": Keyed, "grumpy": Grumpy}.__getitem__)


@pytest.mark.usefixtures("installed")
def test_nested_settings_have_their_own_paths_and_secrets_stay_unsaid(refused: Refused) -> None:
    keys = [{"token": "hunter2", "size": "hunter3", "hunter4": 1}, {"token": ["hunter2"], "size": 1, "pair": 5}]
    found = refused({"policies": [{"keyed": {"keys": keys}}, {"keyed": keys}, "grumpy"]})
    assert [problem.path for problem in found] == [
        "policies[0].keyed.keys[0].size",
        "policies[0].keyed.keys[0].hunter4",
        "policies[0].keyed.keys[1].token",
        "policies[0].keyed.keys[1].pair",
        "policies[1].keyed[0].size",
        "policies[1].keyed[0].hunter4",
        "policies[1].keyed[1].token",
        "policies[1].keyed[1].pair",
        "policies[2]",
    ]
    assert found[0].message.count("; or ") == 1
    assert all("hunter" not in problem.message for problem in found)


def test_what_comes_near_is_named_else_what_there_is() -> None:
    assert near("ordres", ["orders", "admin"]) == ": did you mean 'orders'?"
    assert near("zzz", ["orders", "admin"]) == ": there is admin, orders"
    assert near("zzz", []) == ": there is none at all"
    assert near("zzz", map(str, range(20))).endswith(", …")


_WORDS = st.sampled_from(
    ["routes", "clusters", "policies", "match", "to", "x", "/a", "GET /b/{id}", "~(", "headers", "urls", "http://a:1",
     "rate_limit", "2/second", "limit", "telemetry", "authn", "methods", "api_keys", "cors", "hosts", "*.a.b", "not",
     "regex", "self", "timeout", "1m", "priority", "name", "allow", "", "redirect", "respond", "path", "status", "by"]
)  # fmt: skip
_ANY = st.recursive(
    _WORDS | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.integers(0, 3), inner, max_size=3),
    max_leaves=8,
)
_ROUTE = st.fixed_dictionaries(
    {}, optional={"match": st.sampled_from(["/a", "GET /b", "~^/c", "d"]), "to": _ANY, "policies": st.lists(_ANY, max_size=2), "headers": _ANY, "hosts": _ANY, "name": _ANY, "client": _ANY}
)  # fmt: skip
_DOCUMENT = st.fixed_dictionaries(
    {},
    optional={
        "routes": st.lists(_ROUTE | _ANY, max_size=3), "clusters": st.dictionaries(_WORDS, _ANY, max_size=2),
        "policies": st.lists(_ANY, max_size=2) | _ANY, "max_headers": _ANY, "trusted_proxies": _ANY, "other": _ANY,
    },
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(_DOCUMENT | st.dictionaries(_WORDS, _ANY, max_size=3))
def test_whatever_a_document_says_it_is_a_configuration_or_refused(data: dict[str, Any]) -> None:
    try:
        config_from(data)
    except ConfigRefused as error:
        problems = error.problems
        assert any(problem.severity == "error" for problem in problems)


def test_a_spec_is_read_as_it_is() -> None:
    spec = limit("1/second")
    assert read_policy(spec) is spec
    with pytest.raises(Unreadable):
        read_policy(None)


def test_what_is_wrong_with_the_policies_together_is_said_of_the_first_document_that_has_some(refused: Refused) -> None:
    one = parse_text("max_headers: 9\npolicies: [{rate_limit: {limit: 1/second, by: user}}]", "one.yaml")
    two = parse_text("policies: [telemetry]", "two.yaml")
    assert [(problem.source, problem.line) for problem in refused(one, two)] == [("one.yaml", 2)]


def test_a_setting_that_a_spec_cannot_even_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(Spec):
        kind = "careless"

        def __init__(self, **fields: Any) -> None:
            super().__init__(**fields)

    monkeypatch.setattr(entries, "spec_class", lambda kind: Careless)
    with pytest.raises(ConfigRefused, match="a name that no setting can have"):
        config_from({"policies": [{"careless": {"self": 2}}]})
