"""The spec of authentication. Its docstrings are the reference documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from gatekit.core.headers import encode_name, fold
from gatekit.core.policy import IDENTITY, Placement, Spec, Stage
from gatekit.core.ports import Ports
from gatekit.policies.authn.keys import ApiKeys
from gatekit.policies.authn.policy import AuthnPolicy

Attribute = Literal["subject", "issuer", "tenant", "client", "scopes", "roles", "scheme"]

_REALM = re.compile(r"[ -!#-\[\]-~]+")
_NOT_FOR_IDENTITY = frozenset(
    {
        b"connection", b"content-length", b"content-type", b"host", b"keep-alive", b"proxy-connection", b"te", b"trailer",
        b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip


class Authn(Spec):
    """Finds out who is calling and sets `exchange.identity`.

    Methods are asked in order; the first that finds a credential of its kind decides. A credential that is not good is
    answered 401, also where `optional` lets a request without one pass as anonymous. Credentials do not go on to the
    app or upstream unless their method says `forward`.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    kind: ClassVar[str] = "authn"
    status: ClassVar[str] = "stable"
    positional: ClassVar[tuple[str, ...]] = ("methods",)

    methods: tuple[ApiKeys, ...] = Field(min_length=1)
    """How callers may authenticate. By position in Python: `Authn(api_keys({...}))`."""
    optional: bool = False
    """Whether a request without a credential passes, as `ANONYMOUS`."""
    identity_headers: Mapping[str, Attribute] = Field(default_factory=dict)
    """Header → attribute of the identity that the upstream is told in it.

    Every spelling of these names is removed from every request, an anonymous one's too, before they are set. Scopes
    are parted by spaces, roles by commas, both sorted; what the identity has not is not sent.
    """
    realm: str = "gateway"
    """What the challenge of a 401 names as protected."""

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
    def _headers_are_free(self) -> Authn:
        credentials = {fold(method.header.encode("ascii")): method.header for method in self.methods}
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
        return self

    def placement(self) -> Placement:
        return Placement(Stage.IDENTIFY, provides=frozenset({IDENTITY}))

    def rewrites(self) -> bool:
        """A credential that may come in the query is cut out of it."""
        return any(method.query is not None and not method.forward for method in self.methods)

    def bind_to(self, ports: Ports) -> AuthnPolicy:
        return AuthnPolicy(self, ports)
