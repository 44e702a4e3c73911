"""Tokens that must be taken."""

from __future__ import annotations

from collections.abc import Iterator

from tests.policies.authn.jose_vectors import (
    ALGORITHMS,
    CURVES,
    EVERY,
    HASHES,
    ORDERS,
    PAYLOAD,
    Vector,
    compact,
    ec_key,
    joined,
    jwk,
    keys_of,
    raw_ecdsa,
    signer,
    token,
)


def good() -> Iterator[Vector]:
    for name in ALGORITHMS:
        sign, only = signer(name), frozenset({name})
        yield Vector(f"{name} plain", token(name), keys_of(name), only)
        yield Vector(f"{name} among all algorithms", token(name), keys_of(name), EVERY)
        yield Vector(f"{name} with a key that names no algorithm", token(name), {"keys": [jwk(name)]}, only)
        yield Vector(f"{name} key_ops", token(name), {"keys": [jwk(name, key_ops=["verify"])]}, only)
        yield Vector(f"{name} key_ops of a pair", token(name), {"keys": [jwk(name, key_ops=["sign", "verify"])]}, only)
        yield Vector(f"{name} private members beside", token(name), {"keys": [jwk(name, d="AQ", x5c=["AA"])]}, only)
        yield Vector(f"{name} long payload", token(name, b'"' + b"x" * 20_000 + b'"'), keys_of(name), only)
        yield Vector(f"{name} one byte of payload", token(name, b"1"), keys_of(name), only)
        spaced = b' { "alg" : "%s" ,\n\t"kid" :\r "k" } ' % name.encode()
        yield Vector(f"{name} white space in the header", compact(spaced, PAYLOAD, sign), keys_of(name), only)
        escaped = b'{"\\u0061lg":"%s","k\\u0069d":"\\u006b"}' % name.encode()
        yield Vector(f"{name} escapes in the header", compact(escaped, PAYLOAD, sign), keys_of(name), only)
        yield Vector(f"{name} typ and cty", token(name, typ="JWT", cty="x"), keys_of(name), only)
        beside = {"keys": [jwk(name, "other", kid="o"), jwk(name)]}
        yield Vector(f"{name} by its key id", token(name), beside, only)
        nameless = compact({"alg": name}, PAYLOAD, sign)
        yield Vector(f"{name} without a key id", nameless, keys_of(name), only)
        yield Vector(f"{name} without a key id, one key fits", nameless, {"keys": [jwk(name)]}, EVERY)
        yield Vector(
            f"{name} links to keys", token(name, jku="https://a.test", x5u="https://a.test"), keys_of(name), only
        )
        yield Vector(f"{name} certificate beside", token(name, x5c=["AA"], x5t="AA"), keys_of(name), only)
    for kid in ("..//../k", "' OR 1=1 --", "k k", "ключ", "%00", "$(id)", "k" * 256):
        text = token("HS256", kid=kid)
        yield Vector(f"kid {kid[:12]}", text, {"keys": [jwk("HS256", kid=kid)]}, EVERY)
    for name, curve in CURVES.items():
        # Whoever has one signature can make the other one. So what is revoked is revoked by `jti`, not by the text.
        key, hashed = ec_key("issuer", name), HASHES[name[2:]]

        def other(data: bytes, name: str = name) -> bytes:
            r, s = raw_ecdsa(ec_key("issuer", name), data, HASHES[name[2:]])
            return joined(r, ORDERS[name] - s, name)

        assert key.curve.name == curve.name
        assert hashed.digest_size * 8 == int(name[2:])
        yield Vector(f"{name} other s", compact({"alg": name, "kid": "k"}, PAYLOAD, other), keys_of(name), EVERY)
