"""JWT verification: which tokens are good, whose they are, and which method takes them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.policies.authn.jose_vectors import EVERY, compact, jwk, signer
from tests.policies.authn.jwt_scene import (
    CLAIMS,
    ISSUER,
    KEYS,
    NOW,
    HeldKeys,
    answer,
    bound,
    made,
    parsed,
    reason,
    spec,
)

from gatekit.core.identity import Identity
from gatekit.core.verdict import Reply
from gatekit.policies.authn.jose_keys import KeySet, read_key_set
from gatekit.policies.authn.method import Verified
from gatekit.testing import FakeFetch, test_ports

# Good tokens.


def test_a_good_token_gives_its_caller() -> None:
    who: list[Identity] = []

    def told(identity: Identity) -> Any:
        who.append(identity)
        return [(b"x-user", b"ann")]

    found = answer(bound(told=told), made(jti="1", iat=NOW, azp="web", sid="s"))
    assert isinstance(found, Verified)
    claims = {**CLAIMS, "jti": "1", "iat": NOW, "azp": "web", "sid": "s"}
    assert found.identity == Identity(
        "ann", ISSUER, None, "web", frozenset({"orders:read"}), frozenset(), claims, "jwt", float(NOW + 300)
    )
    assert who == [found.identity]
    assert found.headers == [(b"x-user", b"ann")]
    assert found.marks == {"jti": "1", "sub": "ann", "sid": "s", "client_id": "web", "iss": ISSUER, "iat": NOW}
    assert (found.until, found.certificate) == (NOW + 360, None)


def test_an_issuer_has_its_own_claims() -> None:
    fields = {"subject": ["email"], "roles": ['"https://shop.test/roles"', "groups"], "tenant": "org.id", "scopes": []}
    text = made(email="ann@shop.test", org={"id": "acme"}, groups=["admin"])
    found = answer(bound(claims=fields), text)
    assert isinstance(found, Verified)
    identity = found.identity
    assert (identity.subject, identity.tenant, identity.roles) == ("ann@shop.test", "acme", frozenset({"admin"}))
    assert identity.scopes == frozenset()


def test_keys_that_come_later_do_as_well() -> None:
    keys = HeldKeys(read_key_set(KEYS, EVERY), later=True)
    assert isinstance(answer(bound(keys=keys), made()), Verified)
    assert reason(bound(keys=keys), made(header={"kid": "x"})) == "authn.unknown_key"
    assert keys.asked == [("e", "ES256"), ("x", "ES256")]


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"jwks_url": "https://keys.test/jwks"}, "https://keys.test/jwks"),
        ({"discovery": True}, "https://issuer.test/jwks"),
    ],
    ids=["jwks_url", "discovery"],
)
def test_published_keys_are_fetched_with_the_first_token_and_then_known(fields: dict[str, Any], url: str) -> None:
    metadata = {"issuer": ISSUER, "jwks_uri": "https://issuer.test/jwks"}
    fetch = FakeFetch().answer(f"{ISSUER}/.well-known/openid-configuration", json=metadata).answer(url, json=KEYS)
    method = spec(jwks=..., **fields).bind_tokens(test_ports(fetch=fetch), "gateway", lambda who: [])
    assert not isinstance(method.verify(parsed(made(exp=1))), Verified)
    assert fetch.calls == []
    assert isinstance(answer(method, made()), Verified)
    assert [call.url for call in fetch.calls][-1] == url
    asked = len(fetch.calls)
    assert isinstance(method.verify(parsed(made("RS256"))), Verified)
    assert len(fetch.calls) == asked
    assert len(list(method.jobs())) == 1


def test_it_is_503_and_not_401_when_no_keys_can_be_had() -> None:
    reply = answer(bound(keys=HeldKeys(KeySet([]), down=True)), made())
    assert isinstance(reply, Reply)
    assert (reply.status, reply.reason, reply.headers) == (503, "authn.keys_unavailable", [(b"retry-after", b"5")])
    assert "internal" not in str(reply.detail)


def test_jobs_and_status_are_those_of_the_keys() -> None:
    method = bound()
    assert [job.key for job in method.jobs()] == ["refresh"]
    assert method.status() == {f"jwt {ISSUER}": {"keys": 2}}
    assert list(bound(issuer=..., unchecked_issuer=True).status()) == ["jwt *"]


def test_replies_are_made_once() -> None:
    method = bound()
    assert answer(method, made(exp=1)) is answer(method, made(exp=2))


# Whose tokens.


@pytest.mark.parametrize(
    ("text", "named", "any_issuer"),
    [
        (made(), True, True),
        (made(iss="https://issuer.test/"), False, True),
        (made(iss="HTTPS://ISSUER.TEST"), False, True),
        (made(iss=[ISSUER]), False, True),
        (made(iss=...), False, True),
        (compact({"alg": "RS256"}, b"[]", signer("RS256")), True, True),
        (compact({"alg": "RS256", "crit": []}, b"{}", signer("RS256")), True, True),
        (b"opaque", False, False),
        (b"a.b.c", False, False),
        (b"eyJ.eyJ.a.b.c", False, False),
    ],
    ids=["its own", "slash", "case", "list", "none", "no claims", "crit", "opaque", "dots", "jwe"],
)
def test_a_token_is_for_the_issuer_that_it_names(text: bytes, named: bool, any_issuer: bool) -> None:
    assert bound().takes(parsed(text)) is named
    assert bound(issuer=..., unchecked_issuer=True).takes(parsed(text)) is any_issuer


def test_issuers_side_by_side_keep_their_keys_algorithms_and_audiences_apart() -> None:
    one, two = bound(), bound(
        issuer="https://two.test", audience="stock", algorithms="RS256", keys=HeldKeys(read_key_set({"keys": [jwk("RS256", "other")]}, EVERY)),
    )  # fmt: skip
    theirs = made("RS256", iss="https://two.test", aud="stock")
    assert not one.takes(parsed(theirs))
    assert two.takes(parsed(theirs))
    assert reason(two, theirs) == "authn.bad_signature"
    assert reason(two, made("RS256", iss="https://two.test")) == "authn.wrong_audience"
    assert reason(two, made("ES256", iss="https://two.test", aud="stock")) == "authn.unsupported_algorithm"
    assert reason(one, theirs) == "authn.wrong_issuer"
