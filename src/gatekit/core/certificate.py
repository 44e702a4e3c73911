"""The client's certificate: from the server's own TLS handshake, or from a proxy that is trusted. From nobody else.

A trusted proxy tells in one header, which has to be named (`Trust.certificate_header`): a proxy that sets one of the
several headers there are passes the others on as the client wrote them, so believing any of them would be believing the
client. From a peer that is trusted, its own certificate is never taken for the client's: it is the proxy's.

Sources: the TLS extension of ASGI 0.2, mod_ssl's variables, RFC 9440 (Client-Cert), Envoy's x-forwarded-client-cert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from gatekit.core.certificate_header import (
    CLIENT_CERT,
    VERIFIED_BY,
    XFCC,
    read_client_cert,
    read_escaped_pem,
    read_pem,
    read_xfcc,
)
from gatekit.core.exchange import Exchange
from gatekit.core.headers import RawHeaders


class Certificate(NamedTuple):
    """A certificate whose chain somebody verified: the server, or the trusted proxy that tells of it.

    `sha256` is the digest of its DER form, empty where the proxy does not tell. `subject` is its distinguished name
    (RFC 4514). Times are seconds since the Unix epoch, None where the proxy does not tell.
    """

    sha256: bytes
    subject: str
    common_name: str | None
    dns: tuple[str, ...]
    uris: tuple[str, ...]
    emails: tuple[str, ...]
    not_before: float | None
    not_after: float | None


# WSGI servers make one variable of `X-Forwarded-Client-Cert` and `X_Forwarded_Client_Cert`. Those that drop the second
# (gunicorn, waitress, Werkzeug) are sound; with this one it takes the place of what the proxy wrote, and Envoy lets
# clients send it.
_BLENDS_SPELLINGS: Final = frozenset({"Granian"})

_KEPT: Final = 1024
# Clients come with the same certificate again and again, and reading one costs ten times what finding it here does.
# What is kept is known by the digest of what came and by the form it came in.
_known: dict[tuple[bytes, bytes], Certificate] = {}

# What RFC 4514 has no short names for and OpenSSL writes all the same.
_ATTRIBUTES: Final = {
    "emailAddress": "1.2.840.113549.1.9.1", "serialNumber": "2.5.4.5", "SN": "2.5.4.4", "GN": "2.5.4.42",
    "title": "2.5.4.12", "description": "2.5.4.13", "dnQualifier": "2.5.4.46",
}  # fmt: skip


def certificate_of(exchange: Exchange) -> Certificate | None:
    """The client's certificate, or None where there is none or nobody who could know tells of one."""
    root = exchange
    while root.parent is not None:
        root = root.parent
    trust = exchange.door.trust
    if trust.trusts(root.peer):
        header = trust.certificate_header
        if header is None or root.scope.get("SERVER_SOFTWARE") in _BLENDS_SPELLINGS:
            return None
        # As they came: policies and the door may have changed the headers meanwhile.
        return _told(root.headers.origin, header)
    return _of_connection(root.scope)


def _of_connection(scope: Mapping[str, Any]) -> Certificate | None:
    """What the server says of the connection that the request came on.

    ASGI: where `client_cert_error` is None, a certificate that is there was verified. `client_cert_name` without a chain
    is a proxy's word. WSGI: no header can set a variable that does not begin with HTTP_, and SUCCESS is said of what was
    verified; GENEROUS and FAILED come with a certificate too.
    """
    if "wsgi.input" in scope:
        text = scope.get("SSL_CLIENT_CERT") if scope.get("SSL_CLIENT_VERIFY") == "SUCCESS" else None
    else:
        tls = (scope.get("extensions") or {}).get("tls") or {}
        chain = tls.get("client_cert_chain") or ()
        # An iterator could be read once, and then the app would find nothing.
        unread = isinstance(chain, Iterator) or tls.get("client_cert_error") is not None
        text = None if unread else next(iter(chain), None)
    if not isinstance(text, str):
        return None
    return _read_once(text.encode("latin-1", "replace"), b"", _of_pem)


def _told(headers: RawHeaders, header: bytes) -> Certificate | None:
    """What the proxy says in that header."""
    values = [value for name, value in headers if name == header]
    if not values:
        return None
    if header == XFCC:
        # Each line by itself: a quote that one of them leaves open does not reach into the next.
        if None in map(read_xfcc, values[:-1]):
            return None
        return _read_once(values[-1], header, _of_xfcc)
    if len(values) > 1:
        return None
    if header == CLIENT_CERT:
        return _read_once(values[0], header, _of_client_cert)
    verified = [value for name, value in headers if name == VERIFIED_BY[header]]
    return _read_once(values[0], header, _of_escaped_pem) if verified == [b"SUCCESS"] else None


def _read_once(came: bytes, form: bytes, read: Callable[[bytes], Certificate | None]) -> Certificate | None:
    """What `read` makes of it. Good ones are remembered, so many and no more."""
    key = (form, sha256(came).digest())
    found = _known.get(key)
    if found is None:
        found = read(came)
        if found is not None:
            if len(_known) >= _KEPT:
                _known.clear()
            _known[key] = found
    return found


def _of_pem(text: bytes) -> Certificate | None:
    return _of_der(read_pem(text))


def _of_escaped_pem(value: bytes) -> Certificate | None:
    return _of_der(read_escaped_pem(value))


def _of_client_cert(value: bytes) -> Certificate | None:
    return _of_der(read_client_cert(value))


def _of_xfcc(value: bytes) -> Certificate | None:
    told = read_xfcc(value)
    if told is None:
        return None
    if told.der:
        found = _of_der(told.der)
        return found if found is None or told.hash in (b"", found.sha256) else None
    if not (told.hash or told.subject or told.uris or told.dns):
        return None
    return Certificate(told.hash, told.subject, _common_name_within(told.subject), told.dns, told.uris, (), None, None)


def _of_der(der: bytes | None) -> Certificate | None:
    """A certificate read; None for one that cannot be read, or in whose names there is a character that ends a text for
    some readers and not for others (CVE-2025-66220)."""
    if der is None:
        return None
    from cryptography import x509

    try:
        read = x509.load_der_x509_certificate(der)
        subject = read.subject
        try:
            names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            names = None
        dns, uris, emails = (
            () if names is None else tuple(names.get_values_for_type(kind))
            for kind in (x509.DNSName, x509.UniformResourceIdentifier, x509.RFC822Name)
        )
        if not all(map(_is_text, (*(one.value for one in subject), *dns, *uris, *emails))):
            return None
        return Certificate(
            sha256(der).digest(), subject.rfc4514_string(), _common_name(subject), dns, uris, emails,
            read.not_valid_before_utc.timestamp(), read.not_valid_after_utc.timestamp(),
        )  # fmt: skip
    except Exception:
        # Whatever it is that the parser cannot bear, it is no certificate.
        return None


def _is_text(value: str | bytes) -> bool:
    """Whether it is text without control characters. Some attributes of a subject are bytes, and name nobody."""
    return isinstance(value, bytes) or value.isprintable()


def _common_name(subject: Any) -> str | None:
    """The common name, where there is exactly one."""
    found = [one.value for one in subject if one.oid.dotted_string == "2.5.4.3"]
    return found[0] if len(found) == 1 and isinstance(found[0], str) else None


def _common_name_within(subject: str) -> str | None:
    """The same from a distinguished name as text (RFC 4514); None also where it cannot be read."""
    from cryptography import x509

    overrides = {name: x509.ObjectIdentifier(number) for name, number in _ATTRIBUTES.items()}
    try:
        found = _common_name(x509.Name.from_rfc4514_string(subject, overrides))
    except Exception:
        return None
    return found if found is not None and _is_text(found) else None
