"""SE9: one spelling of a host. What a resolver or a browser would take for an address is refused, or judged as one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.clients.addresses import AddressRules, TargetRefused
from gatekit.clients.urls import MAX_URL, join_url, read_host, read_url

SPELLINGS = [
    # Short, decimal, octal and hexadecimal forms, as inet_aton reads them.
    "127.1", "127.0.1", "2130706433", "017700000001", "0x7f000001", "0X7F000001", "0x7f.1", "0x7F.0x0.0x0.0x1",
    "0177.0.0.1", "0177.1", "127.0.0.0x1", "127.0.0.01", "0127.0.0.1", "00127.0.0.1", "0x0a.0x00.0x00.0x01", "10.1",
    "012.1", "0xa.1", "167772161", "0", "00", "0x", "0x0", "1", "255", "256", "0xffffffff", "4294967295", "4294967296",
    "0x100000000", "99999999999999999999", "0xfffffffffffffffff", "1.2.3", "1.2.0x0304", "192.0x00a80001", "192.11010049",
    "0300.168.0.1", "0xc0.0250.01", "3232235521", "2852039166", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376", "169.254.43518", "169.16689662",
    # Numbers at the end that make no address: some parsers fail, others ask the resolver.
    "256.256.256.256", "192.168.0.257", "1.2.3.4.5", "0x1.2.3.4.5", "1.2.3.08", "1.2.3.09", "09", "0999999999999999999",
    "0x100.2.3.4", "0x1.2.3.0x4.5", "foo.09", "foo.0", "foo.123", "foo.0x", "foo.0x4", "foo.0xffffffff",
    "foo.2.3.4", "foo.1.2.3.4", "localhost.127", "a.0X7f", "-1.2.3.4", "1.2.3.-4", "1..2", "127..1", "127.0.0.1..",
    "+127.0.0.1", "127.0.0.1-", "1_0.0.0.1.5", "4294967295.0",
    # Trailing and leading dots.
    "127.0.0.1.", "2130706433.", "0x7f.1.", "foo.09.", "example.com.", "localhost.", ".", "..", ".127.0.0.1", ".example.com",
    "a..b", "1.2.3.4.5.", "foo.09..",
    # Percent escapes.
    "%31%32%37.0.0.1", "%31%32%37%2e%30%2e%30%2e%31", "127%2e0%2e0%2e1", "%30%78%63%30%2e%30%32%35%30.01",
    "%30%78%63%30%2e%30%32%35%30.01%2e", "%25", "%", "localhos%74", "a%00b", "example%2ecom", "127.0.0.1%00.example.com",
    "127.0.0.1%20", "%ef%bc%91%ef%bc%92%ef%bc%97.1", "%EF%BC%8F", "%c2%ad", "a%80b",
    # Characters that IDNA maps to digits, letters and dots, or to nothing.
    "\uff11\uff12\uff17.0.0.1", "\uff11\uff12\uff17\uff0e\uff10\uff0e\uff10\uff0e\uff11", "127\u30020\u30020\u30021",
    "127\uff610\uff610\uff611", "127\uff0e0\uff0e0\uff0e1", "\uff10\uff38\uff43\uff10\uff0e\uff10\uff12\uff15\uff10\uff0e\uff10\uff11",
    "\u2460\u2461\u2466.0.0.1", "\u00b9\u00b2\u2077.0.0.1", "\u2081\u2082\u2087.0.0.1", "\U0001d7cf\U0001d7d0\U0001d7d5.0.0.1",
    "\u2488.0.0.1", "1\u00ad27.0.0.1", "127.0.0.1\u200b", "127\u2060.0.0.1", "\u0661\u0662\u0667.0.0.1", "localhos\uff54",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3", "\uff27\uff4f.com", "fa\u00df.example", "\u4f60\u597d",
    "127.0.0.1\ufeff", "\u2024", "a\u2024b", "\ufdd0zyx.com", "\ufffd", "\U0001f4a9.123",
    # IPv6 that is not a literal in brackets, and brackets around what is no IPv6.
    "::1", "::ffff:127.0.0.1", "2001::1", "[::1", "::1]", "[]", "[:]", "[127.0.0.1]", "[example.com]", "[localhost]",
    "[::1%lo]", "[::1%25lo]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[::127.1]", "[::ffff:0x7f.0.0.1]", "[::ffff:127.0.0.01]",
    "[::ffff:127.0.0]", "[::1.2.3.4x]", "[::1.2.3.]", "[::1.]", "[::127.0.0.0.1]", "[1:2:3:4:5:6:7:8:9]", "[12345::1]",
    "[1::2::3]", "[::\uff11]", "[ ::1]", "[::1]]", "[[::1]]", "[v1.fe80]", "[::g]", "[::1]x", "x[::1]", "[::1].", "[0:0:0:0:0:0:0]",
    # Characters that end or split a host for one parser and not for the other.
    "a b", "a\tb", "a\nb", "a\rb", "a\x00b", "a\x7fb", " 127.0.0.1", "127.0.0.1 ", "\t127.0.0.1", "127.0.0.1\n",
    "evil.test\\@good.test", "127.0.0.1\\", "a<b", "a>b", "a^b", "a|b", "a`b", "a{b", "a}b", 'a"b', "a;b", "a,b", "a!b",
    "a$b", "a&b", "a'b", "a(b)", "a*b", "*", "*.example.com", "a~b", "a=b",
    # No host names.
    "", "-", "-a.test", "a-.test", "a.-b", "xn--", "xn--127-.test", "10.0.0.xn--", "a" * 64 + ".test", ".".join(["a" * 62] * 5),
]  # fmt: skip

URL_FORMS = [
    # Authorities, schemes and slashes that WHATWG parsers put right.
    "https:example.com", "https:/example.com", "https:///example.com", "https:////example.com", "https:\\\\example.com",
    "https:/\\example.com", "//example.com", "/path", "example.com", "", "https:", "https://", "https:///", "https://?q",
    "https://#f", "https://:443/", " https://example.com", "https://example.com ", "ht\ntps://example.com",
    "https://exa\tmple.com/", "https://example.com/a b", "https://example.com/\x00", "https://example.com/\u00e9",
    "https://example.com\\path", "https://example.com/a\\b", "https://example.com\\@127.0.0.1/",
    "https://user@example.com", "https://user:pass@example.com", "https://@example.com", "https://:@example.com",
    "https://example.com:80@127.0.0.1/", "https://a@b@example.com", "https://%40@example.com",
    "https://example.com:", "https://example.com:/", "https://example.com:0", "https://example.com:00443",
    "https://example.com:0443", "https://example.com:65536", "https://example.com:99999", "https://example.com:-1",
    "https://example.com:+443", "https://example.com:443a", "https://example.com:a", "https://example.com:4 43",
    "https://example.com:443:443", "https://[::1]:", "https://[::1]443", "https://[::1]:0x1bb", "https://::1/",
    "https://example.com:\uff14\uff14\uff13", "ftp://example.com", "file:///etc/passwd", "gopher://127.0.0.1:6379/_x",
    "ws://example.com", "data:text/plain,x", "javascript:alert(1)", "about:blank", "1https://example.com", "://example.com",
    "https://a.test/" + "a" * MAX_URL,
]  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS, ids=ascii)
def test_se9_every_other_spelling_of_a_host_is_refused(host: str) -> None:
    with pytest.raises(TargetRefused):
        read_url(f"https://{host}/")
    with pytest.raises(TargetRefused):
        read_url(f"https://{host}:443/")


@pytest.mark.parametrize("host", SPELLINGS, ids=ascii)
def test_se9_a_host_without_a_url_is_read_as_strictly(host: str) -> None:
    with pytest.raises(TargetRefused):
        read_host(host)


@pytest.mark.parametrize("url", URL_FORMS, ids=ascii)
def test_se9_urls_that_parsers_put_right_are_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        read_url(url)


@pytest.mark.parametrize(
    ("host", "kind", "address"),
    [
        ("127.0.0.1", IPv4Address, "127.0.0.1"),
        ("0.0.0.0", IPv4Address, "0.0.0.0"),
        ("255.255.255.255", IPv4Address, "255.255.255.255"),
        ("127.0.0.1#@example.com", IPv4Address, "127.0.0.1"),
        ("127.0.0.1?@example.com", IPv4Address, "127.0.0.1"),
        ("[::1]", IPv6Address, "::1"),
        ("[0:0:0:0:0:0:0:1]", IPv6Address, "::1"),
        ("[::FFFF:127.0.0.1]", IPv6Address, "::ffff:7f00:1"),
        ("[::ffff:7f00:1]", IPv6Address, "::ffff:7f00:1"),
        ("[64:ff9b::10.0.0.1]", IPv6Address, "64:ff9b::a00:1"),
    ],
)
def test_se9_plain_literals_are_judged_as_addresses(host: str, kind: type, address: str) -> None:
    url = read_url(f"https://{host}/")
    assert isinstance(url.address, kind)
    assert url.address == ip_address(address)
    with pytest.raises(TargetRefused, match=r"is in"):
        AddressRules().check_address(url.host, url.address)


@pytest.mark.parametrize(
    ("url", "parts", "authority", "origin"),
    [
        ("https://example.com", ("https", "example.com", 443, "/"), "example.com", "https://example.com"),
        ("HTTPS://EXAMPLE.com/A?b=C", ("https", "example.com", 443, "/A?b=C"), "example.com", "https://example.com"),
        ("https://example.com?x", ("https", "example.com", 443, "/?x"), "example.com", "https://example.com"),
        ("https://example.com/#secret", ("https", "example.com", 443, "/"), "example.com", "https://example.com"),
        ("https://example.com#/@x", ("https", "example.com", 443, "/"), "example.com", "https://example.com"),
        ("https://example.com:443/", ("https", "example.com", 443, "/"), "example.com", "https://example.com"),
        ("http://example.com:443/", ("http", "example.com", 443, "/"), "example.com:443", "http://example.com:443"),
        ("http://example.com/@x:y", ("http", "example.com", 80, "/@x:y"), "example.com", "http://example.com"),
        ("https://[2606:4700::A]:8443/x", ("https", "2606:4700::a", 8443, "/x"), "[2606:4700::a]:8443",
         "https://[2606:4700::a]:8443"),
        ("https://[2606:4700::a]", ("https", "2606:4700::a", 443, "/"), "[2606:4700::a]", "https://[2606:4700::a]"),
        ("http://1.2.3.4:8080", ("http", "1.2.3.4", 8080, "/"), "1.2.3.4:8080", "http://1.2.3.4:8080"),
        ("https://xn--fa-hia.example/", ("https", "xn--fa-hia.example", 443, "/"), "xn--fa-hia.example",
         "https://xn--fa-hia.example"),
        ("https://my_service/", ("https", "my_service", 443, "/"), "my_service", "https://my_service"),
        ("https://3com.test/", ("https", "3com.test", 443, "/"), "3com.test", "https://3com.test"),
        ("https://0x7f.test/", ("https", "0x7f.test", 443, "/"), "0x7f.test", "https://0x7f.test"),
        ("https://1e3/", ("https", "1e3", 443, "/"), "1e3", "https://1e3"),
        ("https://a.0x7g/", ("https", "a.0x7g", 443, "/"), "a.0x7g", "https://a.0x7g"),
    ],
)  # fmt: skip
def test_urls_as_they_are_read(url: str, parts: tuple[str, str, int, str], authority: str, origin: str) -> None:
    read = read_url(url)
    assert (read.scheme, read.host, read.port, read.target) == parts
    assert (read.authority, read.origin) == (authority, origin)


@pytest.mark.parametrize(
    ("reference", "origin", "target"),
    [
        ("/x", "https://a.test", "/x"),
        ("x", "https://a.test", "/b/x"),
        ("../x?q", "https://a.test", "/x?q"),
        ("?q", "https://a.test", "/b/c?q"),
        ("#f", "https://a.test", "/b/c?d"),
        ("", "https://a.test", "/b/c?d"),
        ("//b.test/x", "https://b.test", "/x"),
        ("http://b.test:8080/x", "http://b.test:8080", "/x"),
        ("https:x", "https://a.test", "/b/x"),
    ],
)
def test_where_a_location_leads(reference: str, origin: str, target: str) -> None:
    joined = join_url(read_url("https://a.test/b/c?d"), reference)
    assert (joined.origin, joined.target) == (origin, target)


@pytest.mark.parametrize(
    "reference",
    ["//127.1/", "//a@b.test/", "///x", "////127.0.0.1/", "\\\\b.test", "/\\b.test", "https://b.test\\@a.test", "ftp://b.test",
     "javascript:x", "//[::1", "//[x]/", "//\uff11\uff12\uff17.1", "/a b", "/\x00", "//%31.test", "http:///x"],
    ids=ascii,
)  # fmt: skip
def test_se9_a_location_is_read_as_strictly(reference: str) -> None:
    with pytest.raises(TargetRefused):
        join_url(read_url("https://a.test/b/c?d"), reference)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://user:hunter2@a.test/", "URL refused: it has user information before the host; put credentials into a header"),
        ("https://a.test/\\", "URL refused: it has a backslash"),
        ("https://a.test/ ", "URL refused: it has a space or a control character"),
        ("https:///", "URL refused: the host is empty"),
        ("https://b\u00fc.test/", "URL refused: a character is not ASCII; write the host in punycode, the rest percent-encoded"),
        ("a.test", "URL refused: it does not begin with a scheme and //"),
        ("ftp://a.test", "URL refused: scheme 'ftp' is neither http nor https"),
        ("https://a.test:x/", "'a.test' refused: the port is not a plain number from 1 to 65535"),
        ("https://127.1/", "'127.1' refused: a host that ends in a number is an IPv4 address, and that is written as four "
         "decimal numbers"),
        ("https://a.test./", "'a.test.' refused: write the host without its trailing dot"),
        ("https://a%2e/", "'a%2e' refused: a host has no percent signs"),
        ("https://::1/", "':' refused: an IPv6 address stands in brackets"),
        ("https://[fe80::1%25a]/", "'[fe80::1%25a]' refused: what is in brackets is no IPv6 address (zone ids are refused)"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_wrong_and_keeps_secrets(url: str, sentence: str) -> None:
    with pytest.raises(TargetRefused) as caught:
        read_url(url)
    assert str(caught.value) == sentence
    assert "hunter2" not in repr(caught.value)


def test_a_host_that_is_not_ascii_says_punycode() -> None:
    with pytest.raises(TargetRefused, match="punycode"):
        read_host("b\u00fc.test")


@given(st.text(alphabet="0123456789abcdefx.:[]%@/\\-_ \uff11\u3002", max_size=24))
def test_se9_whatever_is_read_has_one_spelling(text: str) -> None:
    try:
        url = read_url(f"https://{text}")
    except TargetRefused:
        return
    again = read_url(f"{url.origin}{url.target}")
    assert again == url
    if url.address is None:
        assert not url.host.rpartition(".")[2].isdigit()
        assert url.host.isascii()
        with pytest.raises(ValueError):
            ip_address(url.host)
