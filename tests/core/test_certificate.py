"""Whose word about a client's certificate is taken: the server's own, a trusted proxy's in the header that was named, and
nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.certificates import NOW, ORDERS, Made, authority, made

from gatekit.core import certificate as module
from gatekit.core.certificate import Certificate, certificate_of
from gatekit.core.door import Door
from gatekit.core.exchange import NO_BODY, Exchange
from gatekit.core.headers import Headers
from gatekit.core.peers import Trust
from gatekit.testing import FixedRandom

PROXY, CLIENT = "10.0.0.1", "203.0.113.9"
CERT = made(uris=(ORDERS,), dns=("orders.acme.example",), emails=("ann@acme.example",), cn=("Orders",))
OTHER = made(uris=("spiffe://acme.example/gateway",))
XFCC, RFC_9440, NGINX, INGRESS = "x-forwarded-client-cert", "client-cert", "x-ssl-client-cert", "ssl-client-cert"


class ToldIn(Trust):
    """Trust in a proxy that tells of certificates in one header."""

    __slots__ = ("certificate_header",)

    def __init__(self, header: str | None, *networks: str) -> None:
        super().__init__(networks)
        self.certificate_header = None if header is None else header.encode()


def exchange(
    *headers: tuple[str, str],
    told_in: str | None = None,
    peer: str | None = PROXY,
    trusted: tuple[str, ...] = ("10.0.0.0/8",),
    scope: dict[str, Any] | None = None,
) -> Exchange:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    door = Door(FixedRandom(), trust=ToldIn(told_in, *trusted))
    return Exchange("http", "GET", "https", Headers(raw, shared=True), peer, "1.1", scope or {}, door, NO_BODY, 0.0)


def tls(*chain: Made, **more: Any) -> dict[str, Any]:
    return {"type": "http", "extensions": {"tls": {"client_cert_chain": [one.pem for one in chain], **more}}}


def wsgi(pem: str = CERT.pem, verify: str | None = "SUCCESS", **more: Any) -> dict[str, Any]:
    environ = {"wsgi.input": None, "SSL_CLIENT_CERT": pem, "SSL_CLIENT_VERIFY": verify, **more}
    return {name: value for name, value in environ.items() if name == "wsgi.input" or value is not None}


WHOLE = Certificate(
    CERT.digest,
    "CN=Orders",
    "Orders",
    ("orders.acme.example",),
    (ORDERS,),
    ("ann@acme.example",),
    NOW - 3600,
    NOW + 3600,
)


# -- the server's own word


def test_the_servers_tls_extension_tells_of_a_certificate() -> None:
    assert certificate_of(exchange(peer=CLIENT, scope=tls(CERT))) == WHOLE
    assert certificate_of(exchange(peer=CLIENT, scope=tls(CERT, OTHER, client_cert_error=None))) == WHOLE
    assert certificate_of(exchange(peer=None, trusted=(), scope=tls(CERT))) == WHOLE


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"extensions": None},
        {"extensions": {}},
        {"extensions": {"tls": None}},
        {"extensions": {"tls": {}}},
        tls(),
        {"extensions": {"tls": {"client_cert_chain": None}}},
        {"extensions": {"tls": {"client_cert_chain": [None]}}},
        {"extensions": {"tls": {"client_cert_chain": [CERT.pem.encode()]}}},
        {"extensions": {"tls": {"client_cert_chain": ["no certificate"]}}},
        # A name without a certificate is what somebody told the server.
        {"extensions": {"tls": {"client_cert_name": "CN=Orders", "client_cert_chain": ()}}},
        {"tls": {"client_cert_chain": [CERT.pem]}},
        {"SSL_CLIENT_CERT": CERT.pem, "SSL_CLIENT_VERIFY": "SUCCESS"},
    ],
    ids=range(13),
)
def test_without_a_chain_there_is_no_certificate(scope: dict[str, Any]) -> None:
    assert certificate_of(exchange(peer=CLIENT, scope=scope)) is None


@pytest.mark.parametrize("error", ["self-signed certificate", "", "X509_V_ERR_CERT_HAS_EXPIRED", 1])
def test_se1_a_chain_that_the_server_did_not_verify_is_none(error: object) -> None:
    assert certificate_of(exchange(peer=CLIENT, scope=tls(CERT, client_cert_error=error))) is None


def test_a_chain_that_can_be_read_once_is_left_to_the_app() -> None:
    chain: Iterator[str] = iter([CERT.pem])
    scope = {"extensions": {"tls": {"client_cert_chain": chain}}}
    assert certificate_of(exchange(peer=CLIENT, scope=scope)) is None
    assert next(chain) == CERT.pem


@pytest.mark.parametrize(
    ("environ", "known"),
    [
        (wsgi(), True),
        (wsgi(CERT.pem.replace("\n", "\n\t")), True),
        (wsgi(verify=None), False),
        (wsgi(verify="NONE"), False),
        (wsgi(verify="GENEROUS"), False),
        (wsgi(verify="FAILED:unable to verify the first certificate"), False),
        (wsgi(verify="success"), False),
        (wsgi(""), False),
        (wsgi(verify=None, HTTP_SSL_CLIENT_VERIFY="SUCCESS"), False),
        ({"wsgi.input": None, "HTTP_SSL_CLIENT_CERT": CERT.pem, "HTTP_SSL_CLIENT_VERIFY": "SUCCESS"}, False),
        ({"wsgi.input": None, "SSL_CLIENT_VERIFY": "SUCCESS"}, False),
        ({"wsgi.input": None, **tls(CERT)}, False),
    ],
    ids=range(12),
)
def test_a_wsgi_server_tells_in_variables_that_no_header_sets(environ: dict[str, Any], known: bool) -> None:
    assert certificate_of(exchange(peer=CLIENT, scope=environ)) == (WHOLE if known else None)


# -- a trusted proxy's word

NAMES_ONLY = Certificate(b"", "", None, ("a.example",), ("spiffe://a",), (), None, None)


@pytest.mark.parametrize(
    ("told_in", "headers", "wanted"),
    [
        (XFCC, [(XFCC, CERT.xfcc())], WHOLE),
        (XFCC, [(XFCC, CERT.xfcc("URI=spiffe://not-in-it"))], WHOLE),
        (XFCC, [(XFCC, "URI=spiffe://a;DNS=a.example")], NAMES_ONLY),
        (XFCC, [(XFCC, "URI=spiffe://forged"), (XFCC, "URI=spiffe://a;DNS=a.example")], NAMES_ONLY),
        (XFCC, [(XFCC, "URI=spiffe://forged,URI=spiffe://a;DNS=a.example")], NAMES_ONLY),
        (
            XFCC,
            [(XFCC, f'Hash={CERT.digest.hex()};Subject="emailAddress=a@b.example,CN=Orders,O=Acme\\, Inc."')],
            Certificate(CERT.digest, "emailAddress=a@b.example,CN=Orders,O=Acme\\, Inc.", "Orders", (), (), (), None, None),
        ),
        (XFCC, [(XFCC, f"Hash={CERT.digest.hex()}")], Certificate(CERT.digest, "", None, (), (), (), None, None)),
        (RFC_9440, [(RFC_9440, CERT.binary)], WHOLE),
        (NGINX, [(NGINX, CERT.escaped), ("x-ssl-client-verify", "SUCCESS")], WHOLE),
        (INGRESS, [("ssl-client-verify", "SUCCESS"), (INGRESS, CERT.escaped)], WHOLE),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_trusted_proxy_tells_in_the_header_that_was_named(
    told_in: str, headers: list[tuple[str, str]], wanted: Certificate
) -> None:
    assert certificate_of(exchange(*headers, told_in=told_in)) == wanted
    assert certificate_of(exchange(*headers, told_in=told_in, peer=None, trusted=("unix",))) == wanted


FORGED = [
    (XFCC, [(XFCC, CERT.xfcc())]),
    (XFCC, [(XFCC, "URI=spiffe://acme.example/admin")]),
    (RFC_9440, [(RFC_9440, CERT.binary)]),
    (NGINX, [(NGINX, CERT.escaped), ("x-ssl-client-verify", "SUCCESS")]),
    (INGRESS, [(INGRESS, CERT.escaped), ("ssl-client-verify", "SUCCESS")]),
]


@pytest.mark.parametrize(("told_in", "headers"), FORGED, ids=range(5))
def test_se1_from_a_peer_that_is_not_trusted_no_header_counts(told_in: str, headers: list[tuple[str, str]]) -> None:
    assert certificate_of(exchange(*headers, told_in=told_in)) is not None
    for peer, trusted in ((CLIENT, ("10.0.0.0/8",)), (PROXY, ()), (None, ("10.0.0.0/8",)), ("", ()), ("x", ("unix",))):
        assert certificate_of(exchange(*headers, told_in=told_in, peer=peer, trusted=trusted)) is None
    # What it says of itself in the handshake does.
    forged = exchange(*headers, told_in=told_in, peer=CLIENT, scope=tls(OTHER))
    assert certificate_of(forged) == certificate_of(exchange(peer=CLIENT, scope=tls(OTHER)))


@pytest.mark.parametrize(("told_in", "headers"), FORGED, ids=range(5))
def test_se1_a_header_that_was_not_named_is_the_clients_own(told_in: str, headers: list[tuple[str, str]]) -> None:
    for named in {None, XFCC, RFC_9440, NGINX, INGRESS} - {told_in}:
        assert certificate_of(exchange(*headers, told_in=named)) is None


@pytest.mark.parametrize(("told_in", "headers"), FORGED, ids=range(5))
def test_se1_no_other_spelling_of_the_header_counts(told_in: str, headers: list[tuple[str, str]]) -> None:
    for mark in "_. ":
        spelled = [(name.replace("-", mark), value) for name, value in headers]
        assert certificate_of(exchange(*spelled, told_in=told_in)) is None


def test_se1_a_trusted_peers_own_certificate_is_not_the_clients() -> None:
    for told_in in (None, XFCC, RFC_9440):
        assert certificate_of(exchange(told_in=told_in, scope=tls(OTHER))) is None
    assert certificate_of(exchange((XFCC, CERT.xfcc()), told_in=XFCC, scope=tls(OTHER))) == WHOLE


@pytest.mark.parametrize(
    ("told_in", "headers"),
    [
        (XFCC, [(XFCC, "")]),
        (XFCC, [(XFCC, "By=spiffe://acme.example/gateway")]),
        (XFCC, [(XFCC, 'Subject="";URI=')]),
        (XFCC, [(XFCC, "URI=spiffe://a"), (XFCC, "")]),
        (XFCC, [(XFCC, "no pair"), (XFCC, "URI=spiffe://a")]),
        (XFCC, [(XFCC, 'URI=spiffe://a;DNS="b'), (XFCC, 'c"')]),
        (XFCC, [(XFCC, f'Hash={OTHER.digest.hex()};Cert="{CERT.escaped}"')]),
        (XFCC, [(XFCC, 'URI=spiffe://a;Cert="-----BEGIN%20CERTIFICATE-----%0AAAAA%0A-----END%20CERTIFICATE-----"')]),
        (RFC_9440, [(RFC_9440, CERT.binary), (RFC_9440, CERT.binary)]),
        (RFC_9440, [(RFC_9440, f"{CERT.binary}, {CERT.binary}")]),
        (RFC_9440, [(RFC_9440, ":AAAA:")]),
        (NGINX, [(NGINX, CERT.escaped)]),
        (NGINX, [(NGINX, CERT.escaped), ("x-ssl-client-verify", "FAILED:certificate has expired")]),
        (NGINX, [(NGINX, CERT.escaped), ("x-ssl-client-verify", "NONE")]),
        (NGINX, [(NGINX, CERT.escaped), ("x-ssl-client-verify", "SUCCESS"), ("x-ssl-client-verify", "SUCCESS")]),
        (NGINX, [(NGINX, CERT.escaped), ("ssl-client-verify", "SUCCESS")]),
        (NGINX, [(NGINX, CERT.escaped), (NGINX, CERT.escaped), ("x-ssl-client-verify", "SUCCESS")]),
        (NGINX, [(NGINX, "none"), ("x-ssl-client-verify", "SUCCESS")]),
    ],
    ids=range(18),
)
def test_se1_what_a_proxy_says_in_two_ways_or_not_at_all_is_nothing(
    told_in: str, headers: list[tuple[str, str]]
) -> None:
    assert certificate_of(exchange(*headers, told_in=told_in)) is None


def test_the_headers_count_as_they_came() -> None:
    one = exchange((XFCC, CERT.xfcc()), told_in=XFCC)
    one.headers.remove(XFCC)
    assert certificate_of(one) == WHOLE
    other = exchange(told_in=XFCC)
    other.headers.set(XFCC, CERT.xfcc())
    other.headers.append(XFCC, CERT.xfcc())
    assert certificate_of(other) is None


def test_a_nested_driver_asks_what_came_to_the_outermost() -> None:
    outer = exchange((XFCC, CERT.xfcc()), peer=PROXY)
    inner = exchange(told_in=XFCC, peer=CLIENT)
    inner.inherit(outer)
    assert certificate_of(inner) == WHOLE
    # Trust is each driver's own: what the outer believes, the inner has not been told to.
    inner = exchange(peer=PROXY, trusted=())
    inner.inherit(exchange((XFCC, CERT.xfcc()), told_in=XFCC))
    assert certificate_of(inner) is None
    # A header that an outer policy set came from nobody.
    inner = exchange((XFCC, CERT.xfcc()), told_in=XFCC)
    inner.inherit(exchange())
    assert certificate_of(inner) is None


def test_se1_under_wsgi_a_server_that_blends_spellings_is_no_witness() -> None:
    for software, known in (("gunicorn/27.0.1", True), ("waitress", True), ("Granian", False)):
        environ = {"wsgi.input": None, "SERVER_SOFTWARE": software}
        found = certificate_of(exchange((XFCC, CERT.xfcc()), told_in=XFCC, scope=environ))
        assert (found is not None) is known
    # It can still tell of its own handshake.
    environ = wsgi(SERVER_SOFTWARE="Granian")
    assert certificate_of(exchange(peer=CLIENT, scope=environ)) == WHOLE


# -- reading


def test_a_certificate_of_a_public_kind_of_authority_is_read() -> None:
    leaf = authority().issue_cert("orders.acme.example", "ann@acme.example", "10.1.2.3", common_name="orders")
    scope = {"extensions": {"tls": {"client_cert_chain": (leaf.cert_chain_pems[0].bytes().decode(),)}}}
    found = certificate_of(exchange(peer=CLIENT, scope=scope))
    assert found is not None
    assert (found.dns, found.emails, found.uris) == (("orders.acme.example",), ("ann@acme.example",), ())
    assert found.common_name == "orders"
    assert "CN=orders" in found.subject


def test_a_certificate_without_alternative_names_has_none() -> None:
    found = certificate_of(exchange(peer=CLIENT, scope=tls(made(cn=("a", "b")))))
    assert found is not None
    assert (found.common_name, found.dns, found.uris, found.emails) == (None, (), (), ())


BMP = b"\x1e\x10" + "adm\0evil".encode("utf-16-be")
UPN = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), BMP)


@pytest.mark.parametrize(
    "names",
    [
        {"uris": ("spiffe://acme.example/admin\0.evil",)},
        {"dns": ("orders.acme.example\0.evil.example",)},
        {"dns": ("a.example", "b\0.example")},
        {"emails": ("ann@acme.example\0.evil",)},
        {"cn": ("admin\0evil",)},
        {"cn": ("admin\nevil",)},
        {"organisation": "Acme\0", "uris": (ORDERS,)},
        {"uris": ("spiffe://acme.example/a\nb",)},
        {"dns": ("a\x7f.example",)},
        {"cn": ("admin\u202egnp",)},
    ],
    ids=range(10),
)
def test_se1_a_certificate_with_a_nul_or_another_control_in_a_name_is_none(names: dict[str, Any]) -> None:
    try:
        crafted = made(**names)
    except ValueError:
        pytest.fail("the test's own authority must be able to sign it")
    assert certificate_of(exchange(peer=CLIENT, scope=tls(crafted))) is None
    assert certificate_of(exchange((RFC_9440, crafted.binary), told_in=RFC_9440)) is None


def test_se1_other_names_are_read_by_nobody_and_so_cannot_be_cut_short() -> None:
    found = certificate_of(exchange(peer=CLIENT, scope=tls(made(uris=(ORDERS,), others=(UPN,)))))
    assert found is not None
    assert (found.uris, found.dns, found.emails) == ((ORDERS,), (), ())


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("CN=Orders", "Orders"),
        ("OU=a+CN=Orders,O=b", "Orders"),
        ("O=x\\,CN\\=admin,CN=Orders", "Orders"),
        ("CN=x\\,O=y", "x,O=y"),
        ("O=only", None),
        ("CN=a,CN=b", None),
        ("CN=a\\00b", None),
        ("/C=US/CN=Orders", None),
        ("CN", None),
    ],
)
def test_the_common_name_in_a_proxys_words(subject: str, name: str | None) -> None:
    found = certificate_of(exchange((XFCC, f'Subject="{subject}"'), told_in=XFCC))
    assert found is not None
    assert (found.subject, found.common_name) == (subject, name)


@given(st.integers(0, len(CERT.der) - 1), st.integers(1, 255))
@settings(max_examples=150)
def test_a_certificate_in_which_a_byte_is_another_never_raises(place: int, change: int) -> None:
    changed = bytearray(CERT.der)
    changed[place] ^= change
    found = module._of_der(bytes(changed))
    assert found is None or found.sha256 != CERT.digest


@pytest.mark.parametrize("cut", [0, 1, 50, -1])
def test_a_certificate_that_is_cut_short_is_none(cut: int) -> None:
    assert module._of_der(CERT.der[:cut]) is None
    assert module._of_der(CERT.der + b"\0") is None


def test_a_certificate_is_read_once_and_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", {})
    monkeypatch.setattr(module, "_KEPT", 3)
    read: list[bytes | None] = []
    original: Callable[[bytes | None], Certificate | None] = module._of_der

    def counted(der: bytes | None) -> Certificate | None:
        read.append(der)
        return original(der)

    monkeypatch.setattr(module, "_of_der", counted)
    for _ in range(3):
        assert certificate_of(exchange(peer=CLIENT, scope=tls(CERT))) == WHOLE
    assert len(read) == 1
    # In another form it is read anew: the same bytes need not mean the same there.
    certificate_of(exchange((RFC_9440, CERT.binary), told_in=RFC_9440))
    assert len(read) == 2
    for number in range(5):
        certificate_of(exchange((XFCC, f"URI=spiffe://a/{number}"), told_in=XFCC))
        assert len(module._known) <= 3
    # What is no certificate is not kept, so that nobody fills the memory with it.
    before = dict(module._known)
    assert certificate_of(exchange((XFCC, "URI="), told_in=XFCC)) is None
    assert module._known == before


def test_a_certificate_in_one_form_is_not_taken_for_one_in_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", {})
    assert certificate_of(exchange(peer=CLIENT, scope=tls(CERT))) == WHOLE
    assert certificate_of(exchange((RFC_9440, CERT.pem), told_in=RFC_9440)) is None
