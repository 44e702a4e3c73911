"""Two hundred WebSockets through a served gateway: idle, then a message each way on each, then closed with their codes.

The bench does it with 1,000 and says what each of them costs.
"""

from __future__ import annotations

import pytest
from tests.streaming.scene import Scene
from tests.streaming.sockets import Sockets

pytestmark = pytest.mark.servers

COUNT = 200
EACH = 256 * 1024


async def test_many_sockets_stay_open_and_end_as_they_should(fresh: Scene) -> None:
    async with Sockets(fresh, 4) as few:
        await few.close()
    warm = fresh.server.mark()
    async with Sockets(fresh, COUNT) as sockets:
        assert fresh.server.peak - warm < COUNT * EACH
        await sockets.speak()
        await sockets.close()
    ends = await fresh.ends(4 + COUNT)
    assert len(ends) == 4 + COUNT
    assert {(status, fault) for status, fault, _, _ in ends} == {(101, "nobody")}
