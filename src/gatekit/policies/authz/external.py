"""A decision that somebody else takes: an authoriser asked over HTTP, for each request or for each that differs.

What goes wrong on the way there never allows, unless an operator has written that it shall: no answer in time, an
answer that is not understood, a header that is not well formed, too many questions at once, an authoriser that is
known to be down. What the request itself makes impossible to ask is denied whatever is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from gatekit.core.headers import encode_name, fold
from gatekit.core.networks import Networks
from gatekit.core.ports import Ports
from gatekit.core.units import Seconds
from gatekit.policies.authz.external_call import BoundExternal
from gatekit.policies.authz.external_wire import OWN_MEANING, Part, own_headers

Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]

_URL: Final = re.compile(r"https?://[^/?#@\\]+(?:/[^#\\]*)?")
MAX_URL: Final = 2048
"""Characters of the authoriser's URL."""

_PARTS: Final[tuple[Part, ...]] = (
    "method",
    "host",
    "path",
    "client_ip",
    "subject",
    "tenant",
    "client",
    "scopes",
    "roles",
)


class DecisionCache(BaseModel):
    """For how long an authoriser's answer stands for equal questions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttl: Seconds = Field(gt=0, le=60)
    """Seconds, 60 at most: for so long a change of mind is not noticed."""
    entries: int = Field(default=10_000, ge=2, le=1_000_000)
    """How many answers are kept. Those used lately outlast the others."""


class External(BaseModel):
    """A condition that holds when an authoriser asked over HTTP allows the request.

    Two dialects. `opa` posts `{"input": {...}}` to a rule of the Open Policy Agent (`/v1/data/httpapi/authz`) and reads
    `{"result": true}` or `{"result": {"allow": true, "headers": {...}}}`. `envoy` sends method, path and chosen headers
    as Envoy's `ext_authz` does, to `url` with the path after it: 200 allows, a 4xx denies with that status.

    No Authorization, no Cookie and no query goes there unless they are named. The path is the canonical one, which is
    also the one that is served.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    asks: ClassVar[bool] = True

    url: str
    """Where the authoriser is. With `envoy` it is a prefix: the path of the request is put after it."""
    style: Literal["opa", "envoy"] = "opa"
    """How it is asked."""
    timeout: Seconds = Field(default=0.2, gt=0, le=10)
    """Seconds until an answer must be there, a second attempt to connect included."""
    on_error: Literal["deny", "unavailable", "allow"] = "deny"
    """What happens where there is no answer that is understood: `deny` answers 403, `unavailable` 503. `allow` is
    dangerous: whoever can slow the authoriser down, by a flood or by one request that it chokes on, passes."""
    retry: bool = True
    """Whether a second attempt is made where no connection came about. What may have been heard is not said again."""
    send: tuple[Part, ...] = _PARTS
    """What is told of request and caller, in the input document or, with `envoy`, in headers: `X-Forwarded-Host`, `-Proto`
    and `-For`, `X-Auth-Subject`, `-Tenant`, `-Scopes` (parted by spaces), `-Roles` (by commas) and so on, UTF-8. `path`
    comes with its decoded `segments`; with `envoy`, method and path always go."""
    claims: tuple[Name, ...] = ()
    """Claims of the caller that are told besides, with `envoy` as `X-Auth-Claim-…`: text as it is, anything else as JSON."""
    headers: tuple[Name, ...] = ()
    """Headers of the request that are passed on as they came."""
    credentials: Mapping[str, str] = Field(default_factory=dict, repr=False)
    """Headers that tell the authoriser who asks: name → value, or a reference to a secret (`env:OPA_TOKEN`)."""
    upstream_headers: tuple[Name, ...] = ()
    """Headers that the authoriser may set on an allowed request. Every spelling of these that a client sends is
    removed."""
    client_headers: tuple[Name, ...] = ()
    """Headers that the authoriser may set on a refusal."""
    relay_body: bool = False
    """Whether the body of a refusal is the authoriser's own. Otherwise it is a problem document as any other."""
    cache: DecisionCache | None = None
    """Keeps answers for equal questions, and asks an equal question once at a time. All that is told is compared, so what
    need not be told should not be sent. Failures are never kept."""
    max_in_flight: int = Field(default=100, ge=1, le=10_000)
    """How many questions are under way at once. One more is a failure."""
    networks: Networks = ()
    """Networks that may be connected to though they are not public, as in `10.0.0.0/8`; http is allowed then."""
    ca: str | None = None
    """The path of a PEM file with the authorities to be believed in place of the system's."""

    @field_validator("headers", "upstream_headers", "client_headers")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        seen: set[bytes] = set()
        for name in value:
            key = fold(encode_name(name))
            if key in OWN_MEANING:
                raise ValueError(f"{name} frames a message or is the gateway's own to write: leave it out")
            if key in seen:
                raise ValueError(f"{name} is named twice, in another spelling")
            seen.add(key)
        return tuple(name.lower() for name in value)

    @field_validator("credentials")
    @classmethod
    def _name_headers(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name in value:
            if fold(encode_name(name)) in OWN_MEANING:
                raise ValueError(f"{name} frames a message or is the gateway's own to write: leave it out")
        return {name.lower(): reference for name, reference in value.items()}

    @model_validator(mode="after")
    def _can_be_asked(self) -> External:
        visible = self.url.isascii() and self.url.isprintable() and " " not in self.url
        if not (visible and _URL.fullmatch(self.url)) or len(self.url) > MAX_URL:
            raise ValueError(
                f"url is an absolute http or https URL of at most {MAX_URL} characters, without user information and "
                "fragment, as in "
                "https://opa.internal:8181/v1/data/httpapi/authz"
            )
        if not self.url.startswith("https:") and not self.networks:
            raise ValueError(
                "url is https: over http, whoever is on the way decides. For an authoriser in a private network give its "
                "networks, as in 127.0.0.0/8"
            )
        for name in self.headers:
            if _folded(name) in map(_folded, self.credentials):
                raise ValueError(f"{name} cannot be both the client's and the gateway's own")
            if _folded(name) in map(_folded, self.upstream_headers):
                raise ValueError(
                    f"{name} comes from the authoriser: a client's own is removed, and cannot be passed on"
                )
        if self.style == "envoy":
            self._fits_envoy()
        elif self.relay_body:
            raise ValueError("relay_body is for style: envoy; an OPA decision has no body")
        return self

    def _fits_envoy(self) -> None:
        if "?" in self.url:
            raise ValueError("with style: envoy the path of the request is put after url, so it has no query")
        if "params" in self.send:
            raise ValueError("style: envoy has no place for params: leave them out, or use style: opa")
        ours = own_headers(self.send, self.claims)
        names = {name.lower() for name in self.claims}
        if len(names) < len(self.claims):
            raise ValueError("two claims would be told in one header")
        for name in (*self.headers, *self.credentials):
            if _folded(name) in ours:
                raise ValueError(f"{name} tells the authoriser who the caller is: a client's own cannot be passed on")

    @property
    def host(self) -> str:
        """Whom it asks, as it may be shown."""
        return urlsplit(self.url).netloc

    def bind_to(self, ports: Ports) -> BoundExternal:
        return BoundExternal(self, ports)


def _folded(name: str) -> bytes:
    return fold(name.encode("ascii"))


def external(url: str, **fields: Any) -> External:
    """A condition that an authoriser decides: `external("https://opa.internal/v1/data/authz", timeout=0.1)`. The fields are
    those of `External`."""
    return External(url=url, **fields)
