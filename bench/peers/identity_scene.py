"""Who calls in the benchmark of identity: an issuer with its keys, its tokens, a certificate. Everything is made anew."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import jwt as pyjwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gatekit import Authn, Authz, Exchange, jwt
from gatekit.core.door import Door
from gatekit.core.peers import Trust
from gatekit.policies.authn.jwt import Jwt
from gatekit.testing import FixedRandom, request

ISSUER = "https://id.example/tenants/acme"
AUDIENCE = "orders-api"
SCOPE = "orders:read"
TENANT = "acme"
LEEWAY = 60
ALGORITHMS = ("RS256", "ES256", "EdDSA")
PATH = "/v1/orders/42"
URI = "spiffe://acme.example/ns/shop/orders"
PROXY = "192.0.2.1"
HEADERS = [
    ("host", "shop.example"), ("user-agent", "bench/1.0 (like a browser)"), ("accept", "*/*"),
    ("accept-encoding", "gzip, br"), ("accept-language", "en"), ("x-request-id", "0f3c9a6e5d1b4c7f"),
    ("cookie", "session=0f3c9a6e5d1b4c7f"),
]  # fmt: skip
"""What comes with every request besides its credential."""


class Issuer:
    """An issuer that signs by each of the algorithms, with one key for each. `jwks` is what it publishes."""

    def __init__(self) -> None:
        self._keys: dict[str, Any] = {
            "RS256": rsa.generate_private_key(65537, 2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }
        self.jwks: dict[str, Any] = {"keys": [self._published(name) for name in ALGORITHMS]}

    def _published(self, algorithm: str) -> dict[str, Any]:
        told: Any = pyjwt.get_algorithm_by_name(algorithm)
        public = told.to_jwk(self._keys[algorithm].public_key(), as_dict=True)
        return {**public, "kid": f"key-{algorithm}", "use": "sig", "alg": algorithm}

    def token(self, number: int = 0, algorithm: str = "RS256") -> str:
        """An access token as an Entra ID writes it; each number is another caller's."""
        now = int(time.time())
        claims = {
            "iss": ISSUER, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 86_400, "ver": "2.0", "tid": TENANT,
            "sub": f"user-{number}", "oid": f"00000000-0000-0000-0000-{number:012}", "azp": "shop-web", "jti": f"t-{number}",
            "name": "Ann Example", "preferred_username": f"user-{number}@acme.example",
            "scp": f"{SCOPE} orders:write profile", "roles": ["operator"],
        }  # fmt: skip
        head = {"kid": f"key-{algorithm}"}
        return pyjwt.encode(claims, self._keys[algorithm], algorithm, headers=head)


def tokens_of(jwks: Mapping[str, Any] | None, **fields: Any) -> Jwt:
    """gatekit's method for that issuer."""
    given: Any = {
        "issuer": ISSUER, "audience": AUDIENCE, "jwks": jwks, "leeway": LEEWAY, "claims": {"tenant": "tid"}, **fields,
    }  # fmt: skip
    return jwt(**given)


def policies(jwks: Mapping[str, Any], **fields: Any) -> tuple[Authn, Authz]:
    """Whose token it is, and whether it has the scope."""
    return Authn(tokens_of(jwks, **fields)), Authz(scopes=SCOPE)


def asked(*credentials: tuple[str, str], tls: str | None = None, told_in: str | None = None) -> Exchange:
    """A request with these headers; over TLS with that certificate, or from a proxy that tells of one in that header."""
    door = None if told_in is None else Door(FixedRandom(), trust=Trust([PROXY], None, told_in))
    exchange = request(
        "GET", PATH, client=PROXY, headers=[*HEADERS, *credentials], door=door, params={"tenant": TENANT, "id": "42"}
    )
    if tls is not None:
        exchange.scope["extensions"] = {"tls": {"client_cert_chain": [tls], "client_cert_error": None}}
    return exchange


def bearing(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


def certificate() -> tuple[str, str]:
    """A client's certificate as PEM, and as Envoy tells of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orders")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(Encoding.PEM).decode()
    digest = sha256(made.public_bytes(Encoding.DER)).hexdigest()
    return pem, f'Hash={digest};Cert="{quote(pem, safe="")}"'


def introspected() -> bytes:
    """What an authorization server answers about an opaque token."""
    now = int(time.time())
    return json.dumps(
        {"active": True, "iss": ISSUER, "sub": "ann", "aud": AUDIENCE, "scope": SCOPE, "client_id": "shop-web",
         "iat": now, "exp": now + 86_400, "jti": "i-1", "token_type": "Bearer"}
    ).encode()  # fmt: skip
