"""How many Python calls it costs to know who calls and what they may do: a ratchet like that of `test_calls.py`.

What is counted is `decide()` of a bound policy for a caller who was let in before, by the process's own clocks, and one
whole request. When a change makes a number smaller, lower it here; when it has to grow, say why in the commit.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.core.certificates import made as certificate
from tests.policies.authn.jwt_scene import ISSUER, KEYS, made

from gatekit import (
    ApiKey,
    Authn,
    Authz,
    Exchange,
    Identity,
    Ports,
    Rule,
    api_keys,
    introspection,
    jwt,
    mtls,
    new_api_key,
)
from gatekit.asgi import Policies
from gatekit.core.door import Door
from gatekit.core.peers import Trust
from gatekit.core.ports import Cells
from gatekit.gateway.system import system_ports
from gatekit.testing import FakeFetch, FixedRandom, SeededRandom, decide, request, test_ports

NOW = time.time()
TOKEN = made("RS256", exp=NOW + 3600).decode()
KEY = new_api_key(SeededRandom().token)
URI = "spiffe://acme.example/ns/shop/orders"
CERTIFICATE = certificate(uris=(URI,), not_before=NOW - 3600.0, not_after=NOW + 3600.0)
XFCC = "x-forwarded-client-cert"
OPAQUE = {
    "active": True, "sub": "ann", "aud": "shop", "iss": ISSUER, "scope": "orders:read", "exp": NOW + 3600,
    "token_type": "Bearer",
}  # fmt: skip
ANN = Identity(
    "ann", issuer=ISSUER, tenant="acme", scopes=frozenset({"orders:read"}), claims={"sub": "ann"}, scheme="jwt"
)
TENANT = Rule(scopes="orders:read", tenants={"param": "tenant"})


def ports() -> Ports:
    """The process's clocks and stores: what reading them costs is counted."""
    real = system_ports()
    fetch = FakeFetch().answer("https://as.example/introspect", json=OPAQUE)
    return test_ports(clock=real.clock, stores=real.stores, cells=Cells(), fetch=fetch)


def asked(*headers: tuple[str, str], **given: Any) -> Exchange:
    plain = [("accept", "*/*"), ("user-agent", "curl/8"), ("x-one", "1"), ("x-two", "2")]
    return request("GET", "/v1/orders/42", headers=[*plain, *headers], **given)


def bearing(token: str = TOKEN) -> Exchange:
    return asked(("authorization", f"Bearer {token}"))


def over_tls() -> Exchange:
    exchange = asked()
    exchange.scope["extensions"] = {"tls": {"client_cert_chain": [CERTIFICATE.pem], "client_cert_error": None}}
    return exchange


def behind_envoy() -> Exchange:
    door = Door(FixedRandom(), trust=Trust(["10.0.0.1"], None, XFCC))
    return asked((XFCC, CERTIFICATE.xfcc()), client="10.0.0.1", door=door)


def known() -> Exchange:
    return asked(identity=ANN, params={"tenant": "acme"})


def authn(**fields: Any) -> Authn:
    return Authn(jwt(issuer=ISSUER, audience="shop", jwks=KEYS), **fields)


def introspected() -> Authn:
    return Authn(
        introspection(url="https://as.example/introspect", audience="shop", client_id="gw", client_secret="an-example")
    )


def twenty() -> Authz:
    return Authz(
        deny=[Rule(claims={"suspended": True}), Rule(clients=["bot"]), Rule(methods=["DELETE"], roles="guest")],
        allow=[*(Rule(roles=f"team-{number}", scopes="orders:read") for number in range(16)), TENANT],
    )


def shadowed() -> Authz:
    return Authz(scopes="orders:read", shadow=[{"id": "stricter", "allow": [TENANT]}])


SHAPES: dict[str, tuple[Callable[[], Any], Callable[[], Exchange], int]] = {
    "a token that is remembered": (authn, bearing, 9),
    "the same, with a list of revocations": (lambda: authn(revocations="memory:"), bearing, 11),
    "the same, with an identity header": (lambda: authn(identity_headers={"X-User": "subject"}), bearing, 10),
    "a salted API key": (
        lambda: Authn(api_keys({"reports": ApiKey(KEY.hash)})), lambda: asked(("x-api-key", KEY.text)), 14,
    ),
    "a certificate of the connection": (lambda: Authn(mtls(allow=f"uri:{URI}")), over_tls, 11),
    "a certificate that Envoy tells of": (lambda: Authn(mtls(allow=f"uri:{URI}")), behind_envoy, 23),
    "an answer of introspection that is kept": (introspected, lambda: bearing("an-opaque.token"), 9),
    "a rule of scopes": (lambda: Authz(scopes="orders:read"), known, 4),
    "a rule of scopes and the tenant in the path": (lambda: Authz(allow=[TENANT]), known, 6),
    "twenty rules, of which the last allows": (twenty, known, 59),
    "a rule with a shadow policy beside it": (shadowed, known, 13),
}  # fmt: skip
"""Shape → the policy, a request, and the calls of `decide()`."""


class Counter:
    """Counts Python calls while it is the profiler."""

    def __init__(self) -> None:
        self.counted = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        self.counted += event == "call"


@pytest.mark.parametrize("shape", SHAPES)
def test_calls_of_a_decision(shape: str) -> None:
    spec, make, most = SHAPES[shape]
    policy = spec().bind(ports())
    assert decide(policy, make()) is None
    found: list[int] = []
    before = sys.getprofile()
    for exchange in (make(), make()):
        counter = Counter()
        sys.setprofile(counter)
        try:
            answer = policy.decide(exchange)
        finally:
            sys.setprofile(before)
        assert answer is None
        found.append(counter.counted)
    assert min(found) <= most


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


def scope() -> dict[str, Any]:
    headers = [(b"host", b"shop.example"), (b"accept", b"*/*"), (b"authorization", f"Bearer {TOKEN}".encode())]
    return {
        "type": "http", "method": "GET", "scheme": "http", "http_version": "1.1", "path": "/v1/orders/42",
        "raw_path": b"/v1/orders/42", "query_string": b"", "root_path": "", "headers": headers, "client": ("192.0.2.1", 1),
    }  # fmt: skip


async def test_calls_of_a_request_that_is_authenticated_and_authorised() -> None:
    asgi = Policies(app, authn(), Authz(scopes="orders:read"))
    statuses: list[int] = []
    found: list[int] = []

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else ())

    await asgi(scope(), receive, send)
    before = sys.getprofile()
    for one in (scope(), scope()):
        counter = Counter()
        sys.setprofile(counter)
        try:
            await asgi(one, receive, send)
        finally:
            sys.setprofile(before)
        found.append(counter.counted)
    assert statuses == [200] * 3
    assert min(found) <= 37
