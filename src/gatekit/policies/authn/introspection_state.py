"""What is known of one authorization server that is asked about tokens. No port is known here.

It lies in a cell that several policies, generations, loops and threads share: the caches and the set are used by single
operations, all else changes under the lock, which is never held while anybody else is told of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from math import inf
from typing import Any, Final, NamedTuple

from gatekit.core.outcome import Grade
from gatekit.mechanisms.breaker import Breaker, Permit, Rules, State
from gatekit.mechanisms.recent import RecentCache

FAILURES: Final = 5
"""After so many failures in a row the server is left alone for a while."""
MAX_REFUSED: Final = 10_000
"""How many tokens that were refused are remembered."""
SAID_AGAIN: Final = 60.0
"""A failure of one sort is logged once until the server has answered again, and not within so many seconds."""

# The breaker is told of the fifth failure in a row and of none before, so that one is enough for it. Once the server
# answers there is no ramp: how many calls are under way is bounded anyhow.
_RULES: Final = Rules(
    failure_rate=1.0, min_requests=1, window=10.0, open_for=2.0, open_at_most=30.0, probes=1, ramp=0.0
)


class Told(Enum):
    """What there is to say of a token that the server did not describe."""

    INACTIVE = "inactive"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"


Answer = Mapping[str, Any] | Told
"""The members of an answer in which `active` is true, or what else came of it."""


class Refused(NamedTuple):
    """Why a token was refused lately. `rules` are those by which it was, None where the server itself said so."""

    reason: str
    rules: str | None


Moves = Sequence[tuple[State, State]]
"""From and to which states the breaker went. Whoever subscribed is told outside of the lock."""


class Line:
    """What is known of one server, through every reload: calls under way, failures, tokens that were refused.

    Threads share it: caches and the set are used by single operations, the rest changes under the lock.
    """

    __slots__ = (
        "_answered", "_epoch", "_lock", "_moves", "_said", "breaker", "calls", "counts", "endpoint", "in_row",
        "last_error", "refused", "tokens",
    )  # fmt: skip

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._moves: list[tuple[State, State]] = []
        self._epoch = 0
        self._answered = -inf
        self._said: dict[str, float] = {}
        self.breaker = Breaker(_RULES, lambda before, after: self._moves.append((before, after)))
        self.in_row = 0
        self.calls = 0
        self.tokens: set[bytes] = set()
        self.refused: RecentCache[bytes, Refused] = RecentCache(MAX_REFUSED)
        self.endpoint: str | None = None
        self.counts = dict.fromkeys(("active", *(told.value for told in Told)), 0)
        self.last_error: str | None = None

    def enter(self, digest: bytes, limit: int, now: float, random: float) -> tuple[Permit | Told, Moves]:
        """A place for one call, to be given back by `leave`, or why there is none."""
        with self._lock:
            if self.calls >= limit:
                return Told.BUSY, ()
            permit = self.breaker.try_acquire(now, random)
            if permit is not None:
                self._epoch = permit.epoch
                self.calls += 1
                self.tokens.add(digest)
            return permit or Told.UNAVAILABLE, self._moved()

    def leave(self, digest: bytes, permit: Permit, grade: Grade, now: float) -> Moves:
        """The end of a call, with what it says of the server."""
        with self._lock:
            self.calls -= 1
            self.tokens.discard(digest)
            if grade is Grade.GOOD:
                self._answered = now
            if permit.epoch == self._epoch and grade is not Grade.IGNORE:
                # A call of before the server was left alone says nothing of what it does today.
                self.in_row = 0 if grade is Grade.GOOD else self.in_row + 1
            if not permit.probe and (grade is Grade.GOOD or self.in_row < FAILURES):
                grade = Grade.IGNORE
            self.breaker.record(permit, grade, now)
            return self._moved()

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def failed(self, sort: str, text: str, now: float) -> bool:
        """Note what went wrong. Whether it is to be logged: once for each outage."""
        with self._lock:
            self.last_error = text
            said = self._said.get(sort, -inf)
            if said > -inf and (said >= self._answered or now - said < SAID_AGAIN):
                return False
            self._said[sort] = now
            return True

    def _moved(self) -> Moves:
        moves, self._moves = self._moves, []
        return moves


__all__ = ["FAILURES", "MAX_REFUSED", "Answer", "Line", "Moves", "Refused", "Told"]
