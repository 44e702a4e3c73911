"""A process that asks about limits of a shared store, each at a pace, and tells how it went.

`python -m tests.drills.leasing` has one argument, JSON: the URL of the store, for how many seconds, and of each limit the
amount for a second, the algorithm and how often a second it is asked about. It says `ready` and reads when to begin, by the
system's monotonic clock, which is the same for all processes. At the end it prints JSON: what was asked, admitted and not
answered of each limit in each tenth of a second, and what the store did.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from gatekit.core.counters import Ask, Limit
from gatekit.errors import StoreUnavailable
from gatekit.gateway.runtime import LoopRuntime
from gatekit.gateway.system import system_ports
from gatekit.stores import SystemStores
from gatekit.stores.kept import wait

TICK = 0.005
SLOT = 0.1


class Stream:
    """Questions about one limit, and what came of them: asked, admitted and not answered in each slot."""

    def __init__(self, counters: Any, amount: int, algorithm: str, rate: float, seconds: float) -> None:
        limit = Limit(amount, 1.0, algorithm)
        self.asks = [Ask(f"{{drill}}{limit.id}", limit)]
        self.rate = rate
        self.asked = 0
        self.slots = [[0, 0, 0] for _ in range(round(seconds / SLOT))]
        self._counters = counters

    async def ask(self, elapsed: float) -> None:
        slot = self.slots[min(len(self.slots) - 1, int(elapsed / SLOT))]
        slot[0] += 1
        try:
            allowed = (await self._counters.take(self.asks))[0].allowed
        except StoreUnavailable:
            slot[2] += 1
        else:
            slot[1] += allowed


async def run(url: str, seconds: float, limits: list[tuple[int, str, float]]) -> Any:
    counters: Any = SystemStores().counters(url, system_ports())
    streams = [Stream(counters, *limit, seconds) for limit in limits]
    runtime = LoopRuntime(asyncio.get_running_loop())
    runtime.want(counters.jobs())
    # Loading the client and connecting take their time.
    for tries in range(10):
        try:
            await counters.take([streams[0].asks[0]._replace(cost=0)])
            break
        except StoreUnavailable:
            await wait(0.1 * tries)
    print("ready", flush=True)  # noqa: T201 - read by who started it
    begin = float(sys.stdin.readline())
    async with asyncio.TaskGroup() as group:
        await wait(max(0.0, begin - time.monotonic()))
        while (elapsed := time.monotonic() - begin) < seconds:
            for stream in streams:
                for _ in range(int(stream.rate * elapsed) - stream.asked):
                    stream.asked += 1
                    group.create_task(stream.ask(elapsed))
            await wait(TICK)
    status = dict(counters.status())
    await runtime.close()
    return {"streams": [stream.slots for stream in streams], "status": status}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(**json.loads(sys.argv[1])))))  # noqa: T201
