"""API keys: a secret that a caller sends along, of which only a digest is kept here.

A key that was made by `gatekit key` names itself by its prefix and is compared with a salted digest (`key_hash`), in a
time that does not depend on how much of it is right; where nobody has that prefix, the same work is done. Any other text is looked up
in a dict by its plain SHA-256: what timing could tell about that is about digests, which nobody can steer towards a
wanted value, so it says nothing about the keys. Either is right for keys of 128 random bits or more and for nothing
else: for a password that a person chose it would be too fast to be safe.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Mapping
from math import inf
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from gatekit.core.exchange import Exchange
from gatekit.core.headers import fold
from gatekit.core.identity import Identity
from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.core.units import Seconds
from gatekit.core.verdict import Reply
from gatekit.policies.authn.forms import HeaderName, SchemeName
from gatekit.policies.authn.key_hash import KeyHash, prefix_of, read_hash
from gatekit.policies.authn.key_records import Found, Known, StoredKeys
from gatekit.policies.authn.method import Answer, IdentityHeaders, Verified, refusal
from gatekit.policies.authn.query import cut_parameter, parameters

STALE: Final = 300.0
"""For how many seconds a key goes on that was found in a store which does not answer any more."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HASHES = ("sha256:", "v1:")
_REFUSED = "refused: "
# What a key is compared with where there is no other to compare it with. No text is known of which this is the digest.
_NOBODY: Final = KeyHash("", bytes(16), bytes(32))
Plain = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=256)]
Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$", max_length=256)]
Role = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f,]+$", max_length=256)]
Moment = Annotated[float, Field(allow_inf_nan=False)]


class ApiKey(BaseModel):
    """One key and whom it stands for.

    Give `hash`, or `secret`, which is hashed at once and not kept. A bare string is the one or the other by its look. The
    subject is the key's id unless it is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    hash: str = Field(repr=False)
    """`v1:…` as `gatekit key` prints it, or `sha256:` and the digest of any key in lower-case hex."""
    subject: Plain | None = None
    """Who calls with this key."""
    tenant: Plain | None = None
    """The tenant the caller belongs to."""
    scopes: frozenset[Scope] = frozenset()
    """What the key may be used for (RFC 6749 section 3.3)."""
    roles: frozenset[Role] = frozenset()
    """What the caller is."""
    expires: Moment | AwareDatetime | None = None
    """When it ends: RFC 3339 text with its offset (`2030-01-01T00:00:00Z`), or seconds since the Unix epoch."""
    disabled: bool = False
    """Whether it is refused although it is right."""

    # Here so that a key may be given by position, and that type checkers take any collection for scopes and roles.
    def __init__(self, hash: str | None = None, /, **fields: Any) -> None:
        if hash is not None:
            fields = {("hash" if hash.startswith(_HASHES) else "secret"): hash, **fields}
        super().__init__(**fields)

    @model_validator(mode="before")
    @classmethod
    def _sealed(cls, value: Any) -> Any:
        """Hash a secret before anything else looks at it: no error message may show one."""
        if isinstance(value, str):
            value = {"hash" if value.startswith(_HASHES) else "secret": value}
        if not isinstance(value, dict) or "secret" not in value:
            return value
        rest = {name: one for name, one in value.items() if name != "secret"}
        if "hash" in rest:
            return {**rest, "hash": _REFUSED + "give hash or secret, not both"}
        return {**rest, "hash": _seal(value["secret"])}

    @field_validator("hash")
    @classmethod
    def _is_digest(cls, value: str) -> str:
        if value.startswith(_REFUSED):
            raise ValueError(value[len(_REFUSED) :])
        if not _DIGEST.fullmatch(value) and read_hash(value) is None:
            raise ValueError(
                "hash is what `gatekit key` prints, or 'sha256:' and 64 hex digits in lower case; give the key itself as secret"
            )
        return value

    @property
    def ends(self) -> float:
        """When it ends, in seconds since the Unix epoch; infinity where it does not."""
        if self.expires is None:
            return inf
        return self.expires if isinstance(self.expires, float) else self.expires.timestamp()


def _seal(secret: object) -> str:
    if not isinstance(secret, str) or not secret:
        return _REFUSED + "secret is text, and not empty"
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        return _REFUSED + "secret is visible ASCII without spaces, as it must pass in a header"
    return "sha256:" + hashlib.sha256(secret.encode("ascii")).hexdigest()


class StoredKey(ApiKey):
    """A key in a store: the same with its id."""

    id: Plain

    @field_validator("hash")
    @classmethod
    def _has_prefix(cls, value: str) -> str:
        if not value.startswith("v1:"):
            raise ValueError("a key in a store is found by its prefix: its hash is what `gatekit key` prints")
        return value


class ApiKeys(BaseModel):
    """Authentication by API keys, each under an id that may be shown (`client` of the identity)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    method: Literal["api_keys"] = "api_keys"
    keys: dict[Plain, ApiKey] = Field(default_factory=dict)
    """Key id → key."""
    source: str | None = Field(default=None, min_length=1, max_length=2048, repr=False)
    """A store that has further keys, as a URL: `file:///etc/gatekit/keys.yaml`, `redis://host:6379/0`; or `env:NAME` or
    `file:/path` that hold one."""
    stale: Seconds = Field(default=STALE, ge=0, le=86400)
    """For how many seconds a key that was found goes on when the store does not answer any more."""
    header: HeaderName = "x-api-key"
    """The header that carries the key."""
    query: str | None = None
    """A query parameter that may carry it instead. Queries end up in logs on the way: only where headers cannot be."""
    scheme: SchemeName | None = None
    """The scheme word before the key in the header, as in `Authorization: Bearer …`. Another scheme is no key."""
    max_length: int = Field(default=512, ge=16, le=8192)
    """The longest key, in bytes. A longer one is wrong without being hashed."""
    forward: bool = False
    """Whether header and parameter go on to the app or upstream. Otherwise neither does, whatever is in it."""

    @field_validator("source")
    @classmethod
    def _shows_no_password(cls, value: str | None) -> str | None:
        if value is not None and "://" in value and urlsplit(value).password is not None:
            raise ValueError(
                "a password would be shown with the settings: put the URL into the environment, as env:NAME"
            )
        return value

    @field_validator("query")
    @classmethod
    def _is_parameter(cls, value: str | None) -> str | None:
        if value == "":
            raise ValueError("a query parameter has a name")
        return value

    @model_validator(mode="after")
    def _each_key_once(self) -> ApiKeys:
        if not self.keys and self.source is None:
            raise ValueError("give keys, or a source that has them")
        seen: dict[str, str] = {}
        for name, key in self.keys.items():
            salted = read_hash(key.hash)
            other = seen.setdefault(key.hash if salted is None else salted.prefix, name)
            if other != name:
                raise ValueError(f"{other!r} and {name!r} are the same key: whose is it?")
        return self

    def bind_to(self, ports: Ports, realm: str, headers: IdentityHeaders) -> BoundKeys:
        return BoundKeys(self, ports, realm, headers)


def api_keys(
    keys: Mapping[str, ApiKey | str] | None = None,
    *,
    source: str | None = None,
    stale: float = STALE,
    header: str = "x-api-key",
    query: str | None = None,
    scheme: str | None = None,
    max_length: int = 512,
    forward: bool = False,
) -> ApiKeys:
    """Authentication by API keys, for `Authn(api_keys({...}))`. The fields are those of `ApiKeys`."""
    return ApiKeys(
        keys={} if keys is None else dict(keys),  # type: ignore[arg-type]
        source=source,
        stale=stale,
        header=header,
        query=query,
        scheme=scheme,
        max_length=max_length,
        forward=forward,
    )


class BoundKeys:
    """API keys at work: digests, identities and replies made beforehand."""

    __slots__ = (
        "_ambiguous", "_clock", "_disabled", "_expired", "_forward", "_header", "_headers", "_invalid", "_malformed",
        "_max_length", "_others", "_plain", "_query", "_salted", "_scheme", "_stored", "missing", "stripped",
    )  # fmt: skip

    def __init__(self, spec: ApiKeys, ports: Ports, realm: str, headers: IdentityHeaders) -> None:
        self._header = spec.header.encode("ascii")
        self._query = None if spec.query is None else spec.query.encode("utf-8")
        self._scheme = None if spec.scheme is None else spec.scheme.lower().encode("ascii")
        self._max_length = spec.max_length
        self._forward = spec.forward
        self._headers = headers
        self.stripped = frozenset() if spec.forward else frozenset({fold(self._header)})
        self._plain: dict[bytes, Known] = {}
        self._salted: dict[str, Known] = {}
        for name, key in spec.keys.items():
            known = self._known(name, key)
            if known.hash is None:
                self._plain[bytes.fromhex(key.hash[7:])] = known
            else:
                self._salted[known.hash.prefix] = known
        self._others = tuple(known.hash for known in self._salted.values() if known.hash is not None) or (_NOBODY,)
        self._stored = None if spec.source is None else StoredKeys(spec.source, ports, self._read, spec.stale)
        # Only what ends needs to know what time it is.
        ending = self._stored is not None or any(key.expires is not None for key in spec.keys.values())
        self._clock = ports.clock if ending else None
        challenge = f'{spec.scheme or "ApiKey"} realm="{realm}"'
        # RFC 6750 section 3.1: no error code for a request without a credential.
        bearer = self._scheme == b"bearer"
        wrong = challenge + ', error="invalid_token"' if bearer else challenge
        twice = challenge + ', error="invalid_request"' if bearer else challenge
        self.missing = refusal("authn.missing_key", "This request needs an API key.", challenge)
        self._invalid = refusal("authn.invalid_key", "The API key is not valid.", wrong)
        self._malformed = refusal("authn.malformed_key", "The API key was mistyped or cut short.", wrong)
        self._expired = refusal("authn.expired_key", "The API key has expired.", wrong)
        self._disabled = refusal("authn.disabled_key", "The API key is disabled.", wrong)
        self._ambiguous = refusal("authn.ambiguous_key", "Send exactly one API key.", twice)

    def identify(self, exchange: Exchange) -> Answer | Awaitable[Answer] | None:
        header = self._header
        found = [value for name, value in exchange.headers.raw if name == header]
        if len(found) > 1:
            return self._ambiguous
        if found and self._scheme is not None:
            word, _, rest = found[0].partition(b" ")
            found = [rest.strip(b" ")] if word.lower() == self._scheme else []
        if self._query is not None and exchange.query:
            found += [value for name, value in parameters(exchange.query) if name == self._query]
            if len(found) > 1:
                return self._ambiguous
        if not found:
            return None
        key = found[0]
        if len(key) > self._max_length:
            return self._invalid
        return self._looked_up(exchange, key)

    def strip(self, exchange: Exchange) -> None:
        if self._query is not None and not self._forward:
            cut_parameter(exchange, self._query)

    def jobs(self) -> list[Job]:
        return [] if self._stored is None else self._stored.jobs()

    def status(self) -> Mapping[str, Any]:
        """Figures about the store, where there is one."""
        return {} if self._stored is None else {"api_keys": self._stored.status()}

    def _looked_up(self, exchange: Exchange, key: bytes) -> Answer | Awaitable[Answer]:
        if self._plain:
            known = self._plain.get(hashlib.sha256(key).digest())
            if known is not None:
                return self._in_force(known)
        if not self._salted and self._stored is None:
            return self._invalid
        prefix = prefix_of(key)
        if not prefix:
            return self._invalid if prefix is None else self._malformed
        known = self._salted.get(prefix)
        if known is not None or self._stored is None:
            return self._compared(known, prefix, key)
        found = self._stored.find(prefix)
        if isinstance(found, (Known, Reply)) or found is None:
            return self._compared(found, prefix, key)
        return self._later(found, prefix, key)

    async def _later(self, pending: Awaitable[Found], prefix: str, key: bytes) -> Answer:
        return self._compared(await pending, prefix, key)

    def _compared(self, known: Found, prefix: str, key: bytes) -> Answer:
        """Whether it is that key. Where there is none of that prefix, as much is done as where there is: it is compared
        with another one, which is somewhere in memory as that one would be."""
        if isinstance(known, Reply):
            return known
        others = self._others
        other = others[hash(prefix) % len(others)]
        fits = (other if known is None or known.hash is None else known.hash).fits(key)
        return self._in_force(known) if known is not None and fits else self._invalid

    def _in_force(self, known: Known) -> Answer:
        """A key that is right, unless it must not be used. Nobody else is told that there is such a key."""
        if known.disabled:
            return self._disabled
        if self._clock is not None and self._clock.wall() >= known.verified.until:
            return self._expired
        return known.verified

    def _read(self, record: Mapping[str, Any]) -> Known:
        """A record of the store. Raises ValueError on one that is none."""
        key = StoredKey.model_validate(dict(record))
        return self._known(key.id, key)

    def _known(self, name: str, key: ApiKey) -> Known:
        subject = key.subject or name
        identity = Identity(
            subject=subject,
            tenant=key.tenant,
            client=name,
            scopes=key.scopes,
            roles=key.roles,
            scheme="api_key",
            expires=None if key.expires is None else key.ends,
        )
        marks = {"sub": subject, "client_id": name}
        if key.tenant is not None:
            marks["tenant"] = key.tenant
        verified = Verified(identity, self._headers(identity), marks, key.ends)
        return Known(read_hash(key.hash), verified, key.disabled)
