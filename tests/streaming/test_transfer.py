"""Long bodies pass through a served gateway whole, and its memory does not grow with them.

Down and up, with Content-Length and chunked, 256 MiB each (`GATEKIT_STREAM_MIB` says otherwise; the bench moves 1 GiB).
Resident memory may grow by 16 MiB above that of a gateway that has moved 8 MiB.
"""

from __future__ import annotations

import os

import pytest
from tests.streaming.process import MIB
from tests.streaming.scene import Scene, download, expected, upload

pytestmark = pytest.mark.servers

SIZE = int(os.environ.get("GATEKIT_STREAM_MIB", "256")) * MIB
GROWTH = 16 * MIB
TRANSFERS = {"down": download, "up": upload}


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("direction", list(TRANSFERS))
async def test_memory_does_not_grow_with_a_body(scene: Scene, direction: str, chunked: bool) -> None:
    transfer = TRANSFERS[direction]
    await transfer(scene, 8 * MIB, chunked=chunked)
    warm = scene.server.mark()
    sent, came = await transfer(scene, SIZE, chunked=chunked)
    assert came == sent == expected(SIZE)
    assert came.count == SIZE
    assert scene.server.peak - warm < GROWTH
    assert await scene.ends(2) == [[200 if direction == "down" else 204, "nobody", None, True]] * 2
