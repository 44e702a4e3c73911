"""Jobs, loops, forks: where background work lives."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar

import pytest

from gatekit.core.policy import Job
from gatekit.gateway.runtime import Runtime

SECRET: ContextVar[str] = ContextVar("SECRET")


class Work:
    """A job that counts its runs and can be waited for."""

    def __init__(self, key: str, *, interval: float = 0.0, error: Exception | None = None) -> None:
        self.runs = 0
        self.seen: list[str | None] = []
        self.ran = asyncio.Event()
        self.error = error
        self.job = Job(key, self.run, lambda: interval)

    async def run(self) -> None:
        self.runs += 1
        self.seen.append(SECRET.get(None))
        self.ran.set()
        if self.error is not None:
            raise self.error


def runtime_of(*works: Work) -> Runtime:
    return Runtime(lambda: [work.job for work in works])


async def test_jobs_begin_at_the_first_need_and_once() -> None:
    work = Work("a", interval=60)
    runtime = runtime_of(work)
    assert not [task for task in asyncio.all_tasks() if "gatekit job" in task.get_name()]
    runtime.enter()
    runtime.enter()
    await work.ran.wait()
    assert work.runs == 1
    await runtime.close_here()


async def test_a_job_runs_again_and_survives_its_failures(caplog: pytest.LogCaptureFixture) -> None:
    work = Work("a", error=ValueError("no"))
    runtime = runtime_of(work)
    with caplog.at_level(logging.ERROR):
        runtime.enter()
        while work.runs < 3:
            work.ran.clear()
            await work.ran.wait()
    await runtime.close_here()
    assert "it will run again" in caplog.text


async def test_jobs_see_nothing_of_the_request_that_started_them() -> None:
    SECRET.set("a caller's")
    work = Work("a", interval=60)
    runtime = runtime_of(work)
    runtime.enter()
    await work.ran.wait()
    assert work.seen == [None]
    await runtime.close_here()


async def test_a_reload_keeps_ends_and_begins() -> None:
    kept, gone, new = Work("kept", interval=60), Work("gone", interval=60), Work("new", interval=60)
    wanted: list[Work] = [kept, gone]
    runtime = Runtime(lambda: [work.job for work in wanted])
    runtime.enter()
    await kept.ran.wait()
    await gone.ran.wait()
    before = {task for task in asyncio.all_tasks() if "'kept'" in task.get_name()}
    wanted[:] = [kept, new]
    runtime.refresh()
    await new.ran.wait()
    after = {task.get_name(): task for task in asyncio.all_tasks() if "gatekit job" in task.get_name()}
    assert set(after) == {"gatekit job 'kept'", "gatekit job 'new'"}
    assert before == {after["gatekit job 'kept'"]}
    assert kept.runs == 1
    await runtime.close_here()


def test_three_loops_in_one_process_each_have_their_jobs() -> None:
    counts: list[str] = []
    done = threading.Barrier(3)
    jobs: list[Job] = []
    runtime = Runtime(lambda: jobs)

    async def count() -> None:
        counts.append(threading.current_thread().name)

    jobs.append(Job("a", count, lambda: 60.0))

    async def serve() -> None:
        runtime.enter()
        while threading.current_thread().name not in counts:
            await asyncio.wait([asyncio.create_task(_turn())])
        done.wait(5)
        runtime.enter()
        await runtime.close_here()

    threads = [threading.Thread(target=lambda: asyncio.run(serve()), name=f"loop-{n}") for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(counts) == ["loop-0", "loop-1", "loop-2"]


async def _turn() -> None:
    """One turn of the loop."""


def test_a_closed_loop_is_told_of_and_forgotten() -> None:
    lost: list[asyncio.AbstractEventLoop] = []
    runtime = Runtime(tuple[Job, ...], lost=lost.append)
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        runtime.enter()

    for _ in range(3):
        asyncio.run(serve())
    assert lost == loops[:2]


def test_a_reload_reaches_the_loops_of_other_threads() -> None:
    ready, stop = threading.Event(), threading.Event()
    wanted: list[Job] = []
    runtime = Runtime(lambda: wanted)
    ran = threading.Event()

    async def work() -> None:
        ran.set()

    async def serve() -> None:
        runtime.enter()
        ready.set()
        await asyncio.to_thread(stop.wait, 5)
        await runtime.close_here()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(5)
    wanted.append(Job("late", work, lambda: 60.0))
    runtime.refresh()
    assert ran.wait(5)
    stop.set()
    thread.join(5)


def test_a_forked_child_has_no_part_in_its_parents_loops() -> None:
    ended: list[int] = []

    async def serve() -> None:
        runtime = Runtime(_no_jobs)
        runtime.enter()
        pid = os.fork()
        if pid == 0:
            # Any exit code but 0 fails the test; nothing of pytest may run here.
            os._exit(0 if runtime._all == [] and runtime._current is None else 1)
        ended.append(os.waitpid(pid, 0)[1])  # noqa: ASYNC222 - the child ends at once
        await runtime.close_here()

    asyncio.run(serve())
    assert ended == [0]


def _no_jobs() -> Iterable[Job]:
    return ()


def test_a_thread_without_a_loop_enters_by_way_of_one() -> None:
    calls: list[Callable[[], None]] = []
    runtime = Runtime(_no_jobs)
    runtime.enter_on(calls.append)
    assert calls == [runtime.enter]
