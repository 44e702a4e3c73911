"""Sets of addresses: networks compiled to sorted ranges, and the last few thousand addresses remembered."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Final, TypeVar

from gatekit.core.peers import parse_address

N = TypeVar("N", IPv4Network, IPv6Network)

REMEMBERED: Final = 4096
"""Of how many addresses is known whether they lie within. A busy caller's is parsed once, not for every request."""

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def network(text: str) -> IPv4Network | IPv6Network:
    """The network of `10.0.0.0/8`, `2001:db8::/32` or a single address. An IPv4 one in IPv6 form (`::ffff:10.0.0.0/104`)
    is IPv4, as clients' addresses are. Raises ValueError."""
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network: write it as in 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7") from None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        return IPv4Network((int(found.network_address) & 0xFFFFFFFF, found.prefixlen - 96))
    return found


def within(networks: Iterable[str]) -> Callable[[str], bool | None]:
    """Tells of an address in text whether it lies in one of these networks; None of text that is no address."""
    found = [network(one) for one in networks]
    four = _ranges([one for one in found if isinstance(one, IPv4Network)])
    six = _ranges([one for one in found if isinstance(one, IPv6Network)])

    @lru_cache(maxsize=REMEMBERED)
    def lies_within(text: str) -> bool | None:
        address = parse_address(text)
        if address is None:
            return None
        firsts, lasts = four if isinstance(address, IPv4Address) else six
        number = int(address)
        place = bisect_right(firsts, number) - 1
        return place >= 0 and number <= lasts[place]

    return lies_within


def _ranges(networks: list[N]) -> tuple[list[int], list[int]]:
    """First and last addresses of disjoint ranges, in order."""
    merged = list(collapse_addresses(networks))
    return [int(one.network_address) for one in merged], [int(one.broadcast_address) for one in merged]
