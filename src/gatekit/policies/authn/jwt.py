"""The spec of JWT verification (RFC 7519, RFC 8725, RFC 9068). Its docstrings are the reference documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypedDict, Unpack

from pydantic import Field, SecretStr, field_validator, model_validator

from gatekit.core.networks import Networks
from gatekit.core.ports import Ports, Reach, Secrets, plain_secret
from gatekit.core.units import Seconds
from gatekit.policies.authn.bearer import TokenPlace
from gatekit.policies.authn.claims import Attribute, ClaimMap, parse_claim_path
from gatekit.policies.authn.forms import ClaimPaths, Word, Words
from gatekit.policies.authn.jose_keys import (
    ASYMMETRIC,
    SYMMETRIC,
    KeySet,
    KeySetRefused,
    read_key_set,
    read_pem,
    read_secret,
)
from gatekit.policies.authn.jwt_bound import BoundJwt
from gatekit.policies.authn.key_source import KeySource
from gatekit.policies.authn.keysets import FixedKeys, Keys, RemoteKeys
from gatekit.policies.authn.method import IdentityHeaders

_ALL: Final = ASYMMETRIC | SYMMETRIC
_SOURCES: Final = ("jwks_url", "discovery", "jwks", "pem", "secret")


class Jwt(TokenPlace):
    """Authentication by signed tokens of one issuer, whose keys are published or given here.

    Several issuers stand side by side, each with its own keys, algorithms and audiences: a token is for the one that
    it names. What a token says about its algorithm, its key, or where keys are, decides nothing.
    """

    method: Literal["jwt"] = "jwt"
    issuer: Word | None = None
    """Whose tokens are taken: the `iss` of each, to the letter. Without one, write `unchecked_issuer`."""
    unchecked_issuer: bool = False
    """Take tokens whatever issuer they name, or none. Only where one issuer alone can sign with these keys."""
    audience: Words = ()
    """What a token has to be meant for: one of these is among its `aud`. Without any, write `unchecked_audience`."""
    unchecked_audience: bool = False
    """Take tokens that were issued for somebody else. Whoever gets one of those may then act as its owner here. Where an
    issuer puts no `aud` into its tokens, name the `clients` at least."""
    jwks_url: Word | None = None
    """Where the issuer publishes its keys."""
    discovery: bool = False
    """Find the keys by the issuer's metadata (OpenID Connect Discovery 1.0, RFC 8414)."""
    jwks: Mapping[str, Any] | None = None
    """The keys themselves, as a JWK set."""
    pem: str | None = Field(default=None, min_length=1)
    """The key as a PEM public key or certificate; or `file:/path` or `env:NAME`, where one is."""
    secret: SecretStr | None = None
    """The secret that is shared with the issuer, for HS256, HS384 and HS512: best as `file:/path` or `env:NAME`. Whoever
    verifies with it can make tokens as well."""
    algorithms: Words | None = None
    """By which algorithms tokens may be signed: every asymmetric one by default, and HS256 with a secret. A key takes
    those that fit it, and only the one it names, if it names one."""
    leeway: Seconds = Field(default=60.0, ge=0, le=300)
    """By how many seconds the issuer's clock may differ from ours, for `exp`, `nbf` and `iat`."""
    max_lifetime: Seconds | None = Field(default=None, gt=0)
    """From `iat` to `exp`, in seconds. None for no bound; with one, tokens must have `iat`."""
    types: Words = ("at+jwt", "JWT", "none")
    """What `typ` may say in the header; `none` stands for tokens without it. With `at+jwt` alone, tokens must be access
    tokens to the letter of RFC 9068, with `iat`, `jti`, `sub` and `client_id`. Otherwise what shows itself to be an ID
    token, a refresh token or a logout token is refused."""
    clients: Words = ()
    """The clients whose tokens are taken, as the claims for `client` name them. None for all."""
    required_claims: Words = ()
    """Further claims that a token must have, as paths."""
    claims: ClaimPaths = Field(default_factory=dict)
    """Attribute of the identity → where it is in the token: a path or several, of which the first that leads anywhere
    counts. Dots lead into objects (`realm_access.roles`); a URL is one name, and a name with dots stands in double
    quotes. By default `sub`; `tenant_id`; `client_id`, `azp`; `scope`, `scp`; `roles`, `realm_access.roles`. An empty
    list for none."""
    networks: Networks = ()
    """Networks, in CIDR form, that keys may be fetched from although they are not public; over http, too."""
    ca: str | None = Field(default=None, min_length=1)
    """The path of a PEM file with the authorities that the issuer's certificate is believed from, for the system's."""
    timeout: Seconds = Field(default=5.0, gt=0, le=60)
    """How long one attempt to fetch keys may take, in seconds."""
    stale: Seconds = Field(default=86_400.0, gt=0, le=30 * 86_400)
    """For how many seconds keys are used after they were fetched, while the issuer does not answer."""

    @field_validator("algorithms")
    @classmethod
    def _are_algorithms(cls, value: Words | None) -> Words | None:
        for name in value or ():
            if name.lower() == "none":
                raise ValueError("a token without a signature is nobody's: none is not taken")
            if name not in _ALL:
                raise ValueError(f"an algorithm is one of {', '.join(sorted(_ALL))}")
        if value is not None and not value:
            raise ValueError("name at least one algorithm, or leave them to the default")
        return value

    @field_validator("types")
    @classmethod
    def _are_types(cls, value: Words) -> Words:
        if not value:
            raise ValueError("name at least one type, as in at+jwt; none stands for tokens that do not say")
        return value

    @model_validator(mode="after")
    def _is_sound(self) -> Jwt:
        if (self.issuer is None) != self.unchecked_issuer:
            raise ValueError(
                "say whose tokens are taken, with issuer; or write unchecked_issuer=True, where only one issuer can "
                "sign with these keys"
            )
        if bool(self.audience) == self.unchecked_audience:
            raise ValueError(
                "say whom tokens must be meant for, with audience; or write unchecked_audience=True to take those that "
                "are meant for somebody else"
            )
        given = [name for name in _SOURCES if getattr(self, name) not in (None, False)]
        if len(given) != 1:
            raise ValueError(f"give the keys in one way, by {', '.join(_SOURCES[:-1])} or {_SOURCES[-1]}")
        if self.discovery and self.issuer is None:
            raise ValueError("discovery needs an issuer to ask")
        for name in self.allowed:
            if (name in SYMMETRIC) != (self.secret is not None):
                raise ValueError(
                    "HS256, HS384 and HS512 go with secret, and no other algorithm does: a public key is no secret"
                )
        ClaimMap(self.claims)
        for path in self.required_claims:
            parse_claim_path(path)
        # What can be looked at without asking anybody is looked at now, so that a configuration is refused for it.
        if self.source is None and not (self.pem or self._shared).startswith(("env:", "file:")):
            self._read(plain_secret)
        return self

    @property
    def allowed(self) -> frozenset[str]:
        """The algorithms that are taken."""
        if self.algorithms is not None:
            return frozenset(self.algorithms)
        return ASYMMETRIC if self.secret is None else frozenset({"HS256"})

    @property
    def source(self) -> KeySource | None:
        """Where keys are fetched from, None where they are given. Raises ValueError."""
        if self.jwks_url is None and not self.discovery:
            return None
        return KeySource(
            algorithms=self.allowed,
            url=self.jwks_url,
            issuer=self.issuer if self.discovery else None,
            reach=Reach(self.networks, self.ca),
            timeout=self.timeout,
            stale=self.stale,
        )

    def bind_tokens(self, ports: Ports, realm: str, headers: IdentityHeaders) -> BoundJwt:
        source = self.source
        keys: Keys = FixedKeys(self._read(ports.secrets)) if source is None else RemoteKeys(source, ports)
        return BoundJwt(self, keys, ports.clock, realm, headers)

    @property
    def _shared(self) -> str:
        return "" if self.secret is None else self.secret.get_secret_value()

    def _read(self, secrets: Secrets) -> KeySet:
        """The keys that are given here. Raises KeySetRefused, and whatever `secrets` raises."""
        if self.pem is not None:
            return read_pem(secrets(self.pem), self.allowed)
        if self.jwks is None:
            return read_secret(secrets(self._shared).encode("utf-8"), self.allowed)
        found = read_key_set(self.jwks, self.allowed)
        if not len(found):
            raise KeySetRefused(
                "no key in jwks can be used: it takes a public key for signatures that is sound and fits one of the "
                "algorithms"
            )
        return found


class JwtFields(TypedDict, total=False):
    """What `jwt` takes: the fields of `Jwt`, where one text may stand for a list of one."""

    issuer: str
    unchecked_issuer: bool
    audience: str | Sequence[str]
    unchecked_audience: bool
    jwks_url: str
    discovery: bool
    jwks: Mapping[str, Any]
    pem: str
    secret: str | SecretStr
    algorithms: str | Sequence[str]
    leeway: float
    max_lifetime: float | None
    types: str | Sequence[str]
    clients: str | Sequence[str]
    required_claims: str | Sequence[str]
    claims: Mapping[Attribute, str | Sequence[str]]
    networks: Sequence[str]
    ca: str | None
    timeout: float
    stale: float
    header: str
    scheme: str | None
    query: str | None
    max_length: int
    forward: bool
    cache: int


def jwt(**fields: Unpack[JwtFields]) -> Jwt:
    """Authentication by signed tokens, for `Authn(jwt(issuer=..., audience=..., jwks_url=...))`. The fields are those of
    `Jwt`."""
    return Jwt.model_validate(fields)


__all__ = ["Jwt", "JwtFields", "Words", "jwt"]
