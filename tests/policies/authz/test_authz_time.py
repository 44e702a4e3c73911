"""Windows, moments and zones against the standard library's own calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.ports import Ports, Zone
from gatekit.policies.authz import Authz
from gatekit.policies.authz.windows import days_since_1970, moment, window, zone_of
from gatekit.testing import ManualClock, decide, request

ZURICH, LORD_HOWE = ZoneInfo("Europe/Zurich"), ZoneInfo("Australia/Lord_Howe")


def zones(name: str) -> Zone:
    """The time zones of the standard library."""
    if name not in ("Europe/Zurich", "Australia/Lord_Howe"):
        raise ValueError(f"there is no time zone {name}")
    return offset_of(ZoneInfo(name))


def offset_of(zone: ZoneInfo) -> Zone:
    def offset(now: float) -> float:
        ahead = datetime.fromtimestamp(now, zone).utcoffset()
        assert ahead is not None
        return ahead.total_seconds()

    return offset


def at(text: str, zone: Any = UTC) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def open_at(spec: Authz, now: float) -> bool:
    return decide(spec.bind(Ports(clock=ManualClock(wall=now), zones=zones)), request()) is None


@given(st.dates(date(1970, 1, 1), date(9999, 12, 30)))
def test_days_are_counted_as_the_calendar_counts_them(day: date) -> None:
    assert days_since_1970(day.year, day.month, day.day) == (day - date(1970, 1, 1)).days
    assert moment(day.isoformat()).local == (day - date(1970, 1, 1)).days * 86_400


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("08:00-18:00", ["2026-03-04 08:00:00", "2026-03-04 17:59:59"], ["2026-03-04 07:59:59", "2026-03-04 18:00:00"]),
        ("22:00-06:00", ["2026-03-04 22:00", "2026-03-04 05:59:59"], ["2026-03-04 06:00", "2026-03-04 21:59:59"]),
        ("mon-fri", ["2026-03-02 00:00", "2026-03-06 23:59:59"], ["2026-03-07 00:00", "2026-03-01 23:59:59"]),
        ("Sat,Sun", ["2026-03-07 00:00", "2026-03-08 12:00"], ["2026-03-06 12:00", "2026-03-09 00:00"]),
        ("fri-mon", ["2026-03-06 12:00", "2026-03-09 12:00"], ["2026-03-10 12:00", "2026-03-05 12:00"]),
        ("fri 22:00-06:00", ["2026-03-06 22:00", "2026-03-07 05:59"], ["2026-03-06 05:00", "2026-03-07 22:00"]),
        ("sun 22:00-06:00", ["2026-03-08 23:00", "2026-03-09 05:59"], ["2026-03-08 05:00", "2026-03-09 06:00"]),
        (
            "mon,wed-thu 12:00-24:00",
            ["2026-03-02 23:59:59", "2026-03-05 12:00"],
            ["2026-03-03 12:00", "2026-03-05 11:00"],
        ),
    ],
)
def test_a_window_holds_from_its_begin_until_its_end(text: str, inside: list[str], outside: list[str]) -> None:
    spec = Authz(hours=text)
    assert [open_at(spec, at(one)) for one in inside] == [True] * len(inside)
    assert [open_at(spec, at(one)) for one in outside] == [False] * len(outside)


@given(
    now=st.integers(0, 4_000_000_000), begin=st.integers(0, 1439), end=st.integers(0, 1440),
    first=st.integers(0, 6), last=st.integers(0, 6), offset=st.sampled_from(["-11:00", "+00:00", "+05:45"]),
)  # fmt: skip
@settings(max_examples=150)
def test_a_window_agrees_with_the_standard_library(
    now: int, begin: int, end: int, first: int, last: int, offset: str
) -> None:
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    if begin == end:
        end = begin + 1
    text = f"{names[first]}-{names[last]} {begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02} {offset}"
    found = window(text)
    hours, minutes = int(offset[1:3]), int(offset[4:])
    zone = timezone((-1 if offset[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes))
    local = datetime.fromtimestamp(now, zone)
    days = [(first + step) % 7 for step in range((last - first) % 7 + 1)]
    minute = local.hour * 60 + local.minute
    if begin < end:
        expected = local.weekday() in days and begin <= minute < end
    else:
        began = local if minute >= begin else local - timedelta(days=1)
        expected = began.weekday() in days and (minute >= begin or minute < end)
    assert found.holds(now + zone_of(Ports(), found.zone)(now)) is expected


@pytest.mark.parametrize(
    "text",
    ["", "8:00-18:00", "08:00", "08:00-18:00 Europe/Zurich x", "Europe/Zurich", "mon-tue-wed 08:00-09:00", "mond", "08:00-08:00",
     "08:00-24:01", "25:00-26:00", "mon +25:00", "mon ../etc", "mon Europe//Zurich", "mon-fri 08:00 - 18:00"],
)  # fmt: skip
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        window(text)


@pytest.mark.parametrize(
    "text",
    ["", "2026", "2026-13-01", "2026-02-29", "2026-00-10", "2026-04-31", "1969-12-31", "2026-01-01T25:00", "2026-01-01 08:00 ../x",
     "2026-01-01 08:00 +1:00", "2026-01-01T08:00:00.5Z", "26-01-01"],
)  # fmt: skip
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        moment(text)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-12-31", "2026-12-31T00:00"),
        ("2024-02-29 12:00", "2024-02-29T12:00"),
        ("2026-12-31T12:00:30Z", "2026-12-31T12:00:30"),
        ("2026-12-31T12:00:30.000+01:00", "2026-12-31T11:00:30"),
        ("2026-12-31 12:00 -03:30", "2026-12-31T15:30"),
        ("2026-12-31 12:00 Europe/Zurich", "2026-12-31T11:00"),
        ("2026-07-01 Europe/Zurich", "2026-06-30T22:00"),
        # Clocks go from 2:00 to 3:00: what they skip is as if they had not.
        ("2026-03-29 02:30 Europe/Zurich", "2026-03-29T01:30"),
        ("2026-03-29 01:59 Europe/Zurich", "2026-03-29T00:59"),
        ("2026-03-29 03:00 Europe/Zurich", "2026-03-29T01:00"),
        # Clocks show 2:30 twice: the second is meant.
        ("2026-10-25 02:30 Europe/Zurich", "2026-10-25T01:30"),
        ("2026-10-25 01:59 Europe/Zurich", "2026-10-24T23:59"),
        ("2026-10-25 03:00 Europe/Zurich", "2026-10-25T02:00"),
        ("2026-04-05 01:45 Australia/Lord_Howe", "2026-04-04T15:15"),
    ],
)
def test_a_moment_is_an_instant(text: str, utc: str) -> None:
    found = moment(text)
    assert found.instant(zone_of(Ports(zones=zones), found.zone)) == at(utc)
    spec = Authz(since=text)
    assert open_at(spec, at(utc))
    assert not open_at(spec, at(utc) - 1)


def test_until_a_date_is_until_its_end_where_it_is_meant() -> None:
    spec = Authz(until="2026-10-25 Europe/Zurich")
    assert open_at(spec, at("2026-10-25 23:59:59", ZURICH))
    assert not open_at(spec, at("2026-10-26 00:00", ZURICH))
    spec = Authz(until="2026-10-25 18:00 Europe/Zurich")
    assert open_at(spec, at("2026-10-25 17:59:59", ZURICH))
    assert not open_at(spec, at("2026-10-25 18:00", ZURICH))


@given(st.integers(1_600_000_000, 2_200_000_000))
@settings(max_examples=100)
def test_hours_are_those_that_the_zones_clocks_show(now: int) -> None:
    shown = datetime.fromtimestamp(now, ZURICH)
    expected = shown.weekday() < 5 and 8 <= shown.hour < 18
    assert open_at(Authz(hours="mon-fri 08:00-18:00 Europe/Zurich"), now) is expected


def test_a_zone_that_nobody_can_look_up_is_refused_when_it_is_bound() -> None:
    with pytest.raises(ValueError, match=r"the time zone Europe/Zurich cannot be looked up here: write UTC"):
        Authz(hours="08:00-18:00 Europe/Zurich").bind(clock=ManualClock())
    with pytest.raises(ValueError, match="there is no time zone Europe/Zuric"):
        Authz(until="2026-01-01 Europe/Zuric").bind(Ports(clock=ManualClock(), zones=zones))


@pytest.mark.parametrize(("text", "seconds"), [("UTC", 0), ("+01:00", 3600), ("-03:30", -12_600)])
def test_utc_and_offsets_need_nobody(text: str, seconds: int) -> None:
    assert zone_of(Ports(), text)(0.0) == seconds
