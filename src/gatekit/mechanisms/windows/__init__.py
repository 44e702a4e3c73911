"""How often may they? The ways to count against a limit: each a pure function of (state, now, cost), with a twin in Lua.

An algorithm is one file, its twin of the same name beside it, and one line in `ALGORITHMS`. What a key has spent is its
`State`, a few numbers; `()` is nothing spent. Nothing here knows whose state it is or where it is kept, so several limits
are all or nothing by themselves: compute them all, keep the new states only if all of them allow it.

The twins compute the same numbers in the same order, both in doubles, so that Python and a Redis server decide alike to
the last bit.

Time that goes back counts as standing still. Windows are aligned to multiples of the period on the clock of whoever calls,
or to the calendar of the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gatekit.core.counters import Limit
from gatekit.mechanisms.windows.concurrency import Concurrency
from gatekit.mechanisms.windows.fixed_window import FixedWindow, edges
from gatekit.mechanisms.windows.sliding_log import SlidingLog
from gatekit.mechanisms.windows.sliding_window import SlidingWindow
from gatekit.mechanisms.windows.step import State, Window
from gatekit.mechanisms.windows.token_bucket import TokenBucket

ALGORITHMS: Final[Mapping[str, Callable[[Limit], Window]]] = {
    "concurrency": Concurrency,
    "fixed_window": FixedWindow,
    "sliding_log": SlidingLog,
    "sliding_window": SlidingWindow,
    "token_bucket": TokenBucket,
}
"""Every algorithm by the name under which it can be chosen. Its twin is the file of that name that ends in `.lua`."""


def window_of(limit: Limit) -> Window:
    """How that limit counts. Raises ValueError on one that nothing can count."""
    make = ALGORITHMS.get(limit.algorithm)
    if make is None:
        raise ValueError(f"there is no algorithm {limit.algorithm!r}: take one of {', '.join(sorted(ALGORITHMS))}")
    if limit.calendar is not None and make is not FixedWindow:
        raise ValueError(f"{limit.algorithm} knows no calendar: take fixed_window, or a limit without one")
    return make(limit)


__all__ = ["ALGORITHMS", "State", "Window", "edges", "window_of"]
