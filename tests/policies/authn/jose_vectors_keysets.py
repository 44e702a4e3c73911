"""Key sets with something wrong with them. The token is a good one of the key that was meant."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tests.policies.authn.jose_vectors import (
    EVERY,
    PAYLOAD,
    Vector,
    by_rsa,
    by_secret,
    compact,
    encode,
    joined,
    jwk,
    number,
    raw_ecdsa,
    roca_key,
    rsa_jwk,
    rsa_key,
    secret,
    signer,
    token,
)

Changes = dict[str, dict[str, Any]]

_P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1


def without(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in names}


def weak_rsa() -> Iterator[Vector]:
    for what, private in {
        "1024 bits": rsa_key("weak"),
        "exponent 3": rsa_key("issuer", 3),
        "exponent 257": rsa_key("issuer", 257),
        "ROCA": roca_key(),
        "exponent of 65 bits": rsa_key("issuer", (1 << 64) + 13),
        "exponent as long as the modulus": rsa_key("issuer", (1 << 2046) + 1),
    }.items():
        text = compact({"alg": "RS256", "kid": "k"}, PAYLOAD, by_rsa(private))
        yield Vector(f"RSA {what}", text, {"keys": [rsa_jwk(private, alg="RS256")]}, EVERY)


def broken_keys() -> Iterator[Vector]:
    """One key, with a good token."""
    entries: dict[str, tuple[str, Any]] = {}
    rsa, elliptic, ed, oct_ = (jwk(name) for name in ("RS256", "ES256", "EdDSA", "HS256"))
    n, x, y = rsa["n"], elliptic["x"], elliptic["y"]
    modulus = rsa_key("issuer").public_key().public_numbers().n
    of_rsa: Changes = {
        "no n": {"n": ...},
        "no e": {"e": ...},
        "n a number": {"n": modulus},
        "e a number": {"e": 65537},
        "n null": {"n": None},
        "n a list": {"n": [n]},
        "n empty": {"n": ""},
        "e empty": {"e": ""},
        "n padded": {"n": n + "=="},
        "e padded": {"e": "AQAB===="},
        "n with a space": {"n": " " + n},
        "n with a line break": {"n": n[:64] + "\n" + n[64:]},
        "n in base64": {"n": n.replace("-", "+").replace("_", "/") + "+"},
        "n with a minus": {"n": "-5"},
        "n not ASCII": {"n": "ñ" + n[1:]},
        "n in hexadecimal": {"n": hex(modulus)},
        "n in decimal": {"n": str(modulus)},
        "e 0": {"e": "AA"},
        "e 1": {"e": "AQ"},
        "e 2": {"e": "Ag"},
        "e 3": {"e": "Aw"},
        "e 65536": {"e": "AQAA"},
        "e is n": {"e": n},
        "n even": {"n": number(modulus + 1)},
        "n 1": {"n": "AQ"},
        "n half": {"n": number(modulus >> 1024)},
        "n more": {"n": number(modulus + 2)},
        "n of 2047 bits": {"n": number(modulus >> 1)},
        "n of 8193 bits": {"n": number((modulus << 6145) + 1)},
        "n as in a private key alone": {"n": ..., "e": ..., "d": n, "p": n, "q": n},
        "kty rsa": {"kty": "rsa"},
        "kty RSA256": {"kty": "RSA256"},
        "kty EC": {"kty": "EC"},
        "kty oct": {"kty": "oct"},
        "kty oct with k": {"kty": "oct", "k": n},
        "kty missing": {"kty": ...},
        "kty null": {"kty": None},
        "kty a list": {"kty": ["RSA"]},
        "kty AKP": {"kty": "AKP"},
    }
    for what, change in of_rsa.items():
        entries[f"RSA {what}"] = "RS256", {**rsa, **change}
    of_ec: Changes = {
        "no x": {"x": ...},
        "no y": {"y": ...},
        "no crv": {"crv": ...},
        "crv P-384": {"crv": "P-384"},
        "crv P-521": {"crv": "P-521"},
        "crv p-256": {"crv": "p-256"},
        "crv secp256k1": {"crv": "secp256k1"},
        "crv secp256r1": {"crv": "secp256r1"},
        "crv Ed25519": {"crv": "Ed25519"},
        "crv null": {"crv": None},
        "crv a list": {"crv": ["P-256"]},
        "x short": {"x": x[:-2]},
        "x with a zero before": {"x": encode(b"\0" + _raw(x)).decode()},
        "y with a zero before": {"y": encode(b"\0" + _raw(y)).decode()},
        "x a number": {"x": 5},
        "x empty": {"x": ""},
        "y empty": {"y": ""},
        "x and y swapped": {"x": y, "y": x},
        "x twice": {"y": x},
        "y of the other sign": {"y": number(_P256 - int.from_bytes(_raw(y)), 32)},
        "a bit of y": {"y": number(int.from_bytes(_raw(y)) ^ 16, 32)},
        "x 0": {"x": number(0, 32)},
        "no point at all": {"x": number(0, 32), "y": number(0, 32)},
        "x is the prime": {"x": number(_P256, 32)},
        "y more than the prime": {"y": number(2**256 - 1, 32)},
        "x in base64": {"x": x[:-1] + "+"},
        "x padded": {"x": x + "="},
        "kty OKP": {"kty": "OKP"},
        "kty RSA": {"kty": "RSA"},
        "kty ec": {"kty": "ec"},
        "compressed": {"x": encode(b"\2" + _raw(x)).decode(), "y": ...},
    }
    for what, change in of_ec.items():
        entries[f"EC {what}"] = "ES256", {**elliptic, **change}
    of_ed: Changes = {
        "no x": {"x": ...},
        "no crv": {"crv": ...},
        "crv Ed448": {"crv": "Ed448"},
        "crv X25519": {"crv": "X25519"},
        "crv P-256": {"crv": "P-256"},
        "x short": {"x": ed["x"][:-2]},
        "x long": {"x": "AA" + ed["x"] + "A"},
        "x empty": {"x": ""},
        "x a number": {"x": 1},
        "kty EC": {"kty": "EC"},
        "kty oct": {"kty": "oct"},
        "x padded": {"x": ed["x"] + "="},
    }
    for what, change in of_ed.items():
        entries[f"OKP {what}"] = "EdDSA", {**ed, **change}
    of_oct: Changes = {
        "no k": {"k": ...},
        "k empty": {"k": ""},
        "k null": {"k": None},
        "k a number": {"k": 1},
        "k of another case": {"k": oct_["k"].swapcase()},
        "k padded": {"k": oct_["k"] + "=="},
        "kty OCT": {"kty": "OCT"},
        "kty RSA": {"kty": "RSA"},
    }
    for what, change in of_oct.items():
        entries[f"oct {what}"] = "HS256", {**oct_, **change}
    for name in ("RS256", "ES256", "EdDSA", "HS256"):
        of_any: Changes = {
            "use enc": {"use": "enc"},
            "use SIG": {"use": "SIG"},
            "use empty": {"use": ""},
            "use null": {"use": None},
            "use a list": {"use": ["sig"]},
            "key_ops encrypt": {"key_ops": ["encrypt", "decrypt"]},
            "key_ops sign": {"key_ops": ["sign"]},
            "key_ops empty": {"key_ops": []},
            "key_ops a text": {"key_ops": "verify"},
            "key_ops null": {"key_ops": None},
            "key_ops in one text": {"key_ops": ["sign, verify"]},
            "key_ops Verify": {"key_ops": ["Verify"]},
            "use enc and key_ops verify": {"use": "enc", "key_ops": ["verify"]},
            "use sig and key_ops wrap": {"use": "sig", "key_ops": ["wrapKey"]},
            "alg of encryption": {"alg": "RSA-OAEP", "use": "sig"},
            "alg none": {"alg": "none"},
            "alg null": {"alg": None},
            "alg a list": {"alg": [name]},
            "alg empty": {"alg": ""},
            "alg in lower case": {"alg": name.lower()},
            "alg of another size": {"alg": name[:2] + "512"},
            "alg unknown": {"alg": name[:2] + "224"},
            "kid a number": {"kid": 1},
            "kid null": {"kid": None},
            "kid a list": {"kid": ["k"]},
            "kid of another case": {"kid": "K"},
            "no kid": {"kid": ...},
        }
        for what, change in of_any.items():
            entries[f"{name} {what}"] = name, {**jwk(name), **change}
    for what, (name, entry) in entries.items():
        kept = {one: value for one, value in entry.items() if value is not ...}
        yield Vector(what, token(name), {"keys": [kept]}, EVERY)
    for bits, size in (("256", 32), ("384", 48), ("512", 64)):
        for length in (0, 1, 16, size - 1):
            name, key = f"HS{bits}", secret("issuer")[:length]
            entry = {"kty": "oct", "k": encode(key).decode(), "kid": "k", "alg": name}
            yield Vector(
                f"{name} of {length} bytes",
                compact({"alg": name, "kid": "k"}, PAYLOAD, by_secret(name, key)),
                {"keys": [entry]},
                EVERY,
            )


def shortened() -> Iterator[Vector]:
    """Points without the leading zeros of a coordinate, which has a size of its own (RFC 7518 section 6.2.1.2)."""
    for what in ("x", "y"):
        for scalar in range(1, 10_000):
            key = ec.derive_private_key(scalar, ec.SECP256R1())
            numbers = key.public_key().public_numbers()
            if getattr(numbers, what) < 1 << 248:
                break
        sizes = {"x": 32, "y": 32, what: 31}
        point = {"x": number(numbers.x, sizes["x"]), "y": number(numbers.y, sizes["y"])}

        def sign(data: bytes, key: ec.EllipticCurvePrivateKey = key) -> bytes:
            return joined(*raw_ecdsa(key, data, hashes.SHA256()), "ES256")

        entry = {"kty": "EC", "crv": "P-256", **point, "kid": "k"}
        text = compact({"alg": "ES256", "kid": "k"}, PAYLOAD, sign)
        yield Vector(f"EC {what} without its zero", text, {"keys": [entry]}, EVERY)


def broken_sets() -> Iterator[Vector]:
    """A set, with a good token of one of its keys."""
    rsa, elliptic, oct_ = jwk("RS256"), jwk("ES256", kid="e"), jwk("HS256", kid="o")
    other = jwk("RS256", "other")
    sets: dict[str, Any] = {
        "a public key and a secret": {"keys": [rsa, oct_]},
        "a secret and a broken public key": {"keys": [rsa, {**oct_, "k": ""}]},
        "two of one kid": {"keys": [rsa, other]},
        "two of one kid, the other way round": {"keys": [other, rsa]},
        "the same twice": {"keys": [rsa, rsa]},
        "two of one kid, of different kinds": {"keys": [rsa, {**elliptic, "kid": "k"}]},
        "two of one kid, one broken": {"keys": [rsa, {**other, "n": "!"}]},
        "two of one kid, one of an unknown kind": {"keys": [rsa, {"kty": "?", "kid": "k"}]},
        "a hundred and one": {"keys": [rsa, *({"kty": "EC", "kid": str(one)} for one in range(100))]},
        "no keys": {"keys": []},
        "keys null": {"keys": None},
        "keys an object": {"keys": {"k": rsa}},
        "keys a text": {"keys": json.dumps(rsa)},
        "no member keys": {"key": [rsa]},
        "a key alone": rsa,
        "a list in a list": {"keys": [[rsa]]},
        "texts": {"keys": [json.dumps(rsa)]},
        "an empty object": {},
        "another key": {"keys": [elliptic]},
        "null": b"null",
        "a number": b"1",
        "no JSON": b"-----BEGIN PUBLIC KEY-----",
        "HTML": b"<!DOCTYPE html><title>Sign in</title>",
        "nothing": b"",
        "cut": json.dumps({"keys": [rsa]}).encode()[:-1],
        "keys twice": b'{"keys":[%s],"keys":[]}' % json.dumps(rsa).encode(),
        "n twice": b'{"keys":[{"n":"AQAB",%s]}' % json.dumps(rsa).encode()[1:],
        "UTF-16": json.dumps({"keys": [rsa]}).encode("utf-16"),
        "byte order mark": b"\xef\xbb\xbf" + json.dumps({"keys": [rsa]}).encode(),
        "NaN": b'{"keys":[%s],"a":NaN}' % json.dumps(rsa).encode(),
        "deep": b'{"keys":[%s],"a":%s}' % (json.dumps(rsa).encode(), b"[" * 5000 + b"]" * 5000),
        "over a mebibyte": json.dumps({"keys": [rsa], "a": "x" * (1 << 20)}).encode(),
        "many parts": b'{"keys":[%s],"a":[%s1]}' % (json.dumps(rsa).encode(), b"1," * 10_000),
    }
    for what, document in sets.items():
        yield Vector(what, token("RS256"), document, EVERY)
    nameless = compact({"alg": "RS256"}, PAYLOAD, signer("RS256"))
    two = {"keys": [jwk("RS256", kid="a"), jwk("RS256", "other", kid="b")]}
    yield Vector("no key id in the token, two keys fit", nameless, two, EVERY)
    unnamed = {"keys": [without(jwk("RS256"), "kid"), without(jwk("RS256", "other"), "kid")]}
    yield Vector("no key ids at all, two keys fit", nameless, unnamed, EVERY)
    yield Vector(
        "no key id in the token, the key is for another algorithm",
        nameless,
        {"keys": [jwk("RS256", alg="PS256")]},
        EVERY,
    )


def _raw(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
