"""URLs and hosts as the guard reads them: one plain spelling of each, everything else refused.

Resolvers and URL parsers read hosts generously, and not alike: `0x7f.1`, `2130706433`, `127。0。0。1` and `%31%32%37.1` are
all 127.0.0.1 to one of them. What only some take for an address must not be taken for a name here. So a host is a
dotted quad of decimals, an IPv6 literal in brackets, or a name of letters, digits, hyphens and underscores that does
not end in a number. Pure: nothing here resolves.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple
from urllib.parse import urljoin

from gatekit.clients.addresses import TargetRefused
from gatekit.core.peers import Address

MAX_URL: Final = 8192
"""Characters in a URL."""

_PORTS: Final = {"http": 80, "https": 443}
_PARTS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)(.*)")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_IPV6: Final = re.compile(r"[0-9A-Fa-f:.]+")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Url(NamedTuple):
    """A URL that was read. `host` is in lower case, IPv6 without brackets; `address` is set when it is a literal."""

    scheme: str
    host: str
    address: Address | None
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the Host header says (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port (RFC 6454). Without path and query, which may hold secrets: fit for an error."""
        return f"{self.scheme}://{self.authority}"


def read_url(text: str) -> Url:
    """The parts of an absolute http or https URL; a fragment is cut off. Raises TargetRefused with the reason.

    No text of the URL but its host gets into the error: user information and queries hold secrets.
    """
    _check_characters(text)
    parts = _PARTS.fullmatch(text.partition("#")[0])
    if parts is None:
        raise TargetRefused("", "it does not begin with a scheme and //")
    scheme, authority, target = parts[1].lower(), parts[2], parts[3]
    if scheme not in _PORTS:
        raise TargetRefused("", f"scheme {scheme!r} is neither http nor https")
    if "@" in authority:
        raise TargetRefused("", "it has user information before the host; put credentials into a header")
    host, colon, digits = authority, "", ""
    if not authority.endswith("]"):
        host, colon, digits = authority.rpartition(":") if ":" in authority else (authority, "", "")
    if ":" in host and not host.startswith("["):
        raise TargetRefused(host, "an IPv6 address stands in brackets")
    name, address = read_host(host)
    port = _PORTS[scheme]
    if colon:
        if not _PORT.fullmatch(digits) or int(digits) > 65535:
            raise TargetRefused(name, "the port is not a plain number from 1 to 65535")
        port = int(digits)
    return Url(scheme, name, address, port, target if target.startswith("/") else f"/{target}")


def join_url(base: Url, reference: str) -> Url:
    """The URL that a `Location` means at `base` (RFC 9110, 10.2.2), read as strictly as any. Raises TargetRefused."""
    _check_characters(reference)
    if reference.startswith("///"):
        # A browser would take what follows for the host, urljoin takes it for a path.
        raise TargetRefused("", "the host is empty")
    try:
        joined = urljoin(base.origin + base.target, reference)
    except ValueError:
        raise TargetRefused("", "the brackets of its host do not match") from None
    return read_url(joined)


def read_host(text: str) -> tuple[str, Address | None]:
    """The host in its one spelling, and the address if it is a literal. Raises TargetRefused with the reason."""
    if not text:
        raise TargetRefused("", "the host is empty")
    if not text.isascii():
        raise TargetRefused(text, "the host is not ASCII; write it in its punycode form (xn--)")
    if text.startswith("["):
        return _read_ipv6(text)
    host = text.lower()
    if "%" in host:
        raise TargetRefused(text, "a host has no percent signs")
    if host.endswith("."):
        raise TargetRefused(text, "write the host without its trailing dot")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _read_ipv4(host)
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise TargetRefused(text, "it is no host name: labels of 1 to 63 letters, digits and hyphens, 253 in all")
    return host, None


def _read_ipv4(host: str) -> tuple[str, Address]:
    try:
        return host, IPv4Address(host)
    except AddressValueError:
        why = "a host that ends in a number is an IPv4 address, and that is written as four decimal numbers"
        raise TargetRefused(host, why) from None


def _read_ipv6(text: str) -> tuple[str, Address]:
    inner = text[1:-1]
    try:
        if not text.endswith("]") or not _IPV6.fullmatch(inner):
            raise AddressValueError
        address = IPv6Address(inner)
    except AddressValueError:
        raise TargetRefused(text, "what is in brackets is no IPv6 address (zone ids are refused)") from None
    return str(address), address


def _check_characters(text: str) -> None:
    if not text.isascii():
        raise TargetRefused("", "a character is not ASCII; write the host in punycode, the rest percent-encoded")
    if "\\" in text:
        raise TargetRefused("", "it has a backslash")
    if any(not "!" <= character <= "~" for character in text):
        raise TargetRefused("", "it has a space or a control character")
    if len(text) > MAX_URL:
        raise TargetRefused("", f"it is longer than {MAX_URL} characters")
