"""Key sets while a fetch is under way in a real event loop: who waits, who does not, and for how many fetches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.policies.authn.keysets_busy import Busy, asked, turns, until
from tests.policies.authn.keysets_scene import plain, status

from gatekit.errors import StoreUnavailable
from gatekit.gateway.loop_thread import LoopThread
from gatekit.gateway.runtime import Runtime
from gatekit.policies.authn.keyset_state import MAX_WAITING
from gatekit.testing.fakes import FakeDisk


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    one = LoopThread()
    yield one
    one.stop()


@pytest.fixture
def busy(loop_thread: LoopThread) -> Busy:
    return Busy("old", loop_thread=loop_thread)


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
