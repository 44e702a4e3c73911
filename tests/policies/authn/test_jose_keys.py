"""Keys: which algorithms each takes, which one a token means, and how sets, PEM texts and secrets are read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509 import CertificateBuilder, Name
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt import algorithms
from tests.policies.authn.jose_vectors import (
    EVERY,
    PAYLOAD,
    by_rsa,
    by_secret,
    compact,
    ec_key,
    ed_key,
    jwk,
    number,
    roca_key,
    rsa_key,
    secret,
    token,
)  # fmt: skip

from gatekit.policies.authn.jose import read_jws
from gatekit.policies.authn.jose_keys import (
    ASYMMETRIC,
    SYMMETRIC,
    Key,
    KeySet,
    KeySetRefused,
    read_key_set,
    read_pem,
    read_secret,
)

INFO = PublicFormat.SubjectPublicKeyInfo
RSA = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def pem_of(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, INFO).decode())


def takes(keys: KeySet, text: bytes) -> bool:
    jws = read_jws(text)
    key = keys.find(jws.kid, jws.algorithm)
    return key is not None and key.verifies(jws.algorithm, jws.signed, jws.signature)


@pytest.mark.parametrize(
    ("entry", "algorithms"),
    [
        (jwk("RS256"), RSA),
        (jwk("RS256", alg="PS384"), {"PS384"}),
        (jwk("ES256"), {"ES256"}),
        (jwk("ES384"), {"ES384"}),
        (jwk("ES512"), {"ES512"}),
        (jwk("EdDSA"), {"EdDSA", "Ed25519"}),
        (jwk("EdDSA", alg="EdDSA"), {"EdDSA"}),
        (jwk("EdDSA", alg="Ed25519"), {"Ed25519"}),
        (jwk("HS256"), {"HS256", "HS384", "HS512"}),
        (jwk("HS256", k="A" * 43), {"HS256"}),
        (jwk("HS256", k="A" * 64), {"HS256", "HS384"}),
    ],
    ids=["rsa", "rsa alg", "p-256", "p-384", "p-521", "okp", "okp EdDSA", "okp Ed25519", "oct", "oct 32", "oct 48"],
)
def test_an2_a_key_takes_what_its_kind_and_its_alg_leave_it(entry: dict[str, Any], algorithms: set[str]) -> None:
    key = read_key_set([entry], EVERY).find("k", min(algorithms))
    assert key is not None
    assert key.algorithms == algorithms
    narrowed = frozenset({max(algorithms)})
    assert [one.algorithms for one in read_key_set([entry], narrowed)._keys] == [narrowed]
    assert len(read_key_set([entry], frozenset({"none"}))) == 0


def test_an2_a_key_refuses_another_algorithm_whatever_the_signature() -> None:
    key = Key("k", {"RS256": lambda signed, signature: True})
    assert key.verifies("RS256", b"", b"")
    assert not key.verifies("HS256", b"", b"")
    assert not key.verifies("none", b"", b"")
    assert repr(key) == "Key('k')"


@pytest.mark.parametrize("name", ["RS256", "PS256", "ES256", "EdDSA", "HS256"])
def test_a_signature_has_one_length_whatever_the_library_thinks_of_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (
        algorithms.RSAAlgorithm,
        algorithms.RSAPSSAlgorithm,
        algorithms.ECAlgorithm,
        algorithms.OKPAlgorithm,
        algorithms.HMACAlgorithm,
    ):
        monkeypatch.setattr(kind, "verify", lambda self, msg, key, sig: True)
    key = read_key_set([jwk(name)], EVERY).find("k", name)
    assert key is not None
    size = len(read_jws(token(name)).signature)
    assert [length for length in range(size * 2 + 1) if key.verifies(name, b"a", bytes(length))] == [size]


def test_a_key_is_found_by_its_id() -> None:
    keys = read_key_set({"keys": [jwk("RS256", kid="a"), jwk("ES256", kid="b"), jwk("ES384", kid="c")]}, ASYMMETRIC)
    assert keys.kids == {"a", "b", "c"}
    assert len(keys) == 3
    found = keys.find("b", "ES256")
    assert found is not None
    assert found.kid == "b"
    assert keys.find("b", "RS256") is None
    assert keys.find("d", "ES256") is None


def test_a_token_without_a_key_id_means_the_one_key_that_takes_its_algorithm() -> None:
    keys = read_key_set({"keys": [jwk("RS256", kid="a"), jwk("ES256", kid="b"), jwk("ES256", "other", kid="c")]}, EVERY)
    assert getattr(keys.find(None, "RS256"), "kid", None) == "a"
    assert keys.find(None, "ES256") is None
    assert keys.find(None, "ES384") is None


def test_a_key_without_an_id_is_not_meant_by_one() -> None:
    keys = read_key_set({"keys": [{name: one for name, one in jwk("RS256").items() if name != "kid"}]}, EVERY)
    assert keys.find(None, "RS256") is not None
    assert keys.find("k", "RS256") is None
    assert keys.kids == frozenset()


def test_a_key_for_encryption_may_have_the_id_of_one_for_signatures() -> None:
    keys = read_key_set({"keys": [jwk("RS256", "other", use="enc"), jwk("RS256", use="sig")]}, EVERY)
    assert takes(keys, token("RS256"))


def test_what_cannot_be_used_is_left_out_and_the_rest_stays() -> None:
    odd: list[Any] = [
        {"kty": "EC", "crv": "P-256", "kid": "x"}, {"kty": "AKP", "alg": "ML-DSA-44", "kid": "y"}, {}, None, 1, "text", [],
    ]  # fmt: skip
    keys = read_key_set({"keys": [*odd, jwk("RS256")], "also": 1}, EVERY)
    assert keys.kids == {"k"}
    assert takes(keys, token("RS256"))


@pytest.mark.parametrize(
    ("modulus", "exponent", "taken"),
    [
        ((1 << 2047) + 1, 65537, True), ((1 << 8191) + 1, (1 << 64) - 1, True), ((1 << 2047) + 2, 65537, False), ((1 << 2046) + 1, 65537, False),
        ((1 << 8192) + 1, 65537, False), ((1 << 2047) + 1, 65535, False), ((1 << 2047) + 1, 65538, False), ((1 << 2047) + 1, (1 << 64) + 1, False),
    ],
    ids=["least", "most", "even", "short", "long", "small exponent", "even exponent", "large exponent"],
)  # fmt: skip
def test_an_rsa_key_has_a_size_that_is_safe_and_can_be_borne(modulus: int, exponent: int, taken: bool) -> None:
    assert len(read_key_set([jwk("RS256", n=number(modulus), e=number(exponent))], EVERY)) == taken


def test_an_empty_set_is_a_set() -> None:
    assert len(read_key_set(b'{"keys":[]}', EVERY)) == 0
    assert len(read_key_set([], EVERY)) == 0


def test_a_hundred_keys_are_taken() -> None:
    many = [jwk("HS256", kid=str(number)) for number in range(100)]
    assert len(read_key_set({"keys": many}, EVERY)) == 100


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"x" * ((1 << 20) + 1), "1048576 bytes"),
        (b"{", "cannot be read"),
        (b'{"keys":[],"keys":[]}', "twice"),
        (b"[1", "cannot be read"),
        ({"keys": {}}, "whose member keys is a list"),
        ({"keys": [{}] * 101}, "100 keys"),
        ({"keys": [{"kid": "a"}, {"kid": "a"}]}, "same kid"),
        ({"keys": [{"kty": "oct"}, {"kty": "RSA"}]}, "shared secrets among public keys"),
    ],
    ids=["long", "no json", "twice", "cut", "no list", "many", "kid", "mixed"],
)
def test_a_set_is_refused_with_what_is_wrong(document: Any, words: str) -> None:
    with pytest.raises(KeySetRefused, match=words):
        read_key_set(document, EVERY)


JSONISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from([jwk("RS256")["n"], "AQAB", "A" * 43]),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=4,
)
MEMBERS = st.dictionaries(
    st.sampled_from(["kty", "crv", "n", "e", "x", "y", "k", "alg", "use", "key_ops", "kid"]),
    JSONISH | st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "sig", "RS256"]),
    max_size=11,
)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(["RS256", "ES256", "EdDSA", "HS256"]), MEMBERS)
def test_no_key_raises_anything_whatever_is_in_it(name: str, members: dict[str, Any]) -> None:
    keys = read_key_set({"keys": [{**jwk(name), **members}]}, EVERY)
    assert len(keys) <= 1
    for algorithm in EVERY:
        key = keys.find("k", algorithm)
        assert key is None or key.verifies(algorithm, b"a", b"b") is False


@pytest.mark.parametrize(
    ("private", "name"),
    [
        (rsa_key("issuer"), "RS256"),
        (rsa_key("issuer"), "PS512"),
        (ec_key("issuer", "ES256"), "ES256"),
        (ec_key("issuer", "ES512"), "ES512"),
        (ed_key("issuer"), "EdDSA"),
    ],
    ids=["RS256", "PS512", "ES256", "ES512", "EdDSA"],
)
def test_a_pem_key_is_for_any_key_id(private: Any, name: str) -> None:
    for text in (pem_of(private), "\n" + pem_of(private) + "\n", certificate(private)):
        keys = read_pem(text, ASYMMETRIC)
        assert takes(keys, token(name))
        assert takes(keys, token(name, kid="whatever"))
        assert not takes(keys, token(name, owner="other"))
        assert (len(keys), keys.kids) == (1, frozenset())
        assert keys.find(None, "HS256") is None


def certificate(private: Any) -> str:
    day = datetime(2020, 1, 1, tzinfo=UTC)
    built = CertificateBuilder().subject_name(Name([])).issuer_name(Name([])).public_key(private.public_key())
    built = built.serial_number(1).not_valid_before(day).not_valid_after(day)
    hashed = None if private is ed_key("issuer") else hashes.SHA256()
    return built.sign(private, hashed).public_bytes(Encoding.PEM).decode()


def private_pem(private: Any) -> str:
    return str(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


@pytest.mark.parametrize(
    ("text", "algorithms", "words"),
    [
        ("", ASYMMETRIC, "one public key or one certificate"),
        ("file:/etc/key", ASYMMETRIC, "one public key or one certificate"),
        (pem_of(rsa_key("issuer")) * 2, ASYMMETRIC, "one public key or one certificate"),
        (private_pem(rsa_key("issuer")), ASYMMETRIC, "one public key or one certificate"),
        (pem_of(rsa_key("issuer"))[:200], ASYMMETRIC, "can be read"),
        (pem_of(rsa_key("issuer")).replace("PUBLIC KEY", "CERTIFICATE"), ASYMMETRIC, "can be read"),
        (pem_of(rsa_key("issuer")), frozenset({"ES256", "HS256"}), "which takes PS256, PS384, PS512, RS256, RS384, RS512"),
        (pem_of(ec_key("issuer", "ES256")), frozenset({"ES384"}), "which takes ES256"),
        (pem_of(rsa_key("weak")), ASYMMETRIC, "kind or size"),
        (pem_of(rsa_key("issuer", 3)), ASYMMETRIC, "kind or size"),
        (pem_of(roca_key()), ASYMMETRIC, "kind or size"),
        (pem_of(ec.derive_private_key(5, ec.SECP256K1())), ASYMMETRIC, "kind or size"),
        (pem_of(Ed448PrivateKey.from_private_bytes(bytes(57))), ASYMMETRIC, "kind or size"),
    ],
    ids=[
        "empty", "reference", "two", "private", "cut", "no certificate", "other kind", "other curve", "weak", "exponent",
        "roca", "secp256k1", "ed448",
    ],
)  # fmt: skip
def test_a_pem_text_is_refused_with_what_is_wrong(text: str, algorithms: frozenset[str], words: str) -> None:
    with pytest.raises(KeySetRefused, match=words) as caught:
        read_pem(text, algorithms)
    assert "BEGIN P" not in str(caught.value)


def test_a_weak_key_is_not_taken_and_a_sound_one_of_the_same_make_is() -> None:
    """What is refused is refused for its weakness: with a signature that is good."""
    for private in (rsa_key("weak"), rsa_key("issuer", 3), roca_key()):
        numbers = private.public_key().public_numbers()
        assert isinstance(numbers, rsa.RSAPublicNumbers)
        text = compact({"alg": "RS256"}, PAYLOAD, by_rsa(private))
        jws = read_jws(text)
        private.public_key().verify(jws.signature, jws.signed, padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize(("name", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_is_as_long_as_the_hash_and_for_any_key_id(name: str, size: int) -> None:
    key = secret("issuer")[:size]
    keys = read_secret(key, frozenset({name}))
    text = compact({"alg": name, "kid": "any"}, PAYLOAD, by_secret(name, key))
    assert takes(keys, text)
    assert takes(keys, compact({"alg": name}, PAYLOAD, by_secret(name, key)))
    with pytest.raises(KeySetRefused, match=f"too short for {name}, which needs {size} bytes"):
        read_secret(key[:-1], frozenset({name}))


@pytest.mark.parametrize(
    ("value", "algorithms", "words"),
    [
        (b"", SYMMETRIC, "too short for HS256"),
        (secret("issuer")[:40], SYMMETRIC, "too short for HS384"),
        (secret("issuer"), ASYMMETRIC, "none of the algorithms is for a shared secret: HS256, HS384, HS512"),
        (b"\n" + pem_of(rsa_key("issuer")).encode(), SYMMETRIC, "give a public key as pem"),
        (b"ssh-ed25519 " + b"A" * 64, SYMMETRIC, "give a public key as pem"),
        (b"ecdsa-sha2-nistp256 " + b"A" * 64, SYMMETRIC, "give a public key as pem"),
    ],
    ids=["empty", "short", "asymmetric", "pem", "ssh", "ecdsa"],
)
def test_a_secret_is_refused_with_what_is_wrong(value: bytes, algorithms: frozenset[str], words: str) -> None:
    with pytest.raises(KeySetRefused, match=words):
        read_secret(value, algorithms)
