"""Whose fault it was, and what that says about the destination."""

from __future__ import annotations

import pytest

from gatekit.core.outcome import Fault, Grade, Outcome, client_gone, finished, raised, unfinished


@pytest.mark.parametrize(
    ("status", "ours", "fault", "blamed", "grade"),
    [
        (200, False, None, Fault.NOBODY, Grade.GOOD),
        (302, True, None, Fault.NOBODY, Grade.IGNORE),
        (404, False, None, Fault.CLIENT, Grade.GOOD),
        (429, True, None, Fault.CLIENT, Grade.IGNORE),
        (500, False, None, Fault.UPSTREAM, Grade.BAD),
        (500, True, None, Fault.GATEWAY, Grade.IGNORE),
        (502, True, Fault.UPSTREAM, Fault.UPSTREAM, Grade.BAD),
        (500, False, Fault.APP, Fault.APP, Grade.BAD),
        (503, True, Fault.GATEWAY, Fault.GATEWAY, Grade.IGNORE),
    ],
)
def test_a_finished_response(status: int, ours: bool, fault: Fault | None, blamed: Fault, grade: Grade) -> None:
    outcome = finished(status, reason="why", ours=ours, fault=fault)
    assert (outcome.status, outcome.reason, outcome.fault, outcome.grade) == (status, "why", blamed, grade)
    assert outcome.complete
    assert outcome.error is None


def test_ends_that_are_none() -> None:
    gone = client_gone()
    assert (gone.status, gone.reason, gone.fault, gone.grade) == (
        499,
        "client.disconnected",
        Fault.NOBODY,
        Grade.IGNORE,
    )
    error = ValueError("x")
    crashed = raised(200, error)
    assert (crashed.status, crashed.fault, crashed.grade, crashed.error) == (200, Fault.APP, Grade.BAD, error)
    broken = unfinished(None, reason="upstream.truncated", fault=Fault.UPSTREAM)
    assert (broken.status, broken.reason, broken.grade) == (None, "upstream.truncated", Grade.BAD)
    assert not any(one.complete for one in (gone, crashed, broken))


def test_an_outcome_shows_itself() -> None:
    assert repr(Outcome(200)) == "Outcome(200, reason=None, fault=nobody, grade=good, complete=True)"
