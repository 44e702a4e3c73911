"""A gateway's part in a process of its own: it follows a store, and says when it knows what it is asked about.

Each line it reads is a `jti`; it answers with the reading of the monotonic clock, which all processes of a machine
share, once that one is revoked.
"""

from __future__ import annotations

import asyncio
import sys
import time

from gatekit.core.ports import Ports
from gatekit.gateway.runtime import LoopRuntime
from gatekit.gateway.system import SystemClock, SystemRandom
from gatekit.stores import SystemStores


async def follow(url: str) -> None:
    store = SystemStores().revocations(url, Ports(clock=SystemClock(), random=SystemRandom()))
    loop = asyncio.get_running_loop()
    runtime = LoopRuntime(loop)
    runtime.want(store.jobs())  # type: ignore[attr-defined]
    while store.loaded() is not None:  # type: ignore[attr-defined]
        await store.loaded()  # type: ignore[attr-defined]
    say("ready")
    while jti := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        while store.revoked({"jti": jti}) is None:
            tick = loop.create_future()
            loop.call_later(0.001, tick.set_result, None)
            await tick
        say(str(time.monotonic()))
    await runtime.close()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1]))
