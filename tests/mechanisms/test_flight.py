"""One call for many who ask."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gatekit.mechanisms.flight import Flights


def test_the_first_leads_and_all_hear() -> None:
    flights: Flights[str, int] = Flights()
    heard: list[tuple[str, int | None, BaseException | None]] = []
    assert flights.begin("a")
    assert not flights.begin("a")
    assert flights.begin("b")
    flights.wait("a", lambda result, error: heard.append(("leader", result, error)))
    flights.wait("a", lambda result, error: heard.append(("follower", result, error)))
    assert len(flights) == 2
    flights.finish("a", 7)
    assert heard == [("leader", 7, None), ("follower", 7, None)]
    assert "a" not in flights
    assert "b" in flights
    assert flights.begin("a")


def test_an_error_is_everybodys() -> None:
    flights: Flights[str, int] = Flights()
    heard: list[BaseException | None] = []
    flights.begin("a")
    flights.wait("a", lambda result, error: heard.append(error))
    problem = OSError("down")
    flights.fail("a", problem)
    assert heard == [problem]


def test_who_left_hears_nothing() -> None:
    flights: Flights[str, int] = Flights()
    heard: list[str] = []

    def stays(result: int | None, error: BaseException | None) -> None:
        heard.append("stays")

    def leaves(result: int | None, error: BaseException | None) -> None:
        heard.append("leaves")

    flights.leave("a", leaves)
    flights.begin("a")
    flights.wait("a", leaves)
    flights.wait("a", stays)
    flights.leave("a", leaves)
    flights.leave("a", leaves)
    flights.finish("a", 1)
    assert heard == ["stays"]


def test_a_waiter_that_raises_keeps_nothing_from_the_others() -> None:
    flights: Flights[str, int] = Flights()
    heard: list[int | None] = []

    def raises(result: int | None, error: BaseException | None) -> None:
        raise ValueError("mine")

    flights.begin("a")
    flights.wait("a", raises)
    flights.wait("a", lambda result, error: heard.append(result))
    with pytest.raises(ExceptionGroup) as caught:
        flights.finish("a", 3)
    assert [str(one) for one in caught.value.exceptions] == ["mine"]
    assert heard == [3]
    assert "a" not in flights


def test_a_waiter_may_begin_the_next_call() -> None:
    flights: Flights[str, int] = Flights()
    flights.begin("a")
    led: list[bool] = []
    flights.wait("a", lambda result, error: led.append(flights.begin("a")))
    flights.finish("a", 1)
    assert led == [True]
    assert "a" in flights


def test_waiting_for_no_call_is_a_mistake() -> None:
    flights: Flights[str, int] = Flights()
    with pytest.raises(KeyError):
        flights.wait("a", lambda result, error: None)
    with pytest.raises(KeyError):
        flights.finish("a", 1)


class FlightMachine(RuleBasedStateMachine):
    """Against a dict of sets: whoever waits and does not leave hears exactly once, of his own call."""

    def __init__(self) -> None:
        super().__init__()
        self.flights: Flights[int, int] = Flights()
        self.waiting: dict[int, dict[int, Any]] = {}
        self.heard: list[tuple[int, int | None]] = []
        self.expected: list[tuple[int, int | None]] = []
        self.count = 0

    @rule(key=st.integers(0, 2))
    def ask(self, key: int) -> None:
        assert self.flights.begin(key) == (key not in self.waiting)
        self.count += 1
        number = self.count

        def waiter(result: int | None, error: BaseException | None) -> None:
            self.heard.append((number, result))

        self.flights.wait(key, waiter)
        self.waiting.setdefault(key, {})[number] = waiter

    @rule(key=st.integers(0, 2), data=st.data())
    def leave(self, key: int, data: st.DataObject) -> None:
        if self.waiting.get(key):
            number = data.draw(st.sampled_from(sorted(self.waiting[key])))
            self.flights.leave(key, self.waiting[key].pop(number))

    @rule(key=st.integers(0, 2), good=st.booleans())
    def end(self, key: int, good: bool) -> None:
        if key in self.waiting:
            self.expected += [(number, key if good else None) for number in self.waiting.pop(key)]
            if good:
                self.flights.finish(key, key)
            else:
                self.flights.fail(key, OSError())

    @invariant()
    def same(self) -> None:
        assert self.heard == self.expected
        assert len(self.flights) == len(self.waiting)


TestFlightMachine = FlightMachine.TestCase
TestFlightMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
