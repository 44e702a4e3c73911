"""Hours, days and dates: calendar arithmetic on seconds since the Unix epoch.

What a zone's clocks show comes from outside, through the port `zones`; UTC and fixed offsets (`+01:00`) need nobody.
Days are counted from 1 January 1970, a Thursday; the calendar is the Gregorian one.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gatekit.core.ports import Ports, Zone

DAY: Final = 86_400
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")
_WEEKDAYS = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)(?:[-,](?:mon|tue|wed|thu|fri|sat|sun))*", re.IGNORECASE)
_OFFSET = re.compile(r"([+-])([01][0-9]|2[0-3]):([0-5][0-9])")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.0+)?)?)?(?: ?(Z|[+-][0-9:]{5}|[A-Za-z]\S*))?"
)

WINDOW_FORM: Final = (
    "write days, hours and a time zone, as in `mon-fri 08:00-18:00 Europe/Zurich`; each may be left out"
)
MOMENT_FORM: Final = "write a date, with a time and a time zone where they matter: `2026-12-31 18:00 Europe/Zurich`"


class Window(NamedTuple):
    """Hours of some days of the week. `begin` and `end` are seconds of the day; an end that is not after the begin is
    on the next day, and `days` (Monday is 0) are those on which the window begins."""

    days: frozenset[int]
    begin: int
    end: int
    zone: str

    def holds(self, local: float) -> bool:
        """Whether local clocks, in seconds since 1 January 1970, stand within it. The end itself is outside."""
        day, second = divmod(local, DAY)
        weekday = (int(day) + 3) % 7
        if self.begin < self.end:
            return weekday in self.days and self.begin <= second < self.end
        return (weekday in self.days and second >= self.begin) or ((weekday - 1) % 7 in self.days and second < self.end)


def window(text: str) -> Window:
    """From `mon-fri 08:00-18:00 Europe/Zurich`. Raises ValueError with the form."""
    words = text.split()
    days, begin, end, zone = frozenset(range(7)), 0, DAY, "UTC"
    if not words:
        raise ValueError(WINDOW_FORM)
    found_days = _WEEKDAYS.fullmatch(words[0])
    if found_days:
        days = _weekdays(words.pop(0).lower())
    found_hours = _HOURS.fullmatch(words[0]) if words else None
    if found_hours:
        words.pop(0)
        hours = [int(part) for part in found_hours.groups()]
        begin, end = hours[0] * 3600 + hours[1] * 60, hours[2] * 3600 + hours[3] * 60
        if end > DAY:
            raise ValueError("a day ends at 24:00")
        if begin == end:
            raise ValueError("the hours begin and end at the same time: leave them out for whole days")
    if not (found_days or found_hours) or len(words) > 1:
        raise ValueError(WINDOW_FORM)
    if words:
        zone = zone_name(words[0])
    return Window(days, begin, end, zone)


def _weekdays(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, *rest = [_DAYS.index(day) for day in part.split("-")]
        if len(rest) > 1:
            raise ValueError(WINDOW_FORM)
        last = rest[0] if rest else first
        found.update((first + step) % 7 for step in range((last - first) % 7 + 1))
    return frozenset(found)


class Moment(NamedTuple):
    """What local clocks show, in seconds since 1 January 1970, and where. `whole_day`: no time was given."""

    local: int
    whole_day: bool
    zone: str

    def instant(self, zone: Zone) -> float:
        """The same in seconds since the Unix epoch. Of a time that clocks show twice the second, and of one that they
        skip the time they would show without the skip."""
        before, after = zone(self.local - DAY), zone(self.local + DAY)
        for ahead in (after, before):
            if zone(self.local - ahead) == ahead:
                return self.local - ahead
        return self.local - before


def moment(text: str) -> Moment:
    """From `2026-12-31 18:00 Europe/Zurich` or ISO 8601. Raises ValueError with the form."""
    found = _MOMENT.fullmatch(text.strip())
    if found is None:
        raise ValueError(MOMENT_FORM)
    year, month, day = (int(part) for part in found.group(1, 2, 3))
    if not (year >= 1970 and 1 <= month <= 12 and 1 <= day <= _days_in(year, month)):
        raise ValueError(f"{found[1]}-{found[2]}-{found[3]} is no date from 1970 on")
    seconds = sum(int(part or 0) * unit for part, unit in zip(found.group(4, 5, 6), (3600, 60, 1), strict=True))
    zone = "UTC" if found[7] in (None, "Z") else zone_name(found[7])
    return Moment(days_since_1970(year, month, day) * DAY + seconds, found[4] is None, zone)


def days_since_1970(year: int, month: int, day: int) -> int:
    """The number of the day in the Gregorian calendar; 1 January 1970 is 0."""
    # Years that begin in March have their leap day at the end, so that the months before it are always as long.
    year, month = (year - 1, month + 9) if month <= 2 else (year, month - 3)
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 719_469


def _days_in(year: int, month: int) -> int:
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    return days_since_1970(*following, 1) - days_since_1970(year, month, 1)


def zone_name(text: str) -> str:
    """The name of a zone as it is looked up. Raises ValueError on text that can be no zone's name."""
    if _OFFSET.fullmatch(text) or _ZONE.fullmatch(text):
        return text
    raise ValueError(f"{text!r} is no time zone: write one as in Europe/Zurich, UTC or +01:00")


def zone_of(ports: Ports, name: str) -> Zone:
    """The zone of that name. Raises ValueError where there is none, or nobody who could look it up."""
    if name == "UTC":
        return lambda _: 0
    offset = _OFFSET.fullmatch(name)
    if offset is not None:
        ahead = (int(offset[2]) * 3600 + int(offset[3]) * 60) * (-1 if offset[1] == "-" else 1)
        return lambda _: ahead
    return ports.zones(name)
