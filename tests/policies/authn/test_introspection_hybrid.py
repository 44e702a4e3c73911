"""Introspection within `Authn`: beside JWTs that are verified here, with identity headers and revocations."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.policies.authn.introspection_scene import GOOD, NOW, SECRET, URL

from gatekit.core.verdict import Reply
from gatekit.policies.authn import Authn
from gatekit.policies.authn.introspection import Introspection, introspection
from gatekit.policies.authn.jwt import jwt
from gatekit.testing import (
    FakeFetch,
    FakeRevocations,
    FakeStores,
    ManualClock,
    decide,
    never_suspends,
    request,
    test_ports,
)

ISSUER = "https://id.example"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
JWKS = {"keys": [{**json.loads(pyjwt.algorithms.OKPAlgorithm.to_jwk(KEY.public_key())), "kid": "k", "alg": "EdDSA"}]}
OPAQUE: dict[str, Any] = {"url": URL, "audience": "shop", "client_id": "gw", "client_secret": SECRET}


def signed(issuer: str = ISSUER, key: Ed25519PrivateKey = KEY) -> str:
    claims = {"iss": issuer, "sub": "bob", "aud": "shop", "exp": NOW + 60, "iat": NOW}
    return pyjwt.encode(claims, key, algorithm="EdDSA", headers={"kid": "k", "typ": "at+jwt"})


class Gate:
    """A whole `Authn` with both methods, which are never waited for."""

    def __init__(self, *answers: Any, revoked: FakeRevocations | None = None, **fields: Any) -> None:
        self.fetch = FakeFetch()
        for answer in answers:
            self.fetch.answer(URL, json=answer)
        spec = Authn(
            jwt(issuer=ISSUER, audience="shop", jwks=JWKS),
            introspection(**{**OPAQUE, **fields}),
            identity_headers={"X-User": "subject", "X-Scopes": "scopes"},
            revocations=None if revoked is None else "memory:",
        )
        ports = test_ports(clock=ManualClock(wall=NOW), fetch=self.fetch, stores=FakeStores(revoked))
        (watched,) = never_suspends(spec)
        self.policy = watched.bind(ports)

    def ask(self, token: str) -> tuple[str, list[tuple[bytes, bytes]]]:
        """The reason or the subject, and what goes on."""
        exchange = request("GET", "/", headers={"Authorization": f"Bearer {token}", "X_User": "root"})
        found = decide(self.policy, exchange)
        said = found.reason if isinstance(found, Reply) else getattr(exchange.identity, "subject", "")
        return said, [pair for pair in exchange.headers.raw if pair[0] != b"host"]


def test_an_opaque_token_is_asked_about_and_the_upstream_is_told_whose_it_is() -> None:
    gate = Gate(GOOD)
    assert gate.ask("opaque") == ("ann", [(b"x-user", b"ann"), (b"x-scopes", b"a b")])
    assert gate.ask("opaque")[0] == "ann"
    assert len(gate.fetch.calls) == 1


@pytest.mark.parametrize(
    ("token", "said", "calls"),
    [
        (signed(), "bob", 0),
        (signed(key=Ed25519PrivateKey.from_private_bytes(b"x" * 32)), "authn.bad_signature", 0),
        (signed("https://other.example"), "authn.inactive_token", 1),
        ("opaque", "authn.inactive_token", 1),
        ("a.b.c", "authn.inactive_token", 1),
    ],
    ids=["its own", "forged", "another issuer's", "opaque", "three parts"],
)
def test_each_token_goes_to_the_method_that_knows_it(token: str, said: str, calls: int) -> None:
    gate = Gate({"active": False})
    assert gate.ask(token)[0] == said
    assert len(gate.fetch.calls) == calls


def test_without_jws_nothing_that_looks_like_a_jwt_is_asked_about() -> None:
    gate = Gate({"active": False}, jws=False)
    assert gate.ask(signed("https://other.example"))[0] == "authn.unknown_token"
    assert gate.ask(urlsafe_b64encode(b"opaque").decode())[0] == "authn.inactive_token"


def test_a_token_that_is_revoked_is_refused_at_once_though_it_is_remembered_as_good() -> None:
    revoked = FakeRevocations()
    gate = Gate(GOOD, revoked=revoked)
    assert gate.ask("opaque")[0] == "ann"
    revoked.revoke(jti="j1")
    assert gate.ask("opaque")[0] == "authn.revoked"
    assert len(gate.fetch.calls) == 1


def test_a_file_names_it_by_its_method() -> None:
    (method,) = Authn.model_validate({"methods": [{"method": "introspection", **OPAQUE}]}).methods
    assert isinstance(method, Introspection)
