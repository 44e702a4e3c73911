"""Introspection with its server down: what is asked all the same, what everybody is told, what the operator learns."""

from __future__ import annotations

import json
import logging
from statistics import median
from time import perf_counter
from typing import Any

import pytest
from tests.policies.authn.introspection_scene import GOOD, NOW, URL, Scene

from gatekit.core.events import BreakerChanged, Events
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.testing import FakeFetch, FixedRandom, ManualClock, request, test_ports

DOWN = StoreUnavailable("https://as.example: no answer within 2.0 s")


class Outage:
    """A scene on the manual clock whose server fails, with what was emitted."""

    def __init__(self) -> None:
        self.clock = ManualClock(wall=NOW)
        self.fetch = FakeFetch()
        events = Events()
        self.moves: list[tuple[str, str, str]] = []
        events.subscribe(BreakerChanged, lambda one: self.moves.append((one.name, one.before, one.after)))
        ports = test_ports(clock=self.clock, fetch=self.fetch, events=events, random=FixedRandom(0.5))
        self.scene = Scene(ports=ports, fetch=self.fetch)
        self.scene.clock = self.clock
        self.number = 0

    def then(self, **how: Any) -> None:
        """From now on the server answers so, and forgets what it would have answered."""
        self.fetch._answers.clear()
        self.fetch.answer(URL, **how)

    def ask(self) -> str | None:
        """What is said to a token that was never seen."""
        self.number += 1
        return self.scene.reason(f"token-{self.number}")

    @property
    def calls(self) -> int:
        return len(self.fetch.calls)


FAILING = [
    {"error": DOWN}, {"status": 500}, {"status": 503}, {"status": 401}, {"status": 403}, {"status": 429},
    {"status": 404}, {"body": b"<html>"}, {"json": {"active": "yes"}},
]  # fmt: skip


@pytest.mark.parametrize("how", FAILING, ids=str)
def test_an9_five_failures_in_a_row_and_no_further_call_is_made(how: dict[str, Any]) -> None:
    outage = Outage()
    outage.then(json=GOOD)
    assert outage.scene.reason("known") is None
    outage.then(**how)
    for _ in range(4):
        assert outage.ask() == "authn.introspection_unavailable"
    assert outage.moves == []
    assert outage.ask() == "authn.introspection_unavailable"
    assert outage.moves == [("introspection:as.example", "closed", "open")]
    for _ in range(1_000):
        assert outage.ask() == "authn.introspection_unavailable"
    assert outage.calls == 1 + 5
    assert outage.scene.reason("known") is None, "what is known goes on being good"
    outage.clock.advance(31)
    assert outage.scene.reason("known") == "authn.introspection_unavailable", "and no longer than it is"


def test_an9_any_success_in_between_begins_the_count_anew() -> None:
    outage = Outage()
    for _ in range(10):
        outage.then(status=500)
        for _ in range(4):
            outage.ask()
        outage.then(json={"active": False})
        assert outage.ask() == "authn.inactive_token"
    assert outage.moves == []
    assert outage.calls == 50


@pytest.mark.parametrize("how", [{"status": 400}, {"status": 413}, {"status": 422}, {"json": {**GOOD, "exp": "x"}}])
def test_what_is_said_of_one_token_does_not_shut_out_the_others(how: dict[str, Any]) -> None:
    outage = Outage()
    outage.then(**how)
    for _ in range(20):
        assert outage.ask() == "authn.introspection_unavailable"
    assert outage.calls == 20
    assert outage.moves == []


def test_an9_one_call_finds_out_whether_the_server_is_back_and_the_wait_doubles() -> None:
    outage = Outage()
    outage.then(status=500)
    for _ in range(5):
        outage.ask()
    waits = []
    for _ in range(6):
        found = outage.scene.ask("x")
        assert isinstance(found, Reply)
        waits.append(int(found.headers[0][1]))
        outage.clock.advance(waits[-1])
        before = outage.calls
        for _ in range(10):
            assert outage.ask() == "authn.introspection_unavailable"
        assert outage.calls == before + 1
    assert waits == [2, 4, 8, 16, 30, 30]
    outage.then(json=GOOD)
    outage.clock.advance(31)
    outage.moves.clear()
    assert [outage.ask() for _ in range(100)] == [None] * 100, "nobody is sent away once it answers"
    assert [move[1:] for move in outage.moves] == [("open", "half_open"), ("half_open", "ramp"), ("ramp", "closed")]


def test_a_probe_that_says_nothing_of_the_server_leaves_the_question_open() -> None:
    outage = Outage()
    outage.then(status=500)
    for _ in range(5):
        outage.ask()
    outage.clock.advance(3)
    outage.then(status=413)
    outage.ask()
    assert outage.scene.line.breaker.state == "half_open"
    outage.then(json=GOOD)
    assert outage.ask() is None
    assert outage.ask() is None
    assert outage.scene.line.breaker.state == "closed"


def test_the_breaker_stays_as_it_is_through_a_reload() -> None:
    outage = Outage()
    outage.then(status=500)
    for _ in range(5):
        outage.ask()
    later = Scene(ports=outage.scene.ports.afresh(), fetch=outage.fetch, timeout=3)
    assert later.reason("never-seen") == "authn.introspection_unavailable"
    assert outage.calls == 5


def test_an9_an_open_breaker_adds_less_than_a_millisecond() -> None:
    outage = Outage()
    outage.then(error=DOWN)
    for _ in range(5):
        outage.ask()
    calls, exchanges = (
        outage.calls,
        [request("GET", "/", headers={"Authorization": f"Bearer t{number}"}) for number in range(2_000)],
    )
    spent = []
    for exchange in exchanges:
        begun = perf_counter()
        found = outage.scene.bearer.identify(exchange)
        spent.append(perf_counter() - begun)
        assert isinstance(found, Reply), "answered at once, without a coroutine"
        assert found.reason == "authn.introspection_unavailable"
    assert outage.calls == calls
    print(f"an open breaker answers in {median(spent) * 1e6:.1f} µs (median)")  # noqa: T201 - reported
    assert median(spent) < 0.001


# -- what the operator is told


@pytest.mark.parametrize(
    ("how", "level", "words"),
    [
        ({"status": 401}, logging.ERROR, "refuses this gateway's own credentials"),
        ({"error": DOWN}, logging.WARNING, "no answer within 2.0 s"),
    ],
)
def test_an_outage_is_logged_once(
    caplog: pytest.LogCaptureFixture, how: dict[str, Any], level: int, words: str
) -> None:
    outage = Outage()
    outage.then(**how)
    for _ in range(20):
        outage.ask()
        outage.clock.advance(40)
    (record,) = caplog.records
    assert record.levelno == level
    assert words in record.getMessage()
    assert "as.example" in record.getMessage()
    outage.then(json=GOOD)
    outage.clock.advance(40)
    assert outage.ask() is None
    outage.then(**how)
    outage.ask()
    assert len(caplog.records) == 2, "the next outage is another"


def test_an_outage_that_comes_and_goes_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    for _ in range(100):
        outage.then(status=400)
        outage.ask()
        outage.then(json={"active": False})
        outage.ask()
        outage.clock.advance(1)
    assert len(caplog.records) == 2


def test_the_status_is_plain_data_with_every_count() -> None:
    outage = Outage()
    outage.then(json=GOOD)
    outage.ask()
    outage.then(json={"active": False})
    outage.ask()
    outage.then(status=503)
    for _ in range(7):
        outage.ask()
    status = outage.scene.method.status()
    assert json.loads(json.dumps(status)) == {
        "introspection as.example": {
            "endpoint": URL, "breaker": "open", "failures_in_row": 5, "in_flight": 0, "refused_remembered": 1,
            "active": 1, "inactive": 1, "busy": 0, "unavailable": 7, "last_error": "it answered 503",
        }
    }  # fmt: skip
