"""The circuit breaker: stop asking what fails, find out gently whether it is back, come back in a ramp.

========== ========== ==============================================================================================
closed     open       half or more of the last 10 s failed, and there were 20 or more
open       half_open  the wait is over: 5 s, doubled each time in a row up to 60 s, ±20 %
half_open  open       so many of the 5 probes failed that half of them have
half_open  ramp       all 5 probes have an outcome, and fewer than half of them failed
ramp       open       as in closed, counted from the start of the ramp
ramp       closed     10 s are over; the next wait is 5 s again
========== ========== ==============================================================================================

The numbers are the defaults of `Rules`. In `half_open` no more than 5 permits are out at a time, those of an earlier
half-open that are still out included. In the ramp a share of requests that grows linearly from none to all is let
through. An outcome counts only for the state in which its permit was given: an answer that comes late says nothing
about the upstream of today.

Who calls it decides what an outcome means (`Grade`): here GOOD and BAD count, IGNORE only gives the permit back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gatekit.core.outcome import Grade
from gatekit.mechanisms.tally import Tally


class State(StrEnum):
    """What a breaker does with requests."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    RAMP = "ramp"


TRANSITIONS: Final = {
    (State.CLOSED, State.OPEN): "too many of the last requests failed",
    (State.OPEN, State.HALF_OPEN): "the wait is over",
    (State.HALF_OPEN, State.OPEN): "too many probes failed",
    (State.HALF_OPEN, State.RAMP): "enough probes went well",
    (State.RAMP, State.OPEN): "too many requests of the ramp failed",
    (State.RAMP, State.CLOSED): "the ramp is over",
}
"""Every way there is from one state to another, and why it is taken."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a breaker opens and how it closes again. Durations are seconds, rates and jitter are shares of 1."""

    failure_rate: float = 0.5
    min_requests: int = 20
    window: float = 10.0
    open_for: float = 5.0
    open_at_most: float = 60.0
    jitter: float = 0.2
    probes: int = 5
    ramp: float = 10.0


class Permit:
    """Leave to send one request. It goes back to its breaker exactly once: `record` or `abandon`."""

    __slots__ = ("epoch", "out", "probe")

    def __init__(self, epoch: int, probe: bool) -> None:
        self.epoch = epoch
        self.probe = probe
        self.out = True


class Breaker:
    """One breaker. `changed(before, after)` is called after every transition, with the breaker already in `after`."""

    __slots__ = (
        "_bad", "_changed", "_epoch", "_jitter", "_probes_bad", "_probes_done", "_probes_out", "_requests", "_since",
        "_wait", "rules", "state",
    )  # fmt: skip

    def __init__(self, rules: Rules | None = None, changed: Callable[[State, State], None] | None = None) -> None:
        self.rules = Rules() if rules is None else rules
        self.state = State.CLOSED
        self._changed = changed
        self._requests = Tally(self.rules.window)
        self._bad = Tally(self.rules.window)
        # Permits of an earlier epoch no longer count. The ramp and the closed state after it are one epoch.
        self._epoch = 0
        self._since = 0.0
        self._wait = self.rules.open_for
        self._jitter: float | None = None
        self._probes_out = 0
        self._probes_done = 0
        self._probes_bad = 0

    def try_acquire(self, now: float, random: float) -> Permit | None:
        """Leave to send one request, or None: then it must not be sent. `random` is in [0, 1)."""
        if self.state is State.OPEN:
            if self._jitter is None:
                self._jitter = 1.0 + self.rules.jitter * (2.0 * random - 1.0)
            if now < self._since + self._wait * self._jitter:
                return None
            self._move(State.HALF_OPEN, now)
        elif self.state is State.RAMP:
            passed = now - self._since
            if passed >= self.rules.ramp:
                self._move(State.CLOSED, now)
            elif random * self.rules.ramp >= passed:
                return None
        if self.state is not State.HALF_OPEN:
            return Permit(self._epoch, False)
        if self._probes_out >= self.rules.probes:
            return None
        self._probes_out += 1
        return Permit(self._epoch, True)

    def record(self, permit: Permit, grade: Grade, now: float) -> None:
        """Give the permit back with what came of it. A permit that is no longer out changes nothing."""
        if not permit.out:
            return
        self.abandon(permit)
        if grade is Grade.IGNORE or permit.epoch != self._epoch:
            return
        if permit.probe:
            self._probe_done(grade, now)
            return
        self._requests.add(1, now)
        if grade is Grade.BAD:
            self._bad.add(1, now)
            requests = self._requests.total(now)
            if requests >= self.rules.min_requests and self._bad.total(now) >= requests * self.rules.failure_rate:
                self._move(State.OPEN, now)

    def abandon(self, permit: Permit) -> None:
        """Give the permit back without an outcome: the request was never sent, or was given up."""
        if permit.out:
            permit.out = False
            self._probes_out -= permit.probe

    def retry_after(self, now: float) -> float:
        """In how many seconds the breaker may next let a request through; 0 where it may do so now."""
        if self.state is not State.OPEN:
            return 0.0
        jitter = 1.0 if self._jitter is None else self._jitter
        return max(0.0, self._since + self._wait * jitter - now)

    def _probe_done(self, grade: Grade, now: float) -> None:
        self._probes_done += 1
        self._probes_bad += grade is Grade.BAD
        if self._probes_bad >= self.rules.probes * self.rules.failure_rate:
            self._wait = min(self.rules.open_at_most, 2.0 * self._wait)
            self._move(State.OPEN, now)
        elif self._probes_done >= self.rules.probes:
            self._move(State.RAMP, now)

    def _move(self, after: State, now: float) -> None:
        before, self.state = self.state, after
        if after is State.CLOSED:
            self._wait = self.rules.open_for
        else:
            if after is State.OPEN and before is State.RAMP:
                self._wait = min(self.rules.open_at_most, 2.0 * self._wait)
            self._epoch += 1
            self._since = now
            self._jitter = None
            self._probes_done = self._probes_bad = 0
            self._requests.clear()
            self._bad.clear()
        if self._changed is not None:
            self._changed(before, after)
