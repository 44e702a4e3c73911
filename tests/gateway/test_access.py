"""Authorisation as a whole gateway has it: what the validator says, what explain says, what routes and gateway add up to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.policies.authn.jwt_scene import ISSUER, KEYS, NOW, made

from gatekit import ANONYMOUS, Authn, Authz, Cluster, Gateway, Identity, Route, jwt
from gatekit.core.policy import Spec
from gatekit.testing import ManualClock, call, test_ports

TOKENS = jwt(issuer=ISSUER, audience="shop", jwks=KEYS)


async def backend(scope: Any, receive: Any, send: Any) -> None:
    body = scope["user"].subject.encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def gateway(*policies: Spec, routes: list[Route]) -> Gateway:
    return Gateway(
        policies=list(policies),
        routes=routes,
        clusters={"app": Cluster(app=backend)},
        ports=test_ports(clock=ManualClock(wall=NOW)),
    )


def route(match: str, *policies: Spec) -> Route:
    return Route(match, to="app", name=match, policies=list(policies))


SHOP = [
    route("/orders/{tenant}", Authz(scopes="orders:read")),
    route("/health", Authn(TOKENS, optional=True), Authz(public=True)),
    route("/forgotten"),
]


async def test_az1_a_route_that_nobody_said_anything_of_is_closed_and_listed() -> None:
    shop = gateway(Authn(TOKENS), Authz(), routes=SHOP)
    (warning,) = shop.plan.warnings
    assert "routes[2]" in str(warning)
    assert "public" in str(warning)
    headers = {"authorization": f"Bearer {made().decode()}"}
    said = [(await call(shop, target=target, headers=headers)) for target in ("/orders/acme", "/health", "/forgotten")]
    assert [(one.status, one.body if one.status == 200 else one.json()["code"]) for one in said] == [
        (200, b"ann"), (200, b"ann"), (403, "authz.denied"),
    ]  # fmt: skip
    assert [(await call(shop, target=target)).status for target in ("/orders/acme", "/health", "/forgotten")] == [
        401, 200, 401,
    ]  # fmt: skip


def test_az1_a_route_that_allows_nothing_of_its_own_is_listed_too() -> None:
    shop = gateway(Authn(TOKENS), routes=[route("/forgotten", Authz()), route("/open", Authz(public=True))])
    (warning,) = shop.plan.warnings
    assert str(warning).startswith("routes[0].policies: warning: authz:")


async def test_az2_what_the_gateway_denies_no_route_allows() -> None:
    deny = Authz(public=True, deny=[{"id": "suspended", "claims": {"suspended": True}}])
    shop = gateway(Authn(TOKENS), deny, routes=[route("/a", Authz(public=True)), route("/b")])
    bad = {"authorization": f"Bearer {made(suspended=True).decode()}"}
    good = {"authorization": f"Bearer {made().decode()}"}
    assert [(await call(shop, target=path, headers=bad)).status for path in ("/a", "/b")] == [403, 403]
    assert [(await call(shop, target=path, headers=good)).status for path in ("/a", "/b")] == [200, 200]


async def test_a_request_that_no_route_takes_learns_nothing() -> None:
    shop = gateway(Authn(TOKENS), Authz(), routes=SHOP)
    headers = {"authorization": f"Bearer {made().decode()}"}
    assert (await call(shop, target="/nowhere", headers=headers)).status == 403
    assert (await call(shop, target="/nowhere")).status == 401


def test_az5_explain_names_the_rule_that_decides_for_this_caller() -> None:
    shop = gateway(
        Authn(TOKENS),
        routes=[route("/orders/{tenant}", Authz(allow=[{"id": "own", "tenants": {"param": "tenant"}}]))],
    )
    ann = Identity("ann", tenant="acme", scheme="jwt", claims={"tenant_id": "acme"})
    passed = shop.explain("GET", "/orders/acme", identity=ann)
    refused = shop.explain("GET", "/orders/other", identity=ann)
    nobody = shop.explain("GET", "/orders/acme")
    assert [kind for kind, _ in passed.policies] == ["authz"]
    assert "own" in str(passed)
    assert str(passed) != str(refused)
    assert "default" in str(refused)
    assert "acme" not in "".join(line for _, lines in refused.policies for line in lines)
    assert nobody.policies
    assert shop.explain("GET", "/nowhere").policies == ()
    assert ANONYMOUS.subject == ""


def test_the_status_has_what_policies_tell_and_no_secret() -> None:
    shop = gateway(Authn(TOKENS), Authz(), routes=SHOP)
    said = shop.status()["policies"]
    assert json.loads(json.dumps(said)) == said
    owners = [(one["owner"], one["policy"]) for one in said]
    assert ("gateway", "authn") in owners
    assert ("route:/orders/{tenant}", "authz") in owners


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_policies_of_a_gateway_stand_in_order_of_their_stages(order: tuple[int, int]) -> None:
    both: list[Spec] = [Authn(TOKENS), Authz(authenticated=True)]
    assert gateway(*(both[place] for place in order), routes=[route("/")]).plan.no_route.kinds == ("authn", "authz")
