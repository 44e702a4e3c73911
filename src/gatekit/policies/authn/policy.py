"""Authentication at work: methods in order, then the request cleaned of credentials and of claims about identity."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from gatekit.core.exchange import Exchange
from gatekit.core.headers import RawHeaders, encode_name, encode_value, fold
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.outcome import Fault
from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.policies.authn.combine import bind_methods, carriers
from gatekit.policies.authn.method import Answer, Verified, jobs_within, told_within
from gatekit.policies.authn.query import cut_parameter
from gatekit.policies.authn.revoked import Revoked

if TYPE_CHECKING:
    from gatekit.policies.authn.config import Authn


class AuthnPolicy:
    """Asks the methods in order and sets `exchange.identity`."""

    __slots__ = (
        "_also", "_lengths", "_methods", "_missing", "_optional", "_pairs", "_revoked", "_stripped",
    )  # fmt: skip

    def __init__(self, spec: Authn, ports: Ports) -> None:
        self._pairs = tuple((encode_name(name), attribute) for name, attribute in spec.identity_headers.items())
        self._methods = bind_methods(spec.methods, ports, spec.realm, self._identity_headers)
        self._optional = spec.optional
        self._also = tuple(query.encode("utf-8") for _, query in carriers(spec.also_cleaned) if query is not None)
        self._stripped = frozenset(fold(name) for name, _ in self._pairs).union(
            (fold(header.encode("ascii")) for header, _ in carriers(spec.also_cleaned)),
            *(method.stripped for method in self._methods),
        )
        self._lengths = frozenset(map(len, self._stripped))
        first = self._methods[0].missing
        challenges = {header: None for method in self._methods for header in method.missing.headers}
        self._missing = Reply(first.status, first.reason, first.detail, headers=challenges)
        self._revoked = None if spec.revocations is None else Revoked(spec.revocations, ports, challenges)

    def decide(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        for method in self._methods:
            found = method.identify(exchange)
            if found is not None:
                if isinstance(found, Verified):
                    return self._admitted(exchange, found)
                if isinstance(found, Reply):
                    return _refused(exchange, found)
                return self._later(exchange, found)
        if not self._optional:
            return self._missing
        if exchange.identity is None:
            exchange.identity = ANONYMOUS
            self._clean(exchange, [])
        else:
            # Somebody further out found out who this is, and took the credential away.
            self._clean(exchange, self._identity_headers(exchange.identity))
        return None

    def jobs(self) -> list[Job]:
        return jobs_within((*self._methods, self._revoked))

    def status(self) -> Mapping[str, Any]:
        """What the methods say of themselves, for the operator."""
        return told_within((*self._methods, self._revoked))

    async def _later(self, exchange: Exchange, pending: Awaitable[Answer]) -> Reply | None:
        found = await pending
        if isinstance(found, Reply):
            return _refused(exchange, found)
        decided = self._admitted(exchange, found)
        return decided if decided is None or isinstance(decided, Reply) else await decided

    def _admitted(self, exchange: Exchange, found: Verified) -> Reply | Awaitable[Reply | None] | None:
        """Let the caller in, unless the credential was revoked: that is asked whatever the caches say."""
        revoked = self._revoked
        if revoked is not None:
            if not revoked.loaded:
                return self._once_loaded(exchange, found, revoked)
            refused = revoked.check(found)
            if refused is not None:
                return refused
        exchange.identity = found.identity
        self._clean(exchange, found.headers)
        return None

    async def _once_loaded(self, exchange: Exchange, found: Verified, revoked: Revoked) -> Reply | None:
        await revoked.load()
        refused = revoked.check(found)
        if refused is None:
            exchange.identity = found.identity
            self._clean(exchange, found.headers)
        return refused

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
        for name in self._also:
            cut_parameter(exchange, name)

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


def _refused(exchange: Exchange, reply: Reply) -> Reply:
    if reply.status >= 500:
        # Nobody can tell whether the credential is good: not the caller's fault.
        exchange.fault = Fault.GATEWAY
    return reply
