"""Client authentication: what is sent is checked by readers of our own or PyJWT's, never by what made it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from gatekit.policies.authn.client_auth import Assertions, Proof, SharedSecret, read_signer
from gatekit.testing import ManualClock, test_ports

ENDPOINT = "https://as.example/introspect"

RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {
    "RS256": RSA,
    "PS256": RSA,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def pem(key: Any, password: bytes | None = None) -> str:
    sealed = NoEncryption() if password is None else BestAvailableEncryption(password)
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed).decode())


def jwk(key: Any, **members: Any) -> str:
    makers: list[tuple[Any, Any]] = [
        ((rsa.RSAPrivateKey, rsa.RSAPublicKey), jwt.algorithms.RSAAlgorithm),
        ((ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey), jwt.algorithms.ECAlgorithm),
        (object, jwt.algorithms.OKPAlgorithm),
    ]
    made = next(maker for kind, maker in makers if isinstance(key, kind))
    return json.dumps({**json.loads(made.to_jwk(key)), **members})


# -- secrets


def decoded_basic(proof: Proof) -> tuple[str, str]:
    """As RFC 6749 section 2.3.1 and its appendix B have a server read it."""
    ((name, value),) = proof.headers
    assert name == "authorization"
    assert value.startswith("Basic ")
    left, colon, right = base64.b64decode(value[6:], validate=True).decode("ascii").partition(":")
    assert colon
    assert ":" not in right
    ((_, client),) = parse_qsl(f"v={left}", keep_blank_values=True, strict_parsing=True)
    ((_, secret),) = parse_qsl(f"v={right}", keep_blank_values=True, strict_parsing=True)
    return client, secret


@pytest.mark.parametrize(
    ("client", "secret"),
    [
        ("gateway", "plain"),
        ("https://gw.example:8443/a?b=c&d", "pass word+plus&amp;=%25:colon"),
        ("a:b", ":"),
        ("id", "ünïcödé-€-𝄞"),
        ("id", "~._-*'()!\"\\"),
    ],
)
def test_basic_sends_id_and_secret_form_encoded(client: str, secret: str) -> None:
    proof = SharedSecret("basic", client, secret).proof(ENDPOINT)
    assert decoded_basic(proof) == (client, secret)
    assert proof.form == ()


def test_basic_is_the_example_of_rfc_6749() -> None:
    proof = SharedSecret("basic", "s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw").proof(ENDPOINT)
    assert proof.headers == (("authorization", "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"),)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1), st.text(min_size=1))
def test_basic_is_read_back_as_it_was_whatever_the_secret(client: str, secret: str) -> None:
    secret = secret.encode("utf-8", "ignore").decode() or "x"
    assert decoded_basic(SharedSecret("basic", client, secret).proof(ENDPOINT)) == (client, secret)


def test_post_sends_id_and_secret_in_the_form_and_nothing_in_headers() -> None:
    auth = SharedSecret("post", "gw", "s:&")
    proof = auth.proof(ENDPOINT)
    assert proof.form == (("client_id", "gw"), ("client_secret", "s:&"))
    assert proof.headers == ()
    auth.take_once()
    assert auth.proof(ENDPOINT, anew=True) is proof
    assert proof.fresh, "there is no sense in sending the same again"


# -- assertions


def assertion(proof: Proof) -> str:
    form = dict(proof.form)
    assert form["client_id"] == "gw"
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert set(form) == {"client_id", "client_assertion_type", "client_assertion"}
    assert proof.headers == ()
    return form["client_assertion"]


def checked(token: str, algorithm: str, audience: str = ENDPOINT) -> dict[str, Any]:
    """The claims, verified by PyJWT with the public key; times are the test's to check."""
    return jwt.decode(
        token,
        KEYS[algorithm].public_key(),
        algorithms=[algorithm],
        audience=audience,
        issuer="gw",
        subject="gw",
        options={"require": ["iss", "sub", "aud", "jti", "iat", "exp"], "verify_exp": False, "verify_iat": False},
    )


@pytest.mark.parametrize("make", [pem, jwk], ids=["pem", "jwk"])
@pytest.mark.parametrize("algorithm", list(KEYS))
def test_an_assertion_is_one_of_rfc_7523_by_an_independent_check(algorithm: Any, make: Callable[[Any], str]) -> None:
    clock = ManualClock(wall=1_700_000_000.75)
    auth = Assertions("gw", read_signer(make(KEYS[algorithm]), algorithm), None, test_ports(clock=clock))
    proof = auth.proof(ENDPOINT)
    token = assertion(proof)
    claims = checked(token, algorithm)
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "JWT"}
    assert claims["exp"] - claims["iat"] == 60
    assert claims["iat"] == 1_700_000_000
    assert len(base64.urlsafe_b64decode(claims["jti"] + "==")) == 16
    assert proof.fresh


@pytest.mark.parametrize("algorithm", list(KEYS))
def test_the_signature_is_good_by_the_arithmetic_alone(algorithm: Any) -> None:
    signed, _, text = read_signer(pem(KEYS[algorithm]), algorithm)({"iss": "gw"}).encode().rpartition(b".")
    signature = base64.urlsafe_b64decode(text + b"==")
    public = KEYS[algorithm].public_key()
    if algorithm == "ES256":
        assert len(signature) == 64, "r and s, 32 bytes each (RFC 7518 section 3.4)"
        both = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        public.verify(encode_dss_signature(*both), signed, ec.ECDSA(hashes.SHA256()))
    elif algorithm == "EdDSA":
        public.verify(signature, signed)
    else:
        sealed = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if algorithm == "PS256" else padding.PKCS1v15()
        public.verify(signature, signed, sealed, hashes.SHA256())


@pytest.mark.parametrize(
    ("key", "given", "named", "used"),
    [
        (KEYS["RS256"], None, None, "RS256"),
        (KEYS["RS256"], None, "PS256", "PS256"),
        (KEYS["RS256"], "RS256", "PS256", "RS256"),
        (KEYS["ES256"], None, None, "ES256"),
        (KEYS["EdDSA"], None, "EdDSA", "EdDSA"),
    ],
)
def test_the_algorithm_is_the_keys(key: Any, given: Any, named: str | None, used: str) -> None:
    members = {} if named is None else {"alg": named}
    token = read_signer(jwk(key, **members), given)({"a": 1})
    assert jwt.get_unverified_header(token)["alg"] == used
    assert jwt.decode(token, key.public_key(), algorithms=[used]) == {"a": 1}


def test_the_key_id_is_the_one_given_or_the_jwks() -> None:
    def kid(text: str, given: str | None = None) -> object:
        return jwt.get_unverified_header(read_signer(text, None, given)({})).get("kid")

    assert kid(jwk(KEYS["ES256"], kid="k1", use="sig", key_ops=["sign"])) == "k1"
    assert kid(jwk(KEYS["ES256"], kid="k1"), "k2") == "k2"
    assert kid(pem(KEYS["ES256"]), "k3") == "k3"
    assert kid(pem(KEYS["ES256"])) is None


def test_another_audience_can_be_given() -> None:
    auth = Assertions("gw", read_signer(pem(KEYS["ES256"])), "https://as.example", test_ports())
    checked(assertion(auth.proof(ENDPOINT)), "ES256", "https://as.example")


def test_an_assertion_is_sent_for_half_a_minute_and_no_longer() -> None:
    clock = ManualClock()
    auth = Assertions("gw", read_signer(pem(KEYS["ES256"])), None, test_ports(clock=clock))
    first = auth.proof(ENDPOINT)
    clock.advance(29.9)
    again = auth.proof(ENDPOINT)
    assert again.form == first.form
    assert not again.fresh
    clock.advance(0.2)
    later = auth.proof(ENDPOINT)
    assert later.fresh
    assert assertion(later) != assertion(first)
    assert checked(assertion(later), "ES256")["jti"] != checked(assertion(first), "ES256")["jti"]


def test_an_assertion_is_for_one_endpoint_and_one_time() -> None:
    clock = ManualClock()
    auth = Assertions("gw", read_signer(pem(KEYS["ES256"])), None, test_ports(clock=clock))
    first = auth.proof(ENDPOINT)
    other = auth.proof("https://as.example/other")
    assert other.fresh
    checked(assertion(other), "ES256", "https://as.example/other")
    assert auth.proof(ENDPOINT).fresh
    clock.set_wall(clock.wall() - 3600)
    back = auth.proof(ENDPOINT)
    assert back.fresh, "the clock was put back: the old one would be issued in the future"
    assert first.form != back.form


def test_a_server_that_takes_each_once_gets_a_new_one_every_time() -> None:
    auth = Assertions("gw", read_signer(pem(KEYS["ES256"])), None, test_ports())
    auth.proof(ENDPOINT)
    anew = auth.proof(ENDPOINT, anew=True)
    assert anew.fresh
    assert not auth.proof(ENDPOINT).fresh
    auth.take_once()
    proofs = [auth.proof(ENDPOINT) for _ in range(3)]
    assert all(proof.fresh for proof in proofs)
    assert len({assertion(proof) for proof in proofs}) == 3


WEAK = rsa.generate_private_key(65537, 1024)
SECRETS = ("MARKER-IN-THE-KEY",)


@pytest.mark.parametrize(
    ("text", "algorithm", "why"),
    [
        ("MARKER-IN-THE-KEY", None, "there is no private key in it"),
        ("", None, "there is no private key in it"),
        (
            "-----BEGIN PRIVATE KEY-----\nMARKER-IN-THE-KEY\n-----END PRIVATE KEY-----",
            None,
            "holds no private key that",
        ),
        (pem(KEYS["ES256"], b"pw"), None, "is encrypted"),
        (
            KEYS["ES256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
            None,
            "there is no private key in it",
        ),
        ('{"kty": "RSA", "n": "MARKER-IN-THE-KEY"}', None, "no JWK that can be read"),
        ('{"kty": "oct", "k": "c2VjcmV0"}', None, "no JWK that can be read"),
        ('{"kty": ["RSA"]}', None, "no JWK that can be read"),
        ("{MARKER-IN-THE-KEY", None, "no JWK that can be read"),
        ("{" * 100_000, None, "no JWK that can be read"),
        (jwk(KEYS["ES256"].public_key()), None, "no private key (it has no member d)"),
        (jwk(KEYS["ES256"], use="enc"), None, "not for signing"),
        (jwk(KEYS["ES256"], key_ops=["verify"]), None, "not for signing"),
        (jwk(KEYS["ES256"], key_ops=None), None, "not for signing"),
        (jwk(KEYS["ES256"], kid=7), None, "are texts"),
        (jwk(KEYS["ES256"], alg=7), None, "are texts"),
        (jwk(KEYS["RS256"], alg="RS512"), None, "signs with RS256 or PS256, not with 'RS512'"),
        (pem(KEYS["RS256"]), "ES256", "signs with RS256 or PS256, not with 'ES256'"),
        (pem(KEYS["ES256"]), "RS256", "signs with ES256, not with 'RS256'"),
        (pem(KEYS["EdDSA"]), "ES256", "signs with EdDSA"),
        (pem(WEAK), None, "2048 bits or more, this one has 1024"),
        (pem(ec.generate_private_key(ec.SECP384R1())), None, "RSA, EC on P-256 and Ed25519"),
        (pem(ed448.Ed448PrivateKey.generate()), None, "RSA, EC on P-256 and Ed25519"),
    ],
)
def test_a_key_that_cannot_sign_is_refused_without_being_shown(text: str, algorithm: Any, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_signer(text, algorithm)
    assert why in str(caught.value)
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert caught.value.__cause__ is None


def test_nothing_of_a_secret_is_in_a_repr() -> None:
    secret = "MARKER-SECRET"
    auth = SharedSecret("basic", "gw", secret)
    posted = SharedSecret("post", "gw", secret)
    signed = Assertions("gw", read_signer(pem(KEYS["ES256"])), None, test_ports())
    token = assertion(signed.proof(ENDPOINT))
    shown = [
        repr(one) for one in (auth, auth.proof(ENDPOINT), posted, posted.proof(ENDPOINT), signed, signed.proof(""))
    ]
    assert not any(secret in text or token in text or "Basic" in text for text in shown)
