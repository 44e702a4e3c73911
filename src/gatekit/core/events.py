"""Typed events: what happened, as objects that anyone can subscribe to.

Policies and the gateway emit them; telemetry is one subscriber among others. An event carries no secret and no body.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

_log = logging.getLogger("gatekit.events")


@dataclass(frozen=True, slots=True)
class Event:
    """The root of all events."""


@dataclass(frozen=True, slots=True)
class RequestRefused(Event):
    """A policy answered a request itself. `policy` is its kind, `reason` the dotted reason of the reply."""

    policy: str
    reason: str
    status: int
    route: str | None


@dataclass(frozen=True, slots=True)
class PolicyFailed(Event):
    """A hook of a policy raised. In `decide` and `on_response` the request was refused with 500."""

    policy: str
    hook: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class GatewayStarted(Event):
    """The lifespan has begun: from now on requests are served."""

    generation: int


@dataclass(frozen=True, slots=True)
class ConfigApplied(Event):
    """A new generation is in force. `digest` names its content."""

    generation: int
    digest: str


@dataclass(frozen=True, slots=True)
class ConfigRejected(Event):
    """A configuration was refused; the generation in force did not change."""

    generation: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DrainBegan(Event):
    """The gateway is about to leave: it goes on answering for `grace` seconds and gives what is under way `timeout` more.

    `active` is how many exchanges are under way.
    """

    grace: float
    timeout: float
    active: int


@dataclass(frozen=True, slots=True)
class DrainEnded(Event):
    """A drain is over, after so many seconds: `cut` exchanges were broken off, `ended` streams closed properly."""

    seconds: float
    cut: int
    ended: int


@dataclass(frozen=True, slots=True)
class BreakerChanged(Event):
    """A circuit breaker moved from one state to another."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class EndpointFailed(Event):
    """An attempt on an endpoint failed. `reason` is that of the UpstreamError."""

    cluster: str
    endpoint: str
    reason: str


@dataclass(frozen=True, slots=True)
class KeySetRefreshed(Event):
    """A key set was fetched and holds so many keys. `changed` is whether it is another document than before."""

    url: str
    keys: int
    changed: bool


@dataclass(frozen=True, slots=True)
class KeySetStale(Event):
    """A key set could not be refreshed in time, for the reason `why`; once for each outage.

    Its keys are `age` seconds old and used all the same; None where there are none, and tokens cannot be verified.
    """

    url: str
    age: float | None
    why: str


E = TypeVar("E", bound=Event)
Subscriber = Callable[[Any], None]


class Events:
    """Where events are emitted and subscribed to.

    Subscribers are called in the emitter's place, in order of subscription, and must not block. One that raises is
    logged and does not disturb the others.
    """

    __slots__ = ("_by_type",)

    def __init__(self) -> None:
        self._by_type: dict[type[Event], tuple[Subscriber, ...]] = {}

    def subscribe(self, kind: type[E], subscriber: Callable[[E], None]) -> Callable[[], None]:
        """Call `subscriber` for every event of exactly that type; the result takes the subscription back.

        `Event` itself stands for all types.
        """
        self._by_type[kind] = (*self._by_type.get(kind, ()), subscriber)

        subscribed = True

        def unsubscribe() -> None:
            nonlocal subscribed
            if subscribed:
                subscribed = False
                rest = list(self._by_type[kind])
                rest.remove(subscriber)
                self._by_type[kind] = tuple(rest)

        return unsubscribe

    def wants(self, kind: type[Event]) -> bool:
        """Whether anyone listens: ask before building an event on the hot path."""
        by_type = self._by_type
        return bool(by_type) and bool(by_type.get(kind) or by_type.get(Event))

    def emit(self, event: Event) -> None:
        """Hand the event to everyone who subscribed to its type."""
        by_type = self._by_type
        for subscriber in (*by_type.get(type(event), ()), *by_type.get(Event, ())):
            try:
                subscriber(event)
            except Exception:
                _log.exception("a subscriber of %s raised", type(event).__name__)
