"""Windows by calendar, against the standard library's dates and zones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.counters import Limit
from gatekit.core.ports import Zone
from gatekit.mechanisms.calendar import UNITS, CalendarWindow, day_of, month_of
from gatekit.mechanisms.windows import edges, window_of

EPOCH = date(1970, 1, 1)
ZONES = sorted(available_timezones())
Moments = st.integers(0, 2**31 - 1)
"""Until 2038."""


def zone_of(name: str) -> Zone:
    zone = ZoneInfo(name)

    def ahead(moment: float) -> float:
        offset = datetime.fromtimestamp(moment, zone).utcoffset()
        assert offset is not None
        return offset.total_seconds()

    return ahead


def calendar(unit: str, name: str = "UTC") -> CalendarWindow:
    return CalendarWindow(unit, name, zone_of(name))


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def first_of(unit: str, day: date) -> date:
    """By definition: back to a day that begins one."""
    begins: dict[str, Callable[[date], bool]] = {
        "day": lambda day: True,
        "week": lambda day: day.isoweekday() == 1,
        "month": lambda day: day.day == 1,
        "quarter": lambda day: day.day == 1 and day.month in (1, 4, 7, 10),
        "year": lambda day: (day.month, day.day) == (1, 1),
    }
    while not begins[unit](day):
        day -= timedelta(days=1)
    return day


@given(day=st.dates(date(2, 1, 1)))
@settings(max_examples=500, deadline=None)
def test_days_have_the_months_of_the_standard_library(day: date) -> None:
    number = (day - EPOCH).days
    assert month_of(number) == (day.year, day.month)
    assert day_of(day.year, day.month, day.day) == number


def test_every_first_and_last_of_a_month_for_eight_centuries() -> None:
    """Two whole cycles of leap years."""
    for year in range(1600, 2401):
        for month in range(1, 13):
            first = (date(year, month, 1) - EPOCH).days
            assert day_of(year, month) == first
            assert month_of(first) == (year, month)
            assert month_of(first - 1) == ((year, month - 1) if month > 1 else (year - 1, 12))


def test_months_may_be_counted_on_past_the_year() -> None:
    assert day_of(2023, 14) == day_of(2024, 2)
    assert day_of(2023, 13) == day_of(2024, 1)
    assert day_of(2023, 15) == day_of(2024, 3)


@pytest.mark.parametrize("unit", list(UNITS))
@given(moment=Moments, fraction=st.floats(0.0, 0.999))
@settings(max_examples=80, deadline=None)
def test_in_utc_a_window_begins_with_its_first_day(unit: str, moment: int, fraction: float) -> None:
    begin, end = calendar(unit).window(moment + fraction)
    first = first_of(unit, datetime.fromtimestamp(moment, UTC).date())
    assert begin == datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()
    assert begin <= moment + fraction < end
    assert first_of(unit, datetime.fromtimestamp(end, UTC).date()) == datetime.fromtimestamp(end, UTC).date()
    assert 0.9 * UNITS[unit] <= end - begin <= 1.1 * UNITS[unit]


@pytest.mark.parametrize("unit", list(UNITS))
@given(name=st.sampled_from(ZONES), moment=Moments)
@settings(max_examples=150, deadline=None)
def test_in_any_zone_windows_follow_each_other_from_midnight_to_midnight(unit: str, name: str, moment: int) -> None:
    follow_each_other(calendar(unit, name), moment)


def follow_each_other(windows: CalendarWindow, moment: float) -> None:
    begin, end = windows.window(moment)
    assert begin <= moment < end
    assert windows.window(begin) == windows.window(end - 0.001) == (begin, end)
    assert windows.window(end)[0] == end
    assert windows.window(begin - 0.001)[1] == begin
    for edge in (begin, end):
        # The clocks show another day than a moment before, a first one of the unit; or one that comes after a skipped one.
        ahead = windows.zone
        shown, before = ((when + ahead(when)) // 86_400 for when in (edge, edge - 1))
        assert shown > before
        day, day_before = (EPOCH + timedelta(days=int(number)) for number in (shown, before))
        assert first_of(windows.unit, day) > day_before


def changes(name: str) -> list[float]:
    """When clocks of that zone are changed, to the day."""
    ahead = zone_of(name)
    found, last = [], ahead(0.0)
    for moment in range(0, 2**31, 86_400 * 7):
        if ahead(moment) != last:
            found.append(float(moment))
            last = ahead(moment)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "America/Havana", "America/Sao_Paulo", "America/St_Johns", "Asia/Beirut", "Asia/Gaza", "Asia/Kathmandu",
        "Australia/Lord_Howe", "Europe/Dublin", "Africa/Casablanca", "Pacific/Apia", "Antarctica/Troll", "Asia/Tehran",
    ],
)  # fmt: skip
def test_around_every_change_of_its_clocks_a_zone_has_days_without_a_gap(name: str) -> None:
    days = calendar("day", name)
    for change in changes(name):
        moment = days.window(change - 8 * 86_400)[1]
        while moment < change + 86_400:
            follow_each_other(days, moment)
            moment = days.window(moment)[1]


@pytest.mark.parametrize(
    ("name", "unit", "moment", "begin", "end"),
    [
        pytest.param(
            "Europe/Zurich", "day", "2026-03-29T12:00+02:00", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00",
            id="23 hours",
        ),
        pytest.param(
            "Europe/Zurich", "day", "2026-10-25T12:00+01:00", "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00",
            id="25 hours",
        ),
        pytest.param(
            "Australia/Lord_Howe", "day", "2026-04-05T12:00+10:30", "2026-04-05T00:00+11:00", "2026-04-06T00:00+10:30",
            id="24 and a half hours",
        ),
        pytest.param(
            "Asia/Kathmandu", "day", "2026-01-01T00:00+00:00", "2026-01-01T00:00+05:45", "2026-01-02T00:00+05:45",
            id="a zone of quarters of an hour",
        ),
        pytest.param(
            "America/Sao_Paulo", "day", "2018-11-04T12:00-02:00", "2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00",
            id="midnight is skipped",
        ),
        pytest.param(
            "America/Sao_Paulo", "day", "2018-02-17T23:30-03:00", "2018-02-17T00:00-02:00", "2018-02-18T00:00-03:00",
            id="the hour before midnight comes twice",
        ),
        pytest.param(
            "America/St_Johns", "day", "2010-11-06T23:30-03:30", "2010-11-07T00:00-02:30", "2010-11-08T00:00-03:30",
            id="midnight comes twice: the day began with the first",
        ),
        pytest.param(
            "Pacific/Apia", "day", "2011-12-31T00:30+14:00", "2011-12-31T00:00+14:00", "2012-01-01T00:00+14:00",
            id="after a day that is skipped",
        ),
        pytest.param(
            "Pacific/Apia", "day", "2011-12-29T23:30-10:00", "2011-12-29T00:00-10:00", "2011-12-31T00:00+14:00",
            id="before a day that is skipped",
        ),
        pytest.param(
            "UTC", "month", "2024-02-29T23:59+00:00", "2024-02-01T00:00+00:00", "2024-03-01T00:00+00:00", id="leap day"
        ),
        pytest.param(
            "UTC", "month", "2023-02-28T23:59+00:00", "2023-02-01T00:00+00:00", "2023-03-01T00:00+00:00", id="none"
        ),
        pytest.param(
            "Europe/Zurich", "month", "2026-10-31T23:59+01:00", "2026-10-01T00:00+02:00", "2026-11-01T00:00+01:00",
            id="a month with a change",
        ),
        pytest.param(
            "Europe/Zurich", "week", "2026-01-01T00:00+01:00", "2025-12-29T00:00+01:00", "2026-01-05T00:00+01:00",
            id="a week of two years",
        ),
        pytest.param(
            "America/New_York", "quarter", "2026-12-31T23:59-05:00", "2026-10-01T00:00-04:00", "2027-01-01T00:00-05:00",
            id="quarter",
        ),
        pytest.param(
            "Asia/Tokyo", "year", "2026-01-01T00:00+09:00", "2026-01-01T00:00+09:00", "2027-01-01T00:00+09:00", id="year"
        ),
    ],
)  # fmt: skip
def test_known_windows(name: str, unit: str, moment: str, begin: str, end: str) -> None:
    assert calendar(unit, name).window(at(moment)) == (at(begin), at(end))


def test_a_calendar_has_a_name_and_is_known_by_it() -> None:
    one = calendar("month", "Europe/Zurich")
    assert one.name == "month:Europe/Zurich"
    assert one == CalendarWindow("month", "Europe/Zurich", lambda moment: 0.0)
    assert Limit(5, 1.0, "fixed_window", one).id == "fixed_window:5:1:month:Europe/Zurich"
    with pytest.raises(ValueError, match="no calendar unit 'fortnight': take one of day, week, month, quarter, year"):
        calendar("fortnight")


def test_a_limit_by_calendar_begins_anew_with_the_calendar() -> None:
    limit = Limit(3, UNITS["day"], "fixed_window", calendar("day", "Europe/Zurich"))
    window = window_of(limit)
    state, taken = window.take((), at("2026-03-29T23:00+02:00"), 3)
    assert (taken.remaining, taken.reset_after) == (0, 3_600.0)
    refused = window.take(state, at("2026-03-29T23:59:59.5+02:00"), 1)[1]
    assert (refused.allowed, refused.retry_after) == (False, 0.5)
    # Another day, another, and a clock that was put back to the first, which counts as standing still.
    state, taken = window.take(state, at("2026-03-30T00:00+02:00"), 2)
    assert (taken.allowed, taken.remaining) == (True, 1)
    back = window.take(state, at("2026-03-29T23:00+02:00"), 2)[1]
    assert (back.allowed, back.remaining, back.retry_after) == (False, 1, 25 * 3_600.0)
    assert window.take(state, at("2026-04-02T00:00+02:00"), 3)[1].allowed
    assert window.take(state, at("2026-03-30T12:00+02:00"), 2)[1].remaining == 1


def test_only_a_fixed_window_knows_calendars() -> None:
    with pytest.raises(ValueError, match="sliding_log knows no calendar: take fixed_window"):
        window_of(Limit(3, 1.0, "sliding_log", calendar("day")))


def test_the_edges_are_those_of_three_windows() -> None:
    limit = Limit(3, UNITS["month"], "fixed_window", calendar("month", "Europe/Zurich"))
    assert edges(limit, at("2026-03-15T00:00+01:00")) == tuple(
        map(
            at, ("2026-02-01T00:00+01:00", "2026-03-01T00:00+01:00", "2026-04-01T00:00+02:00", "2026-05-01T00:00+02:00")
        )
    )
    with pytest.raises(ValueError, match="only windows of a calendar have edges"):
        edges(Limit(3, 60.0, "fixed_window"), 0.0)
