"""The state of one limiter: of the whole gateway, of one route or of one destination. It outlives reloads.

What is asked of every request takes no lock. Whatever hands places over, or changes what they are reckoned by, does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gatekit.core.exchange import Exchange
from gatekit.core.outcome import Fault, Grade, Outcome
from gatekit.core.ports import Lock, Signal
from gatekit.mechanisms import adaptive, admission
from gatekit.mechanisms.limiter import LEVELS, Bounds, Limiter, State, Waiter
from gatekit.mechanisms.mix import Mix
from gatekit.policies.overload.answers import CONCURRENCY, QUEUE_FULL, QUEUE_TIMEOUT, REASONS
from gatekit.policies.overload.levels import LEVELS as NAMES
from gatekit.policies.overload.saturation import saturation

TURN: Final = 0.25
"""Seconds between two looks at what came of what."""
IDLE: Final = 600.0
"""Seconds after which a scope that nobody asks for may be forgotten."""
_SHEDDING: Final = 0.05
"""The share that is turned away from which on a limit counts as one that turns away."""
_DROPPED: Final = frozenset({None, 503, 504})
"""Answers that say that there was no time or no room."""
_THEIRS: Final = frozenset({Fault.UPSTREAM, Fault.APP})


class Rules(NamedTuple):
    """What a policy asks of its scopes. Without `limit` and `adaptive` there is no limit to what is under way."""

    bounds: Bounds
    limit: float = math.inf
    adaptive: adaptive.Terms | None = None
    admission: admission.Terms | None = None


class Scope:
    """One limiter with all that belongs to it.

    `due` is when `turn` is to be called, `peak` the most that was under way since the limit was moved last, `chances`
    with what probability each level is turned away because its destination fails; None while nothing is.
    """

    __slots__ = (
        "_adaptive", "_generation", "_lock", "_success", "chances", "due", "limiter", "mix", "name", "peak", "rules", "shed",
        "shed_in_shadow",
    )  # fmt: skip

    def __init__(self, name: str, rules: Rules, lock: Lock, now: float) -> None:
        self.name = name
        self.rules = rules
        self.limiter: Limiter[Exchange, Signal] = Limiter(rules.bounds, rules.limit)
        self.mix = Mix(LEVELS, now)
        self.chances: tuple[float, ...] | None = None
        self.due = -math.inf
        self.peak = 0
        self.shed = {reason: [0] * LEVELS for reason in REASONS}
        self.shed_in_shadow = {reason: [0] * LEVELS for reason in REASONS}
        self._lock = lock()
        self._generation = -1
        self._adaptive: adaptive.Adaptive | None = None
        self._success: admission.SuccessRate | None = None

    def turn(self, rules: Rules, generation: int, now: float) -> None:
        """Reckon anew, by these rules unless those of a later generation have been seen."""
        with self._lock:
            if generation >= self._generation:
                self.rules, self._generation = rules, generation
            self.due = now + TURN
            self.mix.turn(now)
            self.limiter.settle(self.rules.bounds, self._limit(now), self.mix.above())
            self.chances = self._chances(now)
            self.limiter.serve(now)

    def _limit(self, now: float) -> float:
        terms = self.rules.adaptive
        if terms is None:
            self._adaptive = None
            return self.rules.limit
        if self._adaptive is None:
            self._adaptive = adaptive.Adaptive(terms, now)
        if self._adaptive.turn(terms, self.peak, self.mix.shed_share() > _SHEDDING, now):
            self.peak = len(self.limiter.held)
        return math.floor(self._adaptive.limit)

    def _chances(self, now: float) -> tuple[float, ...] | None:
        terms = self.rules.admission
        if terms is None:
            self._success = None
            return None
        if self._success is None:
            self._success = admission.SuccessRate(terms.window)
        chance = self._success.chance(terms, now)
        return self.mix.chances(chance) if chance else None

    # -- an exchange on its way

    def join(
        self, exchange: Exchange, level: int, now: float, signal: Callable[[], Signal]
    ) -> Waiter[Exchange, Signal] | str:
        """Wait for a place, or have one after all; or the reason why not."""
        with self._lock:
            waiter = self.limiter.join(exchange, level, now, signal)
            if waiter is not None:
                return waiter
            return QUEUE_FULL if self.rules.bounds.queue else CONCURRENCY

    def waited(self, waiter: Waiter[Exchange, Signal], now: float) -> str | None:
        """Its wait has ended: None where it has a place, else the reason why not."""
        with self._lock:
            if waiter.state is State.HOLDS:
                return None
            self.limiter.give_up(waiter, now)
            return QUEUE_FULL if waiter.state is State.YIELDED else QUEUE_TIMEOUT

    def give_up(self, waiter: Waiter[Exchange, Signal], now: float) -> None:
        """Whoever waited has gone. What it was given meanwhile goes to the next.

        Of one who was let go before there is nothing to take back, and no lock is taken: it may be that it goes only
        now, with its loop, since `serve` in this very thread has let go of it.
        """
        if waiter.state is State.WAITS or waiter.state is State.HOLDS:
            with self._lock:
                self.limiter.give_up(waiter, now)

    def leave(self, exchange: Exchange, now: float) -> bool:
        """Give the place back and hand it to who waits. False where it had none."""
        limiter = self.limiter
        if limiter.leave(exchange) is None:
            return False
        if limiter.queue.length:
            with self._lock:
                limiter.serve(now)
        return True

    def answered(self, exchange: Exchange, now: float) -> None:
        """The head of a destination's answer is there: what it took is what the limit is moved by."""
        if self._adaptive is not None:
            since = self.limiter.held.get(exchange)
            if since is not None:
                self._adaptive.latencies.append(now - since)

    def succeeded(self, now: float) -> None:
        """What was let in has been answered."""
        self._counted(True, now)

    def ended(self, outcome: Outcome, now: float) -> None:
        """How what was let in has ended. What says nothing about the destination counts for nothing."""
        if outcome.grade is Grade.GOOD:
            self._counted(True, now)
        elif outcome.grade is Grade.BAD and outcome.fault in _THEIRS:
            if self._adaptive is not None and outcome.status in _DROPPED:
                self._adaptive.drops += 1
            self._counted(False, now)

    def _counted(self, good: bool, now: float) -> None:
        success = self._success
        if success is not None:
            with self._lock:
                success.add(good, now)

    def count(self, reason: str, level: int, *, shadow: bool) -> None:
        """One was turned away, or would have been."""
        with self._lock:
            (self.shed_in_shadow if shadow else self.shed)[reason][level] += 1

    # -- told

    def saturation(self) -> float:
        limiter = self.limiter
        return saturation(
            in_flight=len(limiter.held), limit=limiter.limit, waiting=limiter.waiting, shed=self.mix.shed_share()
        )

    def status(self, now: float) -> dict[str, Any]:
        """Plain data about it."""
        with self._lock:
            self.mix.turn(now)
            limiter = self.limiter
            oldest = limiter.queue.oldest()
            return {
                "in_flight": len(limiter.held),
                "limit": None if limiter.limit == math.inf else int(limiter.limit),
                "waiting": limiter.waiting,
                "oldest_wait": 0.0 if oldest is None else round(max(0.0, now - oldest), 3),
                "admission": 0.0 if self._success is None or self.rules.admission is None else round(
                    self._success.chance(self.rules.admission, now), 3
                ),
                "saturation": round(self.saturation(), 3),
                "shed": _told(self.shed),
                "would_shed": _told(self.shed_in_shadow),
            }  # fmt: skip

    @property
    def idle(self) -> bool:
        """Whether nobody has a place or waits for one."""
        return not self.limiter.held and not self.limiter.queue.length


class Scopes:
    """The scopes of one policy at one place, by name, over all generations."""

    __slots__ = ("_bound", "_lock", "_made", "_most")

    def __init__(self, lock: Lock, most: int = 1000) -> None:
        """Up to `most` of them nobody looks which of them can go."""
        self._made: dict[str, Scope] = {}
        self._lock = lock
        self._most = self._bound = most

    def get(self, name: str, rules: Rules, now: float) -> Scope:
        """The scope of that name. Those of routes that there are no more are forgotten before they become many."""
        found = self._made.get(name)
        if found is None:
            if len(self._made) >= self._bound:
                for old in [one for one in self._made.values() if one.idle and now - one.due > IDLE]:
                    self._made.pop(old.name, None)
                self._bound = max(self._most, 2 * len(self._made))
            found = self._made.setdefault(name, Scope(name, rules, self._lock, now))
        return found

    def __len__(self) -> int:
        return len(self._made)


def _told(counts: dict[str, list[int]]) -> dict[str, dict[str, int]]:
    """What was counted, without what was not."""
    return {
        reason: {name: count for name, count in zip(NAMES, by_level, strict=True) if count}
        for reason, by_level in counts.items()
        if any(by_level)
    }
