"""Waits before a retry."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.mechanisms.backoff import CAP, delay, pause, retry_after_seconds

EPOCH_1994 = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110."""


@pytest.mark.parametrize(
    ("retry", "longest"), [(1, 0.025), (2, 0.05), (3, 0.1), (4, 0.2), (5, 0.25), (6, 0.25), (5_000, 0.25)]
)
def test_the_longest_wait_doubles_up_to_the_cap(retry: int, longest: float) -> None:
    assert delay(retry, 1.0) == pytest.approx(longest)
    assert delay(retry, 0.0) == 0.0


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_beyond_the_cap(retry: int, random: float) -> None:
    assert 0.0 <= delay(retry, random) <= CAP


@pytest.mark.parametrize(
    ("retry_after", "left", "wait"),
    [
        pytest.param(None, math.inf, 0.0125, id="jitter alone"),
        pytest.param(None, 0.0125, None, id="the deadline comes first"),
        pytest.param(0.0, math.inf, 0.0125, id="at once"),
        pytest.param(2.0, math.inf, 2.0125, id="as asked, and jitter on top"),
        pytest.param(2.0, 2.0, None, id="as asked is past the deadline"),
        pytest.param(30.0, math.inf, 30.0125, id="the longest that is waited for"),
        pytest.param(30.5, math.inf, None, id="longer is not waited for"),
        pytest.param(math.inf, math.inf, None, id="for ever"),
    ],
)
def test_retry_after_is_honoured_up_to_the_cap_and_the_deadline(
    retry_after: float | None, left: float, wait: float | None
) -> None:
    assert pause(1, 0.5, retry_after=retry_after, left=left) == (None if wait is None else pytest.approx(wait))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7\t", 7.0),
        ("9" * 5_000, math.inf),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:50:00 GMT", 23.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        ("Thu, 29 Feb 1996 00:00:00 GMT", 825_552_000 - EPOCH_1994),
        ("Fri, 01 Mar 1996 00:00:00 GMT", 825_638_400 - EPOCH_1994),
        ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800 - EPOCH_1994),
        ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400 - EPOCH_1994),
        ("Mon, 01 Jan 2035 23:59:60 GMT", 2_051_308_800 - EPOCH_1994),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("١٢", None),
        ("soon", None),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_seconds(value, EPOCH_1994) == seconds
