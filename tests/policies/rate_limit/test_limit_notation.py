"""Limits as text mean what they mean to the package `limits`, whose notation it is, wherever both can read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import parse_many

from gatekit import RateLimit
from gatekit.core.counters import Limit
from gatekit.core.ports import Ports
from gatekit.errors import GatekitError
from gatekit.gateway.system import system_ports
from gatekit.policies.rate_limit.texts import amounts

_UNITS = st.sampled_from(["second", "minute", "hour", "day"])
_LIMIT = st.builds(
    lambda amount, per, times, unit, many: f"{amount}{per}{times}{unit}{'s' if many else ''}",
    st.integers(1, 10**9),
    st.sampled_from(["/", " per ", " / "]),
    st.sampled_from(["", "1 ", "5 ", "30 "]),
    _UNITS,
    st.booleans(),
)


@given(st.lists(_LIMIT, min_size=1, max_size=4), st.sampled_from([";", ",", "|", "; "]))
def test_every_text_that_limits_reads_is_read_alike(texts: list[str], between: str) -> None:
    text = between.join(texts)
    theirs = [(item.amount, item.get_expiry()) for item in parse_many(text)]
    if len({period for _, period in theirs}) < len(theirs):
        with pytest.raises(ValueError, match="two limits"):
            amounts([text])
    else:
        assert [(one.amount, one.period) for one in amounts([text])] == theirs


class Counters:
    """Counters that know fixed windows only."""

    async def take(self, asks: object) -> object: ...
    async def charge(self, asks: object) -> None: ...
    async def reset(self, asks: object) -> None: ...

    def check(self, limit: Limit) -> None:
        if limit.algorithm != "fixed_window":
            raise ValueError(f"cannot count by {limit.algorithm}")


def test_a_store_that_cannot_count_that_way_is_refused_when_the_policy_is_set_up() -> None:
    ports = Ports(clock=system_ports().clock, counters=Counters())  # type: ignore[arg-type]
    RateLimit("5/minute", algorithm="fixed_window").bind(ports)
    with pytest.raises((ValueError, GatekitError), match="cannot count by token_bucket"):
        RateLimit("5/minute").bind(ports)


def test_memcached_is_refused_a_token_bucket_before_it_is_asked() -> None:
    spec = RateLimit("5/minute", store="limits+memcached://127.0.0.1:1", name="a")
    with pytest.raises(ValueError, match="cannot count by token_bucket"):
        spec.bind(system_ports())
