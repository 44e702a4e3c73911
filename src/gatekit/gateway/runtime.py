"""The runtime: where a gateway's background work lives. One for each process and event loop, made at the first need.

Jobs are keyed by identity. A reload that still wants a job leaves it alone; one that does not ends it. They run in an
empty context and belong to nobody's request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import Callable, Hashable, Iterable
from contextvars import Context

from gatekit.core.policy import Job
from gatekit.core.ports import Ports

_log = logging.getLogger("gatekit")


_RUNTIMES: weakref.WeakSet[Runtime] = weakref.WeakSet()


class LoopRuntime:
    """The jobs of one event loop."""

    __slots__ = ("_tasks", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}

    def want(self, jobs: Iterable[Job]) -> None:
        """Run exactly these jobs: start what is new, end what is gone, leave the rest undisturbed."""
        wanted = {job.key: job for job in jobs}
        for key in [key for key in self._tasks if key not in wanted]:
            self._tasks.pop(key).cancel()
        for key, job in wanted.items():
            if key not in self._tasks:
                self._tasks[key] = self.loop.create_task(_repeat(job), context=Context(), name=f"gatekit job {key!r}")

    async def close(self) -> None:
        """End every job and wait until they have ended."""
        tasks = list(self._tasks.values())
        self._tasks = {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _settle(due: asyncio.Future[None]) -> None:
    if not due.done():
        due.set_result(None)


async def _repeat(job: Job) -> None:
    """Run a job until it is cancelled. A run that fails is logged, and the next one comes at its time all the same."""
    loop = asyncio.get_running_loop()
    pause = job.first_after
    while True:
        due: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(pause, _settle, due)
        try:
            await due
        finally:
            timer.cancel()
        try:
            await job.run()
        except Exception:
            _log.exception("job %r failed; it will run again", job.key)
        pause = job.interval()


class Runtime:
    """The loop runtimes of one gateway. `jobs` tells what should run now; `lost` hears of loops that were closed,
    `forked` in a forked child that it is one."""

    def __init__(
        self,
        jobs: Callable[[], Iterable[Job]],
        lost: Callable[[asyncio.AbstractEventLoop], None] | None = None,
        forked: Callable[[], None] | None = None,
    ) -> None:
        self._jobs = jobs
        self._lost = lost
        self._forked = forked
        self._current: LoopRuntime | None = None
        self._all: list[LoopRuntime] = []
        _RUNTIMES.add(self)

    def enter(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Called in a loop that serves an exchange: the first time there, its jobs begin. `loop` is the running one,
        where the caller knows it."""
        current = self._current
        if current is None or current.loop is not (loop or asyncio.get_running_loop()):
            self._current = self._here()

    def enter_on(self, call: Callable[[Callable[[], None]], None]) -> None:
        """`enter` for a thread without a loop: `call` runs it on the one that has the jobs."""
        if self._current is None:
            call(self.enter)

    def _here(self) -> LoopRuntime:
        loop = asyncio.get_running_loop()
        for known in self._all:
            if known.loop is loop:
                return known
        for known in [one for one in self._all if one.loop.is_closed()]:
            self._all.remove(known)
            if self._lost is not None:
                self._lost(known.loop)
        found = LoopRuntime(loop)
        self._all.append(found)
        found.want(self._jobs())
        return found

    @property
    def serving(self) -> bool:
        """Whether any loop is still served."""
        return any(not one.loop.is_closed() for one in self._all)

    def refresh(self) -> None:
        """After a reload: every loop runs the jobs of the configuration that is now in force."""
        for one in list(self._all):
            if not one.loop.is_closed():
                jobs = list(self._jobs())
                if one.loop is _running():
                    one.want(jobs)
                else:
                    one.loop.call_soon_threadsafe(one.want, jobs)

    async def close_here(self) -> None:
        """End the jobs of the running loop."""
        loop = asyncio.get_running_loop()
        for one in [one for one in self._all if one.loop is loop]:
            self._all.remove(one)
            if self._current is one:
                self._current = None
            await one.close()

    def forget(self) -> None:
        """In a forked child: the parent's loops and their tasks are not ours."""
        self._all = []
        self._current = None
        if self._forked is not None:
            self._forked()


async def end_flights(ports: Ports) -> None:
    """End the shared work of these ports that runs on this loop."""
    close = getattr(ports.once, "aclose", None)
    if close is not None:
        await close()


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _forget_after_fork() -> None:
    for runtime in list(_RUNTIMES):
        runtime.forget()


os.register_at_fork(after_in_child=_forget_after_fork)
