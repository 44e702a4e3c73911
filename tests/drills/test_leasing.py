"""Four real processes share a limit of 1,000 a second in leases, while more is asked for than that, and lose their store."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.servers.valkey import Valkey, valkey_server

pytestmark = pytest.mark.servers

LIMIT = 1_000
SHARE = 0.05
SLOT = 0.1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    found = valkey_server(tmp_path)
    yield found
    found.stop()


class Told:
    """What all processes were told about one limit, by the tenth of a second."""

    def __init__(self, streams: Sequence[Any]) -> None:
        self._slots = [[sum(column) for column in zip(*slots, strict=True)] for slots in zip(*streams, strict=True)]

    def asked(self, begin: float = 0.0, end: float = 1e9) -> int:
        return self._sum(0, begin, end)

    def admitted(self, begin: float, end: float) -> int:
        return self._sum(1, begin, end)

    def unanswered(self, begin: float, end: float) -> int:
        return self._sum(2, begin, end)

    def _sum(self, what: int, begin: float, end: float) -> int:
        return sum(slot[what] for at, slot in enumerate(self._slots) if begin <= at * SLOT + 1e-9 < end)


def drilled(
    url: str, fleet: Sequence[Any], seconds: float, act: Callable[[float], None], folder: Path
) -> tuple[list[Told], int]:
    """Let a process ask for each of these, which are limits with their rates, for so long. `act` is called with when they
    begin, as soon as they are told. What they were told about each limit, and how often they asked the store."""
    with (folder / "errors").open("w+") as log, ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [
                        sys.executable, "-m", "tests.drills.leasing",
                        json.dumps({"url": f"{url}?leases={SHARE}&timeout=0.5", "seconds": seconds, "limits": limits}),
                    ],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                    cwd=Path(__file__).parents[2],
                )
            )
            for limits in fleet
        ]  # fmt: skip
        for process in processes:
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", (folder / "errors").read_text()
        begin = time.monotonic() + 0.1
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{begin}\n")
            process.stdin.flush()
        act(begin)
        found = [json.loads(process.communicate(timeout=30)[0]) for process in processes]
    operations = sum(one["status"]["operations"] for one in found)
    return [Told(streams) for streams in zip(*[one["streams"] for one in found], strict=True)], operations


def test_rl7_four_processes_admit_the_limit_and_no_more_and_their_last_leases_when_the_store_is_lost(
    server: Valkey, tmp_path: Path
) -> None:
    """One limit is asked for evenly; it begins with a full bucket, which is used up within the first second. The other one
    by one process, but for now and then."""
    lost_at, end = 5.0, 5.8

    def kill(begin: float) -> None:
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(begin + lost_at - time.monotonic())
        server.kill()

    fleet = [[(LIMIT, "token_bucket", 600.0), (LIMIT, "fixed_window", busy)] for busy in (1500.0, 5.0, 5.0, 5.0)]
    (even, uneven), operations = drilled(server.url, fleet, end, kill, tmp_path)
    # What the processes hold, and what has come together since somebody asked, is other at the end than at the begin.
    assert 0.98 * LIMIT <= even.admitted(1.5, 4.5) / 3.0 <= 1.05 * LIMIT
    assert 0.95 * LIMIT <= uneven.admitted(1.5, 4.5) / 3.0 <= 1.05 * LIMIT
    assert operations <= 0.1 * (even.asked(0.0, lost_at) + uneven.asked(0.0, lost_at))
    for told in (even, uneven):
        assert told.admitted(lost_at + 0.1, end) <= 4 * SHARE * LIMIT
    assert even.unanswered(lost_at + 0.6, end) >= 0.9 * even.asked(lost_at + 0.6, end) > 0
