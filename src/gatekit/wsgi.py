"""Middlewares for WSGI apps: Flask, Django, or any other. The same policies as under ASGI, with no event loop.

What WSGI cannot do: tell spellings of a header apart, cancel, notice a client that leaves before the server closes the
response, trailers, WebSockets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from gatekit.core.policy import Spec
from gatekit.core.ports import Ports
from gatekit.core.verdict import ErrorShape
from gatekit.drivers.wsgi import WsgiDriver
from gatekit.gateway.blocking import blocking
from gatekit.gateway.loop_thread import SHARED
from gatekit.gateway.stack import Stack, StackOptions, checked, layered, wrapped
from gatekit.policies import spec_class

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

    from gatekit.config.cluster import Cluster
    from gatekit.config.model import Route


class Policies:
    """Any number of policies around `app`, the first outermost. Parameters and errors as in `gatekit.asgi.Policies`.

    Ports that do I/O must be wrapped by `blocking`; a policy that suspends all the same is refused with 500.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *specs: Spec,
        trusted_proxies: Sequence[str] = (),
        client_ip_header: str | None = None,
        client_cert_header: str | None = None,
        allow: Sequence[str] = (),
        max_headers: int = 100,
        max_header_bytes: int = 32 * 1024,
        max_target: int = 8 * 1024,
        max_body: int | None = None,
        merge_slashes: bool = True,
        error_shape: ErrorShape | None = None,
        ports: Ports | None = None,
    ) -> None:
        wrapped(app, self, "wsgi")
        self.options = StackOptions(
            tuple(trusted_proxies), client_ip_header, client_cert_header, tuple(allow), max_headers, max_header_bytes, max_target,
            merge_slashes, max_body, error_shape, ports,
        )  # fmt: skip
        self.specs: tuple[Spec, ...] = tuple(specs)
        self.app = app
        if isinstance(app, Policies) and app.options == self.options:
            self.specs += app.specs
            self.app = app.app
        self.specs = checked(self.specs, "wsgi")
        self._driven = layered(self.app, self.specs, self.options, _drive)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        return self._driven(environ, start_response)


def _drive(stack: Stack, app: WSGIApplication) -> WSGIApplication:
    enter = None if stack.runtime is None else partial(stack.runtime.enter_on, SHARED.call)
    return WsgiDriver(stack, now=stack.ports.clock.monotonic, app=app, enter=enter)


class _Single(Policies):
    """One policy around `app`; keyword arguments are those of the spec and of `Policies`."""

    kind: ClassVar[str]

    def __init__(self, app: WSGIApplication, *args: Any, **fields: Any) -> None:
        options = {name: fields.pop(name) for name in StackOptions.__dataclass_fields__ if name in fields}
        super().__init__(app, spec_class(self.kind)(*args, **fields), **options)


class Authn(_Single):
    """`gatekit.Authn` around an app: who is calling?"""

    kind = "authn"


class Authz(_Single):
    """`gatekit.Authz` around an app: may they? `Authn` stands further out."""

    kind = "authz"


class Cors(_Single):
    """`gatekit.Cors` around an app: cross-origin requests from browsers."""

    kind = "cors"


class Overload(_Single):
    """`gatekit.Overload` around an app: turn away what is more than can be done."""

    kind = "overload"


class RateLimit(_Single):
    """`gatekit.RateLimit` around an app: how often may they?"""

    kind = "rate_limit"


class RequestHeaders(_Single):
    """`gatekit.RequestHeaders` around an app: set, add and remove request headers."""

    kind = "request_headers"


class ResponseHeaders(_Single):
    """`gatekit.ResponseHeaders` around an app: set, add and remove response headers."""

    kind = "response_headers"


class SecurityHeaders(_Single):
    """`gatekit.SecurityHeaders` around an app: what browsers are told about it."""

    kind = "security_headers"


class Telemetry(_Single):
    """`gatekit.Telemetry` around an app: one access line for each request."""

    kind = "telemetry"


class Router:
    """A gateway in front of `app`: requests that a route matches are forwarded, the rest pass to `app`.

    Forwarding runs on the process's loop thread; the server's thread waits for each part.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        routes: Sequence[Route],
        clusters: Mapping[str, Cluster],
        policies: Sequence[Spec] = (),
        **options: Any,
    ) -> None:
        from gatekit.gateway.gateway import Gateway

        wrapped(app, self, "wsgi")
        self.app = app
        self.gateway = Gateway(policies=policies, routes=routes, clusters=clusters, fallback=True, **options)
        self._driven = self.gateway.wsgi(app)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        return self._driven(environ, start_response)


__all__ = [
    "Authn", "Authz", "Cors", "Overload", "Policies", "RateLimit", "RequestHeaders", "ResponseHeaders", "Router", "SecurityHeaders",
    "Telemetry", "blocking",
]  # fmt: skip
