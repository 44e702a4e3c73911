"""CORS at work. Everything but what a browser asks for is encoded beforehand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import RawHeaders
from gatekit.core.verdict import Reply
from gatekit.policies.cors.origins import Origins

if TYPE_CHECKING:
    from gatekit.policies.cors.config import Cors

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
_TOKENS = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z, \t]{1,2048}")
_REPLACED = frozenset(
    b"access-control-" + name
    for name in (
        b"allow-origin", b"allow-credentials", b"allow-methods", b"allow-headers", b"allow-private-network",
        b"expose-headers", b"max-age",
    )
)  # fmt: skip
_VARY = (b"vary", b"Origin")
_VARY_PREFLIGHT = (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
_ANSWER = Reply(204, "cors.preflight")
_REFUSED = Reply(204, "cors.origin_not_allowed")


class CorsPolicy:
    """Answers preflights in `decide`; all headers are written in `on_response`, which sees those answers too."""

    __slots__ = ("_actual", "_credentials", "_headers", "_methods", "_origins", "_preflight", "_static")

    def __init__(self, spec: Cors) -> None:
        self._origins = Origins(spec.allow_origins)
        self._credentials = spec.allow_credentials
        self._static = self._origins.any and not spec.allow_credentials
        self._methods = _list(spec.allow_methods)
        self._headers = _list(spec.allow_headers)
        always: RawHeaders = [(b"access-control-allow-credentials", b"true")] if spec.allow_credentials else []
        if spec.expose_headers:
            always.append((b"access-control-expose-headers", _list(spec.expose_headers)))
        self._actual = tuple(always)
        self._preflight = (*always, (b"access-control-max-age", b"%d" % spec.max_age))

    def decide(self, exchange: Exchange) -> Reply | None:
        if not _is_preflight(exchange):
            return None
        return _ANSWER if self._allowed(exchange) is not None else _REFUSED

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        if exchange.kind != "http":
            return
        preflight = _is_preflight(exchange)
        raw = [pair for pair in head.raw if pair[0] not in _REPLACED]
        origin = self._allowed(exchange)
        if origin is not None:
            raw.append((b"access-control-allow-origin", b"*" if self._static else origin))
            if preflight:
                raw += self._preflight
                raw += self._asked_for(exchange)
            else:
                raw += self._actual
        if preflight:
            raw.append(_VARY_PREFLIGHT)
        elif not self._static and not _varies_by_origin(raw):
            raw.append(_VARY)
        head.raw = raw

    def _allowed(self, exchange: Exchange) -> bytes | None:
        """The request's origin if it is allowed. `null` is anybody's, so it never comes with credentials."""
        origin = exchange.headers.get_bytes(b"origin")
        if origin is None or not self._origins.allow(origin):
            return None
        return None if origin == b"null" and self._credentials else origin

    def _asked_for(self, exchange: Exchange) -> RawHeaders:
        """Allowed methods and headers: the lists as they are; where anything is allowed to a request with
        credentials, what was asked for, since a browser then takes `*` for a name (Fetch, CORS protocol)."""
        out: RawHeaders = []
        for name, asked, allowed, shape in (
            (b"access-control-allow-methods", b"access-control-request-method", self._methods, _TOKEN),
            (b"access-control-allow-headers", b"access-control-request-headers", self._headers, _TOKENS),
        ):
            value: bytes | None = allowed
            if allowed == b"*" and self._credentials:
                value = exchange.headers.get_bytes(asked)
                if value is not None and not shape.fullmatch(value):
                    value = None
            if value:
                out.append((name, value))
        return out


def _list(names: tuple[str, ...]) -> bytes:
    return ", ".join(names).encode("ascii")


def _is_preflight(exchange: Exchange) -> bool:
    if exchange.method != "OPTIONS":
        return False
    headers = exchange.headers
    return b"access-control-request-method" in headers and b"origin" in headers


def _varies_by_origin(raw: RawHeaders) -> bool:
    for name, value in raw:
        if name == b"vary":
            names = [one.strip() for one in value.lower().split(b",")]
            if b"origin" in names or b"*" in names:
                return True
    return False
