"""What a million callers take in memory, each way in a process of its own; and a flood of callers who come once.

As a child: `python -m bench.peers.limits_keys WAY COUNT (resident|traced|flood)` prints a line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.peers.identity_rounds import table
from bench.peers.limits_ours import COUNTERS, asks_of, is_allowed, limits_of, local_counters
from bench.peers.limits_ways import BUCKET, FIXED, PEERS, Asked, Rate, in_turn, missing, throttled_way

from gatekit.policies.rate_limit import LocalCounters

ROOT = Path(__file__).parents[2]
HOUR = (Rate(1_000_000, 3600),)
LIMITED = 1000
"""Callers who are out of quota while the flood comes."""
WAYS = (COUNTERS, "limits, hit", "limits.aio, hit", "throttled-py", "pyrate-limiter")
FLOODED = (COUNTERS, "limits.aio, hit", "throttled-py")
CAP = 100_000
"""Room for so many, for those that can be told so."""


def algorithm_of(way: str) -> str:
    return FIXED if way.startswith("limits") else BUCKET


def asked_by(way: str, rates: Sequence[Rate], room: int) -> tuple[Asked, LocalCounters | None]:
    """What decides, with room for so many keys; and where it is ours, the counters themselves."""
    if way == COUNTERS:
        local = local_counters(room)
        asks = asks_of(limits_of(BUCKET, rates))
        return Asked(lambda caller: local.take_one(asks(caller)[0]), in_turn(1), False, is_allowed), local
    make = throttled_way(waits=False, room=room) if way == "throttled-py" else PEERS[way]
    asked = make(algorithm_of(way), rates, None, 1)
    assert asked is not None, "there is no such thing"
    return asked, None


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def filled(way: str, count: int, *, traced: bool) -> dict[str, float]:
    """Bytes for each key. The names of the callers are not kept by the one who asks."""
    asked, _ = asked_by(way, HOUR, count + 1)
    await asked.once("somebody")
    gc.collect()
    if traced:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0] if traced else resident()
    for number in range(count):
        if not await asked.once(f"198.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:{number >> 24}"):
            raise RuntimeError(f"{way} refuses what it should let in")
    gc.collect()
    after = tracemalloc.get_traced_memory()[0] if traced else resident()
    return {"bytes": (after - before) / count}


async def flooded(way: str, count: int) -> dict[str, Any]:
    """Some callers use up their limit; then come as many strangers as there are; then they ask again.

    RL8: nobody who is limited may be let through again for all that, and memory has an end.
    """
    amount = 3
    asked, local = asked_by(way, [Rate(amount, 86400)], CAP)
    limited = [f"limited-{number}" for number in range(LIMITED)]
    for caller in limited:
        for _ in range(amount + 1):
            await asked.once(caller)
    gc.collect()
    before = resident()
    for number in range(count):
        await asked.once(f"attacker-{number}")
    reset = sum([await asked.once(caller) for caller in limited])
    kept = None if local is None else len(local)
    return {"reset": reset, "kept": kept, "mib": (resident() - before) / 2**20}


def child(way: str, count: int, what: str) -> dict[str, Any]:
    """What a process of its own has found."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "ignore", "-m", "bench.peers.limits_keys", way, str(count), what],
        capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "PYTHONPATH": _path()},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{way}: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def children(*asked: tuple[str, int, str]) -> list[dict[str, Any]]:
    """Two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda one: child(*one), asked))


def keys(count: int, few: int) -> list[str]:
    """Bytes for each key by what is resident, of many; by what Python says it has, of fewer, since that is slow."""
    ways = [way for way in WAYS if way not in missing()]
    whole = children(*((way, count, "resident") for way in ways))
    traced = children(*((way, few, "traced") for way in ways))
    rows = [
        (way, f"{one['bytes']:.0f}", f"{other['bytes']:.0f}", f"{one['bytes'] / max(1.0, whole[0]['bytes']):.2f}")
        for way, one, other in zip(ways, whole, traced, strict=True)
    ]
    columns = "limiter, resident bytes each, traced bytes each, resident / that of gatekit"
    return table(
        f"{count:,} keys with one limit (traced: {few:,}), each limiter in a process of its own", columns, rows
    )


def flood(count: int, few: int) -> list[str]:
    """All that come to gatekit; fewer to the others, whose memory has no end, or who forget long before."""
    ways = [way for way in FLOODED if way not in missing()]
    found = children(*((way, count if way == COUNTERS else few, "flood") for way in ways))
    rows = [
        (
            way, f"{count if way == COUNTERS else few:,}", f"{one['reset']:,}",
            "–" if one["kept"] is None else f"{one['kept']:,}", f"{one['mib']:.0f}",
        )
        for way, one in zip(ways, found, strict=True)
    ]  # fmt: skip
    columns = f"limiter, strangers, of {LIMITED} who are limited let through again, keys kept, MiB more"
    return table(f"A flood of callers who come once (room for {CAP:,}, where there is an end)", columns, rows)


def main() -> None:
    way, count, what = sys.argv[1:]
    work = flooded(way, int(count)) if what == "flood" else filled(way, int(count), traced=what == "traced")
    print(json.dumps(asyncio.run(work)))  # noqa: T201
    sys.stdout.flush()
    # Not the end of the interpreter: some have threads that go on.
    os._exit(0)


if __name__ == "__main__":
    main()
