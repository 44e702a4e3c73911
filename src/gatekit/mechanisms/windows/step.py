"""What every algorithm is: two functions of a state."""

from __future__ import annotations

import math
from typing import Final, Protocol

from gatekit.core.counters import Taken

State = tuple[float, ...]
"""What one key has spent of one limit, in numbers that a double holds exactly. `()` is nothing."""

SLACK: Final = 1e-6
"""What rounding may cost, in requests: a caller who waits as long as he was told gets through."""

EARLY: Final = 1e-9
"""What rounding may cost where a moment counts, in periods."""

LONGEST: Final = 1_000
"""The largest amount of a limit whose state has numbers for each single request."""


class Window(Protocol):
    """A limit, ready to count with. It holds no state."""

    def take(self, state: State, now: float, cost: int, mark: int = 0) -> tuple[State, Taken]:
        """The state after spending `cost`, if it fits, and the answer; where it does not fit, or costs nothing, what is
        left is told as it is and the state is the one given. `mark` names what is taken, for algorithms that give back
        by name."""
        ...

    def charge(self, state: State, now: float, cost: int, mark: int = 0) -> State:
        """The state after `cost` was spent, whether it fitted or not; a negative cost gives back, at most all there is."""
        ...


def index_of(now: float, period: float) -> int:
    """Which multiple of the period `now` lies in: its window is from `index * period` until `(index + 1) * period`."""
    return math.floor(now / period + EARLY)


def check_length(amount: int, algorithm: str) -> None:
    """Raises ValueError where a state with numbers for each request would be too long."""
    if amount > LONGEST:
        raise ValueError(
            f"{algorithm} remembers every request, so its amount is at most {LONGEST}, not {amount}: "
            "take sliding_window or token_bucket, or count in larger units"
        )
