"""What errors say to whoever has to do something about them."""

from __future__ import annotations

import pytest

from gatekit import errors
from gatekit.errors import (
    ConfigRefused,
    GatekitError,
    MisplacedPolicy,
    MissingPort,
    Problem,
    RouteFailed,
    UpstreamError,
)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("routes[3].path", "bad"), "routes[3].path: bad"),
        (Problem("", "bad"), "document: bad"),
        (Problem("a", "bad", source="g.yaml"), "g.yaml: a: bad"),
        (Problem("a", "bad", source="g.yaml", line=7), "g.yaml:7: a: bad"),
        (Problem("a", "bad", line=7), "line 7: a: bad"),
        (Problem("a", "odd", severity="warning"), "a: warning: odd"),
    ],
)
def test_a_problem_says_where_and_what(problem: Problem, text: str) -> None:
    assert str(problem) == text
    assert repr(problem) == f"Problem({text!r})"


def test_problems_are_equal_when_they_say_the_same() -> None:
    one, same = Problem("a", "bad", line=1), Problem("a", "bad", line=1)
    assert one == same
    assert hash(one) == hash(same)
    for other in (Problem("b", "bad", line=1), Problem("a", "bad", line=2), Problem("a", "bad", line=1, source="f")):
        assert one != other
    assert one != Problem("a", "bad", line=1, severity="warning")
    assert one != "a: bad"


def test_a_refusal_has_every_finding() -> None:
    problems = [Problem("a", "bad"), Problem("b", "worse")]
    refused = ConfigRefused(iter(problems))
    assert refused.problems == tuple(problems)
    assert str(refused) == "configuration refused, 2 finding(s):\n  a: bad\n  b: worse"


def test_a_missing_port_says_how_to_give_it() -> None:
    error = MissingPort("clock")
    assert error.port == "clock"
    assert "spec.bind(clock=...)" in str(error)


def test_a_failed_route_names_route_and_error() -> None:
    cause = KeyError("x")
    error = RouteFailed("orders", cause)
    assert (error.route, error.error) == ("orders", cause)
    assert str(error) == "a predicate of route 'orders' raised KeyError('x')"


@pytest.mark.parametrize(
    ("given", "status", "sent", "began"),
    [({}, 502, False, False), ({"status": 504, "sent": True}, 504, True, False), ({"began": True}, 502, False, True)],
)
def test_an_upstream_error_tells_a_retry_what_it_must_know(
    given: dict[str, int], status: int, sent: bool, began: bool
) -> None:
    error = UpstreamError("upstream.reset", "connection lost", **given)  # type: ignore[arg-type]
    assert (error.reason, error.status, error.sent, error.began) == ("upstream.reset", status, sent, began)
    assert str(error) == "upstream.reset: connection lost"


def test_everything_raised_at_programmers_has_one_root() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]
    assert len(classes) > 5
    assert all(issubclass(one, GatekitError) for one in classes)
    assert issubclass(MisplacedPolicy, TypeError)
