"""Key sets that several loops, and threads without one, use at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.policies.authn.keysets_busy import Busy, Gated, asked, turns, until
from tests.policies.authn.keysets_scene import jwks, plain, status

from gatekit.drivers.wsgi import run_now
from gatekit.gateway.loop_thread import LoopThread
from gatekit.policies.authn.jose_keys import Key
from gatekit.policies.authn.keysets import RemoteKeys


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    one = LoopThread()
    yield one
    one.stop()


@pytest.fixture
def busy(loop_thread: LoopThread) -> Busy:
    return Busy("old", loop_thread=loop_thread)


class TwoLoops:
    """Two loops in one thread, each of which turns only when it is told to."""

    def __init__(self) -> None:
        self.one, self.two = asyncio.new_event_loop(), asyncio.new_event_loop()

    def close(self) -> None:
        for loop in (self.one, self.two):
            left = asyncio.all_tasks(loop) if not loop.is_closed() else set()
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.close()

    @staticmethod
    def begin(loop: asyncio.AbstractEventLoop, work: Awaitable[Any]) -> asyncio.Future[Any]:
        """Begin it, and let the loop turn until it waits."""

        async def started() -> asyncio.Future[Any]:
            future = asyncio.ensure_future(work)
            await turns()
            return future

        return loop.run_until_complete(started())


@pytest.fixture
def loops() -> Iterator[TwoLoops]:
    both = TwoLoops()
    yield both
    both.close()


async def shut(gated: Gated) -> asyncio.Event:
    return gated.shut()


def test_loops_share_the_keys_and_each_fetches_at_most_once_for_a_new_one(busy: Busy, loops: TwoLoops) -> None:
    keys = busy.keys()
    loops.one.run_until_complete(asked(keys, "old"))
    gate = loops.one.run_until_complete(shut(busy.gated))
    busy.idp.kids = ["old", "new"]
    first = loops.begin(loops.one, asked(keys, "new"))
    # The other loop cannot wait for that fetch; it makes the same attempt, once, however many ask there.
    assert loops.two.run_until_complete(asked(keys, "new")) is not None
    assert loops.two.run_until_complete(asked(keys, "newer")) is None
    assert plain(keys, "new") is not None
    assert busy.idp.fetches == 3
    gate.set()
    assert loops.one.run_until_complete(first) is not None
    assert busy.idp.fetches == 3


def test_an_attempt_that_another_loop_ended_is_not_begun_again(busy: Busy, loops: TwoLoops) -> None:
    keys = busy.keys()
    (job,) = keys.jobs()
    gates = [loop.run_until_complete(shut(busy.gated)) for loop in (loops.one, loops.two)]
    flights = [loops.begin(loop, job.run()) for loop in (loops.one, loops.two)]
    assert busy.gated.arrived == 2
    state = next(iter(busy.ports.cells._cells.values()))
    flight = state.flight
    gates[0].set()
    loops.one.run_until_complete(flights[0])
    assert (flight.landed, state.flight) == (True, None)
    loops.one.run_until_complete(keys._landed(flight))
    gates[1].set()
    loops.two.run_until_complete(flights[1])
    assert busy.idp.fetches == 2
    assert status(keys)["failures"] == 0


def test_a_failure_in_one_loop_does_not_undo_what_went_well_in_another(busy: Busy, loops: TwoLoops) -> None:
    keys = busy.keys()
    (job,) = keys.jobs()
    gates = [loop.run_until_complete(shut(busy.gated)) for loop in (loops.one, loops.two)]
    good = loops.begin(loops.one, job.run())
    busy.idp.down()
    bad = loops.begin(loops.two, job.run())
    gates[0].set()
    loops.one.run_until_complete(good)
    gates[1].set()
    loops.two.run_until_complete(bad)
    assert status(keys)["failures"] == 0
    assert plain(keys, "old") is not None


def test_what_comes_late_does_not_replace_what_is_newer(busy: Busy, loops: TwoLoops) -> None:
    keys = busy.keys()
    (job,) = keys.jobs()
    gates = [loop.run_until_complete(shut(busy.gated)) for loop in (loops.one, loops.two)]
    flights = [loops.begin(loop, job.run()) for loop in (loops.one, loops.two)]
    gates[0].set()
    loops.one.run_until_complete(flights[0])
    busy.idp.kids = ["new"]
    busy.clock.advance(300)
    loops.one.run_until_complete(job.run())
    gates[1].set()
    loops.two.run_until_complete(flights[1])
    assert plain(keys, "new") is not None
    assert status(keys)["age"] == 0


def test_a_loop_that_is_closed_in_the_middle_of_a_fetch_blocks_nobody(busy: Busy, loops: TwoLoops) -> None:
    keys = busy.keys()
    loops.one.run_until_complete(shut(busy.gated))
    lost = loops.begin(loops.one, asked(keys, "old"))

    async def end() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await turns()

    loops.one.run_until_complete(end())
    assert lost.cancelled()
    loops.one.close()
    assert loops.two.run_until_complete(asked(keys, "old")) is not None


def test_threads_without_a_loop_have_a_new_key_fetched_once_and_never_suspend(
    busy: Busy, loop_thread: LoopThread
) -> None:
    keys = busy.keys()
    assert run_now(asked(keys, "old")) is not None
    busy.idp.kids = ["old", "new"]
    gate = loop_thread.run(shut(busy.gated))
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(run_now, asked(keys, "new")) for _ in range(8)]
        loop_thread.run(until(lambda: busy.gated.arrived == 2))
        assert plain(keys, "old") is not None
        loop_thread.call(gate.set)
        assert all(future.result(5) is not None for future in waiting)
    # Threads that came after the answer found it there.
    assert busy.idp.fetches == 2


def test_threads_and_a_loop_use_the_same_keys(busy: Busy, loop_thread: LoopThread) -> None:
    keys = busy.keys()
    assert run_now(asked(keys, "old")) is not None
    busy.idp.kids = ["old", "new"]
    assert asyncio.run(asked_here(keys, "new")) is not None
    found = keys.find("new", "EdDSA")
    assert isinstance(found, Key)
    assert busy.idp.fetches == 2


async def asked_here(keys: RemoteKeys, kid: str) -> Key | None:
    return await asked(keys, kid)


def test_known_keys_are_found_by_many_threads_while_the_set_changes(busy: Busy) -> None:
    keys = busy.keys()
    run_now(asked(keys, "old"))
    stop = threading.Event()
    missed: list[object] = []

    def look() -> None:
        while not stop.is_set():
            if not isinstance(keys.find("old", "EdDSA"), Key):
                missed.append(1)

    (job,) = keys.jobs()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(look)
        for index in range(9):
            busy.idp.answer = jwks("old", f"new-{index}") if index % 3 else 500
            busy.clock.advance(301)
            run_now(job.run())
        stop.set()
    assert missed == []
