"""One number for how close to its limit something is: what an autoscaler goes by.

0 is idle, 1 is at the limit, and above 1 there is more to do than can be done at once, twice as much at 2. It falls again
within seconds when there is less to do.
"""

from __future__ import annotations

import math
from typing import Final

MOST: Final = 10.0
"""No more than that is told: beyond it the numbers it is made of say little."""
LEAST_SHED: Final = 0.01
"""A smaller share that was shed is what is left of an hour that is over: else it would stand at 1 long after it."""


def saturation(
    *,
    in_flight: int = 0,
    limit: float = math.inf,
    waiting: int = 0,
    late: float = 0.0,
    full: float = math.inf,
    shed: float = 0.0,
) -> float:
    """The greatest of what is under way or waits for each place there is, how late the loop is for each second at which
    everything is shed, and how much comes for what is let in.

    `shed` is the share of what comes that is turned away for want of room or time, in [0, 1]: where half of it is,
    twice as much comes as can be served. What is turned away because its upstream fails does not belong there: more
    gateways would not help it.
    """
    pressures = [(in_flight + waiting) / limit, late / full]
    if shed >= LEAST_SHED:
        pressures.append(1.0 / (1.0 - shed) if shed < 1.0 else MOST)
    return min(MOST, max(pressures))
