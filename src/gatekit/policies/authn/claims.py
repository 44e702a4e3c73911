"""From claims to an identity: which member of a token tells what, said in the configuration and compiled once.

A claim that is there and has the wrong form refuses the token, whatever it would have told: nobody is to become
somebody else, or to lose a role that a rule forbids, by a claim that could not be read. A claim that is not there, or
null, is passed over, and the next path is tried; only a subject has to be found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal

from gatekit.core.claims import Path, parse_claim_path
from gatekit.core.identity import Identity
from gatekit.policies.authn.jose import decode_base64url

Attribute = Literal["subject", "tenant", "client", "scopes", "roles"]
"""What of an identity claims can tell."""

DEFAULT_PATHS: Final[Mapping[Attribute, tuple[str, ...]]] = MappingProxyType(
    {
        "subject": ("sub",),
        "tenant": ("tenant_id",),
        "client": ("client_id", "azp"),
        "scopes": ("scope", "scp"),
        "roles": ("roles", "realm_access.roles"),
    }
)
"""Where each attribute is looked for where nothing else is said."""

MAX_TEXT: Final = 256
"""How long a subject, a tenant, a client, a scope or a role may be, in characters."""

# White space around a header's value is cut off, and another caller might be called what is left.
_CLEAN: Final = re.compile(r"[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?")


class ClaimRefused(ValueError):
    """A claim is missing or has the wrong form. `attribute` is what it would have told."""

    def __init__(self, attribute: str, *, missing: bool = False) -> None:
        self.attribute = attribute
        self.missing = missing
        super().__init__(attribute)


def look_up(claims: Mapping[str, Any], path: Path) -> Any:
    """What is at the end of the path, None where nothing is."""
    found = claims.get(path[0])
    for name in path[1:]:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


class ConfirmationRefused(ValueError):
    """A credential is bound to its holder in a way that cannot be looked at here (RFC 7800)."""


class ClaimMap:
    """Paths by attribute, compiled."""

    __slots__ = ("_client", "_roles", "_scopes", "_subject", "_tenant")

    def __init__(self, paths: Mapping[Attribute, Sequence[str]] = MappingProxyType({})) -> None:
        """`paths` take the place of the default ones for the attributes that are named. Raises ValueError."""
        chosen = {**DEFAULT_PATHS, **paths}
        if not chosen["subject"]:
            raise ValueError("a caller has a subject: name at least one path for it")
        compiled = {name: tuple(parse_claim_path(text) for text in texts) for name, texts in chosen.items()}
        self._subject = compiled["subject"]
        self._tenant = compiled["tenant"]
        self._client = compiled["client"]
        self._scopes = compiled["scopes"]
        self._roles = compiled["roles"]

    def identity(self, claims: Mapping[str, Any], *, issuer: str, scheme: str, expires: float | None) -> Identity:
        """Whom these claims tell of. Raises ClaimRefused."""
        subject = _text(claims, self._subject, "subject")
        if subject is None:
            raise ClaimRefused("subject", missing=True)
        return Identity(
            subject=subject,
            issuer=issuer,
            tenant=_text(claims, self._tenant, "tenant"),
            client=_text(claims, self._client, "client"),
            scopes=_scopes(_first(claims, self._scopes)),
            roles=_roles(_first(claims, self._roles)),
            claims=MappingProxyType(claims),
            scheme=scheme,
            expires=expires,
        )


def marks(claims: Mapping[str, Any], identity: Identity) -> Mapping[str, Any]:
    """What a list of revocations looks at, as far as the credential has it. Raises ClaimRefused.

    `sub` and `iss` are those of the token, `client_id` and `tenant` what the identity got, from whatever claim.
    """
    found: dict[str, Any] = {}
    for name in ("jti", "sub", "sid"):
        value = claims.get(name)
        if value is not None:
            if not isinstance(value, str):
                # Nobody could revoke it by this.
                raise ClaimRefused(name)
            found[name] = value
    told = {"iss": identity.issuer, "client_id": identity.client, "tenant": identity.tenant}
    found |= {name: value for name, value in told.items() if value}
    issued = claims.get("iat")
    if isinstance(issued, (int, float)) and not isinstance(issued, bool):
        found["iat"] = issued
    return MappingProxyType(found)


def confirmed_by(claims: Mapping[str, Any]) -> bytes | None:
    """The SHA-256 of the certificate that a credential is bound to (RFC 8705 section 3), None for one that is bound to
    nothing. Raises ConfirmationRefused for anything else: a proof that nobody looks at protects nothing."""
    if "cnf" not in claims:
        return None
    confirmation = claims["cnf"]
    if isinstance(confirmation, Mapping) and confirmation.keys() == {"x5t#S256"}:
        value = confirmation["x5t#S256"]
        if isinstance(value, str) and value.isascii():
            try:
                digest = decode_base64url(value.encode("ascii"))
            except ValueError:
                digest = b""
            if len(digest) == 32:
                return digest
    raise ConfirmationRefused("cnf")


def _first(claims: Mapping[str, Any], paths: Iterable[Path]) -> Any:
    """What is at the first path that leads anywhere."""
    for path in paths:
        found = look_up(claims, path)
        if found is not None:
            return found
    return None


def _text(claims: Mapping[str, Any], paths: Iterable[Path], attribute: str) -> str | None:
    found = _first(claims, paths)
    if found is not None and not _is_text(found):
        raise ClaimRefused(attribute)
    return found  # type: ignore[no-any-return]


def _is_text(found: Any) -> bool:
    return isinstance(found, str) and len(found) <= MAX_TEXT and _CLEAN.fullmatch(found) is not None


def _texts(found: Any, attribute: str) -> Sequence[str]:
    """The texts of a list, or the one that is there."""
    if found is None:
        return ()
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ClaimRefused(attribute)
    return texts


def _scopes(found: Any) -> frozenset[str]:
    """Scopes from a text with spaces between (RFC 8693 section 4.2) or a list of such."""
    scopes = frozenset(scope for text in _texts(found, "scopes") for scope in text.split(" ") if scope)
    if not all(map(_is_text, scopes)):
        raise ClaimRefused("scopes")
    return scopes


def _roles(found: Any) -> frozenset[str]:
    """Roles from a list, or the one role that a text is.

    One with a comma in it is left out: headers that tell of roles part them by commas, and it would be read as two.
    """
    roles = _texts(found, "roles")
    if not all(map(_is_text, roles)):
        raise ClaimRefused("roles")
    return frozenset(role for role in roles if "," not in role)


__all__ = [
    "DEFAULT_PATHS",
    "Attribute",
    "ClaimMap",
    "ClaimRefused",
    "ConfirmationRefused",
    "confirmed_by",
    "look_up",
    "marks",
    "parse_claim_path",
]
