"""Tokens that must be taken and tokens that must not, made here: who signs them, and how they are put together.

Every key comes out of a text, so that each run has the same ones; nothing is kept in files. The primes of RSA keys were
searched for once: what is written down is how far behind the number that their text gives the next one is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekit.policies.authn.jose import JwsRefused, read_jws
from gatekit.policies.authn.jose_keys import ASYMMETRIC, SYMMETRIC, KeySetRefused, read_key_set

Json = Mapping[str, Any]
Sign = Callable[[bytes], bytes]

HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
CURVES: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
ORDERS = {name: curve.group_order for name, curve in CURVES.items()}
NAMES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
EVERY = ASYMMETRIC | SYMMETRIC
ALGORITHMS = tuple(sorted(EVERY))
PAYLOAD = b'{"iss":"https://issuer.test","sub":"ann","aud":"shop","exp":1700000300}'


class Vector(NamedTuple):
    """A token, the document of the keys it is verified with, and the algorithms that are configured."""

    name: str
    token: bytes
    keys: Any
    algorithms: frozenset[str]


def accepts(vector: Vector) -> bool:
    """Whether the token is taken. Whatever is raised but a refusal fails the test."""
    try:
        jws = read_jws(vector.token)
        keys = read_key_set(vector.keys, vector.algorithms)
    except (JwsRefused, KeySetRefused):
        return False
    key = keys.find(jws.kid, jws.algorithm)
    return key is not None and key.verifies(jws.algorithm, jws.signed, jws.signature)


def encode(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def number(value: int, size: int | None = None) -> str:
    """A number in a JWK."""
    return encode(value.to_bytes(size or (value.bit_length() + 7) // 8)).decode()


def compact(header: Json | bytes, payload: bytes, sign: Sign) -> bytes:
    """A compact JWS; a header in bytes is taken as it is."""
    head = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    signed = encode(head) + b"." + encode(payload)
    return signed + b"." + encode(sign(signed))


def derived(text: str, size: int) -> int:
    return int.from_bytes(hashlib.shake_256(text.encode()).digest(size))


def rsa_numbers(p: int, q: int, e: int) -> rsa.RSAPrivateNumbers:
    d = pow(e, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    return rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
    )


@cache
def rsa_key(owner: str, e: int = 65537) -> rsa.RSAPrivateKey:
    def prime(part: str, behind: int, size: int) -> int:
        return (derived(f"{owner} {part}", size) | (3 << (size * 8 - 2)) | 1) + 2 * behind

    behind = {"issuer": (445, 745, 128), "other": (61, 320, 128), "weak": (96, 563, 64)}[owner]
    p, q = prime("p", behind[0], behind[2]), prime("q", behind[1], behind[2])
    return rsa_numbers(p, q, e).private_key(unsafe_skip_rsa_key_validation=True)


@cache
def roca_key() -> rsa.RSAPrivateKey:
    """A key as the library of CVE-2017-15361 made them: primes that are powers of 65537 modulo a primorial."""
    primorial = 2
    for one in range(3, 702, 2):
        primorial *= one if all(one % part for part in range(3, min(one, 27), 2)) else 1
    least = (3 << 1022) // primorial + 1
    p = (least + 3) * primorial + pow(65537, 17485029721327973433, primorial)
    q = least * primorial + pow(65537, 7283207964119141688, primorial)
    return rsa_numbers(p, q, 65537).private_key(unsafe_skip_rsa_key_validation=True)


@cache
def ec_key(owner: str, algorithm: str) -> ec.EllipticCurvePrivateKey:
    scalar = derived(f"{owner} {algorithm}", 80) % (ORDERS[algorithm] - 1) + 1
    return ec.derive_private_key(scalar, CURVES[algorithm])


@cache
def ed_key(owner: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(derived(f"{owner} edwards", 32).to_bytes(32))


def secret(owner: str) -> bytes:
    return hashlib.shake_256(f"{owner} secret".encode()).digest(64)


def raw_ecdsa(key: ec.EllipticCurvePrivateKey, data: bytes, hashed: hashes.HashAlgorithm) -> tuple[int, int]:
    return decode_dss_signature(key.sign(data, ec.ECDSA(hashed, deterministic_signing=True)))


def joined(r: int, s: int, algorithm: str) -> bytes:
    size = (ORDERS[algorithm].bit_length() + 7) // 8
    return r.to_bytes(size) + s.to_bytes(size)


def pss(hashed: hashes.HashAlgorithm, salt: int | None = None) -> padding.PSS:
    return padding.PSS(padding.MGF1(hashed), hashed.digest_size if salt is None else salt)


def signer(algorithm: str, owner: str = "issuer") -> Sign:
    """How `owner` signs by that algorithm."""
    hashed = HASHES.get(algorithm[2:], hashes.SHA256())
    if algorithm.startswith("HS"):
        return by_secret(algorithm, secret(owner))
    if algorithm.startswith("RS"):
        return lambda data: rsa_key(owner).sign(data, padding.PKCS1v15(), hashed)
    if algorithm.startswith("PS"):
        return lambda data: rsa_key(owner).sign(data, pss(hashed), hashed)
    if algorithm.startswith("ES"):
        return lambda data: joined(*raw_ecdsa(ec_key(owner, algorithm), data, hashed), algorithm)
    return lambda data: ed_key(owner).sign(data)


def by_rsa(key: rsa.RSAPrivateKey) -> Sign:
    return lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def by_secret(algorithm: str, key: bytes) -> Sign:
    return lambda data: hmac.digest(key, data, "sha" + algorithm[2:])


def rsa_jwk(key: rsa.RSAPrivateKey, **members: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), "kid": "k", **members}


def jwk(algorithm: str, owner: str = "issuer", **members: Any) -> dict[str, Any]:
    """The public key of `owner` for that algorithm, or the shared secret."""
    if algorithm.startswith("HS"):
        return {"kty": "oct", "k": encode(secret(owner)).decode(), "kid": "k", **members}
    if algorithm.startswith(("RS", "PS")):
        return rsa_jwk(rsa_key(owner), **members)
    if algorithm.startswith("ES"):
        numbers = ec_key(owner, algorithm).public_key().public_numbers()
        size = (ORDERS[algorithm].bit_length() + 7) // 8
        point = {"x": number(numbers.x, size), "y": number(numbers.y, size)}
        return {"kty": "EC", "crv": NAMES[algorithm], **point, "kid": "k", **members}
    raw = ed_key(owner).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": encode(raw).decode(), "kid": "k", **members}


def keys_of(algorithm: str) -> dict[str, Any]:
    """The set that a well-kept issuer publishes."""
    return {"keys": [jwk(algorithm, alg=algorithm, use="sig")]}


def token(algorithm: str, payload: bytes = PAYLOAD, owner: str = "issuer", **header: Any) -> bytes:
    """A token that is good, unless `header` or `owner` make it something else."""
    return compact({"alg": algorithm, "kid": "k", **header}, payload, signer(algorithm, owner))
