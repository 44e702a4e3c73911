"""API keys: a secret that a caller sends along, known here only by its SHA-256 digest.

A key is looked up by digest in a dict. What timing could tell about that lookup is about digests, which nobody can
steer towards a wanted value, so it says nothing about the keys. A plain digest is right for keys of 128 random bits
or more and for nothing else: for a password that a person chose it would be too fast to be safe.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from gatekit.core.exchange import Exchange
from gatekit.core.headers import encode_name, fold
from gatekit.core.identity import Identity
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.policies.authn.method import IdentityHeaders, Verified

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REFUSED = "refused: "
Plain = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=256)]
Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$", max_length=256)]
Role = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f,]+$", max_length=256)]


class ApiKey(BaseModel):
    """One key and whom it stands for.

    Give `hash` (`sha256:` and 64 hex digits), or `secret`, which is hashed at once and not kept. A bare string is the
    one or the other by its look. The subject is the key's id unless it is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    hash: str = Field(repr=False)
    """`sha256:` and the digest of the key in lower-case hex."""
    subject: Plain | None = None
    """Who calls with this key."""
    tenant: Plain | None = None
    """The tenant the caller belongs to."""
    scopes: frozenset[Scope] = frozenset()
    """What the key may be used for (RFC 6749 section 3.3)."""
    roles: frozenset[Role] = frozenset()
    """What the caller is."""

    # Here so that a key may be given by position, and that type checkers take any collection for scopes and roles.
    def __init__(self, hash: str | None = None, /, **fields: Any) -> None:
        if hash is not None:
            fields = {("hash" if hash.startswith("sha256:") else "secret"): hash, **fields}
        super().__init__(**fields)

    @model_validator(mode="before")
    @classmethod
    def _sealed(cls, value: Any) -> Any:
        """Hash a secret before anything else looks at it: no error message may show one."""
        if isinstance(value, str):
            value = {"hash" if value.startswith("sha256:") else "secret": value}
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
        if not _DIGEST.fullmatch(value):
            raise ValueError("hash is 'sha256:' and 64 hex digits in lower case; give the key itself as secret")
        return value


def _seal(secret: object) -> str:
    if not isinstance(secret, str) or not secret:
        return _REFUSED + "secret is text, and not empty"
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        return _REFUSED + "secret is visible ASCII without spaces, as it must pass in a header"
    return "sha256:" + hashlib.sha256(secret.encode("ascii")).hexdigest()


class ApiKeys(BaseModel):
    """Authentication by API keys, each under an id that may be shown (`client` of the identity)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    method: Literal["api_keys"] = "api_keys"
    keys: dict[Plain, ApiKey]
    """Key id → key."""
    header: str = "x-api-key"
    """The header that carries the key."""
    query: str | None = None
    """A query parameter that may carry it instead. Queries end up in logs on the way: only where headers cannot be."""
    scheme: str | None = None
    """The scheme word before the key in the header, as in `Authorization: Bearer …`. Another scheme is no key."""
    max_length: int = Field(default=512, ge=16, le=8192)
    """The longest key, in bytes. A longer one is wrong without being hashed."""
    forward: bool = False
    """Whether header and parameter go on to the app or upstream. Otherwise neither does, whatever is in it."""

    @field_validator("header")
    @classmethod
    def _is_name(cls, value: str) -> str:
        return encode_name(value).decode("ascii")

    @field_validator("scheme")
    @classmethod
    def _is_scheme(cls, value: str | None) -> str | None:
        if value is not None:
            encode_name(value)
        return value

    @field_validator("query")
    @classmethod
    def _is_parameter(cls, value: str | None) -> str | None:
        if value == "":
            raise ValueError("a query parameter has a name")
        return value

    @model_validator(mode="after")
    def _each_key_once(self) -> ApiKeys:
        seen: dict[str, str] = {}
        for name, key in self.keys.items():
            other = seen.setdefault(key.hash, name)
            if other != name:
                raise ValueError(f"{other!r} and {name!r} are the same key: whose is it?")
        return self

    def bind_to(self, ports: Ports, realm: str, headers: IdentityHeaders) -> BoundKeys:
        return BoundKeys(self, realm, headers)


def api_keys(
    keys: Mapping[str, ApiKey | str],
    *,
    header: str = "x-api-key",
    query: str | None = None,
    scheme: str | None = None,
    max_length: int = 512,
    forward: bool = False,
) -> ApiKeys:
    """Authentication by API keys, for `Authn(api_keys({...}))`. The fields are those of `ApiKeys`."""
    return ApiKeys(
        keys=dict(keys),  # type: ignore[arg-type]
        header=header,
        query=query,
        scheme=scheme,
        max_length=max_length,
        forward=forward,
    )


class BoundKeys:
    """API keys at work: digests, identities and replies made beforehand."""

    __slots__ = (
        "_ambiguous", "_forward", "_header", "_invalid", "_known", "_max_length", "_query", "_scheme", "missing", "stripped",
    )  # fmt: skip

    def __init__(self, spec: ApiKeys, realm: str, headers: IdentityHeaders) -> None:
        self._header = spec.header.encode("ascii")
        self._query = None if spec.query is None else spec.query.encode("utf-8")
        self._scheme = None if spec.scheme is None else spec.scheme.lower().encode("ascii")
        self._max_length = spec.max_length
        self._forward = spec.forward
        self.stripped = frozenset() if spec.forward else frozenset({fold(self._header)})
        self._known: dict[bytes, Verified] = {}
        for name, key in spec.keys.items():
            identity = Identity(
                subject=key.subject or name,
                tenant=key.tenant,
                client=name,
                scopes=key.scopes,
                roles=key.roles,
                scheme="api_key",
            )
            self._known[bytes.fromhex(key.hash[7:])] = Verified(identity, headers(identity))
        challenge = f'{spec.scheme or "ApiKey"} realm="{realm}"'
        # RFC 6750 section 3.1: no error code for a request without a credential.
        bearer = self._scheme == b"bearer"
        wrong = challenge + ', error="invalid_token"' if bearer else challenge
        twice = challenge + ', error="invalid_request"' if bearer else challenge
        self.missing = _refusal("authn.missing_key", "This request needs an API key.", challenge)
        self._invalid = _refusal("authn.invalid_key", "The API key is not valid.", wrong)
        self._ambiguous = _refusal("authn.ambiguous_key", "Send exactly one API key.", twice)

    def identify(self, exchange: Exchange) -> Verified | Reply | None:
        header = self._header
        found = [value for name, value in exchange.headers.raw if name == header]
        if len(found) > 1:
            return self._ambiguous
        if found and self._scheme is not None:
            word, _, rest = found[0].partition(b" ")
            found = [rest.strip(b" ")] if word.lower() == self._scheme else []
        if self._query is not None and exchange.query:
            found += [value for name, value in _parameters(exchange.query) if name == self._query]
            if len(found) > 1:
                return self._ambiguous
        if not found:
            return None
        key = found[0]
        if len(key) > self._max_length:
            return self._invalid
        return self._known.get(hashlib.sha256(key).digest(), self._invalid)

    def strip(self, exchange: Exchange) -> None:
        query = self._query
        if self._forward or query is None or not exchange.target_query:
            return
        parts = exchange.target_query.split(b"&")
        kept = [part for part in parts if _decoded(part.partition(b"=")[0]) != query]
        if len(kept) < len(parts):
            exchange.rewrite(query=b"&".join(kept))


def _parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values as any reader of the query takes them (WHATWG URL, urlencoded parsing)."""
    pairs = [part.partition(b"=") for part in query.split(b"&")]
    return [(_decoded(name), _decoded(value)) for name, _, value in pairs]


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _refusal(reason: str, detail: str, challenge: str) -> Reply:
    return Reply(401, reason, detail, headers=[("www-authenticate", challenge)])
