"""Introspection at work: what an authorization server says of a token, judged by what was asked for.

A good token is kept by `bearer` until `Verified.until`; that one is not good is remembered here. Every 401 is made
once, and nothing of a token or an answer is in any reply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gatekit.core.policy import Job
from gatekit.core.ports import Ports, Reach
from gatekit.core.verdict import Reply
from gatekit.policies.authn.bearer import Token
from gatekit.policies.authn.claims import (
    DEFAULT_PATHS,
    Attribute,
    ClaimMap,
    ClaimRefused,
    ConfirmationRefused,
    confirmed_by,
    marks,
)
from gatekit.policies.authn.client_auth import ClientAuth
from gatekit.policies.authn.introspection_state import Told
from gatekit.policies.authn.introspector import Introspector, Server
from gatekit.policies.authn.method import Answer, IdentityHeaders, Verified, refusal, unavailable

if TYPE_CHECKING:
    from gatekit.policies.authn.introspection import Introspection

PATHS: Final[Mapping[Attribute, tuple[str, ...]]] = MappingProxyType({**DEFAULT_PATHS, "subject": ("sub", "client_id")})
"""Where each attribute of an identity is looked for where nothing else is said. A client that acts for itself often
has no `sub`."""


class BoundIntrospection:
    """Introspection at work: what a server says of a token, judged by what was asked for."""

    __slots__ = (
        "_asker", "_audiences", "_claims", "_clock", "_headers", "_issuer", "_jws", "_leeway", "_max_ttl",
        "_negative_ttl", "_refusals", "_retry_after", "_rules", "_server",
    )  # fmt: skip

    def __init__(
        self, spec: Introspection, auth: ClientAuth, ports: Ports, realm: str, headers: IdentityHeaders
    ) -> None:
        self._server = Server(
            url=spec.url,
            issuer=spec.issuer,
            client_id=spec.client_id,
            hint=spec.token_type_hint,
            timeout=spec.timeout,
            max_in_flight=spec.max_in_flight,
            reach=Reach(spec.networks, spec.ca),
        )
        self._asker = Introspector(self._server, auth, ports)
        self._clock = ports.clock
        self._headers = headers
        self._issuer = spec.issuer
        self._audiences = frozenset(spec.audience)
        self._claims = ClaimMap({**PATHS, **spec.claims})
        self._jws = spec.jws
        self._leeway = spec.leeway
        self._max_ttl = spec.max_ttl
        self._negative_ttl = spec.negative_ttl
        self._retry_after = spec.retry_after
        self._rules = repr((spec.issuer, spec.audience, spec.leeway, spec.claims))
        challenge = f'{spec.scheme or "Bearer"} realm="{realm}", error="invalid_token"'
        self._refusals = {reason: refusal(reason, detail, challenge) for reason, detail in REFUSALS.items()}

    def takes(self, token: Token) -> bool:
        return self._jws or not token.looks_like_jws

    def verify(self, token: Token) -> Answer | Awaitable[Answer]:
        now = self._clock.monotonic()
        reason = self._asker.refused(token.digest, self._rules, now)
        if reason is not None:
            return self._refusals[reason]
        told = self._asker.shut(token.digest, now)
        return self._asked(token) if told is None else self._undescribed(told)

    def jobs(self) -> list[Job]:
        return self._asker.jobs()

    def status(self) -> Mapping[str, Any]:
        return {f"introspection {self._server.host}": self._asker.status()}

    async def _asked(self, token: Token) -> Answer:
        told = await self._asker.ask(token.text, token.digest, self._negative_ttl)
        if isinstance(told, Told):
            return self._undescribed(told)
        try:
            return self._verified(told, self._clock.wall())
        except Objection as objection:
            now = self._clock.monotonic()
            self._asker.refuse(token.digest, objection.reason, self._rules, now, self._negative_ttl)
            return self._refusals[objection.reason]

    def _undescribed(self, told: Told) -> Reply:
        if told is Told.INACTIVE:
            return self._refusals["authn.inactive_token"]
        wait = self._retry_after
        if told is Told.BUSY:
            return unavailable("authn.introspection_busy", "Too many tokens are being looked up.", ceil(wait))
        wait = max(wait, self._asker.rest(self._clock.monotonic()))
        detail = "Whether the token is good cannot be found out at the moment."
        return unavailable("authn.introspection_unavailable", detail, ceil(wait))

    def _verified(self, members: Mapping[str, Any], now: float) -> Verified:
        """The caller whom the answer tells of. Raises Objection."""
        expires = None if "exp" not in members else float(members["exp"])
        if expires is not None and expires <= now:
            raise Objection("authn.expired")
        if max(members.get("nbf", now), members.get("iat", now)) > now + self._leeway:
            raise Objection("authn.not_yet_valid")
        issuer = members.get("iss")
        if self._issuer is not None and issuer != self._issuer:
            raise Objection("authn.wrong_issuer")
        if self._audiences:
            audience = members.get("aud", ())
            if self._audiences.isdisjoint((audience,) if isinstance(audience, str) else audience):
                raise Objection("authn.wrong_audience")
        _check_type(members)
        try:
            certificate = confirmed_by(members)
            # A `sub` is unique among those whom one server knows, so which server it is belongs to it in any case.
            issuer = issuer or self._asker.endpoint
            identity = self._claims.identity(members, issuer=issuer, scheme="introspection", expires=expires)
            found = marks(members, identity)
        except ClaimRefused as refused:
            raise Objection("authn.missing_claim" if refused.missing else "authn.malformed_claim") from None
        except ConfirmationRefused:
            raise Objection("authn.unsupported_confirmation") from None
        until = now + self._max_ttl if expires is None else min(expires, now + self._max_ttl)
        return Verified(identity, self._headers(identity), found, until, certificate)


class Objection(Exception):
    """Why a token that its server calls active is refused all the same."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


REFUSALS: Final = {
    "authn.inactive_token": "The token is not valid, or not any more.",
    "authn.expired": "The token has expired.",
    "authn.not_yet_valid": "The token is not valid yet.",
    "authn.wrong_issuer": "The token is of another issuer.",
    "authn.wrong_audience": "The token is meant for somebody else.",
    "authn.wrong_type": "The token is not one for access.",
    "authn.unsupported_confirmation": "The token is bound to a key in a way that is not supported here.",
    "authn.missing_claim": "What is known of the token does not say whose it is.",
    "authn.malformed_claim": "What is known of the token has the wrong form.",
}
"""Each reason for a 401, and what the caller is told."""

_ACCESS_TYPES: Final = frozenset({"bearer", "access_token", "at+jwt", "urn:ietf:params:oauth:token-type:access_token"})
"""What `token_type` may be: the type of RFC 6750 for tokens that need no proof, or a word for access tokens."""
_OTHER_TYPES: Final = frozenset(
    {"refresh", "refresh_token", "offline", "id", "id_token", "logout", "authorization_code"}
)
"""What other members say of tokens that are none for access: Keycloak's `typ`, the `token_use` of Hydra and Cognito."""


def _check_type(members: Mapping[str, Any]) -> None:
    kind = members.get("token_type")
    if kind is not None and kind.lower() not in _ACCESS_TYPES:
        raise Objection("authn.wrong_type")
    for name in ("typ", "token_use", "type"):
        if str(members.get(name, "")).lower() in _OTHER_TYPES:
            raise Objection("authn.wrong_type")


__all__ = ["PATHS", "REFUSALS", "BoundIntrospection"]
