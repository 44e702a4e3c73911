"""The spec of load shedding. Its docstrings are the reference documentation."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gatekit.core.policy import Placement, Spec, Stage
from gatekit.core.ports import Ports
from gatekit.core.units import Duration
from gatekit.mechanisms import adaptive, admission
from gatekit.mechanisms.limiter import Bounds
from gatekit.policies.overload import exempt as exemptions
from gatekit.policies.overload.levels import LEVELS, Level
from gatekit.policies.overload.policy import OverloadPolicy
from gatekit.policies.overload.scope import Rules

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHARES: dict[Level, float] = {"critical": 1.0, "default": 0.9, "sheddable": 0.75, "bulk": 0.5}
_STANDING = 0.25
"""The part of `max_wait` after which a queue that was never empty is served newest first."""

Share = Annotated[float, Field(gt=0, le=1)]


class Admission(BaseModel):
    """When requests are held back from a destination that fails, and how many."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The rate of success below which it begins."""
    aggression: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How many more are turned away at the same rate: 1 is in proportion."""
    most: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """The greatest share that is turned away. The rest goes on, and tells when it works again."""
    window: Duration = 30.0
    """How far back is looked."""
    least: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """With fewer requests than so many in the window nobody is turned away."""

    def terms(self) -> admission.Terms:
        return admission.Terms(self.threshold, self.aggression, self.most, self.window, self.least)


class Overload(Spec):
    """Turns requests away with 503 when there is more to do than can be done, before anything has been done for them.

    It stands before identification, and before a request's body is read. Who gets a place is decided by `Priority`.
    """

    kind: ClassVar[str] = "overload"
    keeps: ClassVar[str] = "what is under way, who waits, and the limit that it found out"
    status: ClassVar[str] = "preview"
    positional: ClassVar[tuple[str, ...]] = ("concurrency",)

    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["adaptive"] | None = None
    """How many requests may be under way at the same time: a number, or `adaptive`, which is found out from latency.
    None, the default, limits nothing."""
    per: Literal["gateway", "route", "upstream"] = "gateway"
    """What they are counted for: all together, each route, or each cluster (a route that is split between clusters has
    one of its own). Behind a middleware there is one app, and all three are the same."""
    name: str = "default"
    """Tells it from others that stand at the same place with the same `per`."""
    queue: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """How many may wait for a place. 0 turns them away at once."""
    max_wait: Duration = 1.0
    """How long somebody waits at most. Once the queue has not been empty for a quarter of it, the newest is served
    first, and who has waited for half of it is let go."""
    floor: Annotated[int, Field(ge=1, le=1_000_000)] = 4
    """The least that an adaptive limit falls to, in each process."""
    ceiling: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """The most that it rises to, in each process."""
    initial: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """What it begins with, in each process."""
    divide: bool = True
    """Whether `concurrency` as a number and `queue` are for all processes of this instance together. Each then has its
    part, rounded down, at least 1: what is to be protected does not know how many processes there are."""
    shares: Mapping[Level, Share] = Field(default_factory=lambda: dict(_SHARES))
    """Up to which part of the limit each level may fill it while something more important has come lately."""
    admission: Admission | None = None
    """Hold back requests from a destination that fails; `true` for the default settings. Where it stands for several
    destinations (`per: gateway`), those that work are held back with those that do not."""
    lag: bool = True
    """Whether to shed when the event loop is late. It is watched only where there is one: not under WSGI."""
    lag_begin: Duration = 0.05
    """By how much it is late when the first is shed."""
    lag_full: Duration = 0.25
    """By how much when everything is. Between them it rises evenly."""
    exempt: Sequence[str] = ()
    """What is never turned away and takes no place: paths (`/healthz`, `/internal/*`) and names of routes."""
    hold_streams: bool = False
    """Whether a WebSocket or an event stream keeps its place until it ends. By default it gives it back when it begins,
    since it may last for days and mostly waits."""
    retry_after: Annotated[int, Field(ge=1, le=3600)] = 1
    """The least seconds in Retry-After; each client is told another number, up to three times that."""
    shadow: bool = False
    """Whether nobody is turned away nor waits, and it is only counted who would be."""

    if TYPE_CHECKING:
        # Type checkers know nothing of `positional`.
        def __init__(self, concurrency: int | Literal["adaptive"] | None = None, /, **settings: Any) -> None: ...

    @field_validator("admission", mode="before")
    @classmethod
    def _switched(cls, value: Any) -> Any:
        return {} if value is True else None if value is False else value

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a name is made of letters, digits, dots, dashes and underscores, 64 at most")
        return value

    @field_validator("exempt")
    @classmethod
    def _are_exemptions(cls, value: Sequence[str]) -> tuple[str, ...]:
        for entry in value:
            exemptions.check(entry)
        return tuple(value)

    @field_validator("shares")
    @classmethod
    def _fall(cls, value: Mapping[Level, float]) -> dict[Level, float]:
        shares = {**_SHARES, **value}
        parts = [shares[level] for level in LEVELS]
        if parts != sorted(parts, reverse=True):
            raise ValueError("what is less important may not fill more: shares fall from critical to bulk")
        return {level: shares[level] for level in LEVELS}

    @model_validator(mode="after")
    def _makes_sense(self) -> Overload:
        if self.concurrency is None and self.admission is None and not self.lag:
            raise ValueError("nothing is ever shed: set concurrency, admission or lag")
        if not self.floor <= self.initial <= self.ceiling:
            raise ValueError(f"floor, initial and ceiling rise: not {self.floor}, {self.initial}, {self.ceiling}")
        if self.lag_begin >= self.lag_full:
            raise ValueError("lag_begin is below lag_full")
        return self

    def placement(self) -> Placement:
        return Placement(Stage.SHED)

    def remarks(self) -> Iterable[str]:
        if self.concurrency == "adaptive" and self.per == "gateway":
            yield (
                "an adaptive limit for all destinations together follows whichever is slow: write per: upstream, unless "
                "there is only one"
            )
        if self.admission is not None and self.per == "gateway":
            yield "one destination that fails holds back requests to all: write per: upstream, unless there is only one"

    def bind_to(self, ports: Ports) -> OverloadPolicy:
        return OverloadPolicy(self, ports, self.rules(ports.processes))

    def rules(self, processes: int = 1) -> Rules:
        """What each of so many processes goes by."""
        parts = processes if self.divide else 1
        limited = self.concurrency is not None
        bounds = Bounds(
            shares=tuple(self.shares[level] for level in LEVELS),
            queue=max(1, self.queue // parts) if self.queue and limited else 0,
            max_wait=self.max_wait,
            interval=_STANDING * self.max_wait,
        )
        terms = adaptive.Terms(self.floor, self.ceiling, self.initial) if self.concurrency == "adaptive" else None
        return Rules(
            bounds=bounds,
            limit=max(1, self.concurrency // parts) if isinstance(self.concurrency, int) else math.inf,
            adaptive=terms,
            admission=None if self.admission is None else self.admission.terms(),
        )
