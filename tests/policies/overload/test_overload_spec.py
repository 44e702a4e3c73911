"""What can be asked of load shedding, and what cannot."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gatekit.core.policy import Stage
from gatekit.policies.overload import Admission, Overload


def test_it_can_be_written_short() -> None:
    assert Overload(100).concurrency == 100
    assert Overload.shorthand("adaptive").concurrency == "adaptive"
    assert Overload.shorthand(None).concurrency is None
    assert Overload().placement().stage is Stage.SHED


@pytest.mark.parametrize(
    ("given", "found"),
    [(True, Admission()), (False, None), ({"most": 0.5}, Admission(most=0.5)), (None, None)],
)
def test_admission_can_be_switched_or_set(given: Any, found: Any) -> None:
    assert Overload(admission=given).admission == found


def test_shares_that_are_not_given_are_the_usual_ones() -> None:
    assert Overload(shares={"bulk": 0.1}).shares == {"critical": 1.0, "default": 0.9, "sheddable": 0.75, "bulk": 0.1}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"concurrency": 0}, "greater than or equal to 1"),
        ({"concurrency": "many"}, "adaptive"),
        ({"lag": False}, "nothing is ever shed"),
        ({"floor": 60}, "floor, initial and ceiling"),
        ({"ceiling": 10}, "floor, initial and ceiling"),
        ({"lag_begin": "300ms"}, "lag_begin"),
        ({"name": "a b"}, "a name is made of"),
        ({"exempt": [""]}, "an exemption is a path"),
        ({"exempt": ["/a/*/b"]}, "only at the end"),
        ({"shares": {"bulk": 0.8}}, "shares fall"),
        ({"shares": {"vip": 0.8}}, "critical"),
        ({"max_wait": "0s"}, "greater than 0"),
        ({"admission": {"most": 1.0}}, "less than 1"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_a_bad_setting_says_what_to_do(settings: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Overload(**settings)


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (Overload(10), 0),
        (Overload("adaptive"), 1),
        (Overload("adaptive", per="upstream"), 0),
        (Overload(10, admission=True), 1),
        (Overload(10, admission=True, per="upstream"), 0),
        (Overload("adaptive", admission=True), 2),
    ],
)
def test_what_is_doubtful_is_remarked(spec: Overload, count: int) -> None:
    assert len(list(spec.remarks())) == count


def test_what_it_remembers_is_said() -> None:
    assert "under way" in Overload.keeps
