"""The spec of the security headers. Its docstrings are the reference documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from gatekit.core.headers import encode_name, encode_value
from gatekit.core.policy import Placement, Spec, Stage
from gatekit.core.ports import Ports
from gatekit.policies.guard.policy import SecurityPolicy

_YEAR = 365 * 24 * 3600

ReferrerPolicy = Literal[
    "no-referrer", "no-referrer-when-downgrade", "origin", "origin-when-cross-origin", "same-origin", "strict-origin",
    "strict-origin-when-cross-origin", "unsafe-url",
]  # fmt: skip
OpenerPolicy = Literal["same-origin", "same-origin-allow-popups", "noopener-allow-popups", "unsafe-none"]
ResourcePolicy = Literal["same-origin", "same-site", "cross-origin"]


class SecurityHeaders(Spec):
    """Adds the response headers that browsers are protected by, and removes those that tell what runs here.

    A header that the app or upstream set stays as it is, unless `override` is set. None leaves a header out.
    """

    kind: ClassVar[str] = "security_headers"
    status: ClassVar[str] = "stable"

    hsts: int | None = Field(default=_YEAR, ge=0)
    """Strict-Transport-Security max-age in seconds. Only sent over https, as RFC 6797 section 7.2 has it."""
    hsts_subdomains: bool = False
    """Whether it holds for every subdomain too."""
    hsts_preload: bool = False
    """Whether browsers may ship with it; needs `hsts_subdomains` and a year or more. Hard to take back."""
    content_type_options: bool = True
    """X-Content-Type-Options: nosniff."""
    referrer_policy: ReferrerPolicy | None = "same-origin"
    """Referrer-Policy."""
    frame_options: Literal["DENY", "SAMEORIGIN"] | None = "DENY"
    """X-Frame-Options, for browsers that do not know `frame-ancestors`."""
    content_security_policy: str | None = "frame-ancestors 'none'"
    """Content-Security-Policy."""
    opener_policy: OpenerPolicy | None = "same-origin"
    """Cross-Origin-Opener-Policy. `same-origin-allow-popups` for logins in a popup window."""
    resource_policy: ResourcePolicy | None = None
    """Cross-Origin-Resource-Policy. Not set: it would keep other sites from embedding what is public."""
    permissions_policy: str | None = None
    """Permissions-Policy."""
    override: bool = False
    """Whether these replace what the app or upstream set."""
    remove: Sequence[str] = ("server", "x-powered-by", "x-aspnet-version", "x-aspnetmvc-version")
    """Headers that are taken off every response."""

    @field_validator("content_security_policy", "permissions_policy")
    @classmethod
    def _is_value(cls, value: str | None) -> str | None:
        return None if value is None else encode_value(value).decode("latin-1")

    @field_validator("remove")
    @classmethod
    def _are_names(cls, value: Sequence[str]) -> tuple[str, ...]:
        return tuple(encode_name(one).decode("ascii") for one in value)

    @model_validator(mode="after")
    def _preload_is_meant(self) -> SecurityHeaders:
        if self.hsts_preload and (not self.hsts_subdomains or self.hsts is None or self.hsts < _YEAR):
            raise ValueError(f"hsts_preload needs hsts_subdomains and hsts of at least {_YEAR} seconds")
        return self

    def placement(self) -> Placement:
        return Placement(Stage.OBSERVE)

    def bind_to(self, ports: Ports) -> SecurityPolicy:
        return SecurityPolicy(self)
