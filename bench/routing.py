"""What matching costs, by kind of route and size of table, all in one run so that the columns can be compared.

Run: python bench/routing.py
Prints Markdown. Times are nanoseconds for one `Matcher.match`, each the mean over a batch of 20 requests for different
routes (a single call is shorter than the timer is exact), p50 and p99 over the batches. Kinds and sizes take turns, so
that a slow moment of the machine falls on all of them, and requests are spread over the whole table, so that a large one
pays for its cache misses. "ratio" is to the same kind at 10 routes in the same run.
"""

# ruff: noqa: T201 - printing is what this file is for

from __future__ import annotations

import gc
import time
import tracemalloc

from gatekit.core.door import Door
from gatekit.core.exchange import Exchange, NoBody
from gatekit.core.headers import Headers
from gatekit.routing.matcher import Matcher, Rule
from gatekit.routing.pattern import parse_path
from gatekit.routing.reachability import examine

SIZES = (10, 100, 1_000, 10_000)
BATCH = 20
BATCHES = 1_500
REQUESTS = 200


class _Chance:
    def random(self) -> float:
        return 0.5

    def token(self, size: int) -> bytes:
        return bytes(size)


def table(size: int) -> list[Rule[int]]:
    """Half static paths, half templates, with methods, as an ordinary table has."""
    rules = []
    for number in range(size):
        text = f"/static/group{number % 50}/item{number}" if number % 2 else f"/v1/service{number}/orders/{{id}}"
        rules.append(Rule(f"r{number}", number, parse_path(text), methods=("GET", "POST")))
    return rules


def request(path: str) -> Exchange:
    """The exchange of a GET for that path, behind the door."""
    exchange = Exchange(
        "http", "GET", "http", Headers([(b"host", b"shop.example.com")]), "192.0.2.1", "1.1", {"type": "http"},
        Door(_Chance()), NoBody(), 0.0,
    )  # fmt: skip
    assert exchange.door.admit(exchange, path.encode("ascii"), b"") is None
    return exchange


def spread(kind: str, size: int) -> list[Exchange]:
    """Requests of that kind for routes from one end of the table to the other."""
    step = max(2, size // REQUESTS // 2 * 2)
    found = []
    for number in range(0, step * REQUESTS, step):
        even = number % size
        paths = {
            "static": f"/static/group{(even + 1) % 50}/item{even + 1}",
            "template": f"/v1/service{even}/orders/42",
            "miss": f"/v1/nowhere{even}/orders/42",
        }
        found.append(request(paths[kind]))
    return found


def batches(pairs: list[tuple[Matcher[int], list[Exchange]]]) -> list[list[int]]:
    """Nanoseconds of one match for each batch and each of the pairs, which take turns."""
    found: list[list[int]] = [[] for _ in pairs]
    gc.disable()
    for turn in range(BATCHES):
        begin = turn * BATCH % REQUESTS
        for place, (matcher, exchanges) in enumerate(pairs):
            match = matcher.match
            batch = exchanges[begin : begin + BATCH]
            begun = time.perf_counter_ns()
            for exchange in batch:
                match(exchange)
            found[place].append((time.perf_counter_ns() - begun) // BATCH)
    gc.enable()
    return found


def percentile(values: list[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    kinds = ("static", "template", "miss")
    pairs: list[tuple[Matcher[int], list[Exchange]]] = []
    for size in SIZES:
        matcher = Matcher(table(size))
        for kind in kinds:
            exchanges = spread(kind, size)
            assert all((matcher.match(exchange) is None) is (kind == "miss") for exchange in exchanges)
            pairs.append((matcher, exchanges))
    times = batches(pairs)
    print("| match | routes | p50 ns | p99 ns | p50 ratio | p99 ratio |")
    print("|---|---|---|---|---|---|")
    for at, kind in enumerate(kinds):
        base = times[at]
        for place, size in enumerate(SIZES):
            now = times[3 * place + at]
            middle, tail = percentile(now, 0.5), percentile(now, 0.99)
            ratios = f"{middle / percentile(base, 0.5):.2f} | {tail / percentile(base, 0.99):.2f}"
            print(f"| {kind} | {size:,} | {middle:,} | {tail:,} | {ratios} |")
    print()
    print("| routes | build ms | examine ms | memory KiB | bytes per route |")
    print("|---|---|---|---|---|")
    for size in SIZES[1:]:
        rules = table(size)
        begun = time.perf_counter()
        matcher = Matcher(rules)
        built = time.perf_counter() - begun
        begun = time.perf_counter()
        assert examine(matcher) == []
        examined = time.perf_counter() - begun
        del matcher
        tracemalloc.start()
        kept = Matcher(table(size))
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(kept.rules) == size
        print(f"| {size:,} | {built * 1e3:.1f} | {examined * 1e3:.1f} | {used / 1024:,.0f} | {used / size:,.0f} |")


if __name__ == "__main__":
    main()
