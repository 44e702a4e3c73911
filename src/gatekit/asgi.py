"""Middlewares for ASGI apps: FastAPI, Starlette, Litestar, Django, or any other.

Each is a pure ASGI class whose first parameter is the app, so `app.add_middleware(RateLimit, limit="100/minute")` and
`app = RateLimit(app, limit="100/minute")` are the same. Nothing here does I/O when it is built.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from gatekit.core.policy import Spec
from gatekit.core.ports import Ports
from gatekit.core.verdict import ErrorShape
from gatekit.drivers.asgi import AsgiDriver
from gatekit.gateway.stack import Stack, StackOptions, checked, layered, wrapped
from gatekit.policies import spec_class

if TYPE_CHECKING:
    from gatekit.config.cluster import Cluster
    from gatekit.config.model import Route

App = Callable[..., Awaitable[None]]
"""An ASGI application, as every framework types its own: called with scope, receive and send."""


class Policies:
    """Any number of policies around `app`, the first outermost.

    Adjacent gatekit middlewares with the same options are run as one, in the same order and with the same result.
    Raises ContractViolation when a policy stands before one that it needs, MisplacedPolicy when it is given no spec.

    `trusted_proxies`: networks whose forwarding headers are believed. `client_ip_header`: the one in which they tell the
    client's address, where that is not X-Forwarded-For. `allow`: oddities of a path that may pass. `error_shape`: writes
    the bodies of error replies. `ports`: for tests, what the policies are bound to.
    """

    def __init__(
        self,
        app: App,
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
        wrapped(app, self, "asgi")
        self.options = StackOptions(
            tuple(trusted_proxies), client_ip_header, client_cert_header, tuple(allow), max_headers, max_header_bytes, max_target,
            merge_slashes, max_body, error_shape, ports,
        )  # fmt: skip
        self.specs: tuple[Spec, ...] = tuple(specs)
        self.app = app
        if isinstance(app, Policies) and app.options == self.options:
            self.specs += app.specs
            self.app = app.app
        self.specs = checked(self.specs, "asgi")
        self._stacks: list[Stack] = []
        self._driven = layered(self.app, self.specs, self.options, self._drive)

    def _drive(self, stack: Stack, app: App) -> App:
        enter = None
        if stack.runtime is not None:
            self._stacks.append(stack)
            enter = stack.runtime.enter
        return AsgiDriver(stack, now=stack.ports.clock.monotonic, app=app, enter=enter)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._stacks and scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self._driven(scope, receive, send)

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        """The lifespan is the app's; our background work begins with it and ends with it."""
        for stack in self._stacks:
            stack.enter()
        try:
            await self._driven(scope, receive, send)
        finally:
            for stack in self._stacks:
                await stack.close_here()


class _Single(Policies):
    """One policy around `app`; keyword arguments are those of the spec and of `Policies`."""

    kind: ClassVar[str]

    def __init__(self, app: App, *args: Any, **fields: Any) -> None:
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

    `policies` see every request, those that pass to the app as well. Lifespan events go to the app.
    """

    def __init__(
        self,
        app: App,
        *,
        routes: Sequence[Route],
        clusters: Mapping[str, Cluster],
        policies: Sequence[Spec] = (),
        **options: Any,
    ) -> None:
        from gatekit.gateway.gateway import Gateway

        wrapped(app, self, "asgi")
        self.app = app
        self.gateway = Gateway(policies=policies, routes=routes, clusters=clusters, app=app, **options)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.gateway(scope, receive, send)


__all__ = [
    "Authn", "Authz", "Cors", "Overload", "Policies", "RateLimit", "RequestHeaders", "ResponseHeaders", "Router", "SecurityHeaders",
    "Telemetry",
]  # fmt: skip
