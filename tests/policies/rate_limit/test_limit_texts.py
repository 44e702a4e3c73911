"""What may be written as a limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.policies.rate_limit.texts import UNITS, Amount, amounts


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("100/minute", [Amount(100, "minute")]),
        (" 5 per 10 minutes ", [Amount(5, "minute", 10)]),
        ("5/10minutes", [Amount(5, "minute", 10)]),
        ("1 PER Second", [Amount(1, "second")]),
        ("10/second;1000/hour", [Amount(10, "second"), Amount(1000, "hour")]),
        ("10/second, 1/week | 7/year", [Amount(10, "second"), Amount(1, "week"), Amount(7, "year")]),
        ("20 concurrent", [Amount(20, "concurrent")]),
        ("20 Concurrent; 5/day;", [Amount(20, "concurrent"), Amount(5, "day")]),
        ("10MiB/minute", [Amount(10 << 20, "minute", 1, True)]),
        ("1 KiB per day", [Amount(1024, "day", 1, True)]),
        ("unlimited", []),
        (" Unlimited ", []),
        ("100000/month", [Amount(100_000, "month")]),
    ],
)
def test_a_limit(text: str, found: list[Amount]) -> None:
    assert list(amounts([text])) == found


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ([], "at least one limit"),
        ([";"], "at least one limit"),
        (["often"], "not a limit"),
        (["1/fortnight"], "not a limit"),
        (["1/s"], "not a limit"),
        (["5"], "not a limit"),
        (["5 per"], "not a limit"),
        (["-5/second"], "not a limit"),
        (["1.5/second"], "not a limit"),
        (["5 perminute"], "not a limit"),
        (["٣/second"], "not a limit"),
        (["10mib/second"], "not a limit"),
        (["concurrent"], "not a limit"),
        (["0/second"], "from 1 to"),
        (["0 concurrent"], "from 1 to"),
        (["9999999999999/second"], "from 1 to"),
        (["5/0 seconds"], "one second to ten years"),
        (["5/11 years"], "one second to ten years"),
        (["10/second;20/second"], "two limits for a period of 1 second"),
        (["60/minute", "1 per 60 second"], "two limits for a period of 60 second"),
        (["1 concurrent", "2 concurrent"], "two limits for what is under way"),
        (["unlimited", "5/second"], "leave the others out"),
    ],
)
def test_what_is_no_limit(texts: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        amounts(texts)


@given(st.integers(1, 10**12), st.integers(1, 300), st.sampled_from(["second", "minute", "hour", "day"]))
def test_what_is_written_is_read(amount: int, times: int, unit: str) -> None:
    (found,) = amounts([f"{amount} per {times} {unit}s"])
    assert (found.amount, found.period) == (amount, times * UNITS[unit])


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert all(one.amount >= 1 for one in amounts([text]))
    except ValueError:
        pass
