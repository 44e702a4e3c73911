"""The loop thread and the ports that wait on it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence

import pytest

from gatekit.core.counters import Ask, Limit, Taken
from gatekit.core.ports import PUBLIC, Fetched, Reach
from gatekit.drivers.wsgi import run_now
from gatekit.errors import StoreUnavailable
from gatekit.gateway.blocking import blocking
from gatekit.gateway.loop_thread import LoopThread
from gatekit.gateway.system import system_ports


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    one = LoopThread()
    yield one
    one.stop()


async def add(a: int, b: int) -> int:
    return a + b


def test_it_starts_when_needed_and_runs_many(thread: LoopThread) -> None:
    before = threading.active_count()
    assert thread.run(add(1, 2)) == 3
    assert thread.run(add(2, 2)) == 4
    assert threading.active_count() == before + 1


def test_an_error_comes_back(thread: LoopThread) -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        thread.run(fail())


def test_many_threads_share_one_loop(thread: LoopThread) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def which() -> None:
        loops.append(asyncio.get_running_loop())

    workers = [threading.Thread(target=lambda: thread.run(which())) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(5)
    assert len(set(loops)) == 1


def test_stopping_cancels_what_is_left() -> None:
    thread = LoopThread()
    cancelled = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def start() -> None:
        thread.task = asyncio.create_task(forever())  # type: ignore[attr-defined]

    thread.run(start())
    thread.stop()
    assert cancelled.is_set()
    thread.stop()


def test_calling_into_a_loop_that_is_gone_does_nothing(thread: LoopThread) -> None:
    thread.run(add(1, 1))
    loop = thread.loop
    thread.stop()
    thread._loop, thread._pid = loop, os.getpid()
    thread.call(lambda: None)
    thread._loop = None


def test_a_forked_child_gets_a_loop_of_its_own(thread: LoopThread) -> None:
    thread.run(add(1, 1))
    pid = os.fork()
    if pid == 0:
        child = 1
        try:
            child = 0 if thread.run(add(2, 3)) == 5 else 1
        finally:
            os._exit(child)
    assert os.waitpid(pid, 0)[1] == 0


ASK = Ask("k", Limit(5, 1.0))


class Slow:
    """Counters that answer when they are told to."""

    def __init__(self) -> None:
        self.go: asyncio.Event | None = None
        self.heard: list[tuple[str | Ask, ...]] = []

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        await asyncio.wait([asyncio.create_task(add(1, 1))])
        if self.go is not None:
            await self.go.wait()
        self.heard.append(("take", *asks))
        return [Taken(True, ask.limit.amount, 0.0, 0.0) for ask in asks]

    async def charge(self, asks: Sequence[Ask]) -> None:
        await asyncio.wait([asyncio.create_task(add(1, 1))])
        self.heard.append(("charge", *asks))

    async def reset(self, asks: Sequence[Ask]) -> None:
        await asyncio.wait([asyncio.create_task(add(1, 1))])
        self.heard.append(("reset", *asks))


def test_a_port_that_does_io_never_suspends_when_it_is_wrapped(thread: LoopThread) -> None:
    slow = Slow()
    port = blocking(slow, loop_thread=thread)
    assert run_now(port.take([ASK])) == [Taken(True, 5, 0.0, 0.0)]
    run_now(port.charge([ASK]))
    run_now(port.reset([ASK]))
    assert slow.heard == [("take", ASK), ("charge", ASK), ("reset", ASK)]


def test_a_port_that_does_not_answer_is_unavailable_in_time(thread: LoopThread) -> None:
    slow = Slow()

    async def make() -> asyncio.Event:
        return asyncio.Event()

    slow.go = thread.run(make())
    with pytest.raises(StoreUnavailable):
        run_now(blocking(slow, 0.02, loop_thread=thread).take([ASK]))


def test_a_fetch_is_wrapped_too(thread: LoopThread) -> None:
    async def fetch(
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 5.0,
        reach: Reach = PUBLIC,
    ) -> Fetched:
        await asyncio.wait([asyncio.create_task(add(1, 1))])
        return Fetched(200, {}, url.encode())

    assert run_now(blocking(fetch, loop_thread=thread)("GET", "http://x")) == Fetched(200, {}, b"http://x")


def test_the_ports_of_a_process() -> None:
    ports = system_ports()
    assert ports.clock.monotonic() <= ports.clock.monotonic()
    assert ports.clock.wall() > 1.7e9
    assert 0 <= ports.random.random() < 1
    assert len(ports.random.token(16)) == 16
    with ports.lock():
        pass
