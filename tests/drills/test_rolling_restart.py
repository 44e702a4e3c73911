"""A rolling restart of three instances behind a balancer that checks their health loses no request."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.processes import need_binary

from .balancers import WHEELS
from .rolling import rolling

pytestmark = pytest.mark.servers


@pytest.mark.parametrize(("server", "balancer"), [("granian", "haproxy"), ("uvicorn", "haproxy"), ("granian", "caddy")])
async def test_nothing_is_lost(server: str, balancer: str, tmp_path: Path) -> None:
    need_binary(balancer, WHEELS[balancer])
    found = await rolling(server, balancer, tmp_path, rate=500, grace=1.0)
    # The long answers take two seconds: every one of them that was under way had to outlive the grace.
    assert (found.short.whole, found.short.lost) == (True, []), found.short.told()
    assert (found.long.whole, found.long.lost) == (True, []), found.long.told()
    assert found.codes == [0, 0, 0]
    assert found.short.sent > 3000
