"""A thread that compiles rests after a little work, and only then."""

from __future__ import annotations

import pytest

from gatekit.gateway import beside
from gatekit.gateway.beside import REST, WORK, Breather


class Watch:
    """A clock that only sleeping and the test move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_it_rests_once_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    monkeypatch.setattr(beside, "time", watch)
    pause = Breather()
    for _ in range(10):
        pause()
    assert watch.slept == []
    for _ in range(3):
        watch.now += WORK
        pause()
        pause()
    assert watch.slept == [REST] * 3
