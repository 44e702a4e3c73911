"""Authentication at work: methods in order, then the request cleaned of credentials and of claims about identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekit.core.exchange import Exchange
from gatekit.core.headers import RawHeaders, encode_name, encode_value, fold
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.policies.authn.method import BoundMethod

if TYPE_CHECKING:
    from gatekit.policies.authn.config import Authn


class AuthnPolicy:
    """Asks the methods in order and sets `exchange.identity`."""

    __slots__ = ("_lengths", "_methods", "_missing", "_optional", "_pairs", "_stripped")

    def __init__(self, spec: Authn, ports: Ports) -> None:
        self._pairs = tuple((encode_name(name), attribute) for name, attribute in spec.identity_headers.items())
        self._methods: tuple[BoundMethod, ...] = tuple(
            method.bind_to(ports, spec.realm, self._identity_headers) for method in spec.methods
        )
        self._optional = spec.optional
        self._stripped = frozenset(fold(name) for name, _ in self._pairs).union(
            *(method.stripped for method in self._methods)
        )
        self._lengths = frozenset(map(len, self._stripped))
        first = self._methods[0].missing
        challenges = [header for method in self._methods for header in method.missing.headers]
        self._missing = Reply(first.status, first.reason, first.detail, headers=challenges)

    def decide(self, exchange: Exchange) -> Reply | None:
        for method in self._methods:
            found = method.identify(exchange)
            if found is not None:
                if isinstance(found, Reply):
                    return found
                exchange.identity = found.identity
                self._clean(exchange, found.headers)
                return None
        if not self._optional:
            return self._missing
        if exchange.identity is None:
            exchange.identity = ANONYMOUS
            self._clean(exchange, [])
        else:
            # Somebody further out found out who this is, and took the credential away.
            self._clean(exchange, self._identity_headers(exchange.identity))
        return None

    def _clean(self, exchange: Exchange, added: RawHeaders) -> None:
        """Take credentials and every spelling of the identity headers out of the request, and put ours in."""
        if self._stripped:
            # Folding keeps the length, so that few names need to be folded at all.
            stripped, lengths = self._stripped, self._lengths
            headers = exchange.headers
            kept = [pair for pair in headers.raw if len(pair[0]) not in lengths or fold(pair[0]) not in stripped]
            headers.raw = kept + added
        for method in self._methods:
            method.strip(exchange)

    def _identity_headers(self, identity: Identity) -> RawHeaders:
        """The headers that tell an upstream about this caller, as UTF-8."""
        out: RawHeaders = []
        for name, attribute in self._pairs:
            value = getattr(identity, attribute)
            if isinstance(value, frozenset):
                value = ("," if attribute == "roles" else " ").join(sorted(value))
            if value:
                out.append((name, encode_value(value.encode("utf-8"))))
        return out
