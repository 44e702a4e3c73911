"""How rules are written: every form, every refusal, where the policy stands, and what two of them come to."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from gatekit.config.entries import read_policy
from gatekit.config.printed import digest
from gatekit.config.schema import json_schema
from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.policy import IDENTITY, Stage
from gatekit.core.ports import Ports
from gatekit.errors import MisplacedPolicy
from gatekit.policies.authz import Authz, CertificateTest, ClaimTest, Param, Rule, ShadowPolicy, TextTest
from gatekit.policies.authz.rules import Decider
from gatekit.testing import ManualClock, decide, request

EXAMPLE = """
authz:
  allow:
    - id: owners
      scopes: [orders:read]
      claims: {tenant: {param: tenant}}
    - any:
        - roles: [admin]
        - all: [{clients: [batch]}, {hours: "22:00-06:00 +01:00"}]
  deny:
    - not: {networks: [10.0.0.0/8]}
  shadow:
    id: stricter
    deny:
      - headers: {x-legacy: {present: true}}
"""

OWNER = Identity("ann", scopes=frozenset({"orders:read"}), claims={"tenant": "acme"}, scheme="jwt")
BATCH = Identity("job", client="batch", scheme="api_key")


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(json.dumps(json_schema())))


def test_a_document_reads_well_and_does_what_it_says(validator: Draft202012Validator) -> None:
    document = yaml.safe_load(EXAMPLE)
    validator.validate({"policies": [document]})
    spec = read_policy(document)
    assert isinstance(spec, Authz)
    policy = spec.bind(clock=ManualClock())
    inside: dict[str, Any] = {"client": "10.0.0.1", "params": {"tenant": "acme"}}
    for identity, given, rule in (
        (OWNER, inside, "owners"), (BATCH, inside, "allow[1]"), (OWNER, {**inside, "params": {"tenant": "x"}}, "default"),
        (OWNER, {**inside, "client": "11.0.0.1"}, "deny[0]"),
    ):  # fmt: skip
        exchange = request(identity=identity, **given)
        assert (decide(policy, exchange) is None) is (rule not in ("default", "deny[0]"))
        assert exchange.facts["authz.rule"] == rule


def test_python_and_a_document_say_the_same() -> None:
    spec = Authz(
        allow=[
            Rule(id="owners", scopes=["orders:read"], claims={"tenant": ClaimTest(param="tenant")}),
            Rule(any=[Rule(roles=["admin"]), Rule(all=[Rule(clients="batch"), Rule(hours="22:00-06:00 +01:00")])]),
        ],
        deny=[Rule(not_=Rule(networks=["10.0.0.0/8"]))],
        shadow=[ShadowPolicy(id="stricter", deny=[Rule(headers={"x-legacy": TextTest(present=True)})])],
    )
    assert read_policy(yaml.safe_load(EXAMPLE)) == spec
    assert Authz.model_validate(spec.model_dump()) == spec
    assert Authz.model_validate(json.loads(spec.model_dump_json(by_alias=True))) == spec
    assert digest(spec) == digest(Authz.model_validate(spec.model_dump()))


def test_conditions_at_the_top_are_one_rule() -> None:
    assert Authz(roles=["a"], methods=["GET"]).allowances() == (Rule(roles=["a"], methods=["GET"]),)
    assert Authz(not_=Rule(roles=["a"])).allowances() == (Rule.model_validate({"not": {"roles": "a"}}),)
    assert Authz(public=True).allowances() == ()
    assert Authz(deny=[]).denials() == ()


def test_a_name_alone_may_stand_for_a_list() -> None:
    assert Authz(scopes="a", roles="b", networks="10.0.0.0/8") == Authz(
        scopes=["a"], roles=["b"], networks=["10.0.0.0/8"]
    )
    assert Authz(subjects={"param": "user"}) == Authz(subjects=[Param(param="user")])
    assert Authz(roles={"b"}).roles == ("b",)


def test_yaml_makes_dates_of_dates() -> None:
    rule = Rule.model_validate(yaml.safe_load("since: 2026-01-31\nuntil: 2026-12-31T18:00:00+01:00"))
    assert (rule.since, rule.until) == ("2026-01-31", "2026-12-31T18:00:00+01:00")
    assert Rule(since=date(2026, 1, 31), until=datetime(2026, 12, 31, 18, 0)).until == "2026-12-31T18:00:00"  # noqa: DTZ001


async def waits(exchange: Exchange) -> bool:
    return True


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Rule(), "would let everybody pass"),
        (lambda: Authz(allow=[{}]), "would let everybody pass"),
        (lambda: Authz(deny=[{}]), "would let everybody pass"),
        (lambda: Authz(not_={}), "would let everybody pass"),
        (lambda: Authz(allow=[]), "at least 1 item"),
        (lambda: Authz(scopes=[]), "at least 1 item"),
        (lambda: Authz(any=[]), "at least 1 item"),
        (lambda: Authz(claims={}), "at least 1 item"),
        (lambda: Authz(shadow=[]), "at least 1 item"),
        (lambda: Authz(scopes=["a b"]), "match pattern"),
        (lambda: Authz(roles=["a"], allow=[{"roles": "b"}]), "roles and allow stand beside each other"),
        (lambda: Authz(public=True, roles=["a"]), "public allows everybody"),
        (lambda: Authz(public=True, allow=[{"roles": "b"}]), "public allows everybody"),
        (lambda: Authz.shorthand({"rolls": ["a"]}), "rolls"),
        (lambda: Authz(allow=[{"rolls": ["a"]}]), "rolls"),
        (lambda: Authz(allow=[{"id": "a b", "roles": "x"}]), "an id is made of letters"),
        (lambda: Authz(allow=[{"id": "a", "roles": "x"}], deny=[{"id": "a", "roles": "y"}]), "two have the id 'a'"),
        (lambda: Authz(any=[{"id": "a", "roles": "x"}]), "only a whole rule has an id"),
        (lambda: Authz(not_=Rule(id="a", roles="x")), "only a whole rule has an id"),
        (lambda: Authz(methods=["GET POST"]), "is no method"),
        (lambda: Authz(paths=["admin"]), "must begin with a slash"),
        (lambda: Authz(networks=["10.0.0.0/33"]), "is no network"),
        (lambda: Authz(headers={"a b": "x"}), "not a header name"),
        (lambda: Authz(headers={"a": {"regex": "(?=x)"}}), "RE2 has no look-around"),
        (lambda: Authz(headers={"a": {}}), "say what the value must be"),
        (lambda: Authz.shorthand({"headers": {"a": None}}), "say what the value must be"),
        (lambda: Authz.shorthand({"headers": {"a": 3}}), "valid string"),
        (lambda: Authz(headers={"a": {"contains": "x"}}), "contains"),
        (lambda: Authz(headers={"a": {"present": True, "prefix": "x"}}), "present and absent stand alone"),
        (lambda: Authz(headers={"a": {"present": False}}), "True"),
        (lambda: Authz.shorthand({"claims": {"a": ["x"]}}), "for one of several values write {one_of"),
        (lambda: Authz(claims={"a": {"one_of": []}}), "at least 1 item"),
        (lambda: Authz(claims={"a": {"above": "3"}}), "above"),
        (lambda: Authz(claims={"a": {"above": True}}), "above"),
        (lambda: Authz.shorthand({"claims": {"a": date(2026, 1, 1)}}), "exact"),
        (lambda: Authz(claims={"a..b": "y"}), "not a path to a claim"),
        (lambda: Authz(claims={'a."b': "y"}), "in double quotes"),
        (lambda: Authz(certificate={}), "write names that the certificate must have"),
        (lambda: Authz(certificate={"present": True, "dns": "a"}), "write names that the certificate must have"),
        (lambda: Authz(certificate=CertificateTest(dns=["*" * 2000])), "at most 1024"),
        (lambda: Authz(hours="8-18"), "write days, hours and a time zone"),
        (lambda: Authz(since="tomorrow"), "write a date"),
        (lambda: Authz.shorthand({"holds": waits}), "it may not wait for anything"),
        (lambda: Authz.shorthand({"holds": "x"}), "a condition is a function of the exchange"),
        (lambda: Authz(challenge="Bearer\r\nx: y"), "a challenge is a scheme"),
        (lambda: Authz(challenge=""), "a challenge is a scheme"),
        (lambda: Authz(public=True, shadow={}), "a shadow policy has allow or deny rules"),
        (lambda: Authz(public=True, shadow={"public": True, "allow": [{"roles": "a"}]}), "leave out allow, or public"),
        (lambda: Authz(public=True, shadow={"id": "a b", "deny": []}), "an id is made of letters"),
        (lambda: Authz(public=True, shadow=[{"id": "a", "deny": []}, {"id": "a", "deny": []}]), "two have the id 'a'"),
        (lambda: ShadowPolicy(allow=[{"id": "a", "roles": "x"}], deny=[{"id": "a", "roles": "x"}]), "two have the id"),
    ],
)
def test_a_mistake_is_refused_with_what_to_do(make: Callable[[], object], why: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert why in str(caught.value)


def test_nothing_is_given_by_position() -> None:
    made: Any = Authz
    with pytest.raises(TypeError, match="takes 0 positional"):
        made(["orders:read"])
    with pytest.raises(MisplacedPolicy, match=r"gatekit\.asgi\.Authz"):
        made(lambda scope: None)
    with pytest.raises(ValueError, match="takes a mapping"):
        Authz.shorthand("public")


def test_where_it_stands() -> None:
    assert Authz(public=True).placement().stage is Stage.AUTHORISE
    assert Authz(public=True).placement().provides == {"authz.rule"}


class Silent:
    """A condition from outside."""

    asks = False

    def bind_to(self, ports: Ports) -> Decider:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        (Authz(), False),
        (Authz(public=True), False),
        (Authz(networks=["10.0.0.0/8"], methods=["GET"], hours="08:00-18:00"), False),
        (Authz(public=True, deny=[{"methods": "PUT"}]), False),
        (Authz(roles=["a"]), True),
        (Authz(public=True, deny=[{"not": {"any": [{"authenticated": True}]}}]), True),
        (Authz(public=True, shadow={"allow": [{"all": [{"claims": {"a": "b"}}]}]}), True),
        (Authz(holds=Silent()), True),
        (Authz(external={"url": "https://authoriser.example/decide"}), False),
    ],
)
def test_it_comes_after_identification_where_a_rule_asks_who_calls(spec: Authz, needs: bool) -> None:
    assert (IDENTITY in spec.placement().requires) is needs


# -- a route's policy over the gateway's


def decisions(spec: Authz, **given: Any) -> str:
    exchange = request(identity=Identity("ann", roles=frozenset({"clerk"}), scheme="jwt"), **given)
    decide(spec.bind(clock=ManualClock()), exchange)
    return str(exchange.facts["authz.rule"])


GATEWAY = Authz(
    allow=[{"roles": "clerk"}, {"id": "x", "roles": "admin"}],
    deny=[{"methods": "PUT"}, {"id": "d", "methods": "PATCH"}],
)
CLERK = Rule(id="x", roles=["clerk"])


@pytest.mark.parametrize(
    ("route", "method", "rule"),
    [
        (Authz(roles=["clerk"]), "GET", "allow[0]"),
        (Authz(roles=["admin"]), "GET", "default"),
        (Authz(public=True), "GET", "public"),
        (Authz(public=True), "PUT", "gateway.deny[0]"),
        (Authz(public=True), "PATCH", "d"),
        (Authz(public=True, deny=[{"id": "d", "methods": "DELETE"}]), "PATCH", "gateway.d"),
        (Authz(public=True, deny=[{"methods": "DELETE"}]), "DELETE", "deny[0]"),
        (Authz(deny=[{"methods": "DELETE"}]), "GET", "gateway.allow[0]"),
        (Authz(deny=[{"methods": "DELETE"}]), "DELETE", "deny[0]"),
        (Authz(), "GET", "gateway.allow[0]"),
        (Authz(allow=[CLERK]), "GET", "x"),
    ],
)
def test_a_route_allows_in_place_of_the_gateway_and_both_deny(route: Authz, method: str, rule: str) -> None:
    both = route.over(GATEWAY)
    assert type(both) is Authz
    assert decisions(both, method=method) == rule
    assert Authz(public=True).over(Authz()) == Authz(public=True)


def test_a_gateway_may_have_several_of_them() -> None:
    both = Authz(public=True, shadow={"deny": []}).over(GATEWAY).over(GATEWAY)
    assert [rule.id for rule in both.denials()] == ["gateway.deny[0]", "d", "gateway.gateway.deny[0]", "gateway.d"]
    assert decisions(both) == "public"


def test_a_gateway_that_is_public_stays_so_where_a_route_says_nothing() -> None:
    assert decisions(Authz(deny=[{"methods": "PUT"}]).over(Authz(public=True))) == "public"
    assert decisions(Authz(roles=["x"]).over(Authz(public=True))) == "default"


def test_the_challenge_is_the_routes_where_it_has_one() -> None:
    outer, inner = Authz(public=True, challenge="ApiKey"), Authz(public=True, challenge="Basic")
    assert Authz(public=True).over(outer).challenge == "ApiKey"
    assert inner.over(outer).challenge == "Basic"


def told(spec: Authz, **given: Any) -> dict[str, Any]:
    """What the shadows of a policy say, and what candidates in force would."""
    exchange = request(identity=Identity("ann", roles=frozenset({"clerk"}), scheme="jwt"), **given)
    decide(spec.bind(clock=ManualClock()), exchange)
    return dict(part.split(":", 1) for part in exchange.facts.get("authz.shadow", "").split(",") if part)


def test_the_candidates_of_both_are_what_they_would_be_in_force() -> None:
    outer = Authz(
        roles=["clerk"], deny=[{"methods": "PUT"}],
        shadow=[{"deny": [{"methods": "PATCH"}]}, {"id": "s", "allow": [{"roles": "admin"}]}, {"public": True, "deny": []}],
    )  # fmt: skip
    inner = Authz(
        roles=["clerk"], deny=[{"methods": "DELETE"}], shadow=[{"id": "s", "deny": []}, {"allow": [{"roles": "x"}]}]
    )
    both = inner.over(outer)
    assert told(both, method="GET") == {"shadow[1]": "would_deny:default"}
    # The gateway's first would deny PATCH in place of PUT, its third denies what the route denies and nothing else.
    assert told(both, method="PUT") == {
        "gateway.shadow[0]": "would_allow:allow[0]",
        "gateway.shadow[2]": "would_allow:allow[0]",
    }
    assert told(both, method="PATCH") == {"shadow[1]": "would_deny:default", "gateway.shadow[0]": "would_deny:deny[1]"}
    # The route's first has no deny rules of its own: those of the gateway stay.
    assert told(both, method="DELETE") == {"s": "would_allow:allow[0]"}
    assert [one.id for one in both.shadow or ()] == ["s", None, "gateway.shadow[0]", "gateway.shadow[2]"]
    # A candidate that only allows otherwise is no other policy on a route that says itself what it allows.
    silent = Authz(deny=[{"methods": "DELETE"}]).over(outer)
    assert told(silent, method="GET") == {"s": "would_deny:default"}


# -- remarks


@pytest.mark.parametrize(
    ("spec", "remark"),
    [
        (Authz(), "nothing here allows anything: every request is answered 403; write public: true, or a rule"),
        (Authz(deny=[{"roles": "x"}]), "nothing here allows anything"),
        (Authz(authenticated=False, roles=["x"]), "the rule allow[0] never holds"),
        (Authz(all=[{"authenticated": False}, {"claims": {"a": 1}}]), "the rule allow[0] never holds"),
        (Authz(public=True, deny=[{"id": "d", "authenticated": False, "tenants": "x"}]), "the rule d never holds"),
        (Authz(allow=[{"roles": "a"}, {"id": "b", "roles": "a", "methods": "GET"}]),
         "the rule b makes no difference: whatever it allows allow[0] allows; take one of them out"),
        (Authz(allow=[{"roles": "a", "methods": "GET"}, {"roles": "a"}]), "the rule allow[0] makes no difference"),
        (Authz(allow=[{"roles": "a"}, {"all": [{"roles": "a"}]}]), "the rule allow[1] makes no difference"),
        (Authz(allow=[{"roles": "a", "methods": "PUT"}], deny=[{"methods": "PUT"}]),
         "the rule allow[0] never allows: whenever it holds deny[0] denies; take one of them out"),
    ],
)  # fmt: skip
def test_az1_a_validator_is_told_what_is_doubtful(spec: Authz, remark: str) -> None:
    (found,) = spec.remarks()
    assert found.startswith(remark)


@pytest.mark.parametrize(
    "spec",
    [
        Authz(public=True),
        Authz(roles=["x"]),
        Authz(authenticated=False, methods=["GET"]),
        Authz(
            allow=[{"roles": "a"}, {"roles": "b"}, {"roles": ["a", "b"], "methods": "GET"}], deny=[{"methods": "PUT"}]
        ),
        Authz(roles=["a"], deny=[{"roles": "b", "methods": "PUT"}]),
    ],
)
def test_what_is_plain_needs_no_remark(spec: Authz) -> None:
    assert spec.remarks() == []
