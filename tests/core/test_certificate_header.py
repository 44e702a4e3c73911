"""What proxies write of certificates: read as they write it, and nothing else is ever taken for a name."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.core.certificates import ORDERS, made

from gatekit.core.certificate_header import (
    MAX_BYTES,
    MAX_ELEMENTS,
    Told,
    certificate_header,
    read_client_cert,
    read_escaped_pem,
    read_pem,
    read_xfcc,
)

HASH = "95366bb411ec648865312e96c172bbba03b2958fb4edcc44dc0ea49c671933b2"
CERT = made(uris=(ORDERS,), dns=("orders.acme.example",), cn=("Orders",))


def told(text: str) -> Told | None:
    return read_xfcc(text.encode("latin-1"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # As Envoy writes them: with the subject of RFC 2253, with names as they are, with URI= and Subject="" for none.
        (
            f'Hash={HASH};Subject="O=Acme\\, \\"Inc\\" \\\\,CN=Orders";URI={ORDERS};DNS=a.example;DNS=b.example',
            Told(bytes.fromhex(HASH), b"", 'O=Acme\\, \\"Inc\\" \\\\,CN=Orders', (ORDERS,), ("a.example", "b.example")),
        ),
        (f'Hash={HASH};Subject="";URI=', Told(bytes.fromhex(HASH), b"", "", (), ())),
        (f"By={ORDERS};By=spiffe://b;Hash={HASH}", Told(bytes.fromhex(HASH), b"", "", (), ())),
        (f'Hash={HASH};Cert="{CERT.escaped}"', Told(bytes.fromhex(HASH), CERT.der, "", (), ())),
        (f"Cert={CERT.escaped.replace('=', '%3D')}", Told(b"", CERT.der, "", (), ())),
        ("By=spiffe://acme.example/gateway", Told(b"", b"", "", (), ())),
        # Keys in any case, and one that is not known.
        (f"hash={HASH.upper()};uri=spiffe://a;FUTURE=x", Told(bytes.fromhex(HASH), b"", "", ("spiffe://a",), ())),
        # The nearest proxy writes last; what it was sent stands before.
        ('URI=spiffe://forged,URI="spiffe://real"', Told(b"", b"", "", ("spiffe://real",), ())),
        ("URI=spiffe://forged, \tURI=spiffe://real", Told(b"", b"", "", ("spiffe://real",), ())),
        # Marks in quotes part nothing.
        ('Subject="CN=a,URI=spiffe://forged;URI=b";URI=spiffe://real',
         Told(b"", b"", "CN=a,URI=spiffe://forged;URI=b", ("spiffe://real",), ())),
        ('Subject="CN=a\\",URI=spiffe://forged";URI=spiffe://real',
         Told(b"", b"", 'CN=a\\",URI=spiffe://forged', ("spiffe://real",), ())),
        ('Subject="CN=a\\\\";URI=spiffe://real', Told(b"", b"", "CN=a\\\\", ("spiffe://real",), ())),
        ('URI="spiffe://a/?b=c,d;e"', Told(b"", b"", "", ("spiffe://a/?b=c,d;e",), ())),
    ],
    ids=range(13),
)  # fmt: skip
def test_an_element_is_what_the_nearest_proxy_wrote(text: str, wanted: Told) -> None:
    assert told(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "URI",
        "=spiffe://a",
        "URI=a;",
        ";URI=a",
        "URI=a;;DNS=b",
        "URI=a,",
        ",URI=a",
        "URI=a,,URI=b",
        "URI=a ,URI=b",
        "URI=a; DNS=b",
        " URI=a",
        "URI=a ",
        "URI=a b",
        "URI =a",
        "URI=a=b",
        'URI="a',
        'URI="a\\"',
        'URI="a"b',
        'URI="a"";DNS=b',
        'URI=a"b',
        "URI=a\x00b",
        'URI="a\x00b"',
        'URI="a\tb"',
        'URI="a\nb"',
        'URI="a\\\x00b"',
        'URI="a\x7fb"',
        "URI=a\xe9",
        'URI="a\xe9"',
        "URI-2=a",
        f"{'U' * 33}=a",
        "Hash=;URI=a",
        "Hash=00;URI=a",
        f"Hash={HASH}0;URI=a",
        f'Hash="{HASH[:-1]}g";URI=a',
        f"Hash={HASH};Hash={HASH}",
        f"Hash={HASH};hash={HASH}",
        'Subject="";Subject="CN=a"',
        f'Cert="{CERT.escaped}";Cert="{CERT.escaped}"',
        "Chain=a;Chain=b",
        "Cert=;URI=a",
        'Cert="";URI=a',
        'Cert="-----BEGIN%20CERTIFICATE-----%0A%0A-----END%20CERTIFICATE-----%0A";URI=a',
        "Hash=00,URI=a",
        "Cert=no,URI=a",
        "URI=a\nURI=b",
    ],
    ids=itertools.count(),
)
def test_se1_what_is_malformed_tells_of_nobody(text: str) -> None:
    assert told(text) is None


def test_what_is_read_is_bounded() -> None:
    assert told(",".join(["URI=a"] * MAX_ELEMENTS)) is not None
    assert told(",".join(["URI=a"] * (MAX_ELEMENTS + 1))) is None
    assert told("URI=" + "a" * (MAX_BYTES - 4)) is not None
    assert told("URI=" + "a" * (MAX_BYTES - 3)) is None
    for read in (read_pem, read_escaped_pem, read_client_cert):
        assert read(b"A" * (MAX_BYTES + 1)) is None


FRAGMENTS = st.sampled_from(
    ["URI=", "DNS=", "Hash=", "By=", "Cert=", 'Subject="', '"', "\\", ";", ",", "=", " ", "a", "spiffe://a", HASH, "\x00", "é", "%00"]
)  # fmt: skip


@given(st.one_of(st.binary(max_size=60), st.lists(FRAGMENTS, max_size=12).map(lambda found: "".join(found).encode())))
@settings(max_examples=400)
@example(b'Subject="' + b"\\" * 30_000)
@example(b'Subject="' + b"\\ " * 15_000)
def test_se1_no_text_makes_the_reader_raise_or_tell_what_is_not_there(value: bytes) -> None:
    found = read_xfcc(value)
    if found is None:
        return
    text = value.decode("ascii")
    assert text.isprintable()
    for name in (*found.uris, *found.dns):
        assert name
        assert name in text
    assert found.subject in text


NAMES = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='",;=\\'), min_size=1, max_size=20
)


@given(st.lists(st.tuples(st.lists(NAMES, max_size=3), st.lists(NAMES, max_size=3)), min_size=1, max_size=4))
def test_what_was_written_is_read_again(elements: list[tuple[list[str], list[str]]]) -> None:
    written = ",".join(
        ";".join(["By=spiffe://gateway", *(f"URI={one}" for one in uris), *(f'DNS="{one}"' for one in dns)])
        for uris, dns in elements
    )
    uris, dns = elements[-1]
    assert told(written) == Told(b"", b"", "", tuple(uris), tuple(dns))


# -- the other forms


def test_the_forms_of_one_certificate_are_one() -> None:
    assert read_client_cert(CERT.binary.encode()) == CERT.der
    assert read_escaped_pem(CERT.escaped.encode()) == CERT.der
    assert read_pem(CERT.pem.encode()) == CERT.der
    # nginx puts a tab before each further line ($ssl_client_cert), others end lines in CR LF.
    assert read_pem(CERT.pem.replace("\n", "\n\t").encode()) == CERT.der
    assert read_pem(b" \r\n" + CERT.pem.replace("\n", "\r\n").encode()) == CERT.der


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":",
        "::",
        CERT.binary[1:],
        CERT.binary[:-1],
        CERT.binary[1:-1],
        CERT.binary + ";a=1",
        CERT.binary + ", " + CERT.binary,
        " " + CERT.binary,
        ":AAAA:\n",
        ":AAA:",
        ":A===:",
        ":AA_-:",
        ":AA AA:",
        '"AAAA"',
        "AAAA",
    ],
    ids=itertools.count(),
)
def test_rfc_9440_has_one_byte_sequence_and_nothing_else(value: str) -> None:
    assert read_client_cert(value.encode()) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE----------END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nA\x00AAA\n-----END CERTIFICATE-----",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        CERT.pem + CERT.pem,
        CERT.pem + "x",
        "x" + CERT.pem,
    ],
    ids=itertools.count(),
)
def test_pem_is_one_certificate_and_nothing_else(text: str) -> None:
    assert read_pem(text.encode()) is None


def test_a_plus_sign_is_a_plus_sign() -> None:
    text = "-----BEGIN%20CERTIFICATE-----%0AAA+A%0A-----END%20CERTIFICATE-----"
    assert read_escaped_pem(text.encode()) == b"\x00\x0f\x80"


@pytest.mark.parametrize("name", ["X-Forwarded-Client-Cert", "Client-Cert", "x-ssl-client-cert", "SSL-Client-Cert"])
def test_the_headers_there_are(name: str) -> None:
    assert certificate_header(name) == name.lower().encode()


@pytest.mark.parametrize("name", ["", "X-SSL-Client-Verify", "X-Forwarded-For", "x_forwarded_client_cert", "Ä"])
def test_any_other_header_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="x-forwarded-client-cert, client-cert, x-ssl-client-cert, ssl-client-cert"):
        certificate_header(name)
