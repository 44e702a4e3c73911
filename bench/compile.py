"""What a configuration of many routes costs to read, check and compile: time and memory, by number of routes.

Run: python bench/compile.py
Prints Markdown. Milliseconds of the process; memory is what is still held afterwards (tracemalloc, in a run of its own).
"""

# ruff: noqa: T201 - printing is what this file is for

from __future__ import annotations

import gc
import time
import tracemalloc
from typing import Any

from gatekit import Gateway, RateLimit, SecurityHeaders, Telemetry

SIZES = (100, 1_000, 10_000)


def document(routes: int) -> dict[str, Any]:
    """A mix: half templates, a quarter exact, a quarter prefixes, a tenth of all with a header match."""
    found: list[dict[str, Any]] = []
    for number in range(routes):
        path = (f"/s{number}/{{id}}", f"/s{number}/{{id}}/items", f"/exact/{number}", f"/prefix-{number}/*")[number % 4]
        route: dict[str, Any] = {"match": f"GET {path}", "to": f"c{number % 20}"}
        if number % 10 == 0:
            route["headers"] = {"x-tier": "gold"}
        found.append(route)
    clusters = {f"c{number}": {"urls": [f"http://127.0.0.1:{9000 + number}"]} for number in range(20)}
    return {"routes": found, "clusters": clusters}


def build(data: dict[str, Any]) -> Gateway:
    policies = [Telemetry(), SecurityHeaders(), RateLimit("100/second")]
    return Gateway.from_config({**data, "policies": policies})


def main() -> None:
    build(document(10))
    print("| routes | read, check, compile ms | ms per 1,000 routes | reload ms | memory KiB | KiB per route |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        data = document(size)
        gc.collect()
        begun = time.perf_counter()
        gateway = build(data)
        first = time.perf_counter() - begun
        begun = time.perf_counter()
        gateway.apply(data)
        again = time.perf_counter() - begun
        del gateway
        gc.collect()
        tracemalloc.start()
        gateway = build(data)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(
            f"| {size:,} | {first * 1e3:,.0f} | {first * 1e6 / size:,.0f} | {again * 1e3:,.0f} "
            f"| {held / 1024:,.0f} | {held / 1024 / size:.1f} |"
        )
        del gateway


if __name__ == "__main__":
    main()
