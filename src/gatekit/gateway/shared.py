"""Work that several callers wait for, and waiting itself, for event loops and for threads that have none.

A port of a running process serves both: under ASGI it awaits, and in a thread of a WSGI server, where nothing may
suspend, it lets the process's loop thread do the work while the caller's thread waits.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as Late
from contextvars import Context
from types import TracebackType
from typing import Any, TypeVar, cast

from gatekit.errors import StoreUnavailable
from gatekit.gateway.loop_thread import SHARED, LoopThread

T = TypeVar("T")

_CLOSED = "the event loop was closed before there was an answer"


async def awaited(work: Callable[[], Awaitable[T]], timeout: float, loop_thread: LoopThread = SHARED) -> T:
    """The result of `work`: awaited in the running loop, or on the loop thread where none runs, and then this never
    suspends. Raises StoreUnavailable when the loop thread has no result within `timeout` seconds; the work is then
    cancelled, as it is when the caller's thread is interrupted."""
    if _loop() is not None:
        return await work()
    run = _Run(loop_thread.loop)
    _ALONE.add(run)
    try:
        run.begin(work, lambda: _ALONE.discard(run))
        return cast("T", run.wait(timeout))
    except BaseException:
        run.cancel()
        raise


class Shared:
    """`Once` for a running process: one run for each key and event loop; all threads without a loop share the loop thread's.

    The run is a task of its own, in an empty context. Threads wait `timeout` seconds at most, and then get
    StoreUnavailable, as everybody does whose loop is closed before the run ends; whoever waits in a loop waits for
    the run, which has a timeout of its own. Work must not ask for its own key.
    """

    __slots__ = ("__weakref__", "_lock", "_loop_thread", "_runs", "_timeout")

    def __init__(self, loop_thread: LoopThread = SHARED, timeout: float = 30.0) -> None:
        self._loop_thread = loop_thread
        self._timeout = timeout
        self.forget()
        _ALL.add(self)

    async def __call__(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        here = _loop()
        run = self._joined(here or self._loop_thread.loop, key, work)
        return cast("T", run.wait(self._timeout) if here is None else await run.waited())

    def __len__(self) -> int:
        """How many runs are under way, in all loops."""
        with self._lock:
            return sum(map(len, self._runs.values()))

    async def aclose(self) -> None:
        """End the runs of the running loop, and wait until they have ended. Whoever waits gets StoreUnavailable."""
        with self._lock:
            runs = list(self._runs.get(asyncio.get_running_loop(), {}).values())
        tasks = [run.task for run in runs if run.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget(self) -> None:
        """In a forked child: the parent's runs are not ours, and its threads, one of which may hold the lock, are gone."""
        # Whatever frees a task may end its run, also while this thread has the lock.
        self._lock = threading.RLock()
        self._runs: dict[asyncio.AbstractEventLoop, dict[Hashable, _Run]] = {}

    def _joined(self, loop: asyncio.AbstractEventLoop, key: Hashable, work: Callable[[], Awaitable[Any]]) -> _Run:
        """The run that is under way on that loop for that key, begun now if there is none."""
        with self._lock:
            runs = self._runs.get(loop)
            if runs is None:
                closed = [self._runs.pop(other, {}) for other in list(self._runs) if other.is_closed()]
                runs = self._runs[loop] = {}
            else:
                closed = []
            run = runs.get(key)
            new = run is None
            if run is None:
                run = runs[key] = _Run(loop)
        for left in closed:
            for lost in left.values():
                lost.tell(error=StoreUnavailable(_CLOSED))
        if new:
            run.begin(work, lambda: self._ended(loop, key, run))
        return run

    def _ended(self, loop: asyncio.AbstractEventLoop, key: Hashable, run: _Run) -> None:
        with self._lock:
            runs = self._runs.get(loop)
            if runs is not None and runs.get(key) is run:
                del runs[key]
                if not runs:
                    del self._runs[loop]


class _Run:
    """A piece of work as a task of one loop. Callers in that loop and threads without one may wait for what comes of it."""

    __slots__ = ("_answer", "_loop", "_traceback", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._answer: Future[Any] = Future()
        self._traceback: TracebackType | None = None
        self.task: asyncio.Task[None] | None = None

    def begin(self, work: Callable[[], Awaitable[Any]], ended: Callable[[], object]) -> None:
        """Start it, from any thread. `ended` is called before anybody is told what came of it. Raises StoreUnavailable
        when the loop is closed."""

        def lost(task: asyncio.Task[None]) -> None:
            """Where the run could not tell by itself: it was cancelled before it began, or interrupted."""
            if not task.cancelled():
                task.exception()
            ended()
            self.tell(error=StoreUnavailable(_CLOSED))

        def start() -> None:
            self.task = self._loop.create_task(self._done(work, ended), context=Context())
            self.task.add_done_callback(lost)

        if self._loop is _loop():
            start()
            return
        try:
            self._loop.call_soon_threadsafe(start)
        except RuntimeError:
            ended()
            self.tell(error=StoreUnavailable(_CLOSED))
            raise StoreUnavailable(_CLOSED) from None

    async def _done(self, work: Callable[[], Awaitable[Any]], ended: Callable[[], object]) -> None:
        found, error = None, None
        try:
            found = await work()
        except Exception as raised:
            error = raised
        # At once, so that who comes now begins anew.
        ended()
        self.tell(found, error)

    def tell(self, found: Any = None, error: Exception | None = None) -> None:
        """What came of it, to everybody. What is told later is not heard."""
        try:
            if error is None:
                self._answer.set_result(found)
            else:
                # Without the frame of this run, which would keep itself alive.
                self._traceback = None if error.__traceback__ is None else error.__traceback__.tb_next
                self._answer.set_exception(error)
        except InvalidStateError:
            pass

    def wait(self, timeout: float) -> Any:
        """What came of it, in a thread without a loop. Raises StoreUnavailable after `timeout` seconds."""
        try:
            self._answer.exception(timeout)
        except Late:
            if not self._answer.done():
                raise StoreUnavailable(f"no answer within {timeout} s") from None
        return self._outcome()

    async def waited(self) -> Any:
        """What came of it, in its own loop. Whoever gives up waiting does not end it for the others."""
        if not self._answer.done():
            loop, waiter = self._loop, self._loop.create_future()

            def wake(_: object) -> None:
                if not waiter.done() and not loop.is_closed():
                    waiter.set_result(None)

            self._answer.add_done_callback(wake)
            await waiter
        return self._outcome()

    def _outcome(self) -> Any:
        error = self._answer.exception()
        if error is None:
            return self._answer.result()
        try:
            # One error for all: what each adds to its traceback is for itself.
            raise error.with_traceback(self._traceback)
        finally:
            del error

    def cancel(self) -> None:
        """End it, from any thread, if it has not ended."""

        def end() -> None:
            if self.task is not None:
                self.task.cancel()

        if not self._answer.done():
            try:
                self._loop.call_soon_threadsafe(end)
            except RuntimeError:
                pass


_ALONE: set[_Run] = set()
"""The runs of `awaited`: a loop holds its tasks weakly."""
_ALL: weakref.WeakSet[Shared] = weakref.WeakSet()
_LEFT: list[object] = []
"""What a forked child has of its parent's runs. They are not ended here, where they could do their parent harm."""


def _forget_after_fork() -> None:
    for shared in list(_ALL):
        _LEFT.append(shared._runs)
        shared.forget()


os.register_at_fork(after_in_child=_forget_after_fork)


def _loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
