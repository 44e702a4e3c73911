"""What proxies write of a client's certificate: each form read strictly, or not at all.

None of these forms is signed. They are worth what the peer is worth that sends them, which `certificate` looks at. Envoy
writes names as they stand in the certificate, without quotes, so that `spiffe://a;URI=spiffe://b` reads as two: its header
is worth no more than the authority, which must not sign names with commas and semicolons in them. Where Envoy sends the
certificate itself, the names are taken from that.
Sources: Envoy's x-forwarded-client-cert, RFC 9440 (Client-Cert), and `$ssl_client_escaped_cert` of nginx.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

XFCC: Final = b"x-forwarded-client-cert"
CLIENT_CERT: Final = b"client-cert"
VERIFIED_BY: Final = {b"x-ssl-client-cert": b"x-ssl-client-verify", b"ssl-client-cert": b"ssl-client-verify"}
"""Headers with a PEM certificate in percent-encoding → the one that says SUCCESS where it was verified. nginx passes on
certificates that failed too, if it is told to (`optional_no_ca`), so the certificate alone says nothing."""

MAX_BYTES: Final = 32 * 1024
"""The longest text that is read."""
MAX_ELEMENTS: Final = 16
"""The most proxies that a certificate may have passed: each adds an element."""

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"
_BINARY = re.compile(rb":([A-Za-z0-9+/]+={0,2}):")
# A value with a comma, a semicolon or an equals sign in it is quoted. In quotes a backslash takes the next character
# with it: what Envoy quotes is a name as RFC 2253 writes it, and there a backslash stands before what would have another
# meaning, before another backslash too.
_PAIR = re.compile(rb'([A-Za-z]{1,32})=(?:"((?:[ !#-\[\]-~]|\\[ -~])*)"|([!#-+\--:<>-~]*))')
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_ONCE: Final = frozenset({"hash", "cert", "chain", "subject"})


class Told(NamedTuple):
    """What the proxy next to us says of the certificate that its own peer had. Empty where it does not say."""

    hash: bytes
    der: bytes
    subject: str
    uris: tuple[str, ...]
    dns: tuple[str, ...]


def read_xfcc(value: bytes) -> Told | None:
    """What the last element says, which the nearest proxy wrote; None unless every element is well formed.

    What stands before the last one is what that proxy was sent.
    """
    if len(value) > MAX_BYTES:
        return None
    last: dict[str, list[str]] = {}
    elements, place, end = 1, 0, len(value)
    while True:
        found = _PAIR.match(value, place)
        if found is None:
            return None
        name = found[1].decode("ascii").lower()
        text = (found[3] if found[2] is None else found[2]).decode("ascii")
        if name in last and name in _ONCE:
            return None
        last.setdefault(name, []).append(text)
        place = found.end()
        if place == end:
            return _told(last)
        mark = value[place : place + 1]
        place += 1
        if mark == b",":
            elements += 1
            if elements > MAX_ELEMENTS or _told(last) is None:
                return None
            last = {}
            while value[place : place + 1] in (b" ", b"\t"):
                place += 1
        elif mark != b";":
            return None


def _told(pairs: dict[str, list[str]]) -> Told | None:
    """One element; None where a value is not what its key says."""
    digest, der = b"", b""
    if "hash" in pairs:
        if not _HASH.fullmatch(pairs["hash"][0]):
            return None
        digest = bytes.fromhex(pairs["hash"][0])
    if "cert" in pairs:
        read = read_escaped_pem(pairs["cert"][0].encode("ascii"))
        if read is None:
            return None
        der = read
    # Envoy writes URI= and Subject="" where the certificate has none.
    named = {name: tuple(filter(None, pairs.get(name, ()))) for name in ("subject", "uri", "dns")}
    return Told(digest, der, "".join(named["subject"]), named["uri"], named["dns"])


def read_client_cert(value: bytes) -> bytes | None:
    """The certificate in a Client-Cert (RFC 9440 section 2.1: one byte sequence of RFC 8941, no parameters) as DER."""
    found = _BINARY.fullmatch(value) if len(value) <= MAX_BYTES else None
    return None if found is None else _base64(found[1])


def read_escaped_pem(value: bytes) -> bytes | None:
    """The one certificate in PEM text in percent-encoding, as DER. A plus sign is a plus sign."""
    return read_pem(unquote_to_bytes(value)) if len(value) <= MAX_BYTES else None


def read_pem(text: bytes) -> bytes | None:
    """The one certificate in PEM text (RFC 7468) as DER, white space as it pleases."""
    text = text.strip()
    if len(text) > MAX_BYTES or not text.startswith(_BEGIN) or not text.endswith(_END):
        return None
    return _base64(b"".join(text[len(_BEGIN) : -len(_END)].split())) or None


def _base64(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def is_of_certificate(folded: bytes) -> bool:
    """Whether a header of that name, folded, tells of a certificate."""
    return folded in (XFCC, CLIENT_CERT, b"client-cert-chain") or folded.startswith(
        (b"x-ssl-", b"ssl-client-", b"x-forwarded-tls-")
    )


def certificate_header(name: str) -> bytes:
    """The name in lower case. Raises ValueError on a header in which no proxy tells of certificates in a form known here."""
    header = name.lower().encode("latin-1", "replace")
    if header in (XFCC, CLIENT_CERT) or header in VERIFIED_BY:
        return header
    known = ", ".join(one.decode("ascii") for one in (XFCC, CLIENT_CERT, *VERIFIED_BY))
    raise ValueError(f"{name!r} is no header in which certificates are told: there are {known}")
