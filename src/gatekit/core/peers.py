"""Who is calling: which peers are trusted, and the client's address behind them.

The client is the rightmost address of X-Forwarded-For that no trusted proxy has; the leftmost is the client's own
word and is never taken for more than that. Where the trusted peers tell the address in a header of their own, that one
is taken instead (`Trust.settle`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from gatekit.core.certificate_header import CLIENT_CERT, VERIFIED_BY, certificate_header, is_of_certificate
from gatekit.core.headers import Headers, RawHeaders, encode_name, fold, is_told

Address = IPv4Address | IPv6Address

UNIX = "unix"
"""In a list of trusted networks: a peer without an address, which is one on a Unix socket."""

_FORWARDED_FOR: Final = b"x-forwarded-for"
_FORWARDED: Final = b"forwarded"
_REAL_IP: Final = b"x-real-ip"
# A request without them is another request, and no proxy tells an address in them.
_NOT_FOR_ADDRESSES = frozenset({
    b"authorization", b"connection", b"content-length", b"content-type", b"cookie", b"expect", b"host",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip

_ALONE = re.compile(r"\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]:[0-9]{1,5}|([0-9A-Fa-f:.]+):[0-9]{1,5}")
# CloudFront writes IPv6 without brackets and a port behind it always: the same text could be another address.
_ALWAYS_WITH_PORT = frozenset({b"cloudfront-viewer-address"})


class Trust:
    """The networks whose forwarding headers are believed. Empty, the default, believes nobody.

    `header` is the one, in lower case, in which they tell the client's address; None for X-Forwarded-For.
    `certificate_header` is the one in which they tell the client's certificate; None where they tell of none.
    """

    __slots__ = ("_form", "_networks", "_unix", "any", "certificate_header", "header")

    def __init__(self, networks: Iterable[str] = (), header: str | None = None, certificate: str | None = None) -> None:
        """Raises ValueError on anything but CIDR networks, single addresses and `unix`, on a header that cannot tell an
        address, and on one that nobody is trusted to send."""
        names = tuple(networks)
        self._unix = UNIX in names
        self._networks = tuple(ip_network(name, strict=False) for name in names if name != UNIX)
        self.any = bool(names)
        self.header = None if header is None else _client_ip_header(header)
        self._form = _WITH_PORT if self.header in _ALWAYS_WITH_PORT else _ALONE
        if self.header is not None and not self.any:
            raise ValueError(
                f"{header} is believed from nobody: name the networks of the proxies that set it in trusted_proxies, for "
                "from anybody else it would let clients choose their address"
            )

        self.certificate_header = None if certificate is None else certificate_header(certificate)
        if self.certificate_header is not None and not self.any:
            raise ValueError(
                f"{certificate} is believed from nobody: name the networks of the proxies that set it in trusted_proxies, "
                "for from anybody else it would let clients choose whose certificate they have"
            )

    def sift(self, peer: str | None, headers: Headers) -> None:
        """Take out what this peer may not tell: all that a proxy tells of a client where it is not trusted, and where it
        is, of the headers with certificates those that it does not set: it passed them on as the client wrote them."""
        own = self.certificate_header
        if not self.trusts(peer):
            kept = [pair for pair in headers.raw if not is_told(pair[0])]
        elif own is None:
            return
        else:
            its = {own, VERIFIED_BY.get(own, own), *((b"client-cert-chain",) if own == CLIENT_CERT else ())}
            kept = [pair for pair in headers.raw if pair[0] in its or not is_of_certificate(fold(pair[0]))]
        if len(kept) < len(headers.raw):
            headers.raw = kept

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

    def settle(self, peer: str | None, headers: Headers) -> None:
        """Let the request tell one client's address, that in `header`, which must be set. It is put in X-Forwarded-For,
        where `client_ip` finds it, and an upstream too.

        From an untrusted peer `header` is removed in every spelling. From a trusted one it is believed when it is there
        once, spelled as it is, with one address in it. Otherwise the peer itself is the client, whatever
        X-Forwarded-For says: a CDN may pass on what a client wrote there, so if that were fallen back to, whoever gets
        the header lost or doubled would choose an address. nginx (realip), Envoy (custom_header, unless it rejects)
        and Caddy (client_ip_headers) fall back to the peer too; of several values they may take the client's own.

        What contradicts the address found is removed from what a trusted peer sent: `header` in other spellings or
        where it is not believed, X-Real-IP, Forwarded, and an X-Forwarded-For that leads to another client.
        """
        header = self.header
        assert header is not None
        if not self.trusts(peer):
            if any(fold(name) == header for name, _ in headers.raw):
                headers.remove_folded(header)
            return
        address = self._told(headers.get_all(header))
        client = peer if address is None else str(address)
        continued = self.client_ip(peer, headers.get_all(_FORWARDED_FOR)) == client
        kept: RawHeaders = []
        for pair in headers.raw:
            name = fold(pair[0])
            if name == header:
                stays = address is not None and pair[0] == header
            elif name == _FORWARDED_FOR:
                stays = continued and pair[0] == _FORWARDED_FOR
            elif name == _REAL_IP:
                stays = address is not None and pair == (_REAL_IP, str(address).encode("ascii"))
            else:
                stays = name != _FORWARDED
            if stays:
                kept.append(pair)
        if client is not None and client != peer:
            if not continued:
                kept.append((_FORWARDED_FOR, client.encode("ascii")))
            kept.append((_FORWARDED, f'for="[{client}]"'.encode() if ":" in client else f"for={client}".encode()))
        if kept != headers.raw:
            headers.raw = kept

    def _told(self, lines: Sequence[str]) -> Address | None:
        """The address in the one line there is, None where there are more or fewer, or it holds anything else."""
        found = self._form.fullmatch(lines[0].strip(" \t")) if len(lines) == 1 else None
        return None if found is None else _address(found[found.lastindex or 0])


def _client_ip_header(name: str) -> bytes:
    """The name in lower case. Raises ValueError on one that cannot tell the client's address, saying why."""
    header = encode_name(name)
    if header in (_FORWARDED_FOR, _FORWARDED):
        raise ValueError(f"{name} is read already, as far as trusted_proxies are trusted: leave client_ip_header out")
    if header in _NOT_FOR_ADDRESSES:
        raise ValueError(f"{name} is no header in which a proxy tells an address")
    if fold(header) != header:
        raise ValueError(
            f"{name!r} has more in it than letters, digits and hyphens, which not every server tells apart"
        )
    return header


def unmapped(peer: str | None) -> str | None:
    """The peer as it is written elsewhere: on a socket for both, IPv4 comes as `::ffff:192.0.2.1` (RFC 4291 2.5.5.2)."""
    if peer is not None and peer.startswith("::ffff:") and "." in peer:
        return peer[7:]
    return peer


def parse_address(text: str) -> Address | None:
    """The address in `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]:80`, or None. Mapped IPv4 is unwrapped."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return _address(text)


def _address(text: str) -> Address | None:
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
