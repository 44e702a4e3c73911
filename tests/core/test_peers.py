"""Who is believed about the client's address, and under which key an address is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.core.headers import Headers, RawHeaders, fold
from gatekit.core.peers import Trust, address_key, parse_address, unmapped


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:8080 ", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", None),
        ("unknown", None),
        ("_hidden", None),
        ("192.0.2", None),
        ("192.0.2.1:80:90", None),
        ("[", None),
    ],
)
def test_addresses_as_they_are_written(text: str, address: str | None) -> None:
    found = parse_address(text)
    assert (None if found is None else str(found)) == address


@pytest.mark.parametrize(
    ("networks", "peer", "trusted"),
    [
        ([], "192.0.2.1", False),
        ([], None, False),
        (["192.0.2.0/24"], "192.0.2.1", True),
        (["192.0.2.0/24"], "192.0.2.1:5000", True),
        (["192.0.2.0/24"], "::ffff:192.0.2.1", True),
        (["192.0.2.0/24"], "192.0.3.1", False),
        (["192.0.2.7/24"], "192.0.2.1", True),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["2001:db8::/32"], "192.0.2.1", False),
        (["10.0.0.1"], "10.0.0.1", True),
        (["10.0.0.1"], None, False),
        (["unix"], None, True),
        (["unix"], "", True),
        (["unix"], "10.0.0.1", False),
        (["unix"], "nonsense", False),
        (["unix", "10.0.0.1"], "10.0.0.1", True),
    ],
)
def test_which_peers_are_trusted(networks: list[str], peer: str | None, trusted: bool) -> None:
    assert Trust(networks).trusts(peer) is trusted


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 network"):
        Trust(["10.0.0.0/99"])


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        pytest.param("203.0.113.9", ["198.51.100.1"], "203.0.113.9", id="an untrusted peer is the client itself"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="a trusted peer that says nothing"),
        pytest.param("10.0.0.1", ["198.51.100.1"], "198.51.100.1", id="one entry"),
        pytest.param("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1", id="the rightmost, not the leftmost"),
        pytest.param("10.0.0.1", ["6.6.6.6, 198.51.100.1, 10.0.0.2"], "198.51.100.1", id="behind two proxies"),
        pytest.param("10.0.0.1", ["6.6.6.6", "198.51.100.1", "10.0.0.2"], "198.51.100.1", id="over several lines"),
        pytest.param("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3", id="all of them trusted"),
        pytest.param("10.0.0.1", ["198.51.100.1, junk"], "10.0.0.1", id="junk ends the walk"),
        pytest.param("10.0.0.1", ["198.51.100.1, junk, 10.0.0.2"], "10.0.0.2", id="junk behind a proxy"),
        pytest.param("10.0.0.1", ["198.51.100.1,"], "10.0.0.1", id="an empty entry ends the walk"),
        pytest.param("10.0.0.1", ["[2001:db8::7]:80"], "2001:db8::7", id="with a port"),
        pytest.param("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1", id="mapped"),
        pytest.param(None, ["198.51.100.1"], None, id="no address, not trusted"),
    ],
)
def test_the_client_is_the_rightmost_that_is_not_trusted(
    peer: str | None, lines: list[str], client: str | None
) -> None:
    assert Trust(["10.0.0.0/8"]).client_ip(peer, lines) == client


def test_behind_a_trusted_unix_socket() -> None:
    trust = Trust(["unix"])
    assert trust.client_ip(None, ["6.6.6.6, 198.51.100.1"]) == "198.51.100.1"
    assert trust.client_ip(None, []) is None


@given(st.lists(st.ip_addresses(v=4).map(str), max_size=4), st.ip_addresses(v=4).map(str))
def test_what_a_client_writes_on_the_left_changes_nothing(claims: list[str], real: str) -> None:
    trust = Trust(["10.0.0.0/8"])
    if not trust.trusts(real):
        line = ", ".join([*claims, real])
        assert trust.client_ip("10.0.0.1", [line]) == real


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        (None, "-"),
        ("", "-"),
        ("testclient", "testclient"),
    ],
)
def test_the_key_of_an_address(text: str | None, key: str) -> None:
    assert address_key(text) == key


# -- the client's address in a header of the proxy's own

CF = "cf-connecting-ip"
VIEWER = "cloudfront-viewer-address"
PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("x-forwarded-for", "read already"),
        ("X-Forwarded-For", "read already"),
        ("Forwarded", "read already"),
        ("host", "no header in which a proxy tells an address"),
        ("Cookie", "no header in which a proxy tells an address"),
        ("cf_connecting_ip", "letters, digits and hyphens"),
        ("cf.connecting.ip", "letters, digits and hyphens"),
        ("cf connecting ip", "not a header name"),
        ("", "not a header name"),
        ("cf-connecting-ip:", "not a header name"),
    ],
)
def test_a_header_that_cannot_tell_the_client_is_refused(header: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Trust(["10.0.0.0/8"], header)


def test_a_header_that_nobody_is_trusted_to_send_is_refused() -> None:
    with pytest.raises(ValueError, match="name the networks of the proxies that set it in trusted_proxies"):
        Trust([], "CF-Connecting-IP")
    assert Trust(["unix"], "CF-Connecting-IP").header == b"cf-connecting-ip"
    assert Trust(["10.0.0.0/8"]).header is None


def settled(trust: Trust, peer: str | None, raw: RawHeaders) -> tuple[str | None, RawHeaders]:
    """The client's address and the headers, after `settle`. The list that came is not changed."""
    came = list(raw)
    headers = Headers(raw, shared=True)
    trust.settle(peer, headers)
    assert headers.origin is raw
    assert raw == came
    return trust.client_ip(peer, headers.get_all("x-forwarded-for")), headers.raw


@pytest.mark.parametrize(
    ("header", "value", "client"),
    [
        (CF, "198.51.100.7", "198.51.100.7"),
        (CF, " 198.51.100.7\t", "198.51.100.7"),
        (CF, "198.51.100.7:4711", "198.51.100.7"),
        (CF, "2001:db8::7", "2001:db8::7"),
        (CF, "2001:DB8:0:0::7", "2001:db8::7"),
        (CF, "[2001:db8::7]", "2001:db8::7"),
        (CF, "[2001:db8::7]:4711", "2001:db8::7"),
        (CF, "::ffff:198.51.100.7", "198.51.100.7"),
        (CF, "[::ffff:198.51.100.7]:80", "198.51.100.7"),
        (CF, "2001:db8::9:9985", "2001:db8::9:9985"),
        (CF, "10.0.0.9", "10.0.0.9"),
        (VIEWER, "198.51.100.7:46532", "198.51.100.7"),
        (VIEWER, "2001:db8:f:abcd::9:9985", "2001:db8:f:abcd::9"),
        (VIEWER, "2001:0db8:0000:0000:0000:0000:0000:0007:443", "2001:db8::7"),
        (VIEWER, "[2001:db8::7]:443", "2001:db8::7"),
        (VIEWER, "::ffff:198.51.100.7:443", "198.51.100.7"),
    ],
)
def test_a_trusted_peer_tells_the_client(header: str, value: str, client: str) -> None:
    pair = (header.encode(), value.encode())
    node = b'for="[%b]"' % client.encode() if ":" in client else b"for=%b" % client.encode()
    assert settled(Trust(["10.0.0.0/8"], header), PROXY, [pair]) == (
        client, [pair, (b"x-forwarded-for", client.encode()), (b"forwarded", node)],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("header", "values"),
    [
        pytest.param(CF, [], id="missing"),
        pytest.param(CF, ["198.51.100.7", "198.51.100.7"], id="doubled"),
        pytest.param(CF, ["198.51.100.7, 198.51.100.8"], id="a list"),
        pytest.param(CF, ["198.51.100.7,"], id="a list of one"),
        pytest.param(CF, [""], id="empty"),
        pytest.param(CF, ["unknown"], id="a word"),
        pytest.param(CF, ["unix:"], id="a socket"),
        pytest.param(CF, ["198.51.100"], id="too short"),
        pytest.param(CF, ["198.51.100.256"], id="too great"),
        pytest.param(CF, ["198.51.100.07"], id="octal or not"),
        pytest.param(CF, ["198.51.100.7:"], id="no port"),
        pytest.param(CF, ["198.51.100.7:http"], id="a port that is none"),
        pytest.param(CF, ["198.51.100.7\x0b"], id="other white space"),
        pytest.param(CF, ['"198.51.100.7"'], id="quoted"),
        pytest.param(CF, ["[198.51.100.7]"], id="IPv4 in brackets"),
        pytest.param(CF, ["[2001:db8::7"], id="half a bracket"),
        pytest.param(CF, ["[2001:db8::7]junk"], id="behind the bracket"),
        pytest.param(CF, ["fe80::1%eth0"], id="a zone"),
        pytest.param(CF, ["fe80::1%, 198.51.100.7"], id="a zone of anything"),
        pytest.param(VIEWER, ["198.51.100.7"], id="CloudFront without a port"),
        pytest.param(VIEWER, ["2001:db8::"], id="CloudFront without a port, IPv6"),
        pytest.param(VIEWER, ["[2001:db8::7]"], id="CloudFront without a port, in brackets"),
    ],
)
def test_what_is_not_believed_of_a_trusted_peer_leaves_the_peer(header: str, values: list[str]) -> None:
    """Whatever else there is: X-Forwarded-For may be what a client wrote and the CDN passed on."""
    trust = Trust(["10.0.0.0/8", "unix"], header)
    lines = [(header.encode(), value.encode()) for value in values]
    others = [(b"x-forwarded-for", b"6.6.6.6"), (b"forwarded", b"for=6.6.6.6"), (b"x-real-ip", b"6.6.6.6")]
    for peer in (PROXY, None):
        assert settled(trust, peer, [*lines, *others, (b"x-forwarded-proto", b"https")]) == (
            peer, [(b"x-forwarded-proto", b"https")],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param([("x-forwarded-for", "6.6.6.6, 198.51.100.7")], [0], id="a chain that leads to it"),
        pytest.param([("x-forwarded-for", "198.51.100.7, 10.0.0.2")], [0], id="behind another proxy"),
        pytest.param([("x-forwarded-for", "198.51.100.7, 6.6.6.6")], [], id="a chain that leads elsewhere"),
        pytest.param([("x-forwarded-for", "198.51.100.7"), ("x-forwarded-for", "junk")], [], id="a broken chain"),
        pytest.param([("x-forwarded-for", "198.51.100.7"), ("x_forwarded_for", "6.6.6.6")], [0], id="odd spellings"),
        pytest.param([("x-real-ip", "198.51.100.7"), ("x-real-ip", "6.6.6.6")], [0], id="X-Real-IP"),
        pytest.param([("x_real_ip", "198.51.100.7")], [], id="X-Real-IP in another spelling"),
        pytest.param([("forwarded", "for=6.6.6.6;proto=https")], [], id="Forwarded"),
        pytest.param([("x-forwarded-host", "shop.example"), ("via", "2 edge")], [0, 1], id="what tells no address"),
    ],
)
def test_what_contradicts_the_address_of_a_trusted_peer_is_removed(
    given: list[tuple[str, str]], kept: list[int]
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in given]
    chain = any(raw[place][0] == b"x-forwarded-for" for place in kept)
    told = [] if chain else [(b"x-forwarded-for", b"198.51.100.7")]
    for odd in (b"cf_connecting_ip", b"cf.connecting.ip"):
        found = settled(Trust(["10.0.0.0/8"], CF), PROXY, [(CF.encode(), b"198.51.100.7"), (odd, b"6.6.6.6"), *raw])
        assert found == ("198.51.100.7", [
            (CF.encode(), b"198.51.100.7"), *(raw[place] for place in kept), *told, (b"forwarded", b"for=198.51.100.7"),
        ])  # fmt: skip


def test_settling_twice_is_settling_once() -> None:
    trust = Trust(["10.0.0.0/8"], CF)
    _, once = settled(trust, PROXY, [(CF.encode(), b"198.51.100.7"), (b"x-forwarded-for", b"6.6.6.6")])
    assert settled(trust, PROXY, once) == ("198.51.100.7", once)


def test_x_real_ip_can_be_the_header() -> None:
    assert settled(Trust(["10.0.0.0/8"], "X-Real-IP"), PROXY, [(b"x-real-ip", b"198.51.100.7")])[0] == "198.51.100.7"


@pytest.mark.parametrize("peer", ["203.0.113.9", None])
def test_an_untrusted_peer_is_not_believed_and_its_header_goes(peer: str | None) -> None:
    spelled = [CF, "cf_connecting_ip", "cf.connecting.ip", "CF-Connecting_IP"]
    others = [(b"x-forwarded-for", b"6.6.6.6"), (b"a", b"b")]
    raw = [*((name.encode(), b"6.6.6.6") for name in spelled), *others]
    assert settled(Trust(["10.0.0.0/8"], CF), peer, raw) == (peer, others)


@pytest.mark.parametrize("peer", ["203.0.113.9", PROXY])
def test_a_request_with_nothing_to_settle_keeps_its_list(peer: str) -> None:
    """The forwarder's short cut is for a list that nobody changed."""
    raw = [(b"host", b"shop.example"), (b"a", b"b")]
    assert settled(Trust(["10.0.0.0/8"], CF), peer, raw)[1] is raw


_NAMES = st.sampled_from([
    b"cf-connecting-ip", b"cf_connecting_ip", b"cf.connecting-ip", b"x-forwarded-for", b"x_forwarded_for", b"forwarded",
    b"x-real-ip", b"a",
])  # fmt: skip
_VALUES = (
    st.ip_addresses().map(lambda address: str(address).encode())
    | st.ip_addresses(v=6).map(lambda address: b"[%b]:80" % str(address).encode())
    | st.lists(st.ip_addresses().map(str), max_size=3).map(lambda claims: ", ".join(claims).encode())
    | st.text(st.characters(max_codepoint=255), max_size=20).map(lambda text: text.encode("latin-1"))
    | st.binary(max_size=20)
)
_HEADERS = st.lists(st.tuples(_NAMES, _VALUES), max_size=6)


@given(_HEADERS, st.ip_addresses().map(str))
def test_whatever_an_untrusted_peer_sends_it_is_the_client(raw: RawHeaders, peer: str) -> None:
    trust = Trust(["10.0.0.0/8", "fd00::/8"], CF)
    if trust.trusts(peer):
        return
    client, left = settled(trust, peer, raw)
    assert client == peer
    assert left == [pair for pair in raw if fold(pair[0]) != b"cf-connecting-ip"]


@given(_HEADERS)
def test_whatever_a_trusted_peer_sends_the_client_is_one_address_or_the_peer(raw: RawHeaders) -> None:
    trust = Trust(["10.0.0.0/8"], CF)
    client, left = settled(trust, PROXY, raw)
    told = [value for name, value in raw if name == b"cf-connecting-ip"]
    address = parse_address(told[0].decode("latin-1")) if len(told) == 1 else None
    assert client in (PROXY, str(address))
    assert parse_address(client) is not None
    # Nothing that is left says anything else, in any spelling.
    kept = [value for name, value in left if fold(name) == b"cf-connecting-ip"]
    assert kept == told if client != PROXY else kept in ([], told)
    assert not kept or str(address) == client
    assert {value for name, value in left if fold(name) == b"x-real-ip"} <= {client.encode()}
    assert all(name != b"x_forwarded_for" for name, _ in left)
    assert settled(trust, PROXY, left) == (client, left)


@pytest.mark.parametrize(
    ("peer", "told"),
    [
        (None, None),
        ("", ""),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:1", "::ffff:1"),
    ],
)
def test_a_mapped_peer_is_written_as_ipv4(peer: str | None, told: str | None) -> None:
    assert unmapped(peer) == told
