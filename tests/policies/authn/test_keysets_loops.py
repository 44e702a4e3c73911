"""Key sets where several things happen at once: real event loops, threads without one, and fetches that take their time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.policies.authn.keysets_scene import Idp, Scene, jwks, plain, status

from gatekit.core.ports import Fetched
from gatekit.drivers.wsgi import run_now
from gatekit.errors import StoreUnavailable
from gatekit.gateway.loop_thread import LoopThread
from gatekit.gateway.runtime import Runtime
from gatekit.gateway.shared import Shared
from gatekit.policies.authn.jose_keys import Key
from gatekit.policies.authn.keyset_state import MAX_WAITING
from gatekit.policies.authn.keysets import RemoteKeys
from gatekit.testing.fakes import FakeDisk

Ask = Callable[[str], Awaitable[Key | None]]


class Gated:
    """The issuer behind a gate: a fetch takes its answer when it comes and hands it over when the gate of its loop is
    opened."""

    def __init__(self, idp: Idp) -> None:
        self.idp = idp
        self.gates: dict[asyncio.AbstractEventLoop, asyncio.Event] = {}
        self.arrived = 0

    def shut(self) -> asyncio.Event:
        """The gate of the running loop, shut."""
        gate = self.gates[asyncio.get_running_loop()] = asyncio.Event()
        return gate

    async def __call__(self, *args: Any, **kwargs: Any) -> Fetched:
        try:
            answer: Fetched | StoreUnavailable = await self.idp(*args, **kwargs)
        except StoreUnavailable as error:
            answer = error
        self.arrived += 1
        gate = self.gates.get(asyncio.get_running_loop())
        if gate is not None:
            await gate.wait()
        if isinstance(answer, StoreUnavailable):
            raise answer
        return answer


class Busy(Scene):
    """A scene with the single flight of a running process."""

    def __init__(self, *kids: str, loop_thread: LoopThread, **ports: Any) -> None:
        super().__init__(*kids)
        self.gated = Gated(self.idp)
        self.shared = Shared(loop_thread)
        given = {"clock": self.clock, "fetch": self.gated, "once": self.shared, "lock": threading.Lock, **ports}
        self.ports = Scene(**given).ports


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    one = LoopThread()
    yield one
    one.stop()


@pytest.fixture
def busy(loop_thread: LoopThread) -> Busy:
    return Busy("old", loop_thread=loop_thread)


async def asked(keys: RemoteKeys, kid: str) -> Key | None:
    found = keys.find(kid, "EdDSA")
    return await found if isinstance(found, Awaitable) else found


async def turns(count: int = 5) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def test_an5_while_a_new_key_is_fetched_once_for_all_nobody_else_waits(busy: Busy) -> None:
    keys = busy.keys()
    await asked(keys, "old")
    gate = busy.gated.shut()
    busy.idp.kids = ["old", "new"]
    waiting = [asyncio.ensure_future(asked(keys, "new")) for _ in range(200)]
    await turns()
    for _ in range(200):
        assert plain(keys, "old") is not None
    assert not any(task.done() for task in waiting)
    gate.set()
    found = await asyncio.gather(*waiting)
    assert {key.kid for key in found if key is not None} == {"new"}
    assert None not in found
    assert busy.idp.fetches == 2
    assert len(busy.shared) == 0


async def test_an5_a_key_published_after_the_refresh_under_way_had_begun_is_found_all_the_same(busy: Busy) -> None:
    keys = busy.keys()
    await asked(keys, "old")
    busy.clock.advance(300)
    gate = busy.gated.shut()
    (job,) = keys.jobs()
    refreshing = asyncio.ensure_future(job.run())
    await turns()
    busy.idp.kids = ["old", "new"]
    waiting = asyncio.ensure_future(asked(keys, "new"))
    await turns()
    assert plain(keys, "old") is not None
    assert busy.idp.fetches == 2
    gate.set()
    assert await waiting is not None
    await refreshing
    assert busy.idp.fetches == 3


async def test_an6_who_only_joined_a_fetch_that_came_too_early_is_not_known_to_be_wrong(busy: Busy) -> None:
    keys = busy.keys()
    await asked(keys, "old")
    busy.clock.advance(290)
    assert await asked(keys, "made-up") is None
    gate = busy.gated.shut()
    busy.clock.advance(20)
    state = next(iter(busy.ports.cells._cells.values()))
    refreshing = asyncio.ensure_future(keys._landed(state.take_off(busy.clock.monotonic())))
    await turns()
    busy.idp.kids = ["old", "new"]
    waiting = asyncio.ensure_future(asked(keys, "new"))
    await turns()
    gate.set()
    assert await waiting is None
    await refreshing
    busy.clock.advance(10)
    assert await asked(keys, "new") is not None


async def test_a_request_joins_the_first_fetch_of_the_refresh(busy: Busy) -> None:
    keys = busy.keys()
    gate = busy.gated.shut()
    (job,) = keys.jobs()
    refreshing = asyncio.ensure_future(job.run())
    await turns()
    waiting = asyncio.ensure_future(asked(keys, "old"))
    await turns()
    gate.set()
    assert await waiting is not None
    await refreshing
    assert busy.idp.fetches == 1


async def test_who_gives_up_waiting_takes_nothing_from_the_others(busy: Busy) -> None:
    keys = busy.keys()
    gate = busy.gated.shut()
    first, second = (asyncio.ensure_future(asked(keys, "old")) for _ in range(2))
    await turns()
    first.cancel()
    await turns()
    gate.set()
    assert await second is not None
    assert first.cancelled()
    assert busy.idp.fetches == 1


async def test_an6_a_flood_that_comes_at_once_is_one_fetch_and_bounded_waiting(busy: Busy) -> None:
    keys = busy.keys()
    await asked(keys, "old")
    gate = busy.gated.shut()
    waiting = [asyncio.ensure_future(asked(keys, f"made-up-{index}")) for index in range(3_000)]
    await turns()
    assert sum(task.done() for task in waiting) == 3_000 - MAX_WAITING
    assert plain(keys, "old") is not None
    gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(one, StoreUnavailable) for one in found) == 3_000 - MAX_WAITING
    assert sum(one is None for one in found) == MAX_WAITING
    assert busy.idp.fetches == 2
    (state,) = busy.ports.cells._cells.values()
    assert len(state.unknown) <= 1_024
    assert state.waiting == 0


async def test_while_the_disk_is_read_two_callers_read_it_once(loop_thread: LoopThread) -> None:
    gate = asyncio.Event()
    loads: list[str] = []

    class SlowDisk(FakeDisk):
        async def load(self, name: str) -> bytes | None:
            loads.append(name)
            await gate.wait()
            return await super().load(name)

    busy = Busy("old", loop_thread=loop_thread, disk=SlowDisk())
    keys = busy.keys()
    waiting = [asyncio.ensure_future(asked(keys, "old")) for _ in range(3)]
    await turns()
    gate.set()
    assert None not in await asyncio.gather(*waiting)
    assert (len(loads), busy.idp.fetches) == (1, 1)


async def test_a_disk_that_another_loop_has_read_meanwhile_is_not_read_again(loop_thread: LoopThread) -> None:
    class Unread(FakeDisk):
        async def load(self, name: str) -> bytes | None:
            raise AssertionError(name)

    busy = Busy("old", loop_thread=loop_thread, disk=FakeDisk())
    keys = busy.keys()
    await asked(keys, "old")
    await keys._load(Unread())
    assert plain(keys, "old") is not None


async def test_the_runtime_has_the_keys_fetched_before_anybody_asks(busy: Busy) -> None:
    keys = busy.keys()
    runtime = Runtime(keys.jobs)
    runtime.enter()
    await until(lambda: status(keys)["usable"] is True)
    assert plain(keys, "old") is not None
    await runtime.close_here()


async def test_closing_in_the_middle_of_a_fetch_leaves_nothing_and_counts_as_no_failure(busy: Busy) -> None:
    keys = busy.keys()
    busy.gated.shut()
    runtime = Runtime(keys.jobs)
    runtime.enter()
    await until(lambda: busy.gated.arrived == 1)
    waiting = asyncio.ensure_future(asked(keys, "old"))
    await turns()
    await runtime.close_here()
    assert len(busy.shared) == 1
    await busy.shared.aclose()
    assert len(busy.shared) == 0
    with pytest.raises(StoreUnavailable):
        await waiting
    assert status(keys)["failures"] == 0
    (state,) = busy.ports.cells._cells.values()
    assert (state.flight, state.waiting) == (None, 0)


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


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await turns(1)


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
