"""Security headers at work: two fixed lists, with and without TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead

if TYPE_CHECKING:
    from gatekit.policies.guard.config import SecurityHeaders

Pairs = tuple[tuple[bytes, bytes], ...]


class SecurityPolicy:
    """Takes headers off a response and puts others on."""

    __slots__ = ("_plain", "_tls")

    def __init__(self, spec: SecurityHeaders) -> None:
        removed = frozenset(name.encode("ascii") for name in spec.remove)
        self._plain, self._tls = (
            (pairs, removed | {name for name, _ in pairs} if spec.override else removed) for pairs in fixed(spec)
        )

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        if head.status == 101:
            return
        pairs, dropped = self._tls if exchange.scheme in ("https", "wss") else self._plain
        raw = [pair for pair in head.raw if pair[0] not in dropped]
        there = {name for name, _ in raw}
        raw += [pair for pair in pairs if pair[0] not in there]
        head.raw = raw


def fixed(spec: SecurityHeaders) -> tuple[Pairs, Pairs]:
    """The headers without TLS, and those with it."""
    values = {
        b"x-content-type-options": "nosniff" if spec.content_type_options else None,
        b"referrer-policy": spec.referrer_policy,
        b"x-frame-options": spec.frame_options,
        b"content-security-policy": spec.content_security_policy,
        b"cross-origin-opener-policy": spec.opener_policy,
        b"cross-origin-resource-policy": spec.resource_policy,
        b"permissions-policy": spec.permissions_policy,
    }
    plain = tuple((name, value.encode("latin-1")) for name, value in values.items() if value)
    if spec.hsts is None:
        return plain, plain
    parts = [f"max-age={spec.hsts}"]
    if spec.hsts_subdomains:
        parts.append("includeSubDomains")
    if spec.hsts_preload:
        parts.append("preload")
    return plain, (*plain, (b"strict-transport-security", "; ".join(parts).encode("ascii")))
