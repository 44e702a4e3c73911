"""The kit's signals: who waits, who goes on, and when, is for the test to say."""

from __future__ import annotations

import pytest

from gatekit.testing import ManualClock, request
from gatekit.testing.signals import FakeSignal, FakeSignals, Waiting


async def waits(signal: FakeSignal, seconds: float) -> bool:
    return await signal.wait(seconds)


def test_it_waits_until_it_is_fired_and_goes_on_when_it_is_told_to() -> None:
    signals = FakeSignals()
    one = signals()
    work = signals.run(waits(one, 5.0))
    assert work.waiting
    assert one.fire()
    assert work.waiting, "not before somebody lets it"
    signals.settle()
    assert not work.waiting
    assert work.reply is True
    assert one.fire() is False


def test_it_goes_on_at_the_moment_that_its_time_is_over() -> None:
    clock = ManualClock(monotonic=0.0)
    signals = FakeSignals(clock)
    seen: list[float] = []

    async def twice() -> None:
        for seconds in (0.3, 0.2):
            await signals().wait(seconds)
            seen.append(clock.monotonic())

    signals.run(twice())
    signals.advance(0.25)
    assert seen == []
    signals.advance(1.0)
    assert seen == pytest.approx([0.3, 0.5])
    assert clock.monotonic() == pytest.approx(1.25)


def test_time_over_it_cannot_be_fired() -> None:
    signals = FakeSignals()
    one = signals()
    work = signals.run(waits(one, 1.0))
    signals.clock.advance(1.0)
    assert one.fire() is False
    signals.settle()
    assert work.reply is False
    assert not one.fired


def test_cancelled_it_is_given_up() -> None:
    signals = FakeSignals()
    one = signals()
    work = signals.run(waits(one, 1.0))
    work.cancel()
    work.cancel()
    assert not work.waiting
    assert one.fire() is False


def test_what_is_cancelled_and_goes_on_is_told() -> None:
    async def stubborn() -> None:
        try:
            await FakeSignals()().wait(1.0)
        except BaseException:
            await FakeSignals()().wait(1.0)

    with pytest.raises(AssertionError, match="went on"):
        FakeSignals().run(stubborn()).cancel()


def test_what_it_raises_is_raised() -> None:
    signals = FakeSignals()

    async def raises() -> None:
        await signals().wait(1.0)
        raise ValueError("so it is")

    work = signals.run(raises())
    signals.clock.advance(1.0)
    with pytest.raises(ValueError, match="so it is"):
        signals.settle()
    assert not work.waiting


class Never:
    def decide(self, exchange: object) -> None:
        return None


def test_a_decide_that_waits_for_nothing_is_over_at_once() -> None:
    exchange = request()
    one = FakeSignals().start(Never(), exchange)
    assert isinstance(one, Waiting)
    assert not one.waiting
    assert (one.reply, one.exchange) == (None, exchange)
