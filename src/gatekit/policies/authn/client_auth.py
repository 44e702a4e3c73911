"""How the gateway proves to an authorization server which client it is (RFC 6749 section 2.3, RFC 7523).

Secrets and keys come in as texts that were looked up already. No error here repeats any of them, and what holds them
has no fields in its repr.
"""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol
from urllib.parse import quote_plus

from gatekit.core.ports import Ports

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

ClientAuthMethod = Literal["basic", "post", "private_key_jwt"]
AssertionAlgorithm = Literal["RS256", "PS256", "ES256", "EdDSA"]

LIFETIME: Final = 60
"""For how many seconds an assertion is good."""
REUSE: Final = 30.0
"""For how many seconds one is sent again. It is then still good for as long, on a server whose clock is ahead."""
MIN_RSA_BITS: Final = 2048

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Pairs = tuple[tuple[str, str], ...]
Sign = Callable[[dict[str, Any]], str]
"""Makes a compact JWS of these claims."""


class Proof:
    """What goes with one request: header fields and members of its form. `fresh` says that it was never sent before."""

    __slots__ = ("form", "fresh", "headers")

    def __init__(self, *, headers: Pairs = (), form: Pairs = (), fresh: bool = True) -> None:
        self.headers = headers
        self.form = form
        self.fresh = fresh


class ClientAuth(Protocol):
    """A client's credentials, at work."""

    def proof(self, endpoint: str, *, anew: bool = False) -> Proof:
        """The proof for a request to this URL; `anew` asks for one that was never sent."""
        ...

    def take_once(self) -> None:
        """The server takes each proof once only: make every one anew from now on."""
        ...


class SharedSecret:
    """A secret that the server knows too, in the Authorization header (`basic`) or in the form (`post`)."""

    __slots__ = ("_proof",)

    def __init__(self, method: Literal["basic", "post"], client_id: str, secret: str) -> None:
        if method == "post":
            self._proof = Proof(form=(("client_id", client_id), ("client_secret", secret)))
        else:
            # RFC 6749 section 2.3.1: both are form-encoded first, so that a colon in the id is none of Basic's.
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
            self._proof = Proof(
                headers=(("authorization", "Basic " + b64encode(pair.encode("ascii")).decode("ascii")),)
            )

    def proof(self, endpoint: str, *, anew: bool = False) -> Proof:
        return self._proof

    def take_once(self) -> None:
        """A shared secret is sent with every request: nothing changes."""


class Assertions:
    """Proof by possession of a private key: a short-lived JWT, issued by the client about itself (RFC 7523 section 3).

    Signing takes up to a millisecond, so one is sent for half a minute, unless the server takes each only once, as
    it may (section 5.2.1 of RFC 7521): then one is signed for every request.
    """

    __slots__ = ("_audience", "_client_id", "_kept", "_once", "_ports", "_sign")

    def __init__(self, client_id: str, sign: Sign, audience: str | None, ports: Ports) -> None:
        self._client_id = client_id
        self._sign = sign
        self._audience = audience
        self._ports = ports
        self._once = False
        # For whom, when it was made, and what is sent. Replaced as a whole: threads need no lock.
        self._kept: tuple[str, float, Proof] | None = None

    def proof(self, endpoint: str, *, anew: bool = False) -> Proof:
        audience = self._audience or endpoint
        now = self._ports.clock.wall()
        kept = self._kept
        if kept is not None and not anew and not self._once and kept[0] == audience and 0 <= now - kept[1] < REUSE:
            return kept[2]
        form = self._form(audience, int(now))
        self._kept = (audience, now, Proof(form=form, fresh=False))
        return Proof(form=form)

    def take_once(self) -> None:
        self._once = True

    def _form(self, audience: str, now: int) -> Pairs:
        jti = urlsafe_b64encode(self._ports.random.token(16)).rstrip(b"=").decode("ascii")
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": audience,
            "jti": jti,
            "iat": now,
            "exp": now + LIFETIME,
        }
        return (
            ("client_id", self._client_id),
            ("client_assertion_type", _ASSERTION_TYPE),
            ("client_assertion", self._sign(claims)),
        )


def read_signer(text: str, algorithm: AssertionAlgorithm | None = None, key_id: str | None = None) -> Sign:
    """What signs with the private key in a PEM text or a JWK (RFC 7517).

    `algorithm` chooses between those that the key can do; the JWK's own `alg` and `kid` count where nothing is given.
    Raises ValueError with what is wrong, and nothing of the key.
    """
    stripped = text.strip()
    if stripped.startswith("{"):
        key, named, kid = _read_jwk(stripped)
    else:
        key, named, kid = _read_pem(stripped), None, None
    possible = _algorithms(key)
    chosen = algorithm or named or possible[0]
    if chosen not in possible:
        raise ValueError(f"this key signs with {' or '.join(possible)}, not with {chosen[:32]!r}")
    headers = {} if (key_id or kid) is None else {"kid": key_id or kid}

    def sign(claims: dict[str, Any]) -> str:
        import jwt

        return jwt.encode(claims, key, algorithm=chosen, headers=headers)  # type: ignore[arg-type]

    return sign


def _read_pem(text: str) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if "PRIVATE KEY-----" not in text:
        raise ValueError("there is no private key in it: give a PEM text (BEGIN PRIVATE KEY) or a private JWK")
    try:
        return load_pem_private_key(text.encode("utf-8"), None)
    except TypeError:
        raise ValueError(
            "the private key is encrypted: give it without a password, in a file only the gateway reads"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("the PEM text holds no private key that can be read") from None


def _read_jwk(text: str) -> tuple[PrivateKeyTypes, str | None, str | None]:
    """The key, its `alg` and its `kid`."""
    import jwt

    try:
        document = json.loads(text)
        key = jwt.PyJWK(document, algorithm=_ALGORITHM_OF[document["kty"]]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("this is no JWK that can be read: give a private key of type RSA, EC or OKP") from None
    if not hasattr(key, "private_bytes"):
        raise ValueError("this JWK is no private key (it has no member d)")
    operations = document.get("key_ops", ["sign"])
    if document.get("use", "sig") != "sig" or not isinstance(operations, list) or "sign" not in operations:
        raise ValueError("this JWK is not for signing, by its use or key_ops")
    named, kid = document.get("alg"), document.get("kid")
    if not isinstance(named, str | None) or not isinstance(kid, str | None):
        raise ValueError("alg and kid of a JWK are texts")
    return key, named, kid


_ALGORITHM_OF: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
"""What PyJWT reads a key of that type for. What it signs with is found from the key itself."""


def _algorithms(key: PrivateKeyTypes) -> tuple[AssertionAlgorithm, ...]:
    """What the key can sign with, the usual first."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if isinstance(key, RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key has {MIN_RSA_BITS} bits or more, this one has {key.key_size}")
        return "RS256", "PS256"
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return ("ES256",)
    if isinstance(key, Ed25519PrivateKey):
        return ("EdDSA",)
    raise ValueError("keys that sign here are RSA, EC on P-256 and Ed25519")


__all__ = [
    "AssertionAlgorithm", "Assertions", "ClientAuth", "ClientAuthMethod", "Proof", "SharedSecret", "read_signer",
]  # fmt: skip
