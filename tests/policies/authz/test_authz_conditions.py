"""Every condition: when it holds, when it does not, and what becomes of it where the request has not what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gatekit.core import certificate
from gatekit.core.certificate import Certificate
from gatekit.core.exchange import Exchange
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.policies.authz import Authz
from gatekit.testing import ManualClock, decide, request

ANN = Identity(
    "ann",
    issuer="https://idp.example",
    tenant="acme",
    client="batch",
    scopes=frozenset({"orders:read", "orders:write"}),
    roles=frozenset({"clerk", "auditor"}),
    scheme="jwt",
    claims={
        "tenant": "acme", "level": 3, "ratio": 0.5, "admin": True, "one": 1, "nothing": None, "odd": "a\ud800",
        "groups": ["a", "b", 7, True], "realm_access": {"roles": ["dev"], "x": {"y": "z"}},
        "https://example.com/plan~b": "gold", "user_id": 42, "big": 10**400, "nan": float("nan"), "mail": "a@x.example",
    },
)  # fmt: skip
BARE = Identity("bob", scheme="api_key")

HOLDS, FAILS, MISSING = "holds", "fails", "missing"


def passes(spec: Authz, exchange: Exchange) -> bool:
    return decide(spec.bind(clock=ManualClock()), exchange) is None


def make(given: Mapping[str, Any]) -> Exchange:
    return request(**{"identity": ANN, "params": {"tenant": "acme", "id": "42", "empty": ""}, **given})


def check(condition: Mapping[str, Any], given: Mapping[str, Any], answer: str) -> None:
    """One condition in its four places. What is missing is taken as it is worse for the caller."""
    rule, turned = dict(condition), {"not": dict(condition)}
    found = (
        passes(Authz.shorthand({"allow": [rule]}), make(given)),
        passes(Authz.shorthand({"allow": [turned]}), make(given)),
        passes(Authz.shorthand({"public": True, "deny": [rule]}), make(given)),
        passes(Authz.shorthand({"public": True, "deny": [turned]}), make(given)),
        passes(Authz.shorthand({"allow": [{"not": turned}]}), make(given)),
        passes(Authz.shorthand({"public": True, "deny": [{"not": turned}]}), make(given)),
    )
    assert found == {
        HOLDS: (True, False, False, True, True, False),
        FAILS: (False, True, True, False, False, True),
        MISSING: (False, False, True, False, False, True),
    }[answer]  # fmt: skip


ANYBODY: dict[str, Any] = {}
NOBODY = {"identity": ANONYMOUS}
UNSEEN = {"identity": None}
BOB = {"identity": BARE}
NO_PARAMS: dict[str, Any] = {"params": {}}


@pytest.mark.parametrize(
    ("condition", "given", "answer"),
    [
        ({"scopes": ["orders:read", "orders:write"]}, ANYBODY, HOLDS),
        ({"scopes": "orders:read"}, ANYBODY, HOLDS),
        ({"scopes": ["orders:read", "orders:delete"]}, ANYBODY, FAILS),
        ({"scopes": ["orders"]}, ANYBODY, FAILS),
        ({"scopes": ["orders:read"]}, BOB, FAILS),
        ({"scopes": ["orders:read"]}, NOBODY, MISSING),
        ({"scopes": ["orders:read"]}, UNSEEN, MISSING),
        ({"any_scope": ["orders:read", "orders:delete"]}, ANYBODY, HOLDS),
        ({"any_scope": ["orders:delete", "a"]}, ANYBODY, FAILS),
        ({"any_scope": ["a"]}, NOBODY, MISSING),
        ({"roles": ["admin", "clerk"]}, ANYBODY, HOLDS),
        ({"roles": "admin"}, ANYBODY, FAILS),
        ({"roles": "admin"}, NOBODY, MISSING),
        ({"all_roles": ["auditor", "clerk"]}, ANYBODY, HOLDS),
        ({"all_roles": ["admin", "clerk"]}, ANYBODY, FAILS),
        ({"all_roles": ["admin"]}, UNSEEN, MISSING),
        ({"subjects": ["bob", "ann"]}, ANYBODY, HOLDS),
        ({"subjects": "bob"}, ANYBODY, FAILS),
        ({"subjects": {"param": "tenant"}}, ANYBODY, FAILS),
        ({"subjects": {"param": "who"}}, {"params": {"who": "ann"}}, HOLDS),
        ({"subjects": ["x", {"param": "tenant"}, {"param": "who"}]}, {"params": {"who": "ann"}}, HOLDS),
        ({"subjects": {"param": "who"}}, ANYBODY, MISSING),
        ({"subjects": ["ann", {"param": "who"}]}, ANYBODY, HOLDS),
        ({"subjects": "ann"}, NOBODY, MISSING),
        ({"issuers": "https://idp.example"}, ANYBODY, HOLDS),
        ({"issuers": "https://idp.example/"}, ANYBODY, FAILS),
        ({"issuers": "x"}, NOBODY, MISSING),
        ({"clients": ["batch"]}, ANYBODY, HOLDS),
        ({"clients": ["web"]}, ANYBODY, FAILS),
        ({"clients": ["web"]}, BOB, MISSING),
        ({"tenants": ["acme"]}, ANYBODY, HOLDS),
        ({"tenants": {"param": "tenant"}}, ANYBODY, HOLDS),
        ({"tenants": {"param": "id"}}, ANYBODY, FAILS),
        ({"tenants": {"param": "tenant"}}, NO_PARAMS, MISSING),
        ({"tenants": {"param": "tenant"}}, BOB, MISSING),
        ({"schemes": ["jwt", "mtls"]}, ANYBODY, HOLDS),
        ({"schemes": ["mtls"]}, ANYBODY, FAILS),
        ({"schemes": ["mtls"]}, NOBODY, MISSING),
        ({"authenticated": True}, ANYBODY, HOLDS),
        ({"authenticated": True}, NOBODY, FAILS),
        ({"authenticated": True}, UNSEEN, FAILS),
        ({"authenticated": False}, NOBODY, HOLDS),
        ({"authenticated": False}, ANYBODY, FAILS),
        ({"methods": ["post", "DELETE"]}, {"method": "DELETE"}, HOLDS),
        ({"methods": ["GET"]}, {"method": "HEAD"}, HOLDS),
        ({"methods": ["HEAD"]}, ANYBODY, FAILS),
        ({"methods": ["POST"]}, {"method": "HEAD"}, FAILS),
        ({"paths": ["/a", "/v1/orders/{id}"]}, {"target": "/v1/orders/7"}, HOLDS),
        ({"paths": ["/a", "/b"]}, {"target": "/x/../b?q=1"}, HOLDS),
        ({"paths": ["/admin/*"]}, {"target": "/adminx"}, FAILS),
        ({"paths": ["/a"]}, {"target": "/a/"}, FAILS),
        ({"params": {"tenant": "acme"}}, ANYBODY, HOLDS),
        ({"params": {"tenant": {"prefix": "ac"}, "id": {"regex": "[0-9]+"}}}, ANYBODY, HOLDS),
        ({"params": {"tenant": {"one_of": ["a", "b"]}}}, ANYBODY, FAILS),
        ({"params": {"who": "x"}}, ANYBODY, MISSING),
        ({"params": {"tenant": {"param": "who"}}}, ANYBODY, MISSING),
        ({"params": {"tenant": {"param": "id"}}}, ANYBODY, FAILS),
        ({"params": {"empty": {"present": True}}}, ANYBODY, HOLDS),
        ({"params": {"who": {"present": True}}}, ANYBODY, FAILS),
        ({"params": {"who": {"absent": True}}}, ANYBODY, HOLDS),
        ({"params": {"id": {"absent": True}}}, ANYBODY, FAILS),
        ({"headers": {"X-Tier": "gold"}}, {"headers": {"x-tier": "gold"}}, HOLDS),
        ({"headers": {"X-Tier": "gold"}}, {"headers": {"x-tier": "Gold"}}, FAILS),
        ({"headers": {"X-Tier": "gold"}}, {"headers": {"x_tier": "gold"}}, MISSING),
        ({"headers": {"X-Tier": {"regex": "g.*", "prefix": "go"}}}, {"headers": {"x-tier": "gold"}}, HOLDS),
        ({"headers": {"X-Tier": {"regex": "g.*", "prefix": "gu"}}}, {"headers": {"x-tier": "gold"}}, FAILS),
        ({"headers": {"x-tenant": {"param": "tenant"}}}, {"headers": {"x-tenant": "acme"}}, HOLDS),
        ({"headers": {"x-tenant": {"param": "who"}}}, {"headers": {"x-tenant": "acme"}}, MISSING),
        ({"headers": {"x-tier": {"present": True}}}, {"headers": {"x-tier": ""}}, HOLDS),
        ({"headers": {"x-tier": {"present": True}}}, ANYBODY, FAILS),
        ({"headers": {"x-tier": {"absent": True}}}, ANYBODY, HOLDS),
        ({"headers": {"x-tier": {"absent": True}}}, {"headers": {"x-tier": ""}}, FAILS),
        ({"headers": {"x-tier": "gold"}}, {"headers": [("x-tier", "gold"), ("x-tier", "gold")]}, HOLDS),
        ({"headers": {"x-tier": {"present": True}}}, {"headers": [("x-tier", "a"), ("x-tier", "b")]}, HOLDS),
        ({"networks": ["10.0.0.0/8", "2001:db8::/32"]}, {"client": "10.255.0.1"}, HOLDS),
        ({"networks": ["10.0.0.0/8", "2001:db8::/32"]}, {"client": "2001:db8:1::1"}, HOLDS),
        ({"networks": ["10.0.0.0/8"]}, {"client": "::ffff:10.0.0.1"}, HOLDS),
        ({"networks": ["::ffff:10.0.0.0/104"]}, {"client": "10.0.0.1"}, HOLDS),
        ({"networks": ["10.0.0.0/8", "2001:db8::/32"]}, {"client": "11.0.0.0"}, FAILS),
        ({"networks": ["10.0.0.0/8"]}, {"client": "2001:db8::1"}, FAILS),
        ({"networks": ["10.0.0.0/8"]}, {"client": None}, MISSING),
        ({"networks": ["10.0.0.0/8"]}, {"client": "unix"}, MISSING),
        ({"hours": "00:00-24:00"}, ANYBODY, HOLDS),
        ({"hours": ["mon-fri 08:00-18:00 +01:00", "22:13-22:14"]}, ANYBODY, HOLDS),
        ({"hours": "22:14-22:13"}, ANYBODY, FAILS),
        ({"since": "2023-11-14"}, ANYBODY, HOLDS),
        ({"since": "2023-11-14 22:13:20"}, ANYBODY, HOLDS),
        ({"since": "2023-11-14 22:13:21"}, ANYBODY, FAILS),
        ({"until": "2023-11-14"}, ANYBODY, HOLDS),
        ({"until": "2023-11-13"}, ANYBODY, FAILS),
        ({"until": "2023-11-14T22:13:20Z"}, ANYBODY, FAILS),
        ({"until": "2023-11-14T23:13:21 +01:00"}, ANYBODY, HOLDS),
        ({"any": [{"roles": "x"}, {"scopes": "orders:read"}]}, ANYBODY, HOLDS),
        ({"any": [{"roles": "x"}, {"scopes": "x"}]}, ANYBODY, FAILS),
        ({"any": [{"roles": "x"}, {"scopes": "x"}]}, NOBODY, MISSING),
        ({"all": [{"roles": "clerk"}, {"scopes": "orders:read"}]}, ANYBODY, HOLDS),
        ({"all": [{"roles": "clerk"}, {"scopes": "x"}]}, ANYBODY, FAILS),
        ({"roles": "clerk", "methods": "GET"}, ANYBODY, HOLDS),
        ({"roles": "clerk", "methods": "PUT"}, ANYBODY, FAILS),
    ],
)  # fmt: skip
def test_az2_a_condition_in_every_place(condition: dict[str, Any], given: dict[str, Any], answer: str) -> None:
    check(condition, given, answer)


@pytest.mark.parametrize(
    ("claim", "test", "answer"),
    [
        ("tenant", "acme", HOLDS),
        ("tenant", "Acme", FAILS),
        ("tenant", {"exact": "acme"}, HOLDS),
        ("tenant", {"param": "tenant"}, HOLDS),
        ("tenant", {"param": "id"}, FAILS),
        ("tenant", {"param": "who"}, MISSING),
        ("user_id", {"param": "id"}, HOLDS),
        ("level", {"param": "id"}, FAILS),
        ("admin", {"param": "id"}, FAILS),
        ("tenant", {"one_of": ["a", "acme"]}, HOLDS),
        ("level", {"one_of": [1, 2]}, FAILS),
        ("admin", True, HOLDS),
        ("admin", 1, FAILS),
        ("one", 1, HOLDS),
        ("one", 1.0, HOLDS),
        ("one", True, FAILS),
        ("one", "1", FAILS),
        ("one", {"one_of": [True, "1"]}, FAILS),
        ("level", {"above": 2}, HOLDS),
        ("level", {"above": 3}, FAILS),
        ("level", {"at_least": 3, "below": 4}, HOLDS),
        ("level", {"at_least": 4}, FAILS),
        ("level", {"below": 3}, FAILS),
        ("ratio", {"at_most": 0.5}, HOLDS),
        ("level", {"at_most": 2}, FAILS),
        ("big", {"above": 0.5}, HOLDS),
        ("nan", {"at_most": 1}, FAILS),
        ("admin", {"above": 0}, MISSING),
        ("tenant", {"above": 0}, MISSING),
        ("groups", {"contains": "a"}, HOLDS),
        ("groups", {"contains": 1}, FAILS),
        ("groups", {"contains": True}, HOLDS),
        ("groups", {"contains": {"param": "id"}}, FAILS),
        ("groups", {"contains": {"param": "who"}}, MISSING),
        ("tenant", {"contains": "a"}, MISSING),
        ("groups", "a", FAILS),
        ("realm_access.roles", {"contains": "dev"}, HOLDS),
        ("realm_access.x.y", "z", HOLDS),
        ('realm_access."x".y', "z", HOLDS),
        ("https://example.com/plan~b", "gold", HOLDS),
        ("realm_access.roles.0", "dev", MISSING),
        ("realm_access.x.q", "dev", MISSING),
        ("tenant.x", "dev", MISSING),
        ("nothing", "x", MISSING),
        ("nothing", {"present": True}, FAILS),
        ("tenant", {"present": True}, HOLDS),
        ("tenant", {"absent": True}, FAILS),
        ("sub", {"absent": True}, HOLDS),
        ("mail", {"regex": ".*@x\\.example", "prefix": "a@"}, HOLDS),
        ("mail", {"regex": "@x"}, FAILS),
        ("mail", {"prefix": "b"}, FAILS),
        ("level", {"regex": "3"}, MISSING),
        ("level", {"prefix": "3"}, MISSING),
        ("odd", {"regex": "a.*"}, MISSING),
    ],
)
def test_a_claim_is_what_it_has_to_be(claim: str, test: Any, answer: str) -> None:
    check({"claims": {claim: test}}, {}, answer)


@pytest.mark.parametrize("test", ["acme", {"present": True}, {"param": "tenant"}])
def test_nobody_has_claims(test: Any) -> None:
    check({"claims": {"tenant": test}}, NOBODY, MISSING)
    check({"claims": {"tenant": test}}, UNSEEN, MISSING)


def test_that_nobody_lacks_a_claim_is_no_merit() -> None:
    lacking = {"claims": {"blocked": {"absent": True}}}
    assert not passes(Authz.shorthand({"allow": [lacking]}), make(NOBODY))
    assert not passes(Authz.shorthand({"allow": [{"not": lacking}]}), make(NOBODY))
    assert not passes(Authz.shorthand({"public": True, "deny": [lacking]}), make(NOBODY))
    assert passes(Authz.shorthand({"public": True, "deny": [{"not": lacking}]}), make(NOBODY))


def test_a_header_that_comes_twice_counts_against_the_caller() -> None:
    twice = {"headers": [("x-tier", "gold"), ("x-tier", "free")]}
    gold = {"headers": {"x-tier": "gold"}}
    assert not passes(Authz.shorthand({"allow": [gold]}), make(twice))
    assert not passes(Authz.shorthand({"allow": [{"not": gold}]}), make(twice))
    assert not passes(Authz.shorthand({"public": True, "deny": [gold]}), make(twice))
    assert not passes(Authz.shorthand({"public": True, "deny": [{"not": gold}]}), make(twice))


def certified(**names: Any) -> Certificate:
    given: dict[str, Any] = {"common_name": None, "dns": (), "uris": (), "emails": (), **names}
    return Certificate(sha256=b"", subject="", not_before=None, not_after=None, **given)


SERVICE = certified(
    dns=("other.test", "A.svc.example"), uris=("spiffe://prod/ns/shop/sa/web",), emails=("ann@x.example",), common_name="web"
)  # fmt: skip


@pytest.mark.parametrize(
    ("test", "found", "answer"),
    [
        ({"present": True}, SERVICE, HOLDS),
        ({"present": True}, None, FAILS),
        ({"dns": "a.svc.example"}, SERVICE, HOLDS),
        ({"dns": ["b.example", "*.svc.example"]}, SERVICE, HOLDS),
        ({"dns": "*.example"}, SERVICE, FAILS),
        ({"dns": "**.example"}, SERVICE, HOLDS),
        ({"dns": "axsvc.example"}, SERVICE, FAILS),
        ({"dns": "a.svc.example"}, None, MISSING),
        ({"dns": "a.svc.example"}, certified(common_name="a.svc.example"), MISSING),
        ({"uris": "spiffe://prod/ns/*/sa/web"}, SERVICE, HOLDS),
        ({"uris": "spiffe://prod/**"}, SERVICE, HOLDS),
        ({"uris": "spiffe://prod/*"}, SERVICE, FAILS),
        ({"uris": "SPIFFE://prod/**"}, SERVICE, FAILS),
        ({"emails": "*@x.example"}, SERVICE, HOLDS),
        ({"emails": "*@x.example"}, certified(emails=("a@b@x.example",)), FAILS),
        ({"common_names": "web"}, SERVICE, HOLDS),
        ({"common_names": "web"}, certified(dns=("web",)), MISSING),
        ({"dns": "*.svc.example", "common_names": "web"}, SERVICE, HOLDS),
        ({"dns": "*.svc.example", "common_names": "api"}, SERVICE, FAILS),
    ],
)
def test_az2_a_certificate_is_what_it_has_to_be(
    monkeypatch: pytest.MonkeyPatch, test: dict[str, Any], found: Certificate | None, answer: str
) -> None:
    monkeypatch.setattr(certificate, "certificate_of", lambda exchange: found)
    check({"certificate": test}, {}, answer)
