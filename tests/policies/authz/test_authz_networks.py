"""Sets of addresses against the standard library."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.policies.authz.networks import network, within


@st.composite
def networks(draw: st.DrawFn) -> str:
    address = draw(st.ip_addresses())
    return f"{address}/{draw(st.integers(0, address.max_prefixlen))}"


@given(st.lists(networks(), min_size=1, max_size=6), st.lists(st.ip_addresses(), min_size=1, max_size=4))
@settings(max_examples=200)
def test_an_address_lies_within_where_it_lies_in_one_of_them(some: list[str], addresses: list[object]) -> None:
    # Around the edges of the networks it matters most.
    edges = [edge for one in some for edge in (ip_network(one, strict=False)[0], ip_network(one, strict=False)[-1])]
    inside = within(some)
    for address in [*addresses, *edges]:
        text = str(address)
        parsed = ip_address(text)
        mapped = getattr(parsed, "ipv4_mapped", None)
        wanted = mapped or parsed
        expected = any(wanted in network(one) for one in some)
        assert inside(text) is expected
        assert inside(text) is expected


@pytest.mark.parametrize("text", ["", "unix", "10.0.0", "not an address"])
def test_what_is_no_address_lies_nowhere_and_not_outside(text: str) -> None:
    assert within(["0.0.0.0/0", "::/0"])(text) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [("10.0.0.1/8", "10.0.0.0/8"), ("192.0.2.7", "192.0.2.7/32"), ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
     ("2001:db8::/32", "2001:db8::/32"), ("::/0", "::/0")],
)  # fmt: skip
def test_a_network_is_written_in_several_ways(text: str, found: str) -> None:
    assert str(network(text)) == found


@pytest.mark.parametrize("text", ["10.0.0.0/33", "x", "", "10.0.0.0/8/8"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no network: write it as in"):
        network(text)


def test_a_scoped_address_is_the_address() -> None:
    assert within(["fe80::/10"])("fe80::1%eth0") is True
