"""The spec of token introspection (RFC 7662). Its docstrings are the reference documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypedDict, Unpack

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from gatekit.core.networks import Networks
from gatekit.core.ports import Ports
from gatekit.core.units import Seconds
from gatekit.policies.authn.bearer import TokenPlace
from gatekit.policies.authn.claims import Attribute
from gatekit.policies.authn.client_auth import (
    AssertionAlgorithm,
    Assertions,
    ClientAuth,
    ClientAuthMethod,
    SharedSecret,
    read_signer,
)
from gatekit.policies.authn.discovery import checked_url
from gatekit.policies.authn.forms import ClaimPaths, Word, Words
from gatekit.policies.authn.introspection_bound import BoundIntrospection
from gatekit.policies.authn.method import IdentityHeaders

_ClientId = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]+$", max_length=512)]


class Introspection(TokenPlace):
    """Authentication by tokens that their authorization server is asked about (RFC 7662).

    Every token is taken, so this method stands behind those that know their tokens: `Authn(jwt(...),
    introspection(...))` verifies the JWTs of that issuer itself and asks about everything else, JWTs of other issuers
    included. A JWT that an earlier method takes and finds bad stays refused. With `jws=False` nothing that looks like a
    JWT is asked about, and the order does not matter.

    While the server does not answer, a token that is not known is refused with 503, never 401, and never passes. Signed
    answers (RFC 9701) are not supported, nor are access tokens for the call itself: the gateway is a client of the
    server. Durations are seconds.
    """

    method: Literal["introspection"] = "introspection"
    url: str | None = None
    """The introspection endpoint. Without it, the metadata of `issuer` tell it, which are read again every hour."""
    issuer: Word | None = None
    """Whose tokens are taken: every answer must then have this `iss`, to the letter. A server that sends none needs
    `url` and no `issuer`; the identity's issuer is then the endpoint."""
    audience: Words = ()
    """Whom a token must be for: one of these has to be in the answer's `aud`. An answer without `aud` is refused."""
    unchecked_audience: bool = False
    """Whether tokens are taken whatever their audience. RFC 7662 lets a server send no `aud`. Say so only where it
    answers `active` to this client for no tokens but those that are meant for it (section 4): otherwise whoever runs
    another service of the same server can use the tokens that are sent to him here."""
    client_id: _ClientId
    """Which client of the server this gateway is."""
    client_auth: ClientAuthMethod = "basic"
    """How it proves that: its secret in the Authorization header (`basic`) or in the form (`post`), or a JWT that it
    signs (`private_key_jwt`, RFC 7523)."""
    client_secret: SecretStr | None = None
    """The client's secret: `env:NAME`, `file:/path`, or the secret itself. Read when the configuration is."""
    assertion_key: SecretStr | None = None
    """The private key for `private_key_jwt`, as PEM or JWK: `env:NAME`, `file:/path`, or the key itself. RSA of 2048
    bits or more, EC on P-256, or Ed25519."""
    assertion_key_id: Word | None = None
    """The `kid` of assertions, where it is not that of the JWK."""
    assertion_algorithm: AssertionAlgorithm | None = None
    """What assertions are signed with: RS256 or PS256 with an RSA key (RS256 unless the JWK says otherwise)."""
    assertion_audience: Word | None = None
    """Whom assertions are for. The endpoint if not given; some servers want their issuer or token endpoint here."""
    claims: ClaimPaths = Field(default_factory=dict)
    """Attribute of the identity → where it is in the answer, in paths as for `jwt`: `{"subject": "username"}`. By
    default `sub`, or `client_id` where the answer has no `sub`; `tenant_id`; `client_id`, `azp`; `scope`, `scp`;
    `roles`, `realm_access.roles`. An empty list for none. Where clients choose their ids themselves, one of them may
    be somebody's `sub` (RFC 9700 section 4.15): name the path for the subject then."""
    leeway: Seconds = Field(default=60.0, ge=0, le=300)
    """How far `nbf` and `iat` may lie ahead, for clocks that differ. A token whose `exp` has passed is expired."""
    token_type_hint: Word | None = "access_token"  # noqa: S105 - a word of RFC 7009
    """What the server is told to look for first (RFC 7662 section 2.1); None tells it nothing."""
    jws: bool = True
    """Whether tokens that look like a JWT are asked about as well."""
    max_ttl: Seconds = Field(default=30.0, ge=0, le=60)
    """For how long the server's word on a good token is believed, if it does not expire before. 0 asks every time."""
    negative_ttl: Seconds = Field(default=10.0, ge=0, le=60)
    """For how long a token that is not good is refused without asking again. 10,000 of them are remembered."""
    timeout: Seconds = Field(default=2.0, gt=0, le=30)
    """How long one call may take."""
    max_in_flight: int = Field(default=50, ge=1, le=10_000)
    """How many calls may be under way at once, to this server and for all its tokens. Beyond that, 503 at once."""
    retry_after: Seconds = Field(default=1.0, gt=0, le=3600)
    """When a caller who got 503 is told to come again, if the server is not known to be left alone for longer."""
    networks: Networks = ()
    """Networks (CIDR) in which the server may be although they are not public. Allows http and any port as well."""
    ca: str | None = None
    """A PEM file of the authorities to be believed, in place of the system's, for the server's certificate."""

    @field_validator("client_secret", "assertion_key")
    @classmethod
    def _is_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().strip("* \t\r\n"):
            raise ValueError("a secret is neither empty nor asterisks: those stand for one where it must not be shown")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> Introspection:
        where, what = (self.issuer, "issuer") if self.url is None else (self.url, "url")
        if where is None:
            raise ValueError("give the url of the introspection endpoint, or the issuer whose metadata tell it")
        try:
            checked_url(where, http=bool(self.networks), what=what)
        except ValueError:
            raise ValueError(
                f"{what} is an absolute https URL without user information and fragment; http is for a server in a "
                "private network that networks names"
            ) from None
        if self.url is None and "?" in where:
            raise ValueError("an issuer whose metadata are looked for is a URL without a query")
        if bool(self.audience) is self.unchecked_audience:
            raise ValueError(
                "say whom tokens are for with audience, or unchecked_audience=True where the server answers active to "
                "this client for no tokens but its own; not both"
            )
        if self.client_auth == "private_key_jwt":
            if self.assertion_key is None or self.client_secret is not None:
                raise ValueError("private_key_jwt takes assertion_key, a private key, and no client_secret")
        elif self.client_secret is None or self.assertion_key is not None:
            raise ValueError(
                f"client_auth {self.client_auth!r} takes client_secret, and assertion_key is for private_key_jwt"
            )
        return self

    def bind_tokens(self, ports: Ports, realm: str, headers: IdentityHeaders) -> BoundIntrospection:
        return BoundIntrospection(self, self._client_auth(ports), ports, realm, headers)

    def _client_auth(self, ports: Ports) -> ClientAuth:
        """The client's credentials. Raises MissingSecret, and ValueError on a key that cannot sign."""
        if self.client_auth != "private_key_jwt":
            assert self.client_secret is not None
            secret = ports.secrets(self.client_secret.get_secret_value())
            return SharedSecret(self.client_auth, self.client_id, secret)
        assert self.assertion_key is not None
        text = ports.secrets(self.assertion_key.get_secret_value())
        try:
            sign = read_signer(text, self.assertion_algorithm, self.assertion_key_id)
        except ValueError as error:
            raise ValueError(f"assertion_key: {error}") from None
        return Assertions(self.client_id, sign, self.assertion_audience, ports)


class IntrospectionFields(TypedDict, total=False):
    """What `introspection` takes: the fields of `Introspection`, where one text may stand for a list of one."""

    url: str | None
    issuer: str | None
    audience: str | Sequence[str]
    unchecked_audience: bool
    client_id: str
    client_auth: ClientAuthMethod
    client_secret: str | SecretStr | None
    assertion_key: str | SecretStr | None
    assertion_key_id: str | None
    assertion_algorithm: AssertionAlgorithm | None
    assertion_audience: str | None
    claims: Mapping[Attribute, str | Sequence[str]]
    leeway: float
    token_type_hint: str | None
    jws: bool
    max_ttl: float
    negative_ttl: float
    timeout: float
    max_in_flight: int
    retry_after: float
    networks: Sequence[str]
    ca: str | None
    header: str
    scheme: str | None
    query: str | None
    max_length: int
    forward: bool
    cache: int


def introspection(**fields: Unpack[IntrospectionFields]) -> Introspection:
    """Authentication by tokens that their server is asked about, for `Authn(introspection(url=..., audience=...,
    client_id=..., client_secret="env:..."))`. The fields are those of `Introspection`."""
    return Introspection.model_validate(fields)


__all__ = ["Introspection", "IntrospectionFields", "introspection"]
