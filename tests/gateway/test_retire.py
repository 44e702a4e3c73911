"""Generations that are no longer in force are freed a little at a time, and never too late."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterator
from itertools import count, pairwise, repeat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit import Cluster, Gateway, Route
from gatekit.config.snapshot import Snapshot
from gatekit.gateway.retire import MOST, STEP, WAIT, Retired
from gatekit.testing import ManualClock

TIMEOUT = 10


class Part:
    """One of the thousands of parts of a generation."""


class Generation:
    """As much of a snapshot as can be retired."""

    def __init__(self, size: int) -> None:
        self.parts: list[object] = [Part() for _ in range(size)]


class Watched:
    """A `Retired` that is given generations of which nobody else holds any part, and what is left of those."""

    def __init__(self, **options: Any) -> None:
        self.retired = Retired(**options)
        self.left: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, size: int = 100) -> Generation:
        made = Generation(size)
        self.left.update(made.parts)
        self.retired.add(made)  # type: ignore[arg-type]
        return made


class Timers:
    """A loop of which only the timers are there, and they go off by hand."""

    def __init__(self) -> None:
        self.due: list[tuple[Any, ...]] = []

    def call_later(self, delay: float, *call: Any) -> None:
        assert delay == WAIT
        self.due.append(call)

    def turn(self) -> None:
        function, *arguments = self.due.pop(0)
        function(*arguments)


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    made = Timers()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def ticking(clock: ManualClock, step: float) -> Iterator[float]:
    while True:
        yield clock.monotonic()
        clock.advance(step)


def test_nothing_is_freed_while_somebody_holds_the_generation() -> None:
    watched = Watched()
    held = watched.add()
    assert (len(watched.left), len(watched.retired)) == (100, 1)
    del held
    assert (len(watched.left), len(watched.retired)) == (0, 0)


def test_where_no_loop_runs_it_pauses_between_parts() -> None:
    seen: list[int] = []
    watched: Watched = Watched(pause=lambda: seen.append(len(watched.left)))
    watched.add(5)
    assert seen == [4, 3, 2, 1, 0]


def test_one_that_is_added_twice_is_freed_once() -> None:
    watched = Watched()
    held = watched.add()
    watched.retired.add(held)  # type: ignore[arg-type]
    assert len(watched.retired) == 1
    del held
    assert (len(watched.left), len(watched.retired)) == (0, 0)


def test_a_loop_frees_for_a_moment_at_a_time(timers: Timers) -> None:
    times = ticking(ManualClock(), STEP / 4)
    watched = Watched(now=lambda: next(times))
    watched.add()
    freed = [len(watched.left)]
    while timers.due:
        timers.turn()
        freed.append(len(watched.left))
    steps = [before - after for before, after in pairwise(freed)]
    assert len(steps) >= 4
    assert max(steps) <= 24
    assert freed[-1] == len(watched.retired) == 0


def test_many_that_wait_are_freed_in_longer_steps(timers: Timers) -> None:
    times = ticking(ManualClock(), STEP / 4)
    watched = Watched(now=lambda: next(times))
    for _ in range(4):
        watched.add()
    timers.turn()
    assert 400 - len(watched.left) > 24


def test_what_waits_is_bounded(timers: Timers) -> None:
    watched = Watched()
    for _ in range(MOST + 5):
        watched.add()
    assert len(watched.retired) == MOST
    assert len(watched.left) == MOST * 100
    assert len(timers.due) == 1


@given(st.lists(st.sampled_from(["add", "end", "turn"]), max_size=60))
def test_whatever_happens_all_is_freed_in_the_end(steps: list[str]) -> None:
    timers = Timers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "get_running_loop", lambda: timers)
        watched = Watched()
        held: list[Generation] = []
        for step in steps:
            if step == "add":
                held.append(watched.add(20))
            elif step == "end" and held:
                held.pop(0)
            elif step == "turn" and timers.due:
                timers.turn()
            assert len(watched.retired) <= len(held) + MOST
            assert len(watched.left) >= 20 * len(held)
            assert len(timers.due) <= 1
        held.clear()
        while timers.due:
            timers.turn()
        assert (len(watched.left), len(watched.retired)) == (0, 0)


def test_a_new_loop_takes_over_from_one_that_is_gone() -> None:
    times: Iterator[int] = count()
    watched: Watched = Watched(now=lambda: next(times))

    async def end_one() -> None:
        watched.add()

    # By this clock every step is over before it has freed anything.
    asyncio.run(end_one())
    assert len(watched.left) == 100

    async def end_another() -> None:
        watched.add()
        while watched.left:
            turned = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(WAIT, turned.set_result, None)
            await turned

    times = repeat(0)
    asyncio.run(asyncio.wait_for(end_another(), TIMEOUT))
    assert len(watched.retired) == 0


def test_of_two_loops_one_frees(timers: Timers, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    watched.add()
    other = Timers()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: other)
    watched.add()
    timers.turn()
    assert timers.due == []
    while other.due:
        other.turn()
    assert len(watched.left) == 0


def test_generations_end_in_any_thread() -> None:
    watched = Watched()
    held = [watched.add() for _ in range(8)]
    threads = [threading.Thread(target=lambda: held.pop()) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert (len(watched.left), len(watched.retired)) == (0, 0)


def test_a_snapshot_goes_when_its_last_request_has_ended_and_its_parts_after_it() -> None:
    gateway = Gateway(routes=[Route(f"/r{n}/*", to="a") for n in range(50)], clusters={"a": Cluster("http://a")})
    seen: list[bool] = []
    retired = Retired(lambda: seen.append(under_way() is None))
    request: list[Snapshot] = [gateway.prepare(gateway.config)]
    under_way = weakref.ref(request[0])
    retired.add(request[0])
    assert (len(retired), seen) == (1, [])
    request.clear()
    assert len(retired) == 0
    assert len(seen) >= 100
    assert all(seen)


def test_a_step_that_comes_too_late_frees_nothing(timers: Timers) -> None:
    """Another thread may take the last that waits between two looks of this one."""
    calls: list[float] = []

    def now() -> float:
        calls.append(0.0)
        if len(calls) == 2:
            watched.retired._waiting.clear()
        return 0.0

    watched: Watched = Watched(now=now)
    watched.add()
    timers.turn()
    assert (len(watched.left), timers.due) == (0, [])
