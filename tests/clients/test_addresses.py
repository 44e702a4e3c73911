"""SE9: which addresses may be dialled. Every range at both ends and just outside, in every embedding."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gatekit.clients.addresses import METADATA, PRIVATE, AddressRules, TargetRefused
from gatekit.errors import GatekitError

Address = IPv4Address | IPv6Address

RULES = AddressRules()

DENIED = {
    # range: what it is, the address before the first and the one after the last; None where that is denied as well.
    "0.0.0.0/8": ("this network", None, "1.0.0.0"),
    "10.0.0.0/8": ("RFC 1918", "9.255.255.255", "11.0.0.0"),
    "100.64.0.0/10": ("RFC 6598", "100.63.255.255", "100.128.0.0"),
    "127.0.0.0/8": ("loopback", "126.255.255.255", "128.0.0.0"),
    "169.254.0.0/16": ("link-local", "169.253.255.255", "169.255.0.0"),
    "172.16.0.0/12": ("RFC 1918", "172.15.255.255", "172.32.0.0"),
    "192.0.0.0/24": ("IETF", "191.255.255.255", "192.0.1.0"),
    "192.0.2.0/24": ("documentation", "192.0.1.255", "192.0.3.0"),
    "192.88.99.0/24": ("6to4", "192.88.98.255", "192.88.100.0"),
    "192.168.0.0/16": ("RFC 1918", "192.167.255.255", "192.169.0.0"),
    "198.18.0.0/15": ("benchmarks", "198.17.255.255", "198.20.0.0"),
    "198.51.100.0/24": ("documentation", "198.51.99.255", "198.51.101.0"),
    "203.0.113.0/24": ("documentation", "203.0.112.255", "203.0.114.0"),
    "224.0.0.0/4": ("multicast", "223.255.255.255", None),
    "240.0.0.0/4": ("reserved", None, None),
    "255.255.255.255/32": ("broadcast", None, None),
    "::/128": ("unspecified", None, None),
    "::1/128": ("loopback", None, None),
    "::/96": ("IPv4-compatible", None, None),
    "::ffff:0:0:0/96": ("not global unicast", None, None),
    "64:ff9b:1::/48": ("NAT64", None, None),
    "100::/64": ("discarded", None, None),
    "2001::/32": ("Teredo", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
    "2001:2::/48": ("benchmarks", None, None),
    "2001::/23": ("IETF", None, "2001:200::"),
    "2001:db8::/32": ("documentation", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"),
    "2002::/16": ("6to4", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"),
    "3fff::/20": ("documentation", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"),
    "4000::/2": ("not global unicast", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
    "8000::/1": ("not global unicast", None, None),
    "fc00::/7": ("RFC 4193", None, None),
    "fe80::/10": ("link-local", None, None),
    "fec0::/10": ("site-local", None, None),
    "ff00::/8": ("multicast", None, None),
}  # fmt: skip

PUBLIC_EMBEDDINGS = {"mapped": ip_network("::ffff:0:0/96"), "NAT64": ip_network("64:ff9b::/96")}


def ends(network: str) -> list[Address]:
    whole = ip_network(network)
    return [whole[0], whole[-1]]


def embeddings(inner: IPv4Address) -> dict[str, IPv6Address]:
    """Every way to write an IPv4 address into an IPv6 one (RFC 4291, 6052, 8215, 3056, 4380, 5214)."""
    number = int(inner)
    prefix = 0x2606_4700 << 96
    return {
        "mapped": IPv6Address((0xFFFF << 32) | number),
        "compatible": IPv6Address(number),
        "translated": IPv6Address((0xFFFF << 48) | number),
        "NAT64": IPv6Address((0x64_FF9B << 96) | number),
        "local NAT64": IPv6Address((0x64_FF9B_0001 << 80) | number),
        "6to4": IPv6Address((0x2002 << 112) | (number << 80) | 1),
        "Teredo client": IPv6Address((0x2001_0000 << 96) | (0x0808_0808 << 64) | (number ^ 0xFFFF_FFFF)),
        "Teredo server": IPv6Address((0x2001_0000 << 96) | (number << 64) | (0x0808_0808 ^ 0xFFFF_FFFF)),
        "ISATAP": IPv6Address(prefix | (0x5EFE << 32) | number),
        "ISATAP, universal": IPv6Address(prefix | (0x0200_5EFE << 32) | number),
    }


def in_network(network: str) -> st.SearchStrategy[IPv4Address]:
    whole = IPv4Network(network)
    return st.integers(int(whole[0]), int(whole[-1])).map(IPv4Address)


def gaps(whole: str) -> list[tuple[int, int]]:
    """The first and last number of every stretch between the denied ranges in that network."""
    denied = [ip_network(network) for network in [*DENIED, *map(str, METADATA)]]
    taken = sorted((int(one[0]), int(one[-1])) for one in denied if one.version == ip_network(whole).version)
    start, end = int(ip_network(whole)[0]), int(ip_network(whole)[-1])
    found = []
    for first, last in taken:
        if start < first <= end:
            found.append((start, first - 1))
        start = max(start, last + 1)
    return found if start > end else [*found, (start, end)]


def public(whole: str) -> st.SearchStrategy[int]:
    return st.sampled_from(gaps(whole)).flatmap(lambda gap: st.integers(*gap))


DENIED_IPV4 = st.sampled_from([network for network in DENIED if ":" not in network]).flatmap(in_network)


@pytest.mark.parametrize("network", DENIED)
def test_se9_both_ends_of_every_range_are_denied_and_named(network: str) -> None:
    meaning = DENIED[network][0]
    found = [RULES.denied(end) for end in ends(network)]
    assert all(found), found
    assert any(meaning in denied.meaning for denied in found if denied), found


@pytest.mark.parametrize(
    ("neighbour", "network"), [(side, network) for network, (_, *sides) in DENIED.items() for side in sides if side]
)
def test_se9_what_is_just_outside_is_public(neighbour: str, network: str) -> None:
    assert RULES.denied(ip_address(neighbour)) is None, network


@pytest.mark.parametrize("address", METADATA, ids=str)
def test_se9_metadata_services_are_named_as_such(address: Address) -> None:
    denied = RULES.denied(address)
    assert denied is not None
    assert "cloud metadata" in denied.meaning


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"],
)
def test_se9_the_metadata_addresses_of_the_large_clouds_are_known(address: str) -> None:
    assert ip_address(address) in METADATA


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700::1", "2a00:1450::1", "2001:4860::8"]
)
def test_public_addresses_pass(address: str) -> None:
    assert RULES.denied(ip_address(address)) is None
    RULES.check_address("a.test", ip_address(address))


@given(DENIED_IPV4)
def test_se9_denied_ipv4_is_denied_in_every_embedding(inner: IPv4Address) -> None:
    assert RULES.denied(inner) is not None
    for name, outer in embeddings(inner).items():
        assert RULES.denied(outer) is not None, name


@given(st.sampled_from(sorted(METADATA, key=str)))
def test_se9_metadata_is_denied_in_every_embedding_even_where_everything_is_open(address: Address) -> None:
    assume(isinstance(address, IPv4Address))
    assert isinstance(address, IPv4Address)
    wide = AddressRules(allow=["0.0.0.0/0", "::/0"], ports=None)
    assert wide.denied(address) is not None
    for name, outer in embeddings(address).items():
        # Where a local NAT64 prefix puts its IPv4 is known to its operator alone; nothing is read out of it.
        assert name in ("local NAT64", "translated") or wide.denied(outer) is not None, name


@given(public("0.0.0.0/0").map(IPv4Address))
def test_public_ipv4_passes_plain_and_in_the_embeddings_that_are_routed(address: IPv4Address) -> None:
    assert RULES.denied(address) is None
    for name, outer in embeddings(address).items():
        assert (RULES.denied(outer) is None) is (name in PUBLIC_EMBEDDINGS), name


@given(public("2000::/3").map(IPv6Address))
def test_public_ipv6_passes(address: IPv6Address) -> None:
    assume((int(address) >> 32) & 0xFCFF_FFFF != 0x5EFE)
    assert RULES.denied(address) is None


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_se9_nothing_outside_global_unicast_passes_but_routed_embeddings(address: IPv6Address) -> None:
    assume(address not in IPv6Network("2000::/3"))
    assume(not any(address in network for network in PUBLIC_EMBEDDINGS.values()))
    assert RULES.denied(address) is not None


@pytest.mark.parametrize("address", ["fe80::1%eth0", "2606:4700::1%1"])
def test_se9_zone_ids_are_denied(address: str) -> None:
    denied = RULES.denied(ip_address(address))
    assert denied is not None
    assert denied.range == "a zone id"


def test_a_refusal_names_host_address_and_range() -> None:
    with pytest.raises(TargetRefused) as caught:
        RULES.check_address("idp.test", ip_address("10.1.2.3"))
    error = caught.value
    assert (error.host, str(error.address), error.range) == ("idp.test", "10.1.2.3", "10.0.0.0/8")
    assert str(error) == "'idp.test' refused: 10.1.2.3 is in 10.0.0.0/8 (private, RFC 1918)"
    assert isinstance(error, GatekitError)


# -- holes


@pytest.mark.parametrize(
    ("allow", "address", "open_"),
    [
        pytest.param("10.0.0.0/8", "10.1.2.3", True, id="the hole"),
        pytest.param("10.0.0.0/8", "::ffff:10.1.2.3", True, id="mapped is the same address"),
        pytest.param("10.0.0.0/8", "64:ff9b::a01:203", True, id="so is NAT64"),
        pytest.param("10.0.0.0/8", "::10.1.2.3", False, id="compatible is not routed"),
        pytest.param("10.0.0.0/8", "2002:a01:203::1", False, id="6to4 needs its own"),
        pytest.param("2002::/16", "2002:a01:203::1", False, id="and the IPv4 in it too"),
        pytest.param("2002::/16", "2002:808:808::1", True, id="public in 6to4, opened"),
        pytest.param("2606:4700::/32", "2606:4700::5efe:808:808", True, id="public in ISATAP, opened"),
        pytest.param("2606:4700::/32", "2606:4700::5efe:a01:203", False, id="private in ISATAP"),
        pytest.param("10.0.0.0/8", "192.168.0.1", False, id="outside the hole"),
        pytest.param("fd12::/16", "fd12::1", True, id="unique local"),
        pytest.param("169.254.0.0/16", "169.254.1.1", True, id="link-local"),
        pytest.param("169.254.0.0/16", "169.254.169.254", False, id="metadata in a wide hole"),
        pytest.param("169.254.169.254/32", "169.254.169.254", True, id="metadata by name"),
        pytest.param("100.64.0.0/10", "100.100.100.200", False, id="metadata among carriers' addresses"),
        pytest.param("fc00::/7", "fd00:ec2::254", False, id="metadata among unique local addresses"),
        pytest.param("168.63.129.16", "168.63.129.16", True, id="public metadata by name"),
    ],
)  # fmt: skip
def test_se9_holes(allow: str, address: str, open_: bool) -> None:
    assert (AddressRules(allow=[allow]).denied(ip_address(address)) is None) is open_


@pytest.mark.parametrize(
    ("address", "open_"),
    [
        *[(str(end), True) for network in PRIVATE for end in ends(network)],
        ("8.8.8.8", True), ("169.254.1.1", False), ("169.254.169.254", False), ("100.100.100.200", False),
        ("fd00:ec2::254", False), ("fe80::1", False), ("0.0.0.0", False), ("::", False), ("224.0.0.1", False),
        ("255.255.255.255", False), ("ff02::1", False),
    ],
)  # fmt: skip
def test_trusted_opens_private_networks_and_nothing_else(address: str, open_: bool) -> None:
    assert (AddressRules.trusted().denied(ip_address(address)) is None) is open_


def test_trusted_with_networks_opens_only_these() -> None:
    rules = AddressRules.trusted("10.0.0.0/8")
    assert rules.denied(ip_address("10.0.0.1")) is None
    assert rules.denied(ip_address("127.0.0.1")) is not None
    assert (rules.ports, rules.schemes) == (None, frozenset({"http", "https"}))


# -- ports, schemes, values


@pytest.mark.parametrize(
    ("ports", "port", "open_"),
    [
        ((80, 443), 80, True), ((80, 443), 443, True), ((80, 443), 22, False), ((80, 443), 8443, False),
        ((8443,), 8443, True), ((8443,), 443, False), (None, 22, True), (None, 65535, True), (None, 0, False),
        (None, 65536, False), (None, -1, False),
    ],
)  # fmt: skip
def test_ports(ports: tuple[int, ...] | None, port: int, open_: bool) -> None:
    rules = AddressRules(ports=ports)
    if open_:
        rules.check_port("a.test", port)
    else:
        with pytest.raises(TargetRefused, match="port"):
            rules.check_port("a.test", port)


def test_defaults_are_public_addresses_ports_80_and_443_and_https() -> None:
    assert (RULES.allow, RULES.ports, RULES.schemes) == ((), frozenset({80, 443}), frozenset({"https"}))
    RULES.check_scheme("a.test", "https")
    with pytest.raises(TargetRefused, match="scheme http is not allowed"):
        RULES.check_scheme("a.test", "http")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        pytest.param({"allow": ["10.0.0.1/8"]}, "host bits", id="host bits"),
        pytest.param({"allow": ["nowhere"]}, "nowhere", id="no network"),
        pytest.param({"allow": ["::ffff:10.0.0.0/104"]}, "write the IPv4 network", id="mapped"),
        pytest.param({"allow": ["64:ff9b::/96"]}, "write the IPv4 network", id="NAT64"),
        pytest.param({"ports": [0]}, "1 to 65535", id="port 0"),
        pytest.param({"ports": [65536]}, "1 to 65535", id="port too high"),
        pytest.param({"schemes": ["gopher"]}, "http and https", id="scheme"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, list[object]], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        AddressRules(**settings)  # type: ignore[arg-type]


def test_rules_are_values() -> None:
    one, other = AddressRules(allow=["10.0.0.0/8"]), AddressRules(allow=[ip_network("10.0.0.0/8")])
    assert one == other
    assert hash(one) == hash(other)
    assert one != AddressRules()
    with pytest.raises(AttributeError):
        one.ports = None  # type: ignore[misc]
