"""JWT verification at work. Every reply is made once, and nothing of a token is in any of them.

What a token says of itself is looked at first, as that costs least: one that is over, or meant for somebody else, has no
signature verified and no key set fetched for it. Refusing what nobody has vouched for is always safe; nothing but a
refusal comes of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from gatekit.core.policy import Job
from gatekit.core.ports import Clock
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.bearer import Token
from gatekit.policies.authn.claims import (
    ClaimMap,
    ClaimRefused,
    ConfirmationRefused,
    confirmed_by,
    look_up,
    marks,
    parse_claim_path,
)
from gatekit.policies.authn.jose import Jws, JwsRefused
from gatekit.policies.authn.jose_keys import Key
from gatekit.policies.authn.keysets import Keys
from gatekit.policies.authn.method import Answer, IdentityHeaders, Verified, refusal, unavailable

if TYPE_CHECKING:
    from gatekit.policies.authn.jwt import Jwt

DEVELOPMENT: Final = "gatekit-development"
"""How the ids of keys begin that sign tokens for development, which are not taken here."""

# The year 9999. What is later is not meant in seconds, and would never end.
_LAST_DATE: Final = 253_402_300_799
_ACCESS: Final = "at+jwt"
_PROFILE: Final = (("iat",), ("jti",), ("sub",), ("client_id",))
# Where issuers that do not type their tokens by the header say what they are, and what they call those that are not for
# access: Keycloak (`typ`), Cognito (`token_use`), and libraries that make tokens of their own.
_KINDS: Final = ("typ", "token_use", "token_type", "type")
_NO_ACCESS: Final = frozenset({"id", "id_token", "refresh", "refresh_token", "offline", "logout"})

_DETAILS: Final = {
    "authn.bad_signature": "The signature of the token is not good.",
    "authn.development_token": "The token is one for development, which are not taken here.",
    "authn.expired": "The token has expired.",
    "authn.lifetime_too_long": "The token is good for longer than is taken here.",
    "authn.malformed_claim": "A claim of the token has the wrong form.",
    "authn.missing_claim": "A claim that the token must have is not there.",
    "authn.not_yet_valid": "The token is not good yet.",
    "authn.unknown_key": "The token is signed with a key that its issuer does not publish.",
    "authn.unsupported_algorithm": "The token is signed by an algorithm that is not taken here.",
    "authn.unsupported_confirmation": "The token is bound to its holder in a way that is not taken here.",
    "authn.wrong_audience": "The token is meant for somebody else.",
    "authn.wrong_client": "The token was issued to a client that is not taken here.",
    "authn.wrong_issuer": "The token is of another issuer.",
    "authn.wrong_type": "The token is not one for access.",
    # Those of a token that cannot be read.
    "authn.malformed_token": "The token cannot be read.",
    "authn.unsupported_token": "The token asks for an extension that is not taken here.",
}


class _Refused(Exception):
    """A token is not good, for this reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class BoundJwt:
    """The tokens of one issuer, at work."""

    __slots__ = (
        "_algorithms", "_audiences", "_claims", "_clients", "_clock", "_headers", "_issuer", "_keys", "_leeway",
        "_max_lifetime", "_replies", "_required", "_types", "_unavailable",
    )  # fmt: skip

    def __init__(self, spec: Jwt, keys: Keys, clock: Clock, realm: str, headers: IdentityHeaders) -> None:
        self._keys = keys
        self._clock = clock
        self._headers = headers
        self._issuer = spec.issuer
        self._audiences = frozenset(spec.audience)
        self._algorithms = spec.allowed
        self._leeway = spec.leeway
        self._max_lifetime = spec.max_lifetime
        self._types = frozenset(None if name == "none" else _media_type(name) for name in spec.types)
        self._clients = frozenset(spec.clients)
        profile = _PROFILE if self._types == {_ACCESS} else ()
        self._required = (*profile, *(parse_claim_path(text) for text in spec.required_claims))
        self._claims = ClaimMap(spec.claims)
        challenge = f'{spec.scheme or "Bearer"} realm="{realm}", error="invalid_token"'
        self._replies = {reason: refusal(reason, detail, challenge) for reason, detail in _DETAILS.items()}
        self._unavailable = unavailable("authn.keys_unavailable", "Whether the token is good cannot be told now.", 5.0)

    def takes(self, token: Token) -> bool:
        """Whether it is a JWS that names this issuer. One that cannot be read is nobody's, and refused here."""
        if not token.looks_like_jws:
            return False
        if self._issuer is None:
            return True
        try:
            return bool(token.jws.claims.get("iss") == self._issuer)
        except JwsRefused:
            return True

    def verify(self, token: Token) -> Answer | Awaitable[Answer]:
        try:
            jws = token.jws
            self._look(jws)
        except (JwsRefused, _Refused) as refused:
            return self._replies[refused.reason]
        key = self._keys.find(jws.kid, jws.algorithm)
        if key is None or isinstance(key, Key):
            return self._verified(jws, key)
        return self._later(jws, key)

    def jobs(self) -> Iterable[Job]:
        return self._keys.jobs()

    def status(self) -> Mapping[str, object]:
        return {f"jwt {self._issuer or '*'}": self._keys.status()}

    async def _later(self, jws: Jws, pending: Awaitable[Key | None]) -> Answer:
        try:
            key = await pending
        except StoreUnavailable:
            return self._unavailable
        return self._verified(jws, key)

    def _takes_key_of(self, jws: Jws) -> bool:
        """Whether the id of its key is that of one which may sign these tokens: any but one for development."""
        return jws.kid is None or not jws.kid.startswith(DEVELOPMENT)

    def _look(self, jws: Jws) -> None:
        """Look at all that can be told without a key. Raises _Refused and JwsRefused."""
        if not self._takes_key_of(jws):
            raise _Refused("authn.development_token")
        if jws.algorithm not in self._algorithms:
            raise _Refused("authn.unsupported_algorithm")
        claims = jws.claims
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise _Refused("authn.wrong_issuer")
        self._look_at_type(jws.header, claims)
        self._look_at_dates(claims)
        if self._audiences and self._audiences.isdisjoint(_audience(claims)):
            raise _Refused("authn.wrong_audience")
        for path in self._required:
            if look_up(claims, path) is None:
                raise _Refused("authn.missing_claim")

    def _look_at_type(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
        found = header.get("typ")
        kind = None if found is None else _media_type(found)
        if kind not in self._types:
            raise _Refused("authn.wrong_type")
        if kind == _ACCESS:
            return
        for name in _KINDS:
            said = claims.get(name)
            if isinstance(said, str) and said.lower() in _NO_ACCESS:
                raise _Refused("authn.wrong_type")
        # An ID token has hashes of what was issued along with it, and the nonce of the client that asked for it, which
        # some issuers give to access tokens as well; a logout token tells of an event (RFC 8417).
        alone = "nonce" in claims and "scope" not in claims and "scp" not in claims
        if alone or "at_hash" in claims or "c_hash" in claims or isinstance(claims.get("events"), dict):
            raise _Refused("authn.wrong_type")

    def _look_at_dates(self, claims: Mapping[str, Any]) -> None:
        now, leeway = self._clock.wall(), self._leeway
        expires, begins, issued = _date(claims, "exp"), _date(claims, "nbf"), _date(claims, "iat")
        if expires is None:
            raise _Refused("authn.missing_claim")
        if now >= expires + leeway:
            raise _Refused("authn.expired")
        if (begins is not None and now < begins - leeway) or (issued is not None and now < issued - leeway):
            raise _Refused("authn.not_yet_valid")
        if self._max_lifetime is not None:
            if issued is None:
                raise _Refused("authn.missing_claim")
            if expires - issued > self._max_lifetime:
                raise _Refused("authn.lifetime_too_long")

    def _verified(self, jws: Jws, key: Key | None) -> Answer:
        """The caller, once the signature is found to be good."""
        if key is None:
            return self._replies["authn.unknown_key"]
        if not key.verifies(jws.algorithm, jws.signed, jws.signature):
            return self._replies["authn.bad_signature"]
        try:
            return self._caller(jws.claims)
        except ClaimRefused as refused:
            return self._replies["authn.missing_claim" if refused.missing else "authn.malformed_claim"]
        except ConfirmationRefused:
            return self._replies["authn.unsupported_confirmation"]
        except _Refused as refused:
            return self._replies[refused.reason]

    def _caller(self, claims: Mapping[str, Any]) -> Verified:
        certificate = confirmed_by(claims)
        issuer = claims.get("iss", "")
        if not isinstance(issuer, str):
            raise _Refused("authn.malformed_claim")
        expires = claims["exp"]
        identity = self._claims.identity(claims, issuer=issuer, scheme="jwt", expires=float(expires))
        if self._clients and identity.client not in self._clients:
            raise _Refused("authn.wrong_client")
        return Verified(
            identity,
            self._headers(identity),
            marks(claims, identity),
            until=expires + self._leeway,
            certificate=certificate,
        )


def _media_type(name: str) -> str:
    """A `typ` as it is compared: in lower case and without `application/` (RFC 7515 section 4.1.9)."""
    return name.lower().removeprefix("application/")


def _date(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2), None where there is none. Raises _Refused."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LAST_DATE:
        raise _Refused("authn.malformed_claim")
    return value


def _audience(claims: Mapping[str, Any]) -> Iterable[str]:
    found = claims.get("aud")
    if isinstance(found, list):
        return [one for one in found if isinstance(one, str)]
    return (found,) if isinstance(found, str) else ()


__all__ = ["DEVELOPMENT", "BoundJwt"]
