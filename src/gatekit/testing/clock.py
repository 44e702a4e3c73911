"""Time and randomness that stand still until a test moves them."""

from __future__ import annotations

from itertools import cycle
from random import Random as _Generator


class ManualClock:
    """A `Clock` that moves only when told to. Two readings, as in production, which can be moved apart."""

    __slots__ = ("_monotonic", "_wall")

    def __init__(self, *, monotonic: float = 1_000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both readings. Raises ValueError on a negative number: time does not go back."""
        if seconds < 0:
            raise ValueError("time does not go back: use set_wall for a wall clock that was put back")
        self._monotonic += seconds
        self._wall += seconds

    def set_wall(self, seconds: float) -> None:
        """Put the wall clock to `seconds` since the Unix epoch, as NTP or an operator does; `monotonic` stays."""
        self._wall = seconds


class FixedRandom:
    """A `Random` that gives the values it was made with, over and over. Tokens count up from 1, so that no two are
    the same."""

    __slots__ = ("_tokens", "_values")

    def __init__(self, *values: float) -> None:
        if not all(0.0 <= value < 1.0 for value in values):
            raise ValueError("random() gives values in [0, 1)")
        self._values = cycle(values or (0.5,))
        self._tokens = 0

    def random(self) -> float:
        return next(self._values)

    def token(self, size: int) -> bytes:
        self._tokens += 1
        return self._tokens.to_bytes(size, "big")


class SeededRandom:
    """A `Random` whose sequence is settled by its seed. Not for secrets."""

    __slots__ = ("_generator",)

    def __init__(self, seed: int = 0) -> None:
        self._generator = _Generator(seed)  # noqa: S311 - repeatable on purpose

    def random(self) -> float:
        return self._generator.random()

    def token(self, size: int) -> bytes:
        return self._generator.randbytes(size)
