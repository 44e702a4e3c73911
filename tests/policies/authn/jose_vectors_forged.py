"""Tokens whose signatures are not good, or that were changed after they were signed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import product

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.policies.authn.jose_vectors import (
    ALGORITHMS,
    CURVES,
    EVERY,
    HASHES,
    ORDERS,
    PAYLOAD,
    Vector,
    by_secret,
    compact,
    ec_key,
    ed_key,
    encode,
    joined,
    jwk,
    keys_of,
    pss,
    raw_ecdsa,
    rsa_key,
    signer,
    token,
)


def changed() -> Iterator[Vector]:
    """What may be done to any token, for every algorithm."""
    for name in ALGORITHMS:
        head, body, tail = token(name).split(b".")
        signature = signer(name)(head + b"." + body)
        front = head + b"." + body + b"."

        def signed_as(found: bytes, front: bytes = front) -> bytes:
            return front + encode(found)

        texts = {
            "first bit": signed_as(bytes([signature[0] ^ 0x80]) + signature[1:]),
            "last bit": signed_as(signature[:-1] + bytes([signature[-1] ^ 1])),
            "a byte in the middle": signed_as(signature[:20] + bytes([signature[20] ^ 0x10]) + signature[21:]),
            "one byte short": signed_as(signature[:-1]),
            "first byte cut": signed_as(signature[1:]),
            "half": signed_as(signature[: len(signature) // 2]),
            "one byte": signed_as(signature[:1]),
            "a zero behind": signed_as(signature + b"\0"),
            "a zero before": signed_as(b"\0" + signature),
            "twice": signed_as(signature * 2),
            "zeros": signed_as(bytes(len(signature))),
            "ones": signed_as(b"\xff" * len(signature)),
            "no signature": front,
            "no signature, no dot": front[:-1],
            "another payload": head + b"." + encode(PAYLOAD.replace(b"ann", b"bob")) + b"." + tail,
            "no payload": head + b".." + tail,
            "no payload, no dot": head + b"." + tail,
            "another header": encode(b'{"kid":"k","alg":"%s"}' % name.encode()) + b"." + body + b"." + tail,
            "no header": b"." + body + b"." + tail,
            "no header, no dot": body + b"." + tail,
            "a dot behind": front + tail + b".",
            "a part behind": front + tail + b".AAAA",
            "parts swapped": body + b"." + head + b"." + tail,
            "signed by somebody else": token(name, owner="other"),
            "none, signed": compact({"alg": "none", "kid": "k"}, PAYLOAD, signer(name)),
            "none, unsigned": encode(b'{"alg":"none","kid":"k"}') + b"." + body + b".",
            "another key id": token(name, kid="K"),
            "algorithm in lower case": compact({"alg": name.lower(), "kid": "k"}, PAYLOAD, signer(name)),
            "algorithm with a space": compact({"alg": f"{name} ", "kid": "k"}, PAYLOAD, signer(name)),
        }
        for what, text in texts.items():
            yield Vector(f"{name}: {what}", text, keys_of(name), EVERY)
        for other in ALGORITHMS:
            if other != name:
                lie = compact({"alg": other, "kid": "k"}, PAYLOAD, signer(name))
                yield Vector(f"{name} called {other}", lie, keys_of(name), EVERY)
        yield Vector(f"{name}: not configured", token(name), keys_of(name), EVERY - {name})


def elliptic() -> Iterator[Vector]:
    for name in CURVES:
        n, hashed = ORDERS[name], HASHES[name[2:]]
        header = {"alg": name, "kid": "k"}
        front = encode(json.dumps(header).encode()) + b"." + encode(PAYLOAD)
        r, s = raw_ecdsa(ec_key("issuer", name), front, hashed)
        size = len(joined(1, 1, name)) // 2
        edges = {"0": 0, "1": 1, "n-1": n - 1, "n": n}
        pairs = {f"r {a}, s {b}": (edges[a], edges[b]) for a, b in product(edges, repeat=2)}
        pairs |= {
            "r 0": (0, s),
            "s 0": (r, 0),
            "r n": (n, s),
            "s n": (r, n),
            "swapped": (s, r),
            "r negated": (n - r, s),
        }
        found = {what: joined(*pair, name) for what, pair in pairs.items()}
        found["DER"] = encode_dss_signature(r, s)
        found["n more"] = (r + n).to_bytes(size + 1) + (s + n).to_bytes(size + 1)
        found["wide"] = r.to_bytes(size * 4) + s.to_bytes(size * 4)
        found["r alone"] = r.to_bytes(size)
        found["little end first"] = r.to_bytes(size, "little") + s.to_bytes(size, "little")
        for what, signature in found.items():
            yield Vector(f"{name} {what}", front + b"." + encode(signature), keys_of(name), EVERY)
        for bits, wrong in HASHES.items():
            if wrong is not hashed:
                pair = raw_ecdsa(ec_key("issuer", name), front, wrong)
                text = front + b"." + encode(joined(*pair, name))
                yield Vector(f"{name} over SHA-{bits}", text, keys_of(name), EVERY)
        for other in CURVES:
            if other != name:
                text = compact({"alg": other, "kid": "k"}, PAYLOAD, signer(name))
                yield Vector(f"{name} called {other}, no alg in the key", text, {"keys": [jwk(name)]}, EVERY)
                text = token(name, owner="issuer")
                yield Vector(f"{name} with a key of {other}", text, {"keys": [jwk(other)]}, EVERY)


def edwards() -> Iterator[Vector]:
    order = 2**252 + 27742317777372353535851937790883648493
    for name in ("EdDSA", "Ed25519"):
        front = encode(b'{"alg":"%s","kid":"k"}' % name.encode()) + b"." + encode(PAYLOAD)
        signature = ed_key("issuer").sign(front)
        s = int.from_bytes(signature[32:], "little")
        found = {
            "s and the order": signature[:32] + (s + order).to_bytes(32, "little"),
            "s is the order": signature[:32] + order.to_bytes(32, "little"),
            "s 0": signature[:32] + bytes(32),
            "R is the neutral point": b"\1" + bytes(31) + signature[32:],
            "R without canonical form": b"\xee" + b"\xff" * 30 + b"\x7f" + signature[32:],
            "sign of R": signature[:31] + bytes([signature[31] ^ 0x80]) + signature[32:],
            "halves swapped": signature[32:] + signature[:32],
            "of the hash": ed_key("issuer").sign(hashlib.sha512(front).digest()),
            "length of Ed448": signature + bytes(50),
        }
        for what, one in found.items():
            yield Vector(f"{name} {what}", front + b"." + encode(one), keys_of(name), EVERY)
    for name in ("Ed448", "ES256K", "EdDsa", "Ed25519ph"):
        text = compact({"alg": name, "kid": "k"}, PAYLOAD, signer("EdDSA"))
        yield Vector(f"EdDSA called {name}", text, {"keys": [jwk("EdDSA")]}, EVERY)


def masked() -> Iterator[Vector]:
    """PSS with other parameters than the name of the algorithm says (RFC 7518 section 3.5)."""
    key = rsa_key("issuer")
    numbers = key.private_numbers()
    n, d = numbers.public_numbers.n, numbers.d
    for name in ("PS256", "PS384", "PS512"):
        hashed = HASHES[name[2:]]
        front = encode(b'{"alg":"%s","kid":"k"}' % name.encode()) + b"." + encode(PAYLOAD)
        size = hashed.digest_size
        found = {
            f"salt of {salt}": key.sign(front, pss(hashed, salt), hashed) for salt in (0, 1, 20, size - 1, size + 1)
        }
        found["longest salt"] = key.sign(front, padding.PSS(padding.MGF1(hashed), padding.PSS.MAX_LENGTH), hashed)
        for other in (hashes.SHA1(), *(one for one in HASHES.values() if one is not hashed)):
            mask = padding.PSS(padding.MGF1(other), size)
            found[f"mask of {other.name}"] = key.sign(front, mask, hashed)
            if other.digest_size > 20:
                found[f"hash {other.name}"] = key.sign(front, padding.PSS(padding.MGF1(hashed), size), other)
        found["PKCS #1 v1.5"] = key.sign(front, padding.PKCS1v15(), hashed)
        block = bytearray(pow(int.from_bytes(key.sign(front, pss(hashed), hashed)), 65537, n).to_bytes(256))
        for what, place, bits in (
            ("trailer", 255, 0x7F),
            ("a bit of the hash", 250, 1),
            ("a bit of the salt", 180, 1),
            ("a zero byte", 5, 1),
        ):
            block[place] ^= bits
            found[what] = pow(int.from_bytes(block), d, n).to_bytes(256)
            block[place] ^= bits
        for what, one in found.items():
            yield Vector(f"{name} {what}", front + b"." + encode(one), keys_of(name), EVERY)


def confused() -> Iterator[Vector]:
    """The public key as the secret of an HMAC: its text in every form that somebody could take for one."""
    for name in ("RS256", "PS256", "ES256", "ES512", "EdDSA"):
        public = (
            ed_key("issuer").public_key()
            if name == "EdDSA"
            else (ec_key("issuer", name) if name.startswith("ES") else rsa_key("issuer")).public_key()
        )
        info = PublicFormat.SubjectPublicKeyInfo
        entry = jwk(name, alg=name)
        pem = public.public_bytes(Encoding.PEM, info)
        forms = {
            "PEM": pem,
            "PEM without its last line break": pem.rstrip(),
            "DER": public.public_bytes(Encoding.DER, info),
            "JWK": json.dumps(entry).encode(),
            "JWK, compact": json.dumps(entry, separators=(",", ":")).encode(),
            "a member": str(entry.get("n") or entry["x"]).encode(),
            "nothing": b"",
        }
        for what, form in forms.items():
            for bits in ("256", "512"):
                text = compact({"alg": f"HS{bits}", "kid": "k"}, PAYLOAD, by_secret(f"HS{bits}", form))
                yield Vector(f"HS{bits} with {name} as {what}", text, {"keys": [entry]}, EVERY)
                if bits == "256":
                    loose = {"keys": [jwk(name)]}
                    yield Vector(f"HS{bits} with {name} as {what}, no alg in the key", text, loose, EVERY)
