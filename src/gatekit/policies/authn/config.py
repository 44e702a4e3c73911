"""The spec of authentication. Its docstrings are the reference documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from gatekit.core.headers import encode_name, fold
from gatekit.core.policy import IDENTITY, Placement, Spec, Stage
from gatekit.core.ports import Ports
from gatekit.policies.authn.basic import Basic
from gatekit.policies.authn.combine import BoundAll, bind_methods, carriers
from gatekit.policies.authn.development import DevelopmentTokens
from gatekit.policies.authn.introspection import Introspection
from gatekit.policies.authn.jwt import Jwt
from gatekit.policies.authn.keys import ApiKeys
from gatekit.policies.authn.method import IdentityHeaders
from gatekit.policies.authn.mtls import Mtls
from gatekit.policies.authn.policy import AuthnPolicy

Attribute = Literal["subject", "issuer", "tenant", "client", "scopes", "roles", "scheme"]

_REALM = re.compile(r"[ -!#-\[\]-~]+")
_NOT_FOR_IDENTITY = frozenset(
    {
        b"connection", b"content-length", b"content-type", b"host", b"keep-alive", b"proxy-connection", b"te", b"trailer",
        b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip


class AllOf(BaseModel):
    """Several methods of which every one must find a good credential: a client certificate and a token, say.

    The caller is whom the last of them finds. Where the first finds nothing, this is not the way the caller took, and
    the next method is asked; where a later one finds nothing, the request is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    method: Literal["all_of"] = "all_of"
    methods: tuple[OneMethod, ...] = Field(min_length=2)
    """The methods, in the order in which they are asked."""

    @model_validator(mode="after")
    def _are_apart(self) -> AllOf:
        places = [
            method.place for method in self.methods if isinstance(method, (Jwt, Introspection, DevelopmentTokens))
        ]
        if len(places) != len(set(places)):
            raise ValueError("two of these look for a token in the same place, where one request has one token")
        return self

    def bind_to(self, ports: Ports, realm: str, headers: IdentityHeaders) -> BoundAll:
        return BoundAll(bind_methods(self.methods, ports, realm, headers))


OneMethod = Annotated[ApiKeys | Basic | DevelopmentTokens | Introspection | Jwt | Mtls, Field(discriminator="method")]
"""A method that finds a caller by itself."""

AnyMethod = Annotated[
    AllOf | ApiKeys | Basic | DevelopmentTokens | Introspection | Jwt | Mtls, Field(discriminator="method")
]
"""Any method there is."""


def all_of(*methods: OneMethod) -> AllOf:
    """Methods of which every one must find a good credential, for `Authn(all_of(mtls(...), jwt(...)))`."""
    return AllOf(methods=methods)


class Authn(Spec):
    """Finds out who is calling and sets `exchange.identity`.

    Methods are asked in order; the first that finds a credential of its kind decides. A credential that is not good is
    answered 401, also where `optional` lets a request without one pass as anonymous. Credentials do not go on to the
    app or upstream unless their method says `forward`. A route's own `authn` stands in place of the gateway's.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    kind: ClassVar[str] = "authn"
    status: ClassVar[str] = "stable"
    positional: ClassVar[tuple[str, ...]] = ("methods",)

    methods: tuple[AnyMethod, ...] = Field(min_length=1)
    """How callers may authenticate. By position in Python: `Authn(api_keys({...}))`."""
    optional: bool = False
    """Whether a request without a credential passes, as `ANONYMOUS`. One with a credential that is not good never does."""
    identity_headers: Mapping[str, Attribute] = Field(default_factory=dict)
    """Header → attribute of the identity that the upstream is told in it.

    Every spelling of these names is removed from every request, an anonymous one's too, before they are set. Scopes
    are parted by spaces, roles by commas, both sorted; what the identity has not is not sent.
    """
    realm: str = "gateway"
    """What the challenge of a 401 names as protected."""
    revocations: str | None = Field(default=None, repr=False)
    """The list of what is no longer valid, as a URL: `redis://host:6379/0`, `file:///var/lib/gatekit/revoked`, `memory:`,
    or `env:NAME` and `file:/path` that hold one. It is asked for every request, after every cache."""

    _also: tuple[AnyMethod, ...] = PrivateAttr(())

    # Here so that type checkers know that methods are given by position.
    def __init__(self, /, *methods: Any, **fields: Any) -> None:
        super().__init__(*methods, **fields)

    @classmethod
    def _by_position(cls, args: tuple[Any, ...], fields: dict[str, Any]) -> dict[str, Any]:
        many = args if len(args) > 1 or not isinstance(args[0], (list, tuple)) else tuple(args[0])
        return super()._by_position((args[0],) if callable(args[0]) else (many,), fields)

    @field_validator("realm")
    @classmethod
    def _is_realm(cls, value: str) -> str:
        if not _REALM.fullmatch(value):
            raise ValueError("a realm is printable ASCII without quotes and backslashes")
        return value

    @model_validator(mode="after")
    def _is_sound(self) -> Authn:
        self._check_headers()
        return self

    def _check_headers(self) -> None:
        """Raises ValueError unless every identity header is free to be one."""
        credentials = {fold(header.encode("ascii")) for header, _ in carriers(self.methods)}
        seen: set[bytes] = set()
        for name in self.identity_headers:
            key = fold(encode_name(name))
            if key in _NOT_FOR_IDENTITY:
                raise ValueError(f"{name} has a meaning of its own and cannot carry an identity")
            if key in credentials:
                raise ValueError(f"{name} carries the credential and cannot carry an identity as well")
            if key in seen:
                raise ValueError(f"{name} is named twice, in another spelling")
            seen.add(key)

    @property
    def also_cleaned(self) -> tuple[AnyMethod, ...]:
        """Methods that do not count here, and whose credentials do not go on all the same: those of the gateway, on a
        route with an `authn` of its own."""
        return self._also

    def over(self, outer: Authn) -> Authn:
        """The methods of the route, and what else the gateway's says of everything behind it: who is told in which
        header, what is stripped, what is revoked."""
        own = {fold(encode_name(name)) for name in self.identity_headers}
        told = {name: value for name, value in outer.identity_headers.items() if fold(encode_name(name)) not in own}
        merged = self.model_copy(
            update={
                "identity_headers": {**told, **self.identity_headers},
                "realm": self.realm if "realm" in self.model_fields_set else outer.realm,
                "revocations": outer.revocations if self.revocations is None else self.revocations,
            }
        )
        merged._also = (*outer.methods, *outer.also_cleaned)
        merged._check_headers()
        return merged

    def placement(self) -> Placement:
        return Placement(Stage.IDENTIFY, provides=frozenset({IDENTITY}))

    def rewrites(self) -> bool:
        """A credential that may come in the query is cut out of it."""
        return any(query is not None for _, query in carriers(self.methods))

    def bind_to(self, ports: Ports) -> AuthnPolicy:
        return AuthnPolicy(self, ports)
