"""Who is calling: which peers are trusted, and the client's address behind them.

The client is the rightmost address of X-Forwarded-For that no trusted proxy has; the leftmost is the client's own
word and is never taken for more than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

UNIX = "unix"
"""In a list of trusted networks: a peer without an address, which is one on a Unix socket."""


class Trust:
    """The networks whose forwarding headers are believed. Empty, the default, believes nobody."""

    __slots__ = ("_networks", "_unix", "any")

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises ValueError on anything but CIDR networks, single addresses and `unix`."""
        names = tuple(networks)
        self._unix = UNIX in names
        self._networks = tuple(ip_network(name, strict=False) for name in names if name != UNIX)
        self.any = bool(names)

    def trusts(self, peer: str | None) -> bool:
        """Whether that peer's forwarding headers are believed."""
        if not self.any:
            return False
        address = None if peer is None else parse_address(peer)
        if address is None:
            return self._unix and not peer
        return any(address in network for network in self._networks)

    def client_ip(self, peer: str | None, forwarded_for: Sequence[str]) -> str | None:
        """The address of the client, given the peer and every X-Forwarded-For line in order."""
        if not self.trusts(peer):
            return peer
        client = peer
        for entry in reversed([part for line in forwarded_for for part in line.split(",")]):
            address = parse_address(entry)
            if address is None:
                return client
            client = str(address)
            if not any(address in network for network in self._networks):
                return client
        return client


def parse_address(text: str) -> Address | None:
    """The address in `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]:80`, or None. Mapped IPv4 is unwrapped."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def address_key(text: str | None) -> str:
    """The key under which an address is limited: IPv4 whole, IPv6 by its /64, `-` for a peer without an address."""
    if not text:
        return "-"
    address = parse_address(text)
    if address is None:
        return text
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address)
