"""RL9: quotas by day, week and month of a time zone, on a clock that stands still until it is moved."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.policies.rate_limit.limit_scene import Clock, Store, ask, exchange, fields, passes, ports_for, refused
from tests.policies.rate_limit.structured import read_list

from gatekit.core.ports import Ports
from gatekit.gateway.system import system_zone
from gatekit.policies.rate_limit import RateLimit

ZURICH = ZoneInfo("Europe/Zurich")


def at(text: str, zone: ZoneInfo | Any = ZURICH) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def ports(clock: Clock, store: Store | None = None) -> Ports:
    return ports_for(clock, store, zones=system_zone)


@pytest.mark.parametrize("more", [{}, {"store": "redis://s", "name": "quota"}], ids=["here", "in a store"])
@pytest.mark.parametrize(
    ("unit", "zone", "used", "before", "after"),
    [
        ("month", "Europe/Zurich", "2026-01-31 12:00", "2026-01-31 23:59:59", "2026-02-01 00:00:00"),
        ("month", "Europe/Zurich", "2026-02-01 00:00", "2026-02-28 23:59:59", "2026-03-01 00:00:00"),
        ("month", "Europe/Zurich", "2028-02-28 12:00", "2028-02-29 23:59:59", "2028-03-01 00:00:00"),
        ("month", "Europe/Zurich", "2026-12-31 00:00", "2026-12-31 23:59:59", "2027-01-01 00:00:00"),
        ("day", "Europe/Zurich", "2026-03-29 00:00", "2026-03-29 23:59:59", "2026-03-30 00:00:00"),
        ("day", "Europe/Zurich", "2026-10-25 00:00", "2026-10-25 23:59:59", "2026-10-26 00:00:00"),
        ("week", "Europe/Zurich", "2026-03-23 00:00", "2026-03-29 23:59:59", "2026-03-30 00:00:00"),
        ("year", "Europe/Zurich", "2026-01-01 00:00", "2026-12-31 23:59:59", "2027-01-01 00:00:00"),
    ],
)
def test_rl9_a_quota_begins_anew_with_the_calendar_of_its_zone(
    more: dict[str, Any], unit: str, zone: str, used: str, before: str, after: str
) -> None:
    clock = Clock()
    clock.set_wall(at(used))
    policy = RateLimit(f"2/{unit}", calendar=True, zone=zone, **more).bind(ports(clock, Store(clock)))
    assert [passes(policy) for _ in range(3)] == [True, True, False]
    clock.set_wall(at(before))
    reply = refused(ask(policy, exchange()))
    assert fields(reply)["retry-after"] == "1"
    clock.set_wall(at(after))
    assert [passes(policy) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-24", 24), ("2026-10-25", 25)]
)
def test_rl9_a_day_on_which_clocks_change_is_as_long_as_it_is(day: str, hours: int) -> None:
    clock = Clock()
    clock.set_wall(at(f"{day} 00:00"))
    policy = RateLimit("1/day", calendar=True, zone="Europe/Zurich").bind(ports(clock))
    made = exchange()
    assert ask(policy, made) is None
    (left,) = read_list(fields(made)["ratelimit"])
    assert left.parameters == {"r": 0, "t": hours * 3600}
    assert fields(made)["ratelimit-policy"] == '"default";q=1'


def test_rl9_the_month_of_one_zone_is_not_that_of_another() -> None:
    clock = Clock()
    clock.set_wall(at("2026-01-31 23:30"))
    zurich = RateLimit("1/month", calendar=True, zone="Europe/Zurich").bind(ports(clock))
    utc = RateLimit("1/month", calendar=True).bind(ports_for(clock))
    assert passes(zurich)
    assert passes(utc)
    clock.set_wall(at("2026-02-01 00:30"))
    assert passes(zurich)
    assert not passes(utc)
    clock.set_wall(at("2026-02-01 00:00", UTC))
    assert passes(utc)


def test_a_month_that_follows_no_calendar_is_thirty_days() -> None:
    clock = Clock()
    clock.set_wall(at("2026-01-31 23:59", UTC))
    policy = RateLimit("1/month").bind(ports_for(clock))
    assert passes(policy)
    clock.now += 86_400
    assert not passes(policy)
    clock.now += 29 * 86_400
    assert passes(policy)


def test_rl9_a_quota_in_a_store_outlives_the_process() -> None:
    clock = Clock()
    store = Store(clock)
    spec = RateLimit("2/month", calendar=True, zone="Europe/Zurich", store="redis://s", name="quota")
    assert passes(spec.bind(ports(clock, store)))
    assert passes(spec.bind(ports(clock, store)))
    assert not passes(spec.bind(ports(clock, store)))
    assert store.asked[0][0].key == "{ip:203.0.113.9}quota|quota|fixed_window:2:2592000:month:Europe/Zurich"
