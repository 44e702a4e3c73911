"""What the measurements come to: which rounds count, medians, ratios, goals. Pure: starts nothing and reads nothing."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

LOAD_IS_BUSY = 0.95
GATEWAY_IS_BUSY = 0.90
"""Shares of one core. Above the first, with the gateway below the second, the load generator was measured."""
DISTURBED = 0.10
"""Share of a core that other processes used during a round, from which on the round does not count."""


class Case(NamedTuple):
    body: str
    connections: int


def cases(bodies: Sequence[str], connections: Sequence[int], full: bool) -> list[Case]:
    """The small body at every number of connections; another only at 32, or what is nearest to it, unless `full`."""
    nearest = min(connections, key=lambda number: abs(number - 32))
    return [
        Case(body, number) for body in bodies for number in connections if full or body == "small" or number == nearest
    ]


class Sample(NamedTuple):
    """One round of one target in one case. Latencies and CPU are microseconds; `busy` values are shares of one core."""

    rate: float
    p50: float
    p99: float
    cpu: float | None
    """Gateway CPU for each request. None where there is no gateway."""
    gateway_busy: float | None
    load_busy: float
    """Load generator and upstream together."""
    other_busy: float
    """Processes that are no part of the measurement, on the busier of the two cores."""
    rss: float | None
    """MiB of the gateway's processes, right after the load."""
    errors: int

    @property
    def disturbed(self) -> bool:
        """Other processes took too much of a core: what was measured is how the kernel shared it out."""
        return self.other_busy >= DISTURBED

    @property
    def limited(self) -> bool:
        """The load generator or the upstream was the limit, not the gateway."""
        if self.gateway_busy is None:
            return False
        return self.load_busy >= LOAD_IS_BUSY and self.gateway_busy < GATEWAY_IS_BUSY


class Figure(NamedTuple):
    """Medians over the rounds that count, or, where none does, over those that come nearest to it.

    A round that was disturbed or limited is void. `errors` are those of all rounds.
    """

    rate: float
    p50: float
    p99: float
    cpu: float | None
    gateway_busy: float | None
    load_busy: float
    other_busy: float
    rss: float | None
    errors: int
    rounds: int
    limited: int
    """Rounds void because the load generator or the upstream was the limit."""
    disturbed: int
    """Rounds void because of other processes, whoever was the limit."""

    @property
    def rate_counts(self) -> bool:
        """Whether rate and latencies may be compared."""
        return not self.errors and self.limited + self.disturbed < self.rounds

    @property
    def cpu_counts(self) -> bool:
        """Whether CPU for each request may be compared: it does not say who was the limit."""
        return not self.errors and self.disturbed < self.rounds


Results = Mapping[tuple[str, Case], Figure]
"""Target and case → figure."""


def figure(samples: Iterable[Sample]) -> Figure:
    """Needs at least one sample."""
    every = list(samples)
    quiet = [sample for sample in every if not sample.disturbed]
    shown = [sample for sample in quiet if not sample.limited] or quiet or every
    return Figure(
        rate=statistics.median(sample.rate for sample in shown),
        p50=statistics.median(sample.p50 for sample in shown),
        p99=statistics.median(sample.p99 for sample in shown),
        cpu=_median(sample.cpu for sample in shown),
        gateway_busy=_median(sample.gateway_busy for sample in shown),
        load_busy=statistics.median(sample.load_busy for sample in shown),
        other_busy=max(sample.other_busy for sample in shown),
        rss=_median(sample.rss for sample in shown),
        errors=sum(sample.errors for sample in every),
        rounds=len(every),
        limited=sum(sample.limited for sample in quiet),
        disturbed=len(every) - len(quiet),
    )


def _median(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def value(results: Results, name: str, case: Case, field: str) -> float | None:
    """One value; None where it was not measured, is void, or had errors: such a figure is compared with nothing."""
    found = results.get((name, case))
    if found is None or not (found.cpu_counts if field == "cpu" else found.rate_counts):
        return None
    one: float | None = getattr(found, field)
    return one


def rates(results: Results, name: str, peer: str, case: Case) -> float | None:
    """How many times the requests of the peer the target carries. More is better for the target."""
    return _over(value(results, name, case, "rate"), value(results, peer, case, "rate"))


def savings(results: Results, name: str, peer: str, case: Case) -> float | None:
    """How many times the CPU of the target the peer takes for a request. More is better for the target."""
    return _over(value(results, peer, case, "cpu"), value(results, name, case, "cpu"))


def added(results: Results, name: str, peer: str, case: Case, field: str) -> float | None:
    """By how much the target's value is above the peer's."""
    mine, theirs = value(results, name, case, field), value(results, peer, case, field)
    return None if mine is None or theirs is None else mine - theirs


def _over(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below


AT_32 = Case("small", 32)
AT_1 = Case("small", 1)


class Goal(NamedTuple):
    """`measured` gives the value, None where the run has it not. `limit` is the least, or where `most` the most."""

    text: str
    measured: Callable[[Results], float | None]
    limit: float
    unit: str = "×"
    most: bool = False


def _carries(name: str, peer: str) -> Callable[[Results], float | None]:
    return lambda results: rates(results, name, peer, AT_32)


def _costs(name: str, peer: str) -> Callable[[Results], float | None]:
    return lambda results: added(results, name, peer, AT_32, "cpu")


def _delays(name: str, peer: str) -> Callable[[Results], float | None]:
    return lambda results: added(results, name, peer, AT_1, "p50")


GOALS = (
    Goal("forward only to the bare app, uvicorn", _carries("gatekit/uvicorn", "hello/uvicorn"), 0.55),
    Goal("forward only to the bare app, granian", _carries("gatekit/granian", "hello/granian"), 0.65),
    Goal("forward only on granian to Envoy", _carries("gatekit/granian", "envoy"), 1.3),
    Goal("forward only on granian to Caddy", _carries("gatekit/granian", "caddy"), 1.8),
    Goal("forward only on uvicorn to asgiproxy", _carries("gatekit/uvicorn", "asgiproxy"), 3.0),
    Goal("forward only on uvicorn to the httpx2 proxy", _carries("gatekit/uvicorn", "httpx2"), 12.0),
    *(
        Goal(
            f"CPU that 1,000 routes, key and limit add to forward only, {server}",
            _costs(f"gatekit-1000/{server}", f"gatekit/{server}"),
            10.0,
            "µs",
            most=True,
        )
        for server in ("uvicorn", "granian")
    ),
    *(
        Goal(
            f"p50 that forward only adds to direct at one connection, {server}",
            _delays(f"gatekit/{server}", "direct"),
            110.0,
            "µs",
            most=True,
        )
        for server in ("uvicorn", "granian")
    ),
)
"""The stated goals. Requests per second and CPU are at 32 connections with the small body."""


def verdict(goal: Goal, results: Results) -> tuple[float | None, str]:
    """The value, and `met`, `not met` or `not measured`. Compared before anything is rounded."""
    found = goal.measured(results)
    if found is None:
        return None, "not measured"
    met = found <= goal.limit if goal.most else found >= goal.limit
    return found, "met" if met else "not met"
