"""Credentials in the query: read as any reader of the query would, and cut out of what goes on."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from gatekit.core.exchange import Exchange


def parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values as any reader of the query takes them (WHATWG URL, urlencoded parsing)."""
    pairs = [part.partition(b"=") for part in query.split(b"&")]
    return [(_decoded(name), _decoded(value)) for name, _, value in pairs]


def cut_parameter(exchange: Exchange, name: bytes) -> None:
    """Send the request on without any parameter of that name."""
    if not exchange.target_query:
        return
    parts = exchange.target_query.split(b"&")
    kept = [part for part in parts if _decoded(part.partition(b"=")[0]) != name]
    if len(kept) < len(parts):
        exchange.rewrite(query=b"&".join(kept))


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))
