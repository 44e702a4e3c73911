"""Single flight and waiting, over real event loops and threads: nobody hangs, nobody is told twice, nothing is left."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
import traceback
import warnings
import weakref
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from gatekit.core.ports import Once
from gatekit.drivers.wsgi import run_now
from gatekit.errors import StoreUnavailable
from gatekit.gateway import shared as module
from gatekit.gateway.loop_thread import LoopThread
from gatekit.gateway.shared import Shared, awaited

SECRET: ContextVar[str] = ContextVar("SECRET")


class Work:
    """Work that waits until it is told to go on, in whatever loop it runs."""

    def __init__(self, result: Any = "done") -> None:
        self.result = result
        self.begun = threading.Event()
        self.runs = 0
        self.at_once = 0
        self.most_at_once = 0
        self.cancelled = threading.Event()
        self._gates: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._open = False

    async def __call__(self) -> Any:
        self.runs += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if not self._open:
                gate = asyncio.Event()
                self._gates.append((asyncio.get_running_loop(), gate))
                self.begun.set()
                await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.at_once -= 1
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    def go(self) -> None:
        """Let it end, from any thread."""
        self._open = True
        for loop, gate in self._gates:
            if not loop.is_closed():
                loop.call_soon_threadsafe(gate.set)


async def turns(count: int = 5) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def many(shared: Shared, work: Callable[[], Awaitable[Any]], count: int) -> list[asyncio.Task[Any]]:
    """So many callers of the same key, who wait."""
    tasks = [asyncio.ensure_future(call(shared, "k", work)) for _ in range(count)]
    await turns()
    return tasks


async def call(shared: Shared, key: object, work: Callable[[], Awaitable[Any]]) -> Any:
    return await shared(key, work)


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    one = LoopThread()
    yield one
    one.stop()


@pytest.fixture
def shared(thread: LoopThread) -> Shared:
    return Shared(thread, timeout=5.0)


DESTROYED = "Task was destroyed but it is pending"
"""asyncio says so of every task that is lost with its loop."""


class Heard(logging.Handler):
    """Every warning of the libraries underneath."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def allowed() -> set[str]:
    """What may be complained of in this test."""
    return set()


@pytest.fixture
def complaints(allowed: set[str]) -> Iterator[None]:
    """What asyncio and concurrent.futures log, once everything that nobody has is gone: nothing."""
    heard, loggers = Heard(), [logging.getLogger(name) for name in ("asyncio", "concurrent.futures")]
    for logger in loggers:
        logger.addHandler(heard)
    yield
    gc.collect()
    for logger in loggers:
        logger.removeHandler(heard)
    assert [one for one in heard.messages if not any(part in one for part in allowed)] == []


pytestmark = pytest.mark.usefixtures("complaints")


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


class Gone:
    """A loop thread whose loop was closed."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.close()


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


class Abrupt:
    """A loop in a thread that stops where it is."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


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
