"""Which addresses, ports and schemes may be dialled on somebody else's word (server-side request forgery).

A URL out of a configuration, a token or a redirect is such a word. Pure: nothing here resolves or connects. A name
says nothing about where it leads, so names are not judged; the addresses they resolve to are, all of them, and the
dialer then connects to the addresses that were judged.

Sources: the IANA registries of special-purpose addresses for IPv4 and IPv6 (RFC 6890), RFC 4291 for what is global
unicast at all, RFC 6052 and RFC 8215 for NAT64, and the clouds' own pages for their metadata services.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from gatekit.core.peers import Address
from gatekit.errors import GatekitError

Network = IPv4Network | IPv6Network


class TargetRefused(GatekitError):
    """The rules forbid this target; nothing was sent to it. For operators: the text never reaches a client.

    `host` is as it was written, empty where a URL was too broken to have one. `address` and `range` are set when an
    address was judged: the one that was refused and the range it lies in.
    """

    def __init__(self, host: str, why: str, *, address: Address | None = None, range: str | None = None) -> None:
        self.host = host
        self.why = why
        self.address = address
        self.range = range
        super().__init__(f"{host[:255]!r} refused: {why}" if host else f"URL refused: {why}")


class Denied(NamedTuple):
    """A range that may not be dialled, and what it is."""

    range: str
    meaning: str


_RANGES: Final = tuple(
    (ip_network(network), Denied(network, meaning))
    for network, meaning in (
        ("0.0.0.0/8", "unspecified, this network"),
        ("10.0.0.0/8", "private, RFC 1918"),
        ("100.64.0.0/10", "shared by carriers, RFC 6598"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private, RFC 1918"),
        ("192.0.0.0/24", "IETF protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relays, deprecated"),
        ("192.168.0.0/16", "private, RFC 1918"),
        ("198.18.0.0/15", "benchmarks"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible, deprecated"),
        ("64:ff9b:1::/48", "NAT64 of a local network, RFC 8215"),
        ("100::/64", "discarded, RFC 6666"),
        ("2001::/32", "Teredo"),
        ("2001:2::/48", "benchmarks"),
        ("2001::/23", "IETF protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "unique local, RFC 4193"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local, deprecated"),
        ("ff00::/8", "multicast"),
        # Global unicast is 2000::/3; NAT64 of the well-known prefix and mapped IPv4 are judged by what they embed.
        ("::/3", "not global unicast, RFC 4291"),
        ("4000::/2", "not global unicast, RFC 4291"),
        ("8000::/1", "not global unicast, RFC 4291"),
    )
)
"""The first that covers an address names it, so a narrow range stands before the wide one around it."""

_ISATAP: Final = Denied("interface identifier ::5efe:a.b.c.d", "ISATAP, RFC 5214")
_ZONE: Final = Denied("a zone id", "only link-local addresses have zones")

METADATA: Final[dict[Address, Denied]] = {
    ip_address(address): Denied(address, f"cloud metadata: {whose}")
    for address, whose in (
        ("169.254.169.254", "most clouds"),
        ("169.254.170.2", "AWS ECS"),
        ("169.254.170.23", "AWS EKS"),
        ("169.254.0.23", "Tencent"),
        ("169.254.42.42", "Scaleway"),
        ("100.100.100.200", "Alibaba"),
        ("168.63.129.16", "Azure"),
        ("192.0.0.192", "Oracle"),
        ("fd00:ec2::254", "AWS"),
        ("fd00:ec2::23", "AWS EKS"),
        ("fd20:ce::254", "Google"),
        ("fd00:42::42", "Scaleway"),
        ("fe80::a9fe:a9fe", "OpenStack"),
    )
}
"""What hands out credentials to whoever asks from inside."""

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = IPv6Network("::/96")

PRIVATE: Final = (
    "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7",
)  # fmt: skip
"""What `AddressRules.trusted` opens: this host and private networks. Not link-local, where metadata services live."""


@dataclass(frozen=True, slots=True, init=False)
class AddressRules:
    """What may be dialled. By default: public addresses only, ports 80 and 443, https.

    `allow` punches holes for networks the operator knows. A metadata address stays shut in any hole but one that
    names exactly that address. IPv4 inside IPv6 is judged as the IPv4 address it is, so a hole for 10.0.0.0/8 also
    lets `::ffff:10.0.0.1` through; 6to4, Teredo, ISATAP and IPv4-compatible addresses need a hole of their own too.

    `ports` are 80 and 443 because whoever chooses a URL would else also choose the protocol: mail, Redis and
    memcached take lines out of an HTTP request for commands. Ports that are given replace these two; None is any.
    `schemes` is https alone: what comes over http (keys, above all) anybody on the way can have written.
    """

    allow: tuple[Network, ...]
    ports: frozenset[int] | None
    schemes: frozenset[str]

    def __init__(
        self,
        *,
        allow: Iterable[str | Network] = (),
        ports: Iterable[int] | None = (80, 443),
        schemes: Iterable[str] = ("https",),
    ) -> None:
        """Raises ValueError on a network with host bits or in mapped form, a port out of range, another scheme."""
        networks = tuple(ip_network(network) for network in allow)
        for network in networks:
            if isinstance(network, IPv6Network) and (network.subnet_of(_MAPPED) or network.subnet_of(_NAT64)):
                raise ValueError(f"{network}: write the IPv4 network that is embedded")
        numbers = None if ports is None else frozenset(ports)
        if numbers is not None and not all(0 < port < 65536 for port in numbers):
            raise ValueError("a port is a number from 1 to 65535")
        names = frozenset(schemes)
        if not names <= {"http", "https"}:
            raise ValueError("schemes are http and https")
        object.__setattr__(self, "allow", networks)
        object.__setattr__(self, "ports", numbers)
        object.__setattr__(self, "schemes", names)

    @classmethod
    def trusted(cls, *networks: str) -> AddressRules:
        """For what lives in a private network: these networks (all private ones if none), any port, http as well.

        Metadata services, link-local, multicast and reserved addresses stay refused.
        """
        return cls(allow=networks or PRIVATE, ports=None, schemes=("http", "https"))

    def denied(self, address: Address) -> Denied | None:
        """The range that forbids this address, or None when it may be dialled."""
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return _ZONE
        for one in _judged(address):
            denied = self._denied(one)
            if denied is not None:
                return denied
        return None

    def check_address(self, host: str, address: Address) -> None:
        """Raises TargetRefused when this address, which `host` is or resolved to, may not be dialled."""
        denied = self.denied(address)
        if denied is not None:
            where = f"{address} is in {denied.range} ({denied.meaning})"
            raise TargetRefused(host, where, address=address, range=denied.range)

    def check_port(self, host: str, port: int) -> None:
        """Raises TargetRefused when that port may not be dialled."""
        if not 0 < port < 65536:
            raise TargetRefused(host, f"{port} is no port")
        if self.ports is not None and port not in self.ports:
            raise TargetRefused(host, f"port {port} is not among those that may be dialled")

    def check_scheme(self, host: str, scheme: str) -> None:
        """Raises TargetRefused when a URL of that scheme may not be fetched."""
        if scheme not in self.schemes:
            raise TargetRefused(host, f"scheme {scheme} is not allowed")

    def _denied(self, address: Address) -> Denied | None:
        metadata = METADATA.get(address)
        for network in self.allow:
            if address in network and (metadata is None or network.prefixlen == network.max_prefixlen):
                return None
        if metadata is not None:
            return metadata
        if isinstance(address, IPv6Address) and _is_isatap(address):
            return _ISATAP
        for network, denied in _RANGES:
            if address in network:
                return denied
        return None


def _is_isatap(address: IPv6Address) -> bool:
    """RFC 5214, 6.1. The bits for universal and group may be set or not."""
    return (int(address) >> 32) & 0xFCFF_FFFF == 0x5EFE


def _judged(address: Address) -> tuple[Address, ...]:
    """The address and every IPv4 address in it."""
    if isinstance(address, IPv4Address):
        return (address,)
    last = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _MAPPED or address in _NAT64:
        return (last,)
    if address.sixtofour is not None:
        return (address, address.sixtofour)
    if address.teredo is not None:
        return (address, *address.teredo)
    if _is_isatap(address) or (address in _COMPATIBLE and int(address) > 1):
        return (address, last)
    return (address,)
