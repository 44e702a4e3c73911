"""What attackers send, through the whole policy: each is 401, nothing is fetched, and nothing of it is ever said again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policies.authn.jose_vectors import by_secret, compact, encode, jwk, rsa_key, signer, token
from tests.policies.authn.jwt_scene import CLAIMS, ISSUER, KEYS, NOW, HeldKeys, bound, made, parsed, reason

from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.verdict import Reply, render
from gatekit.policies.authn import Authn
from gatekit.policies.authn.jose_keys import ASYMMETRIC, read_key_set
from gatekit.policies.authn.jwt import jwt
from gatekit.testing import request, test_ports

Requests = Callable[..., Exchange]
BODY = json.dumps(CLAIMS).encode()
POLICY = Authn(jwt(issuer=ISSUER, audience="shop", jwks=KEYS)).bind(test_ports())


def sent(text: bytes) -> tuple[Identity | None, str | None]:
    """The caller, and the reason why there is none. A fetch of any kind would fail the test."""
    exchange = request("GET", "/", headers=[("authorization", f"Bearer {text.decode('latin-1')}")], allow_refused=True)
    reply = POLICY.decide(exchange)
    if reply is None:
        return exchange.identity, None
    assert isinstance(reply, Reply)
    assert reply.status == 401
    challenges = [value for name, value in reply.headers if name == b"www-authenticate"]
    assert len(challenges) == 1
    assert challenges[0].startswith(b'Bearer realm="gateway", error="invalid_')
    assert exchange.identity is None
    head, body = render(reply, exchange)
    assert text not in body + repr(head.raw).encode() or not text
    return None, reply.reason


def test_a_good_token_passes() -> None:
    who, why = sent(made())
    assert why is None
    assert who is not None
    assert (who.subject, who.scopes) == ("ann", frozenset({"orders:read"}))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "noNe", "none ", "n\u043ene", "null", ""])
def test_an2_a_token_without_a_signature_is_401(algorithm: str) -> None:
    bare = encode(json.dumps({"alg": algorithm, "kid": "k"}).encode()) + b"." + encode(BODY)
    for text in (bare, bare + b".", bare + b".AA", bare + b"." + encode(signer("RS256")(bare))):
        assert sent(text)[1] in {
            "authn.unsupported_algorithm", "authn.unknown_token", "authn.malformed_token", "authn.unknown_key",
        }  # fmt: skip


def test_an2_the_public_key_as_a_secret_is_401() -> None:
    public = rsa_key("issuer").public_key()
    for form in (Encoding.PEM, Encoding.DER):
        key = public.public_bytes(form, PublicFormat.SubjectPublicKeyInfo)
        for name in ("HS256", "HS384", "HS512"):
            text = compact({"alg": name, "kid": "k"}, BODY, by_secret(name, key))
            assert sent(text) == (None, "authn.unsupported_algorithm")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"jwk": jwk("RS256", "other")}, "authn.unsupported_token"),
        ({"jwk": jwk("RS256", "other", kid="o"), "kid": "o"}, "authn.unsupported_token"),
        ({"jku": "https://attacker.test/jwks"}, "authn.bad_signature"),
        ({"jku": "https://attacker.test/jwks", "kid": "o"}, "authn.unknown_key"),
        ({"jku": "http://169.254.169.254/latest/meta-data"}, "authn.bad_signature"),
        ({"x5u": "https://attacker.test/crt"}, "authn.bad_signature"),
        ({"x5c": ["MIIB"]}, "authn.bad_signature"),
        ({"crit": ["http://unknown.test"], "http://unknown.test": True}, "authn.unsupported_token"),
        ({"b64": False, "crit": ["b64"]}, "authn.unsupported_token"),
    ],
    ids=["jwk", "jwk and its kid", "jku", "jku and its kid", "jku inside", "x5u", "x5c", "crit", "b64"],
)
def test_an2_keys_that_a_token_brings_are_401_and_not_fetched(header: dict[str, Any], expected: str) -> None:
    assert sent(token("RS256", BODY, "other", **header)) == (None, expected)


@pytest.mark.parametrize("name", sorted(ASYMMETRIC))
def test_an2_the_algorithm_is_the_key_s_and_not_the_token_s(name: str) -> None:
    """Whatever the token says, with whatever signature: the keys are one for RS256 and one for ES256 alone."""
    keys = {"keys": [jwk("RS256", alg="RS256"), jwk("ES256", kid="e", alg="ES256")]}
    method = bound(keys=HeldKeys(read_key_set(keys, ASYMMETRIC)))
    for kid in ("k", "e"):
        good = (name, kid) in {("RS256", "k"), ("ES256", "e")}
        assert reason(method, made(name, header={"kid": kid})) == (None if good else "authn.unknown_key")


@pytest.mark.parametrize("size", [64, 63, 65, 0x48])
def test_a_signature_of_zeros_is_401(size: int) -> None:
    front = encode(b'{"alg":"ES256","kid":"e"}') + b"." + encode(BODY)
    assert sent(front + b"." + encode(bytes(size))) == (None, "authn.bad_signature")


@pytest.mark.parametrize(
    "kid",
    ["../../../dev/null", "/dev/null", "x' UNION SELECT 'key'--", "k; ls", "$(id)", "{{7*7}}", "https://attacker.test/k", "k" * 256, "%00", "__class__"],
)  # fmt: skip
def test_a_key_id_is_looked_up_and_nothing_else(kid: str) -> None:
    assert sent(token("RS256", BODY, kid=kid)) == (None, "authn.unknown_key")


@pytest.mark.parametrize("kid", ["k\0", "k\n", "", "k" * 257, "\u202ek", 1, None, ["k"], {"k": 1}], ids=repr)
def test_a_key_id_that_is_none_is_401(kid: Any) -> None:
    assert sent(token("RS256", BODY, kid=kid)) == (None, "authn.malformed_token")


CLAIM_TEXTS = {
    "twice": BODY[:-1] + b',"aud":"shop"}',
    "admin twice": BODY[:-1] + b',"roles":["user"],"roles":["admin"]}',
    "twice, escaped": BODY[:-1] + b',"s\\u0075b":"root"}',
    "deep": BODY[:-1] + b',"a":' + b"[" * 1500 + b"]" * 1500 + b"}",
    "not a number": BODY[:-1] + b',"a":NaN}',
    "endless": BODY.replace(b"1700000300", b"1e999"),
    "4000 digits": BODY.replace(b"1700000300", b"9" * 4000),
    "lone surrogate": BODY.replace(b'"ann"', b'"\\udc00"'),
    "invalid UTF-8": BODY.replace(b"ann", b"\xc3\x28"),
    "UTF-16": BODY.decode().encode("utf-16"),
    "list": b"[" + BODY + b"]",
    "nested token": token("RS256", BODY),
    "text": b'"' + encode(BODY) + b'"',
    "nothing": b" ",
    "control character": BODY.replace(b"ann", b"a\nn"),
    "two objects": BODY + BODY,
    "comment": BODY + b"/* */",
}


@pytest.mark.parametrize("body", CLAIM_TEXTS.values(), ids=list(CLAIM_TEXTS))
def test_claims_that_can_be_read_in_two_ways_or_not_at_all_are_401(body: bytes) -> None:
    assert sent(compact({"alg": "RS256", "kid": "k"}, body, signer("RS256"))) == (None, "authn.malformed_token")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (compact({"alg": "RS256", "kid": "k"}, BODY[:-1] + b',"a":"' + b"x" * 9000 + b'"}', signer("RS256")), "authn.token_too_long"),
        (made() + b".", "authn.unknown_token"),
        (made() + b"=", "authn.malformed_token"),
        (made() + b"\xff", "authn.malformed_token"),
        (made()[:-1] + b" ", "authn.malformed_token"),
        (made() + b"," + made(), "authn.malformed_token"),
        (b"", "authn.malformed_token"),
        (b"." * 8000, "authn.unknown_token"),
        (b"eyJ" + b"A" * 8000, "authn.unknown_token"),
    ],
    ids=["long", "dot", "equals sign", "byte 255", "space", "two", "nothing", "dots", "one part"],
)  # fmt: skip
def test_what_is_no_token_is_401(text: bytes, expected: str) -> None:
    assert sent(text) == (None, expected)


@pytest.mark.parametrize("kid", ["gatekit-development", "gatekit-development-2026", "gatekit-development.k"])
def test_a_token_for_development_is_401_whoever_s_key_it_has(kid: str) -> None:
    keys = HeldKeys(read_key_set({"keys": [jwk("RS256", kid=kid)]}, ASYMMETRIC))
    assert reason(bound(keys=keys), token("RS256", BODY, kid=kid)) == "authn.development_token"
    assert (
        reason(bound(keys=keys, issuer=..., unchecked_issuer=True), token("RS256", BODY, kid=kid))
        == "authn.development_token"
    )
    assert keys.asked == []


@pytest.mark.parametrize(
    "claims",
    [{"exp": NOW - 61}, {"aud": "other"}, {"iss": "https://other.test"}, {"exp": ...}, {"nbf": NOW + 61}],
    ids=str,
)
def test_no_key_is_looked_for_that_nothing_good_could_come_of(claims: dict[str, Any]) -> None:
    keys = HeldKeys(read_key_set(KEYS, ASYMMETRIC))
    for text in (made(**claims), made(header={"kid": "made up"}, **claims), made("HS256", header={"kid": "k"})):
        assert reason(bound(keys=keys), text) is not None
    assert keys.asked == []


GOOD = made()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD)), st.integers(0, 3), st.binary(max_size=3))
def test_a_token_with_other_bytes_in_it_is_401(place: int, cut: int, put: bytes) -> None:
    text = GOOD[:place] + put + GOOD[place + cut :]
    who, why = sent(text)
    assert (who is None) is (text != GOOD)
    assert (why is None) is (text == GOOD)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "azp", "client_id", "scope", "scp", "roles", "realm_access",
                         "tenant_id", "cnf", "nonce", "typ", "token_use", "events"]),
        JSONISH,
        max_size=4,
    ),
    st.dictionaries(st.sampled_from(["typ", "cty", "kid", "alg", "crit", "jku"]), JSONISH, max_size=2),
)  # fmt: skip
def test_whatever_an_issuer_signs_is_a_caller_or_401(claims: dict[str, Any], header: dict[str, Any]) -> None:
    text = compact({"alg": "ES256", "kid": "e", **header}, json.dumps({**CLAIMS, **claims}).encode(), signer("ES256"))
    who, why = sent(text)
    assert (who is None) is (why is not None)
    token_of = parsed(text)
    assert token_of.looks_like_jws
