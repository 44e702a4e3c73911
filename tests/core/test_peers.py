"""Who is believed about the client's address, and under which key an address is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.core.peers import Trust, address_key, parse_address


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
