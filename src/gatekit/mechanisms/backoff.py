"""How long to wait before a retry: full jitter over an exponential, and what the upstream asked for.

Full jitter draws from zero, so that those who failed together do not come back together. Randomness is handed in.
"""

from __future__ import annotations

import math
import re
from typing import Final

BASE: Final = 0.025
"""Seconds: the longest wait before the first retry."""
CAP: Final = 0.25
"""Seconds: the longest wait before any retry that the upstream did not ask for."""
RETRY_AFTER_CAP: Final = 30.0
"""Seconds: a longer Retry-After is not waited for; the response is returned as it is."""

_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d{2}) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (\d{4}) "
    r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60) GMT",
    re.ASCII,
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS_BEFORE = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


def delay(retry: int, random: float, *, base: float = BASE, cap: float = CAP) -> float:
    """Seconds to wait before retry number `retry` (from 1): anywhere below `base × 2^(retry - 1)`, at most `cap`.

    `random` is in [0, 1).
    """
    return random * min(cap, base * 2.0 ** min(retry - 1, 60))


def pause(
    retry: int,
    random: float,
    *,
    retry_after: float | None = None,
    left: float = math.inf,
    base: float = BASE,
    cap: float = CAP,
) -> float | None:
    """Seconds to wait before that retry, or None when there should be none.

    `retry_after` is what the upstream asked for; the jitter comes on top of it. `left` is what remains until the
    deadline. A wait that would reach the deadline, or a Retry-After beyond 30 s, means: return the response instead.
    """
    wait = delay(retry, random, base=base, cap=cap)
    if retry_after is not None:
        if retry_after > RETRY_AFTER_CAP:
            return None
        wait += max(0.0, retry_after)
    return wait if wait < left else None


def retry_after_seconds(value: str, wall: float) -> float | None:
    """The seconds a Retry-After field asks for (RFC 9110 section 10.2.3), None when it says nothing intelligible.

    `wall` is the time since the Unix epoch that a date is held against; one that has passed asks for 0.
    """
    value = value.strip(" \t")
    if value.isascii() and value.isdigit():
        # Longer than any wait could be, and longer than what int() takes without complaint.
        return float(value) if len(value) <= 15 else math.inf
    found = _DATE.fullmatch(value)
    if found is None:
        return None
    day, month, year = int(found[1]), _MONTHS.index(found[2]), int(found[3])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    years = year - 1
    days = years * 365 + years // 4 - years // 100 + years // 400 + _DAYS_BEFORE[month] + (leap and month > 1) + day
    # Day 719163 of the proleptic Gregorian calendar is 1 January 1970.
    seconds = (days - 719_163) * 86_400 + int(found[4]) * 3_600 + int(found[5]) * 60 + int(found[6])
    return max(0.0, seconds - wall)
