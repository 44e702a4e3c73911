"""The specs of the transforming policies. Their docstrings are the reference documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from gatekit.core.headers import fold
from gatekit.core.policy import Spec
from gatekit.core.ports import Ports
from gatekit.policies.transform.headers import encoded, refuse_names
from gatekit.policies.transform.paths import Pattern, Prefix, Template
from gatekit.policies.transform.policy import (
    FixedAnswer,
    RedirectPolicy,
    RequestEdit,
    ResponseEdit,
    RewritePolicy,
)

_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
_AUTHORITY = re.compile(rf"(?:{_HOST.pattern})(?::[0-9]{{1,5}})?")

HeaderValues = Mapping[str, str | Sequence[str]]
# What may be written in Python; after validation it is always the model.
if TYPE_CHECKING:
    AnyPrefix = Prefix | tuple[str, str]
    AnyPattern = Pattern | tuple[str, str]
else:
    AnyPrefix = Prefix
    AnyPattern = Pattern
Names = Annotated[Sequence[str], AfterValidator(tuple)]


class _HeaderEdit(Spec):
    """What editing request headers and editing response headers have in common."""

    set: HeaderValues = Field(default_factory=dict)
    """Headers that have exactly this value afterwards, whatever they had."""
    add: HeaderValues = Field(default_factory=dict)
    """Values that are added to those that are there, each as a line of its own."""
    remove: Names = ()
    """Headers that are gone afterwards."""

    _of_requests: ClassVar[bool] = False

    @model_validator(mode="after")
    def _can_be_done(self) -> _HeaderEdit:
        names = [*self.set, *self.add, *self.remove]
        if not names:
            raise ValueError("nothing to do: give set, add or remove")
        refuse_names(names, request=self._of_requests)
        seen = [fold(name.encode("ascii")) for name in names]
        for at, name in enumerate(names):
            if seen.index(seen[at]) < at:
                raise ValueError(f"{name} is named twice: say once what should become of it")
        encoded(self.set)
        encoded(self.add)
        return self


class RequestHeaders(_HeaderEdit):
    """Sets, adds and removes headers of the request that goes on to the app or the upstream.

    A header that is set or removed goes in every spelling that some server takes for the same name (`X_Tenant` and
    `X.Tenant` for `X-Tenant`), so that a client cannot put another one beside it. Headers of one connection, Host,
    Content-Length and Transfer-Encoding cannot be changed.
    """

    kind: ClassVar[str] = "request_headers"
    status: ClassVar[str] = "stable"
    _of_requests: ClassVar[bool] = True

    def bind_to(self, ports: Ports) -> RequestEdit:
        return RequestEdit(self)


class ResponseHeaders(_HeaderEdit):
    """Sets, adds and removes headers of the response, wherever it came from: app, upstream, or gatekit itself."""

    kind: ClassVar[str] = "response_headers"
    status: ClassVar[str] = "stable"

    when: Literal["always", "success", "failure"] = "always"
    """`success` is a status below 400, `failure` any other."""

    def bind_to(self, ports: Ports) -> ResponseEdit:
        return ResponseEdit(self)


class Redirect(Spec):
    """Answers with a redirect. What is not given stays as the client asked for it; the query is kept.

    Where neither scheme, host nor port is given, Location is a path, so that nothing the client wrote into its Host
    header is sent back. Where a scheme is given, a request that already is where the redirect leads passes: so
    `Redirect(scheme="https")` can stand in front of everything.
    """

    model_config = ConfigDict(populate_by_name=True)

    kind: ClassVar[str] = "redirect"
    status: ClassVar[str] = "stable"

    scheme: Literal["http", "https"] | None = None
    """The new scheme. Without `port`, the port becomes that scheme's own."""
    host: str | None = None
    """The new host name, in lower case, without a port."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """The new port. It is left out of Location where it is the scheme's own (80, 443)."""
    path: str | None = None
    """The new path. `{name}` stands for what the route captured under that name."""
    prefix: AnyPrefix | None = None
    """The path prefix to replace, by whole segments. A request with another prefix is not redirected."""
    code: Literal[301, 302, 303, 307, 308] = Field(default=302, alias="status")
    """The status; 307 and 308 keep the method. Written `status`."""

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Redirect:
        if self.path is not None and self.prefix is not None:
            raise ValueError("path replaces the whole path and prefix a part of it: give one of them")
        if (self.scheme, self.host, self.port, self.path, self.prefix) == (None,) * 5:
            raise ValueError("a redirect needs a scheme, host, port, path or prefix to lead to")
        if self.path is not None:
            Template(self.path)
        return self

    @field_validator("host")
    @classmethod
    def _is_host(cls, value: str | None) -> str | None:
        if value is not None and not _HOST.fullmatch(value):
            raise ValueError("not a host name in lower case without a port")
        return value

    def bind_to(self, ports: Ports) -> RedirectPolicy:
        return RedirectPolicy(self)


class Rewrite(Spec):
    """Sends the request on under another path or Host. Matching and authorisation were done on the original.

    The new path is made canonical again; where it has no one reading, or where a captured value made a dot segment,
    the request is answered 400 `transform.bad_path` and goes nowhere.
    """

    kind: ClassVar[str] = "rewrite"
    status: ClassVar[str] = "stable"

    path: str | None = None
    """The new path. `{name}` stands for what the route captured under that name."""
    prefix: AnyPrefix | None = None
    """The path prefix to replace, by whole segments. A path with another prefix is left alone."""
    regex: AnyPattern | None = None
    """An RE2 pattern of the whole path and what to make of its named groups. Another path is left alone."""
    host: str | None = None
    """The Host that the destination sees, in lower case, with a port where one belongs there."""

    def rewrites(self) -> bool:
        return True

    @model_validator(mode="after")
    def _rewrites_something(self) -> Rewrite:
        paths = [one for one in (self.path, self.prefix, self.regex) if one is not None]
        if len(paths) > 1:
            raise ValueError("path, prefix and regex each make the new path: give one of them")
        if not paths and self.host is None:
            raise ValueError("nothing to rewrite: give path, prefix, regex or host")
        if self.path is not None:
            Template(self.path)
        return self

    @field_validator("host")
    @classmethod
    def _is_authority(cls, value: str | None) -> str | None:
        if value is not None and not _AUTHORITY.fullmatch(value):
            raise ValueError("not a host in lower case, with or without a port")
        return value

    def bind_to(self, ports: Ports) -> RewritePolicy:
        return RewritePolicy(self)


class Respond(Spec):
    """Answers every request alike, without asking anybody.

    Without a body, a status of 400 or more becomes a problem document (RFC 9457) with the code `respond`.
    """

    model_config = ConfigDict(populate_by_name=True)

    kind: ClassVar[str] = "respond"
    status: ClassVar[str] = "stable"
    positional: ClassVar[tuple[str, ...]] = ("status", "body")

    code: int = Field(default=200, ge=200, le=599, alias="status")
    """The status. Written `status`."""
    body: str | None = None
    """The body, sent as UTF-8; Content-Type is `text/plain; charset=utf-8` unless `headers` has one."""
    headers: Mapping[str, str] = Field(default_factory=dict)
    """Headers of the answer."""

    # Here so that type checkers know that status and body may be given by position.
    def __init__(self, /, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)

    @model_validator(mode="after")
    def _can_be_sent(self) -> Respond:
        if self.body is not None and self.code in (204, 304):
            raise ValueError(f"a response of status {self.code} has no body (RFC 9110 section 6.4.1)")
        refuse_names(self.headers, request=False)
        encoded(self.headers)
        return self

    def bind_to(self, ports: Ports) -> FixedAnswer:
        return FixedAnswer(self)
