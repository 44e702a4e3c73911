"""Keys that signatures are verified with, and how they are read: JWK sets, PEM texts, shared secrets.

A key takes the algorithms that its own kind, its `alg` and the configuration leave it. What a token says about its
algorithm only has to be among them: it decides nothing (RFC 8725 section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gatekit.policies.authn.jose import JsonRefused, decode_base64url, read_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurve, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKey = EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey

MAX_DOCUMENT: Final = 1 << 20
"""The longest JWK set, in bytes."""
MAX_KEYS: Final = 100
"""How many keys a JWK set may have."""
RSA_BITS: Final = range(2048, 8192 + 1)
"""How long the modulus of an RSA key may be. A longer one costs more time than its issuer can have meant."""
RSA_EXPONENTS: Final = range(65537, 1 << 64, 2)
"""Public exponents that are taken: odd, and none of the small ones that forgeries are made for (FIPS 186-5 section A.1)."""

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"P-256": ("ES256", 32), "P-384": ("ES384", 48), "P-521": ("ES512", 66)}
_OPENSSL: Final = {32: "secp256r1", 48: "secp384r1", 66: "secp521r1"}
# RFC 9864 gives the algorithm of this curve a name of its own; RFC 8037 calls that of all such curves EdDSA.
_EDWARDS: Final = ("EdDSA", "Ed25519")
_HASH_SIZE: Final = {"HS256": 32, "HS384": 48, "HS512": 64}

ASYMMETRIC: Final = frozenset({*_RSA, *(name for name, _ in _CURVES.values()), *_EDWARDS})
"""Algorithms of a public key."""
SYMMETRIC: Final = frozenset(_HASH_SIZE)
"""Algorithms of a shared secret."""

# What the library of CVE-2017-15361 built its primes from, for keys of 1984 bits and more.
_ROCA_PRIMES: Final = [one for one in range(3, 702, 2) if all(one % part for part in range(3, min(one, 27), 2))]

Verifier = Callable[[bytes, bytes], bool]
"""Whether the second is a signature of the first."""


class KeySetRefused(ValueError):
    """There are no keys to be had from this. The text tells an operator why, and repeats nothing of what was read."""


class Key:
    """A key and what it may be used for."""

    __slots__ = ("_verifiers", "algorithms", "kid")

    def __init__(self, kid: str | None, verifiers: Mapping[str, Verifier]) -> None:
        self.kid = kid
        self.algorithms = frozenset(verifiers)
        self._verifiers = dict(verifiers)

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether this key, used with that algorithm, made the signature. False for an algorithm it does not take."""
        verifier = self._verifiers.get(algorithm)
        return verifier is not None and verifier(signed, signature)

    def __repr__(self) -> str:
        return f"Key({self.kid!r})"


class KeySet:
    """Keys by their id. With `any_kid` there is one key, which is meant whatever id a token names."""

    __slots__ = ("_by_kid", "_keys", "_only")

    def __init__(self, keys: Iterable[Key], *, any_kid: bool = False) -> None:
        self._keys = tuple(keys)
        self._by_kid = {key.kid: key for key in self._keys if key.kid is not None}
        self._only = self._keys[0] if any_kid else None

    @property
    def kids(self) -> frozenset[str]:
        """The ids that keys of this set have."""
        return frozenset(self._by_kid)

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The key of that id if it takes the algorithm. A token that names none means the one key that does: where
        several do, none."""
        if self._only is not None:
            found: Key | None = self._only
        elif kid is not None:
            found = self._by_kid.get(kid)
        else:
            fitting = [key for key in self._keys if algorithm in key.algorithms]
            found = fitting[0] if len(fitting) == 1 else None
        return found if found is not None and algorithm in found.algorithms else None

    def __len__(self) -> int:
        return len(self._keys)


def read_key_set(document: bytes | Mapping[str, Any] | Sequence[Any], algorithms: frozenset[str]) -> KeySet:
    """The keys of a JWK set (RFC 7517 section 5) that can verify by one of these algorithms; there may be none.

    A key is left out when it is not for signatures (`use`, `key_ops`), of an unknown or unwanted kind, too weak, or
    broken. Raises KeySetRefused for what is no JWK set or too large, and where it cannot be told which key is meant
    for what: two of one id, or shared secrets among public keys.
    """
    if isinstance(document, bytes):
        document = _parsed(document)
    entries = document.get("keys") if isinstance(document, Mapping) else document
    if not isinstance(entries, (list, tuple)):
        raise KeySetRefused("a JWK set is an object whose member keys is a list")
    if len(entries) > MAX_KEYS:
        raise KeySetRefused(f"a JWK set has {MAX_KEYS} keys at most")
    given = [entry for entry in entries if isinstance(entry, Mapping)]
    # All of them count, also those that are left out below: what is wrong with the set is not made good by a second
    # fault in one of its keys.
    kids = [entry["kid"] for entry in given if isinstance(entry.get("kid"), str) and entry.get("use") != "enc"]
    if len(kids) != len(set(kids)):
        raise KeySetRefused("two keys of the set have the same kid")
    if len({entry.get("kty") == "oct" for entry in given}) > 1:
        raise KeySetRefused("the set has shared secrets among public keys")
    read = (_read_key(entry, algorithms) for entry in given)
    return KeySet(key for key in read if key is not None)


def read_pem(text: str, algorithms: frozenset[str]) -> KeySet:
    """The key of a PEM text, a public key or a certificate, for whatever id a token names. Raises KeySetRefused.

    Of a certificate only the key is used: neither its dates nor its issuer are looked at.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    if text.count("-----BEGIN ") != 1 or "PRIVATE KEY-----" in text:
        raise KeySetRefused("pem is one public key or one certificate, from -----BEGIN to -----END")
    data = text.strip().encode("utf-8")
    try:
        loaded: object = (
            load_pem_x509_certificate(data).public_key() if b" CERTIFICATE-----" in data else load_pem_public_key(data)
        )
    # What cannot be parsed is a ValueError, what the library does not support an error of its own.
    except Exception:
        raise KeySetRefused("pem is no public key and no certificate that can be read") from None
    fitting, length = _fitting(loaded)
    taken = _verifiers(loaded, fitting & algorithms, length)
    if not taken:
        what = f"which takes {', '.join(sorted(fitting))}" if fitting else "of a kind or size that is not taken"
        raise KeySetRefused(f"none of the algorithms fits the key in pem, {what}")
    return KeySet([Key(None, taken)], any_kid=True)


def read_secret(secret: bytes, algorithms: frozenset[str]) -> KeySet:
    """A shared secret, for whatever id a token names. Raises KeySetRefused for one that is shorter than a hash
    (RFC 7518 section 3.2), and for a public key, which is no secret."""
    if secret.lstrip().startswith((b"-----BEGIN ", b"ssh-", b"ecdsa-")):
        raise KeySetRefused("secret is a key of its own kind: give a public key as pem")
    for name in sorted(algorithms & SYMMETRIC):
        if len(secret) < _HASH_SIZE[name]:
            raise KeySetRefused(f"secret is too short for {name}, which needs {_HASH_SIZE[name]} bytes of it")
    taken = _secret_verifiers(secret, algorithms)
    if not taken:
        raise KeySetRefused(f"none of the algorithms is for a shared secret: {', '.join(sorted(SYMMETRIC))}")
    return KeySet([Key(None, taken)], any_kid=True)


def _parsed(document: bytes) -> Any:
    if len(document) > MAX_DOCUMENT:
        raise KeySetRefused(f"a JWK set has {MAX_DOCUMENT} bytes at most")
    try:
        return read_json(document)
    except JsonRefused as refused:
        raise KeySetRefused(f"the JWK set cannot be read: {refused}") from None


def _read_key(entry: Mapping[str, Any], algorithms: frozenset[str]) -> Key | None:
    """The key of one JWK, None where it is of no use here."""
    kid, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    if not isinstance(kid, (str, type(None))) or entry.get("use", "sig") != "sig":
        return None
    if not isinstance(operations, (list, tuple)) or "verify" not in operations:
        return None
    if "alg" in entry:
        algorithms = algorithms & {entry["alg"]} if isinstance(entry["alg"], str) else frozenset()
    try:
        if entry.get("kty") == "oct":
            taken = _secret_verifiers(_bytes(entry, "k"), algorithms)
        else:
            loaded = _loaded(entry)
            fitting, length = _fitting(loaded)
            taken = _verifiers(loaded, fitting & algorithms, length)
    except (ValueError, KeyError):
        return None
    return Key(kid, taken) if taken else None


def _loaded(entry: Mapping[str, Any]) -> PublicKey | None:
    """The public key of a JWK, whatever else is in it. Raises ValueError or KeyError for one that is broken."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, SECP521R1, EllipticCurvePublicNumbers
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    kind, curve = entry.get("kty"), entry.get("crv")
    if kind == "RSA":
        return RSAPublicNumbers(_number(entry, "e"), _number(entry, "n")).public_key()
    if kind == "EC" and isinstance(curve, str) and curve in _CURVES:
        x, y = _bytes(entry, "x"), _bytes(entry, "y")
        if not len(x) == len(y) == _CURVES[curve][1]:
            return None
        curves: dict[str, EllipticCurve] = {"P-256": SECP256R1(), "P-384": SECP384R1(), "P-521": SECP521R1()}
        return EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), curves[curve]).public_key()
    if kind == "OKP" and curve == "Ed25519":
        return Ed25519PublicKey.from_public_bytes(_bytes(entry, "x"))
    return None


def _fitting(loaded: object) -> tuple[frozenset[str], int]:
    """The algorithms that a public key is for, and how many bytes each of its signatures has."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(loaded, RSAPublicKey):
        numbers = loaded.public_numbers()
        sound = loaded.key_size in RSA_BITS and numbers.e in RSA_EXPONENTS and numbers.n % 2 == 1
        return frozenset(_RSA if sound and not _is_roca(numbers.n) else ()), (loaded.key_size + 7) // 8
    if isinstance(loaded, EllipticCurvePublicKey):
        for name, size in _CURVES.values():
            if loaded.curve.name == _OPENSSL[size]:
                return frozenset({name}), 2 * size
    if isinstance(loaded, Ed25519PublicKey):
        return frozenset(_EDWARDS), 64
    return frozenset(), 0


def _verifiers(loaded: object, names: Iterable[str], length: int) -> dict[str, Verifier]:
    """How a public key verifies by each of these algorithms."""
    from jwt.algorithms import get_default_algorithms

    known = get_default_algorithms()
    return {name: _verifier(known["EdDSA" if name == "Ed25519" else name].verify, loaded, length) for name in names}


def _secret_verifiers(secret: bytes, names: Iterable[str]) -> dict[str, Verifier]:
    """How a shared secret verifies by those of these algorithms that it is long enough for."""
    from jwt.algorithms import get_default_algorithms

    known = get_default_algorithms()
    return {
        name: _verifier(known[name].verify, secret, _HASH_SIZE[name])
        for name in names
        if len(secret) >= _HASH_SIZE.get(name, len(secret) + 1)
    }


def _verifier(verify: Callable[[bytes, Any, bytes], bool], key: object, length: int) -> Verifier:
    def verifies(signed: bytes, signature: bytes) -> bool:
        # One length only, whatever a library thinks of it: what pads or cuts it has made another token of the same.
        return len(signature) == length and verify(signed, key, signature)

    return verifies


def _bytes(entry: Mapping[str, Any], name: str) -> bytes:
    value = entry[name]
    if not isinstance(value, str):
        raise ValueError("a number in a JWK is text")
    return decode_base64url(value.encode("utf-8"))


def _number(entry: Mapping[str, Any], name: str) -> int:
    return int.from_bytes(_bytes(entry, name))


def _is_roca(modulus: int) -> bool:
    """Whether a modulus is of the kind that a broken smart card library made, and that can be factored (CVE-2017-15361).

    Such a one is a power of 65537 modulo every small prime, which one in 10^50 others is.
    """
    return all(modulus % prime in _powers(prime) for prime in _ROCA_PRIMES)


def _powers(prime: int) -> set[int]:
    found, power = set[int](), 1
    while power not in found:
        found.add(power)
        power = power * 65537 % prime
    return found


__all__ = [
    "ASYMMETRIC", "MAX_DOCUMENT", "MAX_KEYS", "SYMMETRIC", "Key", "KeySet", "KeySetRefused", "read_key_set", "read_pem",
    "read_secret",
]  # fmt: skip
