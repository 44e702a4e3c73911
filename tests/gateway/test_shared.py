"""Single flight over a real event loop and threads: work is done once, and nobody takes anything from the others."""

from __future__ import annotations

import asyncio
import gc
import threading
import traceback
import weakref
from collections.abc import Awaitable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
from tests.gateway.shared_scene import Work, call, many, no_complaints, turns

from gatekit.core.ports import Once
from gatekit.drivers.wsgi import run_now
from gatekit.errors import StoreUnavailable
from gatekit.gateway import shared as module
from gatekit.gateway.loop_thread import LoopThread
from gatekit.gateway.shared import Shared

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


def is_a_once(shared: Shared) -> Once:
    """For the type checker: the port is implemented as core declares it."""
    return shared


# -- in one loop


async def test_what_many_ask_for_is_done_once_and_then_anew(shared: Shared) -> None:
    work = Work()
    tasks = await many(shared, work, 100)
    assert (work.runs, len(shared)) == (1, 1)
    work.go()
    assert await asyncio.gather(*tasks) == ["done"] * 100
    assert len(shared) == 0
    assert await shared("k", work) == "done"
    assert work.runs == 2
    # Not even the loop is remembered.
    assert shared._runs == {}


async def test_other_keys_are_other_work(shared: Shared) -> None:
    one, two = Work(1), Work(2)
    tasks = [asyncio.ensure_future(call(shared, key, work)) for key, work in (("a", one), ("b", two), ("a", two))]
    await turns()
    assert len(shared) == 2
    one.go()
    two.go()
    assert await asyncio.gather(*tasks) == [1, 2, 1]


async def test_who_gives_up_takes_nothing_from_the_others(shared: Shared) -> None:
    work = Work()
    tasks = await many(shared, work, 3)
    tasks[0].cancel()
    await turns()
    assert tasks[0].cancelled()
    work.go()
    assert await asyncio.gather(*tasks[1:]) == ["done"] * 2


@pytest.mark.parametrize("result", ["done", ValueError("no")], ids=["good", "bad"])
async def test_the_work_goes_on_when_all_have_given_up_and_nobody_complains(shared: Shared, result: Any) -> None:
    work = Work(result)
    tasks = await many(shared, work, 3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(shared) == 1
    work.go()
    await turns()
    assert len(shared) == 0
    assert not work.cancelled.is_set()


async def test_an_error_is_everybodys_and_nobodys_traceback_grows(shared: Shared) -> None:
    work = Work(ValueError("no"))
    tasks = await many(shared, work, 50)
    work.go()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert {str(error) for error in found} == {"no"}
    assert all(isinstance(error, ValueError) for error in found)
    frames = [frame.name for frame in traceback.extract_tb(found[-1].__traceback__)]
    assert len(frames) < 6
    assert frames[-1] == "__call__"


async def test_work_that_fails_at_once_is_told_of_too(shared: Shared) -> None:
    def fails() -> Awaitable[Any]:
        raise ValueError("at once")

    with pytest.raises(ValueError, match="at once"):
        await shared("k", fails)
    assert len(shared) == 0


async def test_the_work_sees_nothing_of_the_request_that_began_it(shared: Shared) -> None:
    SECRET.set("a caller's")

    async def look() -> str | None:
        return SECRET.get(None)

    assert await shared("k", look) is None


async def test_work_that_was_cancelled_from_within_is_unavailable(shared: Shared) -> None:
    async def gives_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(StoreUnavailable):
        await shared("k", gives_up)


def test_an_interrupt_is_for_the_loop_and_not_for_who_waits(shared: Shared) -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    loop = asyncio.new_event_loop()
    waiting = loop.create_task(call(shared, "k", interrupted))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(waiting)
    with pytest.raises(StoreUnavailable):
        loop.run_until_complete(waiting)
    loop.close()


async def test_closing_ends_what_is_under_way_and_waits_for_it(shared: Shared) -> None:
    work = Work()
    tasks = await many(shared, work, 3)
    await shared.aclose()
    assert work.cancelled.is_set()
    assert len(shared) == 0
    for task in tasks:
        with pytest.raises(StoreUnavailable, match="closed"):
            await task
    await shared.aclose()


async def test_nothing_of_the_work_is_kept(shared: Shared) -> None:
    class Result:
        pass

    async def make() -> Result:
        return Result()

    gc.collect()
    gc.disable()
    try:
        kept = weakref.ref(await shared("k", make))
        await turns()
        assert kept() is None
    finally:
        gc.enable()


async def test_work_that_was_ended_before_it_began_is_told_of(shared: Shared) -> None:
    work = Work()
    waiting = asyncio.ensure_future(call(shared, "k", work))
    asyncio.get_running_loop().call_soon(lambda: next(iter(shared._runs.values()))["k"].task.cancel())  # type: ignore[union-attr]
    with pytest.raises(StoreUnavailable):
        await waiting
    assert (work.runs, len(shared)) == (0, 0)


async def test_an_answer_that_is_there_is_not_waited_for() -> None:
    run = module._Run(asyncio.get_running_loop())
    run.tell("there")
    assert run_now(run.waited()) == "there"


# -- threads without a loop


def test_a_thread_without_a_loop_never_suspends(shared: Shared) -> None:
    async def turn() -> str:
        await turns()
        return threading.current_thread().name

    assert run_now(shared("k", turn)) == "gatekit-loop"
    assert len(shared) == 0


def test_threads_share_one_run(shared: Shared, thread: LoopThread) -> None:
    work = Work()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(run_now, call(shared, "k", work)) for _ in range(8)]
        assert work.begun.wait(5)
        # A coroutine of that very loop joins them.
        joined = asyncio.run_coroutine_threadsafe(call(shared, "k", work), thread.loop)
        thread.run(turns())
        while len(_waiting(shared)) < 9:
            thread.run(turns(1))
        work.go()
        assert [future.result(5) for future in [*waiting, joined]] == ["done"] * 9
    assert work.runs == 1


def _waiting(shared: Shared) -> list[object]:
    """Who waits for the run there is: threads on its condition, coroutines by a callback."""
    with shared._lock:
        ((run,),) = [list(runs.values()) for runs in shared._runs.values()]
        answer: Any = run._answer
        return [*answer._condition._waiters, *answer._done_callbacks]


def test_an_error_comes_back_to_threads(shared: Shared) -> None:
    async def fails() -> None:
        await turns()
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            run_now(shared("k", fails))


@pytest.mark.parametrize("where", ["thread", "loop"])
def test_a_timeout_of_the_work_is_its_own_affair(shared: Shared, where: str) -> None:
    async def late() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        run_now(shared("k", late)) if where == "thread" else asyncio.run(call(shared, "k", late))


def test_a_thread_does_not_wait_for_ever_and_the_others_get_their_answer(thread: LoopThread) -> None:
    hasty, work = Shared(thread, timeout=0.01), Work()
    with pytest.raises(StoreUnavailable, match=r"no answer within 0\.01 s"):
        run_now(hasty("k", work))
    assert not work.cancelled.is_set()
    joined = asyncio.run_coroutine_threadsafe(call(hasty, "k", work), thread.loop)
    thread.run(turns())
    work.go()
    assert joined.result(5) == "done"
    assert work.runs == 1


def test_an_answer_that_comes_with_the_timeout_is_taken() -> None:
    run = module._Run(asyncio.new_event_loop())

    class Late(Future[Any]):
        """One whose wait ends a moment before its answer comes."""

        def exception(self, timeout: float | None = None) -> BaseException | None:
            if timeout is not None:
                run.tell("just so")
                raise TimeoutError
            return super().exception()

    run._answer = Late()
    assert run.wait(0.0) == "just so"
    run._loop.close()


def test_at_no_time_is_there_more_than_one_run_however_threads_race(shared: Shared) -> None:
    work = Work()
    work.go()
    barrier = threading.Barrier(8)

    def race() -> int:
        barrier.wait(5)
        return sum(run_now(call(shared, "k", work)) == "done" for _ in range(100))

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(race) for _ in range(8)]
        assert [future.result(20) for future in futures] == [100] * 8
    assert work.most_at_once == 1
    assert len(shared) == 0
