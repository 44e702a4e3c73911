"""The policies of a middleware, compiled: what `gatekit.asgi.Policies` and `gatekit.wsgi.Policies` have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from gatekit.core.contracts import violations
from gatekit.core.door import Door
from gatekit.core.paths import MARKS
from gatekit.core.peers import Trust
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import FixedPlan
from gatekit.core.policy import Job, Spec, bound, jobs_of
from gatekit.core.ports import Cells, Ports
from gatekit.core.verdict import ErrorShape
from gatekit.errors import ContractViolation, MisplacedPolicy
from gatekit.gateway.runtime import Runtime, end_flights
from gatekit.gateway.system import system_ports

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class StackOptions:
    """How a middleware looks at requests. Adjacent middlewares with equal options are run as one.

    `trusted_proxies` are the networks whose X-Forwarded-For is believed, or in its place the header that
    `client_ip_header` names; `allow` names oddities of a path that may pass
    (`encoded_slash`, `backslash`, `semicolon`, `double_encoding`); `error_shape` writes the bodies of error replies.
    `max_body` is the most bytes of a request's body; None, the default, leaves that to the app.
    """

    trusted_proxies: tuple[str, ...] = ()
    client_ip_header: str | None = None
    client_cert_header: str | None = None
    allow: tuple[str, ...] = ()
    max_headers: int = 100
    max_header_bytes: int = 32 * 1024
    max_target: int = 8 * 1024
    merge_slashes: bool = True
    max_body: int | None = None
    error_shape: ErrorShape | None = None
    ports: Ports | None = field(default=None, compare=True)

    def door(self, ports: Ports) -> Door:
        """The door these options describe. Raises ValueError on a network or an oddity that there is not, and on a header
        that cannot tell the client's address."""
        marks = 0
        for name in self.allow:
            if name not in MARKS:
                raise ValueError(f"allow: {name!r} is none of {', '.join(MARKS)}")
            marks |= MARKS[name]
        return Door(
            ports.random,
            trust=Trust(self.trusted_proxies, self.client_ip_header, self.client_cert_header),
            max_headers=self.max_headers,
            max_header_bytes=self.max_header_bytes,
            max_target=self.max_target,
            merge_slashes=self.merge_slashes,
            allowed_marks=marks,
            max_body=self.max_body,
        )


class Stack:
    """One run of policies in the order they were given, bound and ready to be driven.

    `first` is the place of the first of them among all: under it their state is kept apart from that of other runs.
    """

    __slots__ = ("jobs", "plan", "ports", "runtime")

    def __init__(self, specs: Sequence[Spec], options: StackOptions, first: int = 0) -> None:
        ports = options.ports if options.ports is not None else system_ports(cells=Cells())
        self.ports = ports
        hooks = [bound(spec, ports.owned_by(f"{ports.owner}policy:{place}")) for place, spec in enumerate(specs, first)]
        self.jobs: tuple[Job, ...] = tuple(job for one in hooks for job in jobs_of(one.policy))
        pipeline = Pipeline(hooks, events=ports.events, shape=options.error_shape)
        self.plan = FixedPlan(options.door(ports), pipeline)
        self.runtime = Runtime(lambda: self.jobs) if self.jobs else None

    def enter(self) -> None:
        """Begin the background work in the running loop."""
        if self.runtime is not None:
            self.runtime.enter()

    async def close_here(self) -> None:
        """End what runs in this loop on behalf of these policies."""
        if self.runtime is not None:
            await self.runtime.close_here()
        await end_flights(self.ports)


def wrapped(app: object, middleware: object, world: str) -> None:
    """Raise MisplacedPolicy unless `app` can be wrapped: a policy spec cannot, callable or not."""
    if not callable(app) or isinstance(app, Spec):
        kind = {"asgi": "an ASGI", "wsgi": "a WSGI"}[world]
        raise MisplacedPolicy(
            f"{type(middleware).__name__} wraps {kind} app and was given {app!r}. A policy itself, such as "
            f"gatekit.RateLimit(...), goes into Gateway(policies=[...]) or gatekit.{world}.Policies(app, ...)."
        )


def checked(specs: Iterable[object], world: str) -> tuple[Spec, ...]:
    """The specs, in an order that can work. Raises MisplacedPolicy or ContractViolation, each saying what to do."""
    found: list[Spec] = []
    for spec in specs:
        if isinstance(spec, type) and issubclass(spec, Spec):
            raise MisplacedPolicy(f"{spec.__name__} is a class: give a spec, {spec.__name__}(...), to Policies")
        if not isinstance(spec, Spec):
            raise MisplacedPolicy(
                f"{spec!r} is no policy spec. gatekit.{world}.Policies takes specs such as gatekit.RateLimit(...); "
                f"gatekit.{world}.RateLimit and its siblings are middlewares themselves and wrap an app directly."
            )
        found.append(spec)
    problems = violations(found, complete=False)
    if problems:
        raise ContractViolation("; ".join(problems))
    return tuple(found)


def runs(specs: Sequence[Spec]) -> list[tuple[Spec, ...]]:
    """The specs cut after each that rewrites requests: what stands behind it must see what it wrote."""
    found: list[list[Spec]] = [[]]
    for spec in specs:
        found[-1].append(spec)
        if spec.rewrites():
            found.append([])
    return [tuple(one) for one in found if one] or [()]


def layered(app: A, specs: Sequence[Spec], options: StackOptions, drive: Callable[[Stack, A], A]) -> A:
    """`app` behind a driver for each run of the policies, the first run outermost; `drive` makes one driver."""
    first = len(specs)
    for run in reversed(runs(specs)):
        first -= len(run)
        app = drive(Stack(run, options, first), app)
    return app
