"""Single flight where loops close and processes fork, and waiting alone: nobody hangs, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
from tests.gateway.shared_scene import DESTROYED, Abrupt, Gone, Work, call, many, no_complaints, turns

from gatekit.drivers.wsgi import run_now
from gatekit.errors import StoreUnavailable
from gatekit.gateway import shared as module
from gatekit.gateway.loop_thread import LoopThread
from gatekit.gateway.shared import Shared, awaited

SECRET: ContextVar[str] = ContextVar("SECRET")


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    one = LoopThread()
    yield one
    one.stop()


@pytest.fixture
def shared(thread: LoopThread) -> Shared:
    return Shared(thread, timeout=5.0)


@pytest.fixture(autouse=True)
def allowed() -> Iterator[set[str]]:
    """What may be complained of in this test."""
    with no_complaints() as found:
        yield found


# -- several loops, and loops that go away


def test_every_loop_has_a_run_of_its_own(shared: Shared) -> None:
    work = Work()
    loops = [asyncio.new_event_loop() for _ in range(2)]
    tasks = [loop.run_until_complete(many(shared, work, 3)) for loop in loops]
    assert (work.runs, len(shared)) == (2, 2)
    work.go()
    for loop, waiting in zip(loops, tasks, strict=True):
        assert loop.run_until_complete(asyncio.wait_for(asyncio.gather(*waiting), 5)) == ["done"] * 3
        loop.close()
    assert len(shared) == 0


def test_loops_in_threads_do_not_disturb_each_other(shared: Shared) -> None:
    barrier = threading.Barrier(4)

    async def number() -> int:
        await turns(2)
        return threading.get_ident()

    async def ask() -> bool:
        barrier.wait(5)
        found = [await shared("k", number) for _ in range(50)]
        return set(found) == {threading.get_ident()}

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: asyncio.run(ask()), range(4)))
    assert len(shared) == 0


def test_a_loop_that_ends_tells_nobody_wrong_and_leaves_nothing(shared: Shared) -> None:
    work = Work()

    async def serve() -> list[asyncio.Task[Any]]:
        return await many(shared, work, 2)

    tasks = asyncio.run(serve())
    assert all(task.cancelled() for task in tasks)
    assert work.cancelled.is_set()
    assert len(shared) == 0


def test_what_a_loop_that_was_closed_without_a_word_had_is_forgotten(shared: Shared, allowed: set[str]) -> None:
    allowed.add(DESTROYED)
    work = Work()
    loop = asyncio.new_event_loop()
    tasks = loop.run_until_complete(many(shared, work, 2))
    ended = weakref.ref(loop)
    loop.close()
    assert len(shared) == 1
    other = Work()
    other.go()
    assert asyncio.run(call(shared, "k", other)) == "done"
    assert len(shared) == 0
    del tasks, loop
    work._gates.clear()
    gc.collect()
    assert ended() is None


def test_a_loop_that_is_closed_already_is_told_of_at_once() -> None:
    shared, work = Shared(Gone()), Work()  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="closed"):
            run_now(shared("k", work))
        with pytest.raises(StoreUnavailable, match="closed"):
            run_now(awaited(work, 5.0, Gone()))  # type: ignore[arg-type]
    assert (len(shared), work.runs, module._ALONE) == (0, 0, set())


def test_threads_that_wait_for_a_loop_thread_that_stops_are_told(thread: LoopThread) -> None:
    shared, work = Shared(thread, timeout=10.0), Work()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(run_now, call(shared, "k", work))
        alone = pool.submit(run_now, awaited(work, 10.0, thread))
        assert work.begun.wait(5)
        while work.runs < 2:
            thread.run(turns(1))
        thread.stop()
        for future in (waiting, alone):
            with pytest.raises(StoreUnavailable, match="closed"):
                future.result(5)
    assert (len(shared), module._ALONE) == (0, set())


def test_threads_that_wait_for_a_loop_that_stopped_abruptly_are_told_when_somebody_notices(
    allowed: set[str],
) -> None:
    allowed.add(DESTROYED)
    abrupt = Abrupt()
    shared, work = Shared(abrupt, timeout=10.0), Work()  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(run_now, call(shared, "k", work))
        assert work.begun.wait(5)
        abrupt.stop()
        other = Work()
        other.go()
        assert asyncio.run(call(shared, "k", other)) == "done"
        with pytest.raises(StoreUnavailable, match="closed"):
            waiting.result(5)


# -- forked children


def test_a_forked_child_neither_waits_for_its_parents_runs_nor_for_its_locks(shared: Shared) -> None:
    work, other = Work(), Work("the child's")
    other.go()
    loop = asyncio.new_event_loop()
    tasks = loop.run_until_complete(many(shared, work, 2))
    locked, fork_done = threading.Event(), threading.Event()

    def hold() -> None:
        with shared._lock:
            locked.set()
            fork_done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(5)
    with warnings.catch_warnings():
        # Of other threads, from Python 3.12 on: they are what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        # Whatever hangs is killed, and any exit code but 0 fails the test; nothing of pytest may run here.
        signal.alarm(5)
        good = len(shared) == 0
        good = good and asyncio.run(call(shared, "k", other)) == "the child's"
        good = good and run_now(call(shared, "k", other)) == "the child's"
        good = good and not work.cancelled.is_set()
        os._exit(0 if good else 1)
    fork_done.set()
    holder.join(5)
    assert os.waitpid(child, 0)[1] == 0
    assert len(shared) == 1
    work.go()
    assert loop.run_until_complete(asyncio.gather(*tasks)) == ["done"] * 2
    loop.close()


async def test_what_is_forgotten_is_begun_anew_and_not_ended(shared: Shared) -> None:
    """What a forked child does, done here, where it can be looked at."""
    parents, childs = Work("parent's"), Work("child's")
    old = await many(shared, parents, 2)
    shared.forget()
    assert len(shared) == 0
    new = await many(shared, childs, 2)
    parents.go()
    assert await asyncio.gather(*old) == ["parent's"] * 2
    assert len(shared) == 1
    new += await many(shared, childs, 1)
    childs.go()
    assert await asyncio.gather(*new) == ["child's"] * 3
    assert (childs.runs, len(shared)) == (1, 0)
    assert not parents.cancelled.is_set()


def test_a_run_that_ends_because_something_is_freed_does_not_wait_for_the_lock_of_this_very_thread(
    shared: Shared,
) -> None:
    """The collector may close the coroutine of a lost task at any point, also where this thread has the lock."""
    with shared._lock:
        assert shared._lock.acquire(blocking=False)
        shared._lock.release()


# -- waiting alone


async def test_in_a_loop_it_is_awaited_in_place(thread: LoopThread) -> None:
    async def here() -> object:
        return asyncio.current_task()

    assert await awaited(here, 0.0, thread) is asyncio.current_task()


def test_in_a_thread_it_is_done_on_the_loop_thread(thread: LoopThread) -> None:
    SECRET.set("a caller's")

    async def there() -> tuple[str, str | None]:
        await turns()
        return threading.current_thread().name, SECRET.get(None)

    assert run_now(awaited(there, 5.0, thread)) == ("gatekit-loop", None)
    assert set() == module._ALONE


@pytest.mark.parametrize("error", [ValueError("no"), TimeoutError("mine"), StoreUnavailable("down")], ids=repr)
def test_what_the_work_raises_is_raised(thread: LoopThread, error: Exception) -> None:
    work = Work(error)
    work.go()
    with pytest.raises(type(error), match=str(error)):
        run_now(awaited(work, 5.0, thread))
    with pytest.raises(type(error), match=str(error)):
        asyncio.run(alone(work, thread))


async def alone(work: Work, thread: LoopThread) -> Any:
    return await awaited(work, 5.0, thread)


def test_work_that_takes_too_long_is_cancelled_and_what_it_says_then_is_not_missed(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def stubborn() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("too late") from None
        finally:
            ended.set()

    wait = module._Run.wait

    def once_begun(self: module._Run, timeout: float) -> Any:
        assert begun.wait(5)
        return wait(self, timeout)

    monkeypatch.setattr(module._Run, "wait", once_begun)
    with pytest.raises(StoreUnavailable, match=r"no answer within 0\.01 s"):
        run_now(awaited(stubborn, 0.01, thread))
    assert ended.wait(5)
    thread.run(turns())
    assert not module._ALONE


def test_an_interrupt_of_the_thread_that_waits_cancels_the_work(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()

    def interrupted(self: module._Run, timeout: float) -> None:
        assert work.begun.wait(5)
        raise KeyboardInterrupt

    monkeypatch.setattr(module._Run, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_now(awaited(work, 5.0, thread))
    assert work.cancelled.wait(5)


def test_giving_up_on_a_loop_that_is_gone_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    abrupt = Abrupt()
    run = module._Run(abrupt.loop)
    abrupt.stop()
    run.cancel()
    run.tell("first")
    run.tell("second")
    run.cancel()
    assert run.wait(0.0) == "first"


def test_giving_up_before_the_work_began_ends_it_before_it_does_anything() -> None:
    loop = asyncio.new_event_loop()
    run, ended, work = module._Run(loop), [], Work()
    run.cancel()
    loop.run_until_complete(turns())
    run.begin(work, lambda: ended.append(1))
    run.cancel()
    loop.run_until_complete(turns())
    assert (ended, work.runs) == ([1], 0)
    with pytest.raises(StoreUnavailable):
        run.wait(0.0)
    loop.close()
