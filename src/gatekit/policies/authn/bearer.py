"""Tokens in a request (RFC 6750): where they are, what is remembered of them, and which method takes which.

A token is looked at once: taken out of the request, hashed, and looked up among those that were verified a moment ago.
Only what is not there goes to a method: a JWT to the one of its issuer, anything else to the one that asks somebody.
So a gateway that takes both needs nothing said about which is which.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gatekit.core.certificate import certificate_of
from gatekit.core.exchange import Exchange
from gatekit.core.headers import fold
from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.mechanisms.recent import RecentCache
from gatekit.policies.authn.forms import HeaderName, SchemeName
from gatekit.policies.authn.jose import Jws, JwsRefused, looks_like_jws, read_jws
from gatekit.policies.authn.method import (
    Answer,
    IdentityHeaders,
    TokenMethod,
    Verified,
    jobs_within,
    refusal,
    told_within,
)
from gatekit.policies.authn.query import cut_parameter, parameters

MAX_TTL: Final = 60.0
"""For how long a verified token is believed without a second look, in seconds, if it does not end before."""

_B64TOKEN: Final = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_WORD = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class TokenPlace(BaseModel):
    """Where a request carries a token, for every method that takes one."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    header: HeaderName = "authorization"
    """The header that carries the token."""
    scheme: SchemeName | None = "Bearer"
    """The scheme word before it; None for a header that holds the token alone."""
    query: _WORD | None = None
    """A query parameter that may carry it instead (RFC 6750 section 2.3 advises against it: queries end up in logs)."""
    max_length: int = Field(default=8192, ge=16, le=65536)
    """The longest token, in bytes. A longer one is refused before it is read."""
    forward: bool = False
    """Whether the token goes on to the app or upstream."""
    cache: int = Field(default=10_000, ge=0, le=1_000_000)
    """How many verified tokens are remembered, each for a minute at most. 0 verifies every request's anew."""

    def bind_tokens(self, ports: Ports, realm: str, headers: IdentityHeaders) -> TokenMethod:
        """The method at work. Each that takes tokens says how."""
        raise NotImplementedError

    @property
    def place(self) -> tuple[str, str | None, str | None]:
        """What must be equal for two methods to look at the same token."""
        return self.header, None if self.scheme is None else self.scheme.lower(), self.query


class Token:
    """A token as it came, and as far as it can be read without a key."""

    __slots__ = ("_jws", "digest", "text")

    def __init__(self, text: bytes, digest: bytes) -> None:
        self.text = text
        self.digest = digest
        self._jws: Jws | JwsRefused | None = None

    @property
    def looks_like_jws(self) -> bool:
        return looks_like_jws(self.text)

    @property
    def jws(self) -> Jws:
        """The token as a JWS whose signature nobody looked at yet. Raises JwsRefused."""
        found = self._jws
        if found is None:
            try:
                found = read_jws(self.text)
            except JwsRefused as refused:
                found = refused
            self._jws = found
        if isinstance(found, JwsRefused):
            raise found
        return found


class Bearer:
    """The token methods that look in one place, as one method."""

    __slots__ = (
        "_ambiguous", "_cache", "_clock", "_forward", "_header", "_malformed", "_max_length", "_methods", "_query", "_scheme",
        "_too_long", "_unbound", "_unknown", "missing", "stripped",
    )  # fmt: skip

    def __init__(self, places: Sequence[TokenPlace], methods: Sequence[TokenMethod], ports: Ports, realm: str) -> None:
        """Raises ValueError where the methods do not agree whether the token goes on: it is one token."""
        first = places[0]
        if len({place.forward for place in places}) > 1:
            raise ValueError(
                "several methods look for a token in the same place, and only some of them forward it: say forward for all "
                "of them, or for none"
            )
        self._methods = tuple(methods)
        self._clock = ports.clock
        self._header = first.header.encode("ascii")
        self._scheme = None if first.scheme is None else first.scheme.lower().encode("ascii")
        self._query = None if first.query is None else first.query.encode("utf-8")
        self._max_length = max(place.max_length for place in places)
        self._forward = first.forward
        size = min(place.cache for place in places)
        self._cache: RecentCache[bytes, Verified] | None = RecentCache(size) if size else None
        self.stripped = frozenset() if self._forward else frozenset({fold(self._header)})
        challenge = f'{first.scheme or "Bearer"} realm="{realm}"'
        invalid, bad = f'{challenge}, error="invalid_token"', f'{challenge}, error="invalid_request"'
        # RFC 6750 section 3.1: no error code for a request without a credential.
        self.missing = refusal("authn.missing_token", "This request needs a token.", challenge)
        self._ambiguous = refusal("authn.ambiguous_token", "Send exactly one token.", bad)
        self._malformed = refusal("authn.malformed_token", "This is no token.", bad)
        self._too_long = refusal("authn.token_too_long", "The token is too long.", bad)
        self._unknown = refusal("authn.unknown_token", "Nobody here takes tokens of this kind.", invalid)
        self._unbound = refusal(
            "authn.certificate_mismatch", "The token belongs to another client certificate.", invalid
        )

    def identify(self, exchange: Exchange) -> Answer | Awaitable[Answer] | None:
        text = self._taken(exchange)
        if text is None or isinstance(text, Reply):
            return text
        digest = sha256(text).digest()
        cache = self._cache
        if cache is not None:
            known = cache.get(digest, self._clock.monotonic())
            if known is not None and self._clock.wall() < known.until:
                return known if known.certificate is None else self._holder(exchange, known)
        if not _B64TOKEN.fullmatch(text):
            # Not before the cache: what is there was looked at, and this reads every byte.
            return self._malformed
        token = Token(text, digest)
        for method in self._methods:
            if method.takes(token):
                found = method.verify(token)
                if isinstance(found, Reply):
                    return found
                if isinstance(found, Verified):
                    return self._kept(exchange, digest, found)
                return self._later(exchange, digest, found)
        return self._unknown

    def strip(self, exchange: Exchange) -> None:
        if self._query is not None and not self._forward:
            cut_parameter(exchange, self._query)

    def jobs(self) -> list[Job]:
        return jobs_within(self._methods)

    def status(self) -> Mapping[str, Any]:
        cache = self._cache
        told = told_within(self._methods)
        return {**told, "remembered tokens": 0 if cache is None else len(cache)}

    def _taken(self, exchange: Exchange) -> bytes | Reply | None:
        """The token, None where there is none, or what is wrong with how it is sent."""
        header, scheme = self._header, self._scheme
        found = None
        for name, value in exchange.headers.raw:
            if name == header:
                if found is not None:
                    return self._ambiguous
                found = value
        if found is not None and scheme is not None:
            # One space: what else might stand there, some server would read otherwise than we do.
            word, space, rest = found.partition(b" ")
            if word.lower() != scheme:
                found = None
            elif not space:
                return self._malformed
            else:
                found = rest
        if self._query is not None and exchange.query:
            for name, value in parameters(exchange.query):
                if name == self._query:
                    if found is not None:
                        return self._ambiguous
                    found = value
        if found is None:
            return None
        return found if len(found) <= self._max_length else self._too_long

    async def _later(self, exchange: Exchange, digest: bytes, pending: Awaitable[Answer]) -> Answer:
        found = await pending
        return found if isinstance(found, Reply) else self._kept(exchange, digest, found)

    def _kept(self, exchange: Exchange, digest: bytes, found: Verified) -> Answer:
        cache = self._cache
        if cache is not None:
            ttl = min(found.until - self._clock.wall(), MAX_TTL)
            cache.put(digest, found, self._clock.monotonic(), ttl)
        return found if found.certificate is None else self._holder(exchange, found)

    def _holder(self, exchange: Exchange, found: Verified) -> Answer:
        """Whether whoever sends the token holds the key of the certificate that it is bound to (RFC 8705 section 3)."""
        certificate = certificate_of(exchange)
        return found if certificate is not None and certificate.sha256 == found.certificate else self._unbound
