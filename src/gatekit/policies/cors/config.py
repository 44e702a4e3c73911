"""The spec of CORS. Its docstrings are the reference documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from gatekit.core.headers import encode_name
from gatekit.core.policy import Placement, Spec, Stage
from gatekit.core.ports import Ports
from gatekit.policies.cors.origins import checked_origin
from gatekit.policies.cors.policy import CorsPolicy


class Cors(Spec):
    """Answers preflight requests and tells browsers which origins may read responses (Fetch standard, Gateway API).

    Preflights are answered here and never reach the app or upstream. A request of an origin that is not allowed passes
    without CORS headers: the browser keeps the response from the page, and nothing else is kept from anybody. CORS
    headers of the app or upstream are replaced.
    """

    kind: ClassVar[str] = "cors"
    status: ClassVar[str] = "stable"
    positional: ClassVar[tuple[str, ...]] = ("allow_origins",)

    allow_origins: tuple[str, ...] = Field(min_length=1)
    """Origins: exact (`https://app.example`, with the port where it is not the scheme's own), of any depth of
    subdomains (`https://*.example.com`, which is not `https://example.com`), or `*` for any."""
    allow_methods: tuple[str, ...] = ("GET", "HEAD", "POST")
    """Methods a preflight may ask for; `*` for any."""
    allow_headers: tuple[str, ...] = ()
    """Request headers a preflight may ask for; `*` for any. Without credentials `*` does not cover Authorization."""
    expose_headers: tuple[str, ...] = ()
    """Response headers that pages may read beside the safelisted ones; `*`, without credentials, for any."""
    allow_credentials: bool = False
    """Whether pages may send cookies and other credentials along. Origin, methods and headers are then named one by
    one in every answer, since `*` means nothing to a browser there."""
    max_age: int = Field(default=600, ge=0, le=86400)
    """How long, in seconds, a browser may keep the answer to a preflight."""

    # Here so that type checkers know that the origins may be given by position.
    def __init__(self, /, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)

    @field_validator("allow_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(checked_origin(one) for one in value)

    @field_validator("allow_methods")
    @classmethod
    def _in_capitals(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Methods are case-sensitive and a browser sends capitals: "patch" would never match.
        return tuple(one.upper() for one in value)

    @field_validator("allow_methods", "allow_headers", "expose_headers")
    @classmethod
    def _are_tokens(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            encode_name(one)
        if "*" in value and len(value) > 1:
            raise ValueError("'*' is any: what else is named beside it has no meaning")
        return value

    @model_validator(mode="after")
    def _can_be_said(self) -> Cors:
        if "*" in self.allow_origins and len(self.allow_origins) > 1:
            raise ValueError("allow_origins: '*' is any: what else is named beside it has no meaning")
        if self.allow_credentials and self.expose_headers == ("*",):
            raise ValueError("expose_headers: with credentials a browser takes '*' for a name: list the headers")
        return self

    def placement(self) -> Placement:
        return Placement(Stage.PREFLIGHT)

    def bind_to(self, ports: Ports) -> CorsPolicy:
        return CorsPolicy(self)
