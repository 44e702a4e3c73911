"""Subscribing, taking it back, and subscribers that raise."""

from __future__ import annotations

import logging

import pytest

from gatekit.core.events import BreakerChanged, ConfigApplied, Event, Events


def test_subscribers_hear_their_type_and_those_of_all_types() -> None:
    events, heard = Events(), list[tuple[str, Event]]()
    events.subscribe(Event, lambda event: heard.append(("all", event)))
    events.subscribe(ConfigApplied, lambda event: heard.append(("first", event)))
    events.subscribe(ConfigApplied, lambda event: heard.append(("second", event)))
    applied, changed = ConfigApplied(2, "d"), BreakerChanged("b", "closed", "open")
    events.emit(applied)
    events.emit(changed)
    assert heard == [("first", applied), ("second", applied), ("all", applied), ("all", changed)]


def test_a_subscription_can_be_taken_back() -> None:
    events, heard, other = Events(), list[Event](), list[Event]()
    back = events.subscribe(ConfigApplied, heard.append)
    events.subscribe(ConfigApplied, other.append)
    back()
    events.emit(ConfigApplied(1, "d"))
    back()
    events.emit(ConfigApplied(2, "d"))
    assert heard == []
    assert other == [ConfigApplied(1, "d"), ConfigApplied(2, "d")]


def test_whether_anybody_wants_it() -> None:
    events = Events()
    assert not events.wants(ConfigApplied)
    back = events.subscribe(ConfigApplied, lambda event: None)
    assert events.wants(ConfigApplied)
    assert not events.wants(BreakerChanged)
    back()
    assert not events.wants(ConfigApplied)
    events.subscribe(Event, lambda event: None)
    assert events.wants(BreakerChanged)


def test_a_subscriber_that_raises_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    events, heard = Events(), list[Event]()

    def raises(event: Event) -> None:
        raise ValueError("mine")

    events.subscribe(ConfigApplied, raises)
    events.subscribe(ConfigApplied, heard.append)
    with caplog.at_level(logging.ERROR, "gatekit.events"):
        events.emit(ConfigApplied(1, "d"))
    assert len(heard) == 1
    assert caplog.messages == ["a subscriber of ConfigApplied raised"]


def test_taking_one_subscription_back_leaves_another_of_the_same_function() -> None:
    events = Events()
    heard: list[ConfigApplied] = []
    first = events.subscribe(ConfigApplied, heard.append)
    events.subscribe(ConfigApplied, heard.append)
    first()
    first()
    events.emit(ConfigApplied(1, ""))
    assert len(heard) == 1
