"""Signals of a running process: in a loop, between loops, and in threads that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from gatekit.drivers.wsgi import run_now
from gatekit.gateway.signals import LoopSignal, ThreadSignal, signal

LONG = 30.0


async def turns(count: int = 3) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def test_who_waits_in_a_loop_goes_on_when_it_is_fired() -> None:
    one = signal()
    assert isinstance(one, LoopSignal)
    task = asyncio.ensure_future(one.wait(LONG))
    await turns()
    assert not task.done()
    assert one.fire()
    assert one.fired
    assert await task is True
    assert one.fire() is False, "it is good for one wait"


async def test_fired_before_the_wait_it_does_not_wait() -> None:
    one = signal()
    assert one.fire()
    assert await one.wait(LONG) is True


async def test_when_the_time_is_over_nobody_can_fire_it() -> None:
    one = signal()
    assert await one.wait(0.0) is False
    assert one.fire() is False
    assert not one.fired


async def test_a_timer_that_comes_in_the_same_moment_changes_nothing() -> None:
    one = LoopSignal(asyncio.get_running_loop())
    task = asyncio.ensure_future(one.wait(LONG))
    await turns()
    assert one.fire()
    one._late()
    assert await task is True


async def test_a_wait_that_is_cancelled_gives_it_up() -> None:
    one = signal()
    task = asyncio.ensure_future(one.wait(LONG))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.fire() is False
    assert not one.fired


async def test_cancelled_in_the_same_moment_that_it_is_fired_it_says_so() -> None:
    one = signal()
    task = asyncio.ensure_future(one.wait(LONG))
    await turns()
    assert one.fire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.fired, "whoever fired it was told True: what came with it must be given back"


async def test_no_timer_is_left_behind() -> None:
    one = signal()
    task = asyncio.ensure_future(one.wait(LONG))
    await turns()
    one.fire()
    await task
    loop = asyncio.get_running_loop()
    assert not [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]


async def test_another_thread_fires_it() -> None:
    one = signal()
    task = asyncio.ensure_future(one.wait(LONG))
    await turns()
    said: list[bool] = []
    thread = threading.Thread(target=lambda: said.append(one.fire()))
    thread.start()
    assert await asyncio.wait_for(task, 5) is True
    thread.join(5)
    assert said == [True]


async def test_many_threads_fire_it_and_one_of_them_is_told_so() -> None:
    for _ in range(20):
        one, said, together = signal(), list[bool](), threading.Barrier(4)

        def fire(one: Any = one, said: list[bool] = said, together: threading.Barrier = together) -> None:
            together.wait(5)
            said.append(one.fire())

        threads = [threading.Thread(target=fire) for _ in range(4)]
        for thread in threads:
            thread.start()
        got = await one.wait(0.0005)
        for thread in threads:
            await asyncio.to_thread(thread.join, 5)
        assert sorted(said) == ([False, False, False, True] if got else [False] * 4)
        assert one.fired is got


def test_a_loop_that_is_closed_lets_nobody_go_on() -> None:
    loop = asyncio.new_event_loop()
    one = LoopSignal(loop)
    loop.close()
    assert one.fire() is False
    assert not one.fired


def waiting(one: ThreadSignal, seconds: float, said: list[bool]) -> threading.Thread:
    thread = threading.Thread(target=lambda: said.append(run_now(one.wait(seconds))))
    thread.start()
    return thread


def test_in_a_thread_without_a_loop_the_wait_never_suspends() -> None:
    one = signal()
    assert isinstance(one, ThreadSignal)
    work: Coroutine[Any, Any, bool] = one.wait(0.0)
    assert run_now(work) is False
    assert one.fire() is False


def test_a_thread_that_waits_goes_on_when_another_fires_it() -> None:
    one, said = ThreadSignal(), list[bool]()
    thread = waiting(one, LONG, said)
    assert one.fire() is True
    thread.join(5)
    assert said == [True]
    assert one.fired
    assert one.fire() is False


def test_a_thread_that_is_interrupted_gives_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    one = ThreadSignal()

    class Interrupted(BaseException):
        pass

    def interrupted(seconds: float) -> bool:
        raise Interrupted

    monkeypatch.setattr(threading.Event, "wait", lambda self, seconds: interrupted(seconds))
    with pytest.raises(Interrupted):
        run_now(one.wait(LONG))
    assert one.fire() is False
