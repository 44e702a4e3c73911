"""Real certificates for tests: of an authority made for the purpose, with names that a sound one would not sign."""

from __future__ import annotations

import datetime
from functools import cache
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

NOW = 1_700_000_000.0
"""The time by the clock of the test kit."""
ORDERS = "spiffe://acme.example/ns/shop/orders"


class Made(NamedTuple):
    """A certificate in every form in which one is told."""

    der: bytes

    @property
    def pem(self) -> str:
        return x509.load_der_x509_certificate(self.der).public_bytes(Encoding.PEM).decode()

    @property
    def escaped(self) -> str:
        return quote(self.pem, safe="")

    @property
    def binary(self) -> str:
        import base64

        return f":{base64.b64encode(self.der).decode()}:"

    @property
    def digest(self) -> bytes:
        return sha256(self.der).digest()

    def xfcc(self, *more: str) -> str:
        return ";".join([f"Hash={self.digest.hex()}", f'Cert="{self.escaped}"', *more])


@cache
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@cache
def made(
    uris: tuple[str, ...] = (),
    dns: tuple[str, ...] = (),
    emails: tuple[str, ...] = (),
    cn: tuple[str, ...] = (),
    organisation: str = "",
    not_before: float = NOW - 3600.0,
    not_after: float = NOW + 3600.0,
    others: tuple[x509.GeneralName, ...] = (),
) -> Made:
    """A certificate with these names, valid for an hour either way of `NOW`."""
    ca = authority()
    issuer = x509.load_pem_x509_certificate(ca.cert_pem.bytes())
    key = load_pem_private_key(ca.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, one) for one in cn]
    if organisation:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    names: list[x509.GeneralName] = [
        *map(x509.UniformResourceIdentifier, uris),
        *map(x509.DNSName, dns),
        *map(x509.RFC822Name, emails),
        *others,
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(4711)
        .not_valid_before(datetime.datetime.fromtimestamp(not_before, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(not_after, datetime.UTC))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Made(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
