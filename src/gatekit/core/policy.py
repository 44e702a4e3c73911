"""What a policy is: a frozen spec, bound to ports, with a few plain hooks.

A hook that a policy does not define does not exist in the compiled pipeline.

==============================================  ===================================================================
`decide(exchange) -> Reply | None`              in stage order; `def`, or `async def` if it awaits a port
`on_response(exchange, head)`                   for every response that passes this policy, innermost first
`body_filter(exchange, head) -> filter | None`  when a response body begins; the filter has `feed` and `finish`
`on_trailers(exchange, trailers)`               if the response has trailers
`observe(exchange, outcome)`                    exactly once, at the end of the exchange; never awaits
==============================================  ===================================================================

Attributes that a policy may also define: `needs_body` (a cap in bytes: the request body is in `exchange.body.data`
before `decide`), `filters_event_streams`, `shares_state` (its plain hooks are called under a lock, since threads of a
WSGI server or several loops may run them at once), `jobs()`, `explain(exchange)` (what it would say to a request and
why, in lines for people, without secrets), `status()` (plain data about itself for the operator, likewise).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Protocol, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import Headers
from gatekit.core.outcome import Outcome
from gatekit.core.ports import Lock, Ports
from gatekit.core.verdict import Reply
from gatekit.errors import MisplacedPolicy


class Stage(IntEnum):
    """Where in a request's life a policy stands. A Gateway sorts by it; a middleware stack keeps its own order."""

    OBSERVE = 10
    PRIORITY = 15
    SHED = 20
    PREFLIGHT = 30
    LIMIT_ANONYMOUS = 40
    IDENTIFY = 50
    AUTHORISE = 60
    LIMIT = 70
    INSPECT = 80
    TRANSFORM = 90
    CALL = 100


IDENTITY = "identity"
"""What identification provides: after it `exchange.identity` is set, if only to an anonymous one."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a policy belongs: its stage, what must have been provided before it, and what it provides."""

    stage: Stage
    requires: frozenset[str] = frozenset()
    provides: frozenset[str] = frozenset()


class BodyFilter(Protocol):
    """Changes a response body as it passes. Either method may return b""."""

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Job:
    """Background work of a policy or a cluster, run by the Runtime.

    `key` is its identity: a job of the same key that is there before and after a reload goes on undisturbed. `run` is
    awaited, then again `interval()` seconds after it ended; a run that raises is logged and does not stop the job.
    """

    key: Hashable
    run: Callable[[], Awaitable[None]]
    interval: Callable[[], float]
    first_after: float = 0.0


DecideHook = Callable[[Exchange], Reply | Awaitable[Reply | None] | None]
ResponseHook = Callable[[Exchange, ResponseHead], None]
FilterHook = Callable[[Exchange, ResponseHead], BodyFilter | None]
TrailersHook = Callable[[Exchange, Headers], None]
ObserveHook = Callable[[Exchange, Outcome], None]
ExplainHook = Callable[[Exchange], Iterable[str]]
StatusHook = Callable[[], Mapping[str, Any]]


class Spec(BaseModel):
    """What somebody asked for of one policy: frozen, validated, importable anywhere, no I/O and no clock.

    Subclasses set `kind` (its key in a configuration file) and `placement`, add fields, and say in `bind_to` what
    carries them out. The default is the spec itself: a policy that needs no ports is one class with hooks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    kind: ClassVar[str] = ""
    positional: ClassVar[tuple[str, ...]] = ()
    """The fields that may be given by position, in order."""
    answers: ClassVar[bool] = False
    """Whether the policy answers every request itself, so that a route with it needs no destination."""
    keeps: ClassVar[str] = ""
    """What a bound policy remembers in its own process, in words for people. Of several processes each has its own."""

    def __init__(self, /, *args: Any, **fields: Any) -> None:
        if args:
            fields = self._by_position(args, fields)
        super().__init__(**fields)

    def placement(self) -> Placement:
        """Where this policy belongs. It may depend on the settings."""
        return Placement(Stage.TRANSFORM)

    def rewrites(self) -> bool:
        """Whether it calls `exchange.rewrite`: in a middleware stack those behind it see the rewritten request."""
        return False

    def over(self, outer: Self) -> Self | None:
        """Where a route has a policy of a kind that the gateway has too: the one spec that stands for both on that route.
        None, the default, where both stand. Raises ValueError where they contradict each other."""
        return None

    def remarks(self) -> Iterable[str]:
        """What is doubtful about these settings, each a sentence that says what to do. Asked once for every route."""
        return ()

    def bind_to(self, ports: Ports) -> object:
        """The policy that carries this spec out. Called once for each place the spec stands in, never per request."""
        return self

    def bind(self, ports: Ports | None = None, /, **named: Any) -> Any:
        """Bind to `ports`, or to ports given by name: `spec.bind(clock=ManualClock())`."""
        if ports is not None and named:
            raise TypeError("bind takes either one Ports object or ports by name, not both")
        return self.bind_to(Ports(**named) if ports is None else ports)

    @classmethod
    def _by_position(cls, args: tuple[Any, ...], fields: dict[str, Any]) -> dict[str, Any]:
        if callable(args[0]) and not isinstance(args[0], type):
            raise MisplacedPolicy(
                f"gatekit.{cls.__name__} is a policy spec, not a middleware: it was given an application. "
                f"Use gatekit.asgi.{cls.__name__} (FastAPI, Starlette, any ASGI app) or gatekit.wsgi.{cls.__name__} "
                f"(Flask, Django under WSGI)."
            )
        if len(args) > len(cls.positional):
            allowed = ", ".join(cls.positional) or "none"
            raise TypeError(
                f"{cls.__name__} takes {len(cls.positional)} positional argument(s) ({allowed}), not {len(args)}"
            )
        given = dict(zip(cls.positional, args, strict=False))
        for name in given:
            if name in fields:
                raise TypeError(f"{cls.__name__} got {name!r} twice, by position and by name")
        return {**given, **fields}

    @classmethod
    def shorthand(cls, value: Any) -> Self:
        """The spec from what a configuration file holds under its key: a mapping, or the first positional field."""
        if isinstance(value, dict):
            return cls.model_validate(value)
        if value is None:
            return cls.model_validate({})
        if not cls.positional:
            raise ValueError(f"{cls.kind} takes a mapping of settings")
        return cls.model_validate({cls.positional[0]: value})


class Hooks:
    """The hooks one bound policy has, looked up once when a pipeline is built."""

    __slots__ = (
        "body_filter", "decide", "explain", "filters_event_streams", "kind", "needs_body", "observe", "on_response",
        "on_trailers", "placement", "policy",
    )  # fmt: skip

    def __init__(self, spec: Spec, policy: object, lock: Lock | None = None) -> None:
        """`lock` guards the plain hooks of a policy that declares `shares_state`; nobody else pays for one."""
        self.kind = spec.kind or type(spec).__name__
        self.placement = spec.placement()
        self.policy = policy
        guard = lock() if lock is not None and getattr(policy, "shares_state", False) else None
        self.decide = cast("DecideHook | None", _hook(policy, "decide", guard))
        self.on_response = cast("ResponseHook | None", _hook(policy, "on_response", guard))
        self.body_filter = cast("FilterHook | None", _hook(policy, "body_filter", guard))
        self.on_trailers = cast("TrailersHook | None", _hook(policy, "on_trailers", guard))
        self.observe = cast("ObserveHook | None", _hook(policy, "observe", guard))
        self.explain = cast("ExplainHook | None", getattr(policy, "explain", None))
        self.needs_body = cast("int | None", getattr(policy, "needs_body", None))
        self.filters_event_streams = bool(getattr(policy, "filters_event_streams", False))


def _hook(policy: object, name: str, guard: AbstractContextManager[object] | None) -> Callable[..., Any] | None:
    found = cast("Callable[..., Any] | None", getattr(policy, name, None))
    if found is None or guard is None or inspect.iscoroutinefunction(found):
        return found
    hook = found

    def guarded(*args: Any) -> Any:
        with guard:
            return hook(*args)

    return guarded


def bound(spec: Spec, ports: Ports) -> Hooks:
    """The hooks of `spec` bound to `ports`: what a pipeline is made of."""
    return Hooks(spec, spec.bind_to(ports), ports.lock)


def jobs_of(policy: object) -> Iterable[Job]:
    """The background work a bound policy asks for."""
    jobs = getattr(policy, "jobs", None)
    return () if jobs is None else cast("Iterable[Job]", jobs())


def status_of(policy: object) -> StatusHook | None:
    """How a bound policy tells about itself, where it does."""
    return cast("StatusHook | None", getattr(policy, "status", None))


__all__ = [
    "IDENTITY", "BodyFilter", "Hooks", "Job", "Placement", "Reply", "Spec", "Stage", "ValidationError", "bound", "jobs_of", "status_of",
]  # fmt: skip
