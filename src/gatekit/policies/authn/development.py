"""Tokens for development: anybody on a developer's machine can make them (`gatekit token`), and nobody else takes them.

They are refused twice elsewhere: a gateway that is not in development mode refuses a configuration that takes them, and
whoever verifies other tokens refuses those whose key has this id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field, SecretStr

from gatekit.core.ports import Ports
from gatekit.policies.authn.bearer import TokenPlace
from gatekit.policies.authn.claims import Attribute
from gatekit.policies.authn.forms import ClaimPaths, Words
from gatekit.policies.authn.jose import Jws
from gatekit.policies.authn.jose_keys import read_secret
from gatekit.policies.authn.jwt import Jwt
from gatekit.policies.authn.jwt_bound import DEVELOPMENT, BoundJwt
from gatekit.policies.authn.keysets import FixedKeys
from gatekit.policies.authn.method import IdentityHeaders

ISSUER: Final = "gatekit-development"
"""The `iss` of such a token."""
KEY_ID: Final = DEVELOPMENT
"""The `kid` of such a token."""
ALGORITHM: Final = "HS256"
KEY_FILE: Final = "~/.config/gatekit/development.key"
"""Where `gatekit token` keeps the key, and makes it when it is first asked."""


class DevelopmentTokens(TokenPlace):
    """Authentication by tokens that `gatekit token` minted on this machine, in development mode only.

    Development mode is `gatekit run --dev`, or `GATEKIT_DEVELOPMENT=1` in the environment. Outside of it a configuration
    with this method is refused.
    """

    method: Literal["development"] = "development"
    key: str = Field(default=f"file:{KEY_FILE}", repr=False)
    """The key that signs them, as a reference."""
    claims: ClaimPaths = Field(default_factory=dict)
    """Attribute of the identity → where it is in the token, as for `jwt`."""

    def bind_tokens(self, ports: Ports, realm: str, headers: IdentityHeaders) -> BoundJwt:
        """Raises ValueError outside of development mode, MissingSecret where no key was made yet."""
        if not ports.development:
            raise ValueError(
                "development tokens are taken in development mode only, by gatekit run --dev or with "
                "GATEKIT_DEVELOPMENT=1: take this method out of what is deployed"
            )
        secret = ports.secrets(self.key)
        spec = Jwt(
            issuer=ISSUER, unchecked_audience=True, secret=SecretStr(secret), claims=self.claims, scheme=self.scheme
        )
        keys = FixedKeys(read_secret(secret.encode("utf-8"), frozenset({ALGORITHM})))
        return BoundDevelopmentTokens(spec, keys, ports.clock, realm, headers)


class BoundDevelopmentTokens(BoundJwt):
    """Development tokens at work."""

    __slots__ = ()

    def _takes_key_of(self, jws: Jws) -> bool:
        return jws.kid == KEY_ID


def development_tokens(
    key: str = f"file:{KEY_FILE}", *, claims: Mapping[Attribute, Words] | None = None
) -> DevelopmentTokens:
    """Tokens of `gatekit token`, for `Authn(development_tokens(), jwt(...))` on a developer's machine."""
    return DevelopmentTokens(key=key, claims=claims or {})
