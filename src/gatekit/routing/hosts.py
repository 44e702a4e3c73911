"""Host patterns: `shop.example.com`, `*.example.com`, `*`, each with an optional `:port`.

A wildcard stands for one or more whole labels, as in the Gateway API: `*.example.com` matches `a.example.com` and
`a.b.example.com`, never `example.com`. A port is compared with that of the Host header, or with the default port of the
scheme where the header has none (80, 443 for https and wss). Without a port in the pattern the port does not matter.
"""

from __future__ import annotations

import re
from typing import Literal

from gatekit.core.exchange import Exchange

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?|[a-z0-9_]")
_ADDRESS = re.compile(r"\[[0-9a-f:.]+\]")
_PORT = re.compile(r"[0-9]{1,5}")


class HostPattern:
    """One parsed host. Immutable, equal to another that matches the same.

    `name` is the host in lower case, for a wildcard what follows `*.`, for any host empty. `text` is the pattern in its
    normal form, which is also its key in the index. `precedence` orders
    patterns that match the same host, the lowest first: exact, longer wildcard, any; of two alike the one with a port.
    """

    __slots__ = ("kind", "name", "port", "precedence", "text")

    def __init__(self, kind: Literal["exact", "wildcard", "any"], name: str, port: int | None) -> None:
        self.kind: Literal["exact", "wildcard", "any"] = kind
        self.name = name
        self.port = port
        rank = ("exact", "wildcard", "any").index(kind)
        labels = name.count(".") + 1 if kind == "wildcard" else 0
        self.precedence = (rank, -labels, int(port is None))
        host = (name, f"*.{name}", "*")[rank]
        self.text = host if port is None else f"{host}:{port}"

    def __repr__(self) -> str:
        return f"HostPattern({self.text!r})"

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostPattern) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def match(self, exchange: Exchange) -> bool:
        """Whether it matches. The index does the same faster."""
        if self.port is not None and self.port != effective_port(exchange):
            return False
        if self.kind == "any":
            return True
        host = exchange.host
        return host == self.name if self.kind == "exact" else host.endswith("." + self.name)


ANY_HOST = HostPattern("any", "", None)


def effective_port(exchange: Exchange) -> int:
    """The port the client asked for: that of the Host header, else the default of the scheme."""
    if exchange.port is not None:
        return exchange.port
    return 443 if exchange.scheme in ("https", "wss") else 80


def parse_host(text: str) -> HostPattern:
    """The pattern that `text` writes, in lower case, international names as punycode, a trailing dot cut.

    Raises ValueError with what to do.
    """
    host, port = _split_port(text)
    if host == "*":
        return HostPattern("any", "", port)
    host = host.lower()
    if _ADDRESS.fullmatch(host):
        return HostPattern("exact", host, port)
    wildcard = host.startswith("*.")
    name = _ascii(text, (host[2:] if wildcard else host).removesuffix("."))
    if "*" in name:
        raise ValueError(f"in the host {text!r} a * may only stand alone or for the first labels, as in *.example.com")
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            raise ValueError(
                f"the host {text!r} has the label {label!r}, which no host may have; write a host name only"
            )
    return HostPattern("wildcard" if wildcard else "exact", name, port)


def _split_port(text: str) -> tuple[str, int | None]:
    host, colon, port = text.rpartition(":")
    if not colon or (text.startswith("[") and text.endswith("]")):
        return text, None
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise ValueError(f"the host {text!r} has no valid port after its colon; write host, or host:port (1 to 65535)")
    return host, int(port)


def _ascii(text: str, name: str) -> str:
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(f"the host {text!r} has no punycode form; write it in ASCII (xn--...)") from None
