"""Who the caller is, once a policy has found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller, or `ANONYMOUS`. Built when a credential is verified and kept with it, not per request.

    `subject` is unique within `issuer`. `client` is the OAuth client or the id of the API key; `expires` is when the
    credential ends, in seconds since the Unix epoch, None where it does not. `is_authenticated`, `display_name` and
    `identity` are what Starlette and Django look for on `request.user`.
    """

    subject: str
    issuer: str = ""
    tenant: str | None = None
    client: str | None = None
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    scheme: str = ""
    expires: float | None = None

    @property
    def user_id(self) -> str:
        return self.subject

    @property
    def tenant_id(self) -> str | None:
        return self.tenant

    @property
    def client_id(self) -> str | None:
        return self.client

    @property
    def is_authenticated(self) -> bool:
        return bool(self.scheme)

    @property
    def display_name(self) -> str:
        return self.subject

    @property
    def identity(self) -> str:
        return self.subject


ANONYMOUS = Identity(subject="")
"""A caller that was looked at and is nobody in particular: not the same as one that nobody looked at."""
