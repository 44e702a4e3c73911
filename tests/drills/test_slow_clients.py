"""A thousand slow clients on one worker: they are held or closed, and the others are served as before.

The bounds are lenient: a machine that others use too is no place for exact ones. The bench has the figures.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .crowds import Kind, beside, lives

pytestmark = pytest.mark.servers

COUNT = 1000


@pytest.mark.parametrize("kind", ["drip", "silent"])
@pytest.mark.parametrize("server", ["granian", "uvicorn"])
async def test_others_are_served_beside_them(server: str, kind: Kind, tmp_path: Path) -> None:
    found = await beside(server, tmp_path, kind=kind, count=COUNT)
    assert found.held["open"] + found.held["closed"] == COUNT
    assert found.held["failed"] == 0
    assert [tally.count() for tally in found.tallies] == [0] * len(found.tallies)
    assert found.share > 0.75


@pytest.mark.parametrize("kind", ["drip", "silent"])
@pytest.mark.parametrize("server", ["granian", "uvicorn"])
async def test_those_that_never_end_their_head_are_closed(server: str, kind: Kind, tmp_path: Path) -> None:
    found = await lives(server, tmp_path, kind=kind, options=["--keepalive", "2"], seconds=15)
    assert found.seen["open"] == 0
    assert 1.9 < found.seen["shortest"] <= found.seen["longest"] < 5
    assert found.tally.whole


async def test_beyond_max_connections_others_wait_until_some_are_closed(tmp_path: Path) -> None:
    found = await lives("granian", tmp_path, options=["--keepalive", "2", "--max-connections", "50"], seconds=15)
    assert (found.seen["open"], found.seen["closed"]) == (0, 100)
    # Half of the slow ones were let in only after the first half had been closed.
    assert found.seen["longest"] > 3.5
    assert found.tally.whole
    assert found.tally.delay(1) > 1.5
