"""One instance whose clients talk straight to it: reloads and new workers lose nothing, a crash only what was under way."""

from __future__ import annotations

from pathlib import Path

import pytest

from .single import hung, killed, orphaned, reloads, rolled

pytestmark = pytest.mark.servers


@pytest.fixture(params=["granian", "uvicorn"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_ten_reloads_and_a_refused_one_lose_nothing(server: str, tmp_path: Path) -> None:
    found = await reloads(server, tmp_path)
    assert (found.tally.whole, found.tally.lost) == (True, []), found.tally.told()
    # Connections are kept throughout, and no request saw anything but one of the two configurations.
    assert found.tally.connections == 16
    assert set(found.tally.marks) == {"a", "b"}
    assert found.generation == 11
    assert found.refused is not None
    assert "nowhere" in found.refused["problems"][0]
    assert found.last is not None
    assert (found.last.whole, set(found.last.marks)) == (True, {"a"})


async def test_workers_that_are_replaced_lose_nothing(server: str, tmp_path: Path) -> None:
    found = await rolled(server, tmp_path)
    # A request may meet the close of a connection that was idle, if it is sent in the same moment: its client may send
    # it again (RFC 9112 section 9.3.1). Since every response says `close` by then, hardly any is.
    assert found.short.count() == found.short.count("raced") <= 2, found.short.told()
    assert found.short.good == found.short.sent - found.short.count()
    assert (found.long.whole, found.long.lost) == (True, []), found.long.told()
    assert not set(found.before) & set(found.after)
    assert set(map(int, found.short.marks)) >= set(found.after)


async def test_a_killed_worker_takes_with_it_what_was_under_way_on_it(server: str, tmp_path: Path) -> None:
    found = await killed(server, tmp_path)
    assert 0 < found.bound <= len(found.lost), "nothing was under way: that proves nothing"
    assert (found.strangers, found.late) == ([], [])
    assert len(found.lost) <= found.held
    assert found.replaced < 5
    for tally in (found.steady, found.slow, found.fresh):
        assert tally.good == tally.sent - tally.count(), tally.told()
    assert (found.status["restarts"], found.status["ready"]) == (1, True)


async def test_workers_do_not_outlive_their_supervisor_and_finish_what_they_have(server: str, tmp_path: Path) -> None:
    found = await orphaned(server, tmp_path)
    assert found.left == []
    assert found.ended < 8
    assert found.short.count() == found.short.count("raced") <= 2, found.short.told()
    assert (found.long.whole, found.long.lost) == (True, []), found.long.told()


@pytest.mark.parametrize("stop", [True, False], ids=["stopped", "blocked"])
async def test_a_worker_that_hangs_is_replaced(server: str, stop: bool, tmp_path: Path) -> None:
    found = await hung(server, tmp_path, stop=stop)
    assert found.replaced < 5
    assert (found.status["restarts"], found.status["ready"]) == (1, True)
    if stop or server == "uvicorn":
        # granian accepts and reads in threads of its own, which go on while the loop is blocked.
        assert (found.strangers, found.late) == ([], [])
        assert len(found.lost) <= found.held
