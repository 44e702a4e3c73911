"""What a configuration of JWT verification has to say, and what is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.policies.authn.jose_vectors import by_secret, compact, ed_key, jwk, keys_of, signer
from tests.policies.authn.jwt_scene import CLAIMS, ISSUER, KEYS, answer, bound, made, reason, spec

from gatekit.core.policy import ValidationError
from gatekit.core.ports import Reach
from gatekit.errors import MissingSecret
from gatekit.policies.authn.jose_keys import ASYMMETRIC, KeySetRefused
from gatekit.policies.authn.jwt import JwtFields, jwt
from gatekit.policies.authn.key_source import KeySource
from gatekit.policies.authn.method import Verified
from gatekit.testing import test_ports

PEM = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"


def problem(fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        jwt(**fields)
    return str(caught.value)


WHOLE: JwtFields = {"issuer": ISSUER, "audience": "shop", "jwks": KEYS}


@pytest.mark.parametrize(
    ("left_out", "added", "words"),
    [
        ("issuer", {}, "with issuer; or write unchecked_issuer=True"),
        ("", {"unchecked_issuer": True}, "with issuer; or write unchecked_issuer=True"),
        ("audience", {}, "with audience; or write unchecked_audience=True"),
        ("audience", {"audience": []}, "with audience; or write unchecked_audience=True"),
        ("audience", {"audience": ""}, "audience.0"),
        ("", {"unchecked_audience": True}, "with audience; or write unchecked_audience=True"),
        ("issuer", {"issuer": ""}, "issuer"),
    ],
)  # fmt: skip
def test_an3_issuer_and_audience_are_said_or_their_absence_is(left_out: str, added: Any, words: str) -> None:
    assert words in problem({name: one for name, one in WHOLE.items() if name != left_out} | added)


def test_an3_what_is_not_checked_is_written_out() -> None:
    method = bound(issuer=..., unchecked_issuer=True, audience=..., unchecked_audience=True)
    assert reason(method, made(iss=..., aud=...)) is None
    assert reason(method, made(iss="https://another.test", aud="another")) is None
    found = answer(method, made(iss="https://another.test"))
    assert isinstance(found, Verified)
    assert found.identity.issuer == "https://another.test"
    assert reason(method, made(iss=5)) == "authn.malformed_claim"


@pytest.mark.parametrize(
    ("added", "words"),
    [
        ({"jwks": None}, "give the keys in one way, by jwks_url, discovery, jwks, pem or secret"),
        ({"pem": PEM}, "give the keys in one way"),
        ({"discovery": True}, "give the keys in one way"),
        ({"jwks_url": "https://issuer.test/keys", "secret": "x" * 64}, "give the keys in one way"),
        ({"jwks": {"keys": []}}, "no key in jwks can be used"),
        ({"jwks": {"keys": [jwk("RS256", use="enc")]}}, "no key in jwks can be used"),
        ({"jwks": keys_of("HS256")}, "no key in jwks can be used"),
        ({"jwks": {"keys": [jwk("RS256"), jwk("ES256")]}}, "same kid"),
        ({"jwks": jwk("RS256")}, "whose member keys is a list"),
        ({"jwks": None, "pem": "no"}, "one public key or one certificate"),
        ({"jwks": None, "pem": ""}, "pem"),
        ({"jwks": None, "pem": PEM, "algorithms": "RS256"}, "which takes Ed25519, EdDSA"),
        ({"jwks": None, "secret": ""}, "too short"),
        ({"jwks": None, "secret": "hunter2hunter2"}, "secret is too short for HS256, which needs 32 bytes"),
        ({"jwks": None, "secret": "x" * 32, "algorithms": ["HS256", "HS512"]}, "too short for HS512"),
        ({"jwks": None, "secret": PEM}, "give a public key as pem"),
        ({"algorithms": "none"}, "none is not taken"),
        ({"algorithms": ["RS256", "NONE"]}, "none is not taken"),
        ({"algorithms": ["rs256"]}, "an algorithm is one of ES256, ES384"),
        ({"algorithms": ["ES256K"]}, "an algorithm is one of"),
        ({"algorithms": []}, "at least one algorithm"),
        ({"algorithms": ["HS256"]}, "HS512 go with secret, and no other algorithm does"),
        ({"algorithms": ["RS256", "HS256"]}, "HS512 go with secret, and no other algorithm does"),
        ({"jwks": None, "secret": "x" * 64, "algorithms": ["HS256", "RS256"]}, "and no other algorithm does"),
        ({"jwks": None, "secret": "x" * 64, "algorithms": ["RS256"]}, "and no other algorithm does"),
        ({"jwks": None, "jwks_url": "http://issuer.test/keys"}, "https"),
        ({"jwks": None, "jwks_url": "ftp://issuer.test/keys", "networks": ["10.0.0.0/8"]}, "https"),
        ({"jwks": None, "discovery": True, "issuer": "issuer"}, "https"),
        ({"jwks": None, "discovery": True, "issuer": None, "unchecked_issuer": True}, "discovery needs an issuer"),
        ({"networks": ["10.0.0.1/8"]}, "10.0.0.0/8"),
        ({"networks": ["local"]}, "10.0.0.0/8"),
        ({"leeway": -1}, "leeway"),
        ({"leeway": 300.5}, "leeway"),
        ({"leeway": float("nan")}, "leeway"),
        ({"max_lifetime": 0}, "max_lifetime"),
        ({"timeout": 0}, "timeout"),
        ({"stale": 0}, "stale"),
        ({"types": []}, "at least one type"),
        ({"claims": {"roles": "a..b"}}, "not a path to a claim"),
        ({"claims": {"subject": []}}, "at least one path"),
        ({"claims": {"email": "email"}}, "claims.email"),
        ({"claims": ["email"]}, "claims"),
        ({"required_claims": "a..b"}, "not a path to a claim"),
        ({"clients": [""]}, "clients"),
        ({"audience": ["a\n"]}, "audience"),
        ({"leway": 5}, "leway"),
        ({"max_length": 10}, "max_length"),
    ],
    ids=lambda value: None if isinstance(value, str) else ",".join(value),
)  # fmt: skip
def test_a_configuration_that_cannot_be_meant_is_refused_with_what_to_do(added: Any, words: str) -> None:
    said = problem({**WHOLE, **added})
    assert words in said
    assert "hunter2" not in said


def test_an4_leeway_is_a_minute_unless_it_is_said_and_five_at_most() -> None:
    assert spec().leeway == 60
    assert spec(leeway=300).leeway == 300
    assert spec(leeway=0).leeway == 0


def test_one_text_stands_for_a_list_of_one() -> None:
    found = spec(
        audience="a", algorithms="ES256", types="at+jwt", clients="c", required_claims="x", claims={"roles": "g"}
    )
    assert (found.audience, found.algorithms, found.types) == (("a",), ("ES256",), ("at+jwt",))
    assert (found.clients, found.required_claims, found.claims) == (("c",), ("x",), {"roles": ("g",)})
    assert found.place == ("authorization", "bearer", None)


def test_algorithms_are_those_of_the_kind_of_key() -> None:
    assert spec().allowed == ASYMMETRIC
    assert spec(algorithms=["ES256", "RS256"]).allowed == {"ES256", "RS256"}
    assert spec(jwks=..., secret="x" * 32).allowed == {"HS256"}
    assert spec(jwks=..., secret="x" * 64, algorithms="HS512").allowed == {"HS512"}


def test_keys_that_are_fetched_are_described_for_it() -> None:
    assert spec().source is None
    url = ISSUER + "/keys"
    expected = KeySource(algorithms=ASYMMETRIC, url=url, timeout=5.0, stale=86_400.0)
    assert spec(jwks=..., jwks_url=url).source == expected
    found = spec(jwks=..., discovery=True, networks=["10.0.0.0/8"], ca="/etc/ca.pem", timeout=1, stale=60).source
    reach = Reach(("10.0.0.0/8",), "/etc/ca.pem")
    assert found == KeySource(algorithms=ASYMMETRIC, issuer=ISSUER, reach=reach, timeout=1, stale=60)


def test_a_secret_is_never_shown() -> None:
    value = "a-secret-that-is-quite-long-enough"
    found = spec(jwks=..., secret=value)
    assert value not in repr(found) + str(found) + str(found.model_dump())


@pytest.mark.parametrize(
    ("fields", "algorithm"),
    [
        ({}, "RS256"),
        ({"jwks": ..., "pem": "file:/key.pem"}, "EdDSA"),
        ({"jwks": ..., "pem": PEM}, "EdDSA"),
        ({"jwks": ..., "secret": "env:JWT_SECRET"}, "HS256"),
    ],
    ids=["jwks", "pem by reference", "pem", "secret by reference"],
)
def test_given_keys_are_bound_with_what_references_lead_to(fields: Any, algorithm: str) -> None:

    pem = ed_key("issuer").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    found = {"file:/key.pem": pem, "env:JWT_SECRET": "s" * 40, PEM: pem}
    method = spec(**fields).bind_tokens(test_ports(secrets=found.__getitem__), "gateway", lambda who: [])
    sign = by_secret("HS256", b"s" * 40) if algorithm == "HS256" else signer(algorithm)
    text = compact({"alg": algorithm, "kid": "k"}, json.dumps(CLAIMS).encode(), sign)
    assert reason(method, text) is None
    assert reason(method, text[:-2]) == "authn.bad_signature" if algorithm != "HS256" else True


def test_a_reference_that_leads_to_nothing_or_to_no_key_is_refused_when_bound() -> None:
    with pytest.raises(MissingSecret):
        spec(jwks=..., pem="file:/key.pem").bind_tokens(test_ports(), "gateway", lambda who: [])
    ports = test_ports(secrets=lambda reference: "short")
    with pytest.raises(KeySetRefused, match="too short") as caught:
        spec(jwks=..., secret="env:JWT_SECRET").bind_tokens(ports, "gateway", lambda who: [])
    assert "short" not in str(caught.value).replace("too short", "")
