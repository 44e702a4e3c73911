"""Days, weeks, months, quarters and years of a time zone, as windows that follow each other without a gap.

A window begins when the clocks of the zone first show its first midnight, or whatever follows it where that midnight is
skipped. So a day is 23 or 25 hours long where clocks are changed, and one that a zone leaves out (Samoa, 30 December 2011)
is no window. Weeks begin on Monday (ISO 8601). Dates are those of the proleptic Gregorian calendar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import floor
from typing import Final

from gatekit.core.ports import Zone

_DAY: Final = 86_400

UNITS: Final[Mapping[str, float]] = {
    "day": 86_400.0,
    "week": 7 * 86_400.0,
    "month": 30 * 86_400.0,
    "quarter": 91 * 86_400.0,
    "year": 365 * 86_400.0,
}
"""Every unit there is, and about how many seconds it has: what a `Limit` has as its period."""


@dataclass(frozen=True, slots=True)
class CalendarWindow:
    """A `Calendar` of one unit in one time zone; `zone` is the one that `zone_name` names. Raises ValueError on a unit that
    there is not."""

    unit: str
    zone_name: str
    zone: Zone = field(compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"there is no calendar unit {self.unit!r}: take one of {', '.join(UNITS)}")

    @property
    def name(self) -> str:
        return f"{self.unit}:{self.zone_name}"

    def window(self, moment: float) -> tuple[float, float]:
        """Beginning and end of the window that `moment` lies in, in seconds since the Unix epoch."""
        first = _FIRSTS[self.unit]
        day = first(floor((moment + self.zone(moment)) / _DAY), 0)
        begin = self._midnight(day)
        while True:
            day = first(day, 1)
            end = self._midnight(day)
            # Not so where a day is skipped, nor where clocks that had shown this midnight were put back behind it.
            if begin <= moment < end:
                return float(begin), float(end)
            begin = end

    def _midnight(self, day: int) -> int:
        """When the clocks first show the midnight that this day begins with, or more.

        It supposes that they are changed once at most from a day before until a day after.
        """
        shown = day * _DAY
        earlier, later = shown - _DAY, shown + _DAY
        ahead, ahead_later = self.zone(earlier), self.zone(later)
        begin = shown - int(ahead)
        if ahead == ahead_later:
            return begin
        while later - earlier > 1:
            middle = (earlier + later) // 2
            if self.zone(middle) == ahead:
                earlier = middle
            else:
                later = middle
        # The clocks were changed at `later`, maybe over midnight.
        return begin if begin < later else max(later, shown - int(ahead_later))


def day_of(year: int, month: int, day: int = 1) -> int:
    """The number of a day, 0 for 1 January 1970. A month past 12 is one of the years after."""
    # A year that begins in March has its leap day at its end.
    year, month = year + (month - 3) // 12, (month - 3) % 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 719_469


def month_of(day: int) -> tuple[int, int]:
    """Year and month of the day of that number."""
    year = (400 * (day + 719_528)) // 146_097
    # Off by one at most, by how leap days lie.
    if day_of(year + 1, 1) <= day:
        year += 1
    elif day < day_of(year, 1):
        year -= 1
    month = (day - day_of(year, 1)) // 31 + 1
    return year, month + 1 if month < 12 and day_of(year, month + 1) <= day else month


def _day(day: int, units: int) -> int:
    return day + units


def _week(day: int, units: int) -> int:
    # 1 January 1970 was a Thursday.
    return (day + 3) // 7 * 7 - 3 + 7 * units


def _months(each: int) -> Callable[[int, int], int]:
    def months(day: int, units: int) -> int:
        year, month = month_of(day)
        return day_of(year, (month - 1) // each * each + 1 + each * units)

    return months


_FIRSTS: Final[Mapping[str, Callable[[int, int], int]]] = {
    "day": _day,
    "week": _week,
    "month": _months(1),
    "quarter": _months(3),
    "year": _months(12),
}
"""Unit → the first day of the unit that a day lies in, or so many units later."""
