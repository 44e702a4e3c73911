"""What a decision of the shared store of rate limits costs: time and round trips, on a Valkey of its own.

    python bench/counters.py

Rounds of the ways take turns. `plain` is one round trip for each decision over eight connections; `shared` is how it is:
decisions of one moment share round trips; `leases` is the same store with `leases=on`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.servers.valkey import Valkey, valkey_server

from gatekit.core.counters import Ask, Limit
from gatekit.gateway.system import system_ports
from gatekit.stores import counters_line, counters_redis

ROUNDS = 9
AT_ONCE = (1, 16, 128)
DECISIONS = 1_500
LIMITS = (Limit(1_000_000, 1.0), Limit(10_000_000, 60.0, "sliding_window"), Limit(100_000_000, 3600.0, "fixed_window"))


def asks(caller: int, limits: int) -> list[Ask]:
    return [Ask(f"{{caller-{caller}}}{limit.id}", limit) for limit in LIMITS[:limits]]


async def once(counters: Any, at_once: int, limits: int, callers: int) -> tuple[float, float]:
    """µs and round trips per decision."""
    questions = [asks(caller, limits) for caller in range(callers)]
    numbers = iter(range(DECISIONS))

    async def caller() -> None:
        for number in numbers:
            await counters.take(questions[number % callers])

    await counters.take(questions[0])
    before, begun = counters.status()["operations"], time.perf_counter()
    await asyncio.gather(*[caller() for _ in range(at_once)])
    spent = time.perf_counter() - begun
    return spent / DECISIONS * 1e6, (counters.status()["operations"] - before) / DECISIONS


def opened(way: str, url: str) -> Any:
    counters_line.BATCH, counters_redis.CONNECTIONS = (1, 8) if way == "plain" else WAYS  # type: ignore[misc]
    return counters_redis.redis_counters(f"{url}?timeout=1&leases={'on' if way == 'leases' else 'off'}", system_ports())


WAYS = (counters_line.BATCH, counters_redis.CONNECTIONS)


async def main(url: str) -> None:
    print(  # noqa: T201 - a program
        f"{'at once':>8} {'limits':>7} {'callers':>8}  "
        + "  ".join(f"{way + ' µs':>11} {'trips':>6}" for way in ("plain", "shared", "leases"))
    )
    for at_once in AT_ONCE:
        for limits in (1, 3):
            for callers in (1, 500):
                found: dict[str, list[tuple[float, float]]] = {"plain": [], "shared": [], "leases": []}
                for _ in range(ROUNDS):
                    for way, results in found.items():
                        counters = opened(way, url)
                        results.append(await once(counters, at_once, limits, callers))
                        await counters.aclose()
                line = "  ".join(
                    f"{median(one for one, _ in results):11.1f} {median(trips for _, trips in results):6.3f}"
                    for results in found.values()
                )
                print(f"{at_once:8} {limits:7} {callers:8}  {line}", flush=True)  # noqa: T201


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        server: Valkey = valkey_server(Path(folder))
        try:
            asyncio.run(main(server.url))
        finally:
            server.stop()
    sys.exit(0)
