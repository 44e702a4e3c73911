"""Hypothesis strategies for what comes in over HTTP. Needs the package `hypothesis`."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gatekit.core.exchange import Exchange
from gatekit.core.headers import RawHeaders
from gatekit.testing.exchanges import request

TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # noqa: S105 - RFC 9110 tchar
_LABEL = "abcdefghijklmnopqrstuvwxyz0123456789"
_ODD_SEGMENTS = (
    "", ".", "..", "%2e", "%2E%2e", "%2f", "%5c", "%00", "%252e", ";x=1", "a%20b", "%c3%a9", "%ff", "a.b", "~x", "%zz",
)  # fmt: skip


def methods(*, odd: bool = False) -> SearchStrategy[str]:
    """The methods of RFC 9110 and PATCH; with `odd` any token too."""
    known = st.sampled_from(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
    return known | st.text(TOKEN_CHARACTERS, min_size=1, max_size=12) if odd else known


def hosts(*, ports: bool = True) -> SearchStrategy[str]:
    """Host header values that the door takes: names of one to four labels, addresses, an optional port."""
    label = st.text(_LABEL, min_size=1, max_size=8)
    names = st.lists(label, min_size=1, max_size=4).map(".".join)
    addresses = st.ip_addresses().map(lambda address: f"[{address}]" if address.version == 6 else str(address))
    host = names | addresses
    if not ports:
        return host
    return st.builds(
        lambda name, port: name if port is None else f"{name}:{port}", host, st.none() | st.integers(1, 65535)
    )


def raw_paths(*, odd: bool = True) -> SearchStrategy[str]:
    """Request paths as they are written on the wire; with `odd` also those that have two readings or none."""
    plain = st.text(_LABEL + "-_~", min_size=1, max_size=6)
    segment = plain | st.sampled_from(_ODD_SEGMENTS) if odd else plain
    return st.lists(segment, max_size=6).map(lambda segments: "/" + "/".join(segments))


def header_lists(*, max_size: int = 8) -> SearchStrategy[RawHeaders]:
    """Header lists as servers hand them over: lower-case names, repetition, no Host and no framing."""
    names = st.text(TOKEN_CHARACTERS, min_size=1, max_size=16).map(lambda name: name.lower().encode())
    values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=24).map(
        lambda value: value.strip().encode()
    )
    reserved = (b"host", b"content-length", b"transfer-encoding")
    return st.lists(st.tuples(names.filter(lambda name: name not in reserved), values), max_size=max_size)


def bodies(*, max_parts: int = 4) -> SearchStrategy[list[bytes]]:
    """Bodies in the parts they come in."""
    return st.lists(st.binary(min_size=1, max_size=32), max_size=max_parts)


def exchanges(**fixed: Any) -> SearchStrategy[Exchange]:
    """Exchanges that the door admits; keywords fix what `request` takes: `exchanges(method="GET")`."""

    def build(method: str, host: str, path: str, headers: RawHeaders, body: list[bytes], client: str) -> Exchange:
        given: dict[str, Any] = {
            "method": method, "target": path, "headers": [(b"host", host.encode()), *headers], "body": body,
            "client": client,
        }  # fmt: skip
        return request(**{**given, **fixed})

    return st.builds(
        build, methods(), hosts(), raw_paths(odd=False), header_lists(), bodies(), st.ip_addresses().map(str)
    )
