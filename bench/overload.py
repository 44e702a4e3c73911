"""Load shedding under load: what is answered well, how late, who is turned away, and what that costs.

The backend can do 400 requests a second, by waiting and not by computing, so that it and not this machine is what is
short; clients come by chance (Poisson), whatever becomes of earlier ones, and hang up after a second. Gateway and backend
are processes, the clients are in this one. About 50 minutes:

    python bench/overload.py [--only sweep] [--server granian] [--rounds 3] [--seconds 8] [--markdown FILE] [--plot FILE]

Parts: sweep, long, levels, changes, failing, blocked, cost, slow, uploads. `--plot docs/policies/overload-goodput.svg`
draws the picture of the sweep. How late the generator sent is told with every figure: where 99 % of the requests were not
sent within 20 ms, the figure is in brackets.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.shedding.sweep import LOADS, plot, sweep, table
from tests.drills import holding
from tests.drills.arrivals import Phase
from tests.drills.cost import measured
from tests.drills.crowds import beside
from tests.drills.shedding import (
    ADAPTIVE,
    ORDER,
    STATIC,
    changes,
    failing,
    inversions,
    lagging,
    plateau,
    ranks,
)
from tests.streaming.process import many_files

Options = argparse.Namespace
Part = Callable[[Options], Awaitable[list[str]]]
SEED = 7


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


async def _sweep(options: Options) -> list[str]:
    """OV1, over all loads."""
    found = await sweep(options.server, loads=LOADS, rounds=options.rounds, seconds=options.seconds, seed=SEED, say=say)
    if options.plot is not None:
        options.plot.write_text(plot(found))
    return [f"{options.rounds} rounds of {options.seconds:g} s, medians, {options.server}.", "", *table(found)]


async def _long(options: Options) -> list[str]:
    """OV1: a minute of three times the capacity."""
    lines = ["| limit | load | " + _COLUMNS, "|---" * 10 + "|"]
    for name, overload in (("24", STATIC), ("adaptive", ADAPTIVE)):
        with tempfile.TemporaryDirectory() as folder:
            loads = {0.8: 15.0, 1.0: 15.0, 3.0: options.long}
            found = await plateau(options.server, Path(folder), overload, loads, warm=10.0)
        lines += [f"| {name} | {times:g} x | {_row(found.phases[times][0])}" for times in loads]
        lines.append(
            f"| {name} | 3 x over the rest | goodput {found.goodput(3.0) / found.peak:.2f} of the peak, p99 "
            f"{found.p99(3.0) / found.p99(0.8):.2f} of that at 0.8 x |" + " |" * 7
        )
    return lines


async def _levels(options: Options) -> list[str]:
    """OV3: twice the capacity, by level."""
    lines = ["| offered, x capacity | critical | default | sheddable | bulk | inversions |", "|---" * 6 + "|"]
    for shares in ((0.5,) * 4, (0.3, 0.3, 0.7, 0.7), (0.8, 0.2, 0.5, 0.5), (0.2, 0.2, 0.2, 1.4)):
        with tempfile.TemporaryDirectory() as folder:
            found = await ranks(options.server, Path(folder), seconds=20.0, shares=shares)
        cells = [f"{100 * found.of(level).success:.2f} %" for level in ORDER]
        lines.append(f"| {' + '.join(f'{one:g}' for one in shares)} | {' | '.join(cells)} | {len(inversions(found))} |")
    return lines


async def _changes(options: Options) -> list[str]:
    """OV2: an adaptive limit while the backend's capacity doubles and halves, at 1.5 times what it is."""
    with tempfile.TemporaryDirectory() as folder:
        found = await changes(options.server, Path(folder), overload=ADAPTIVE, calm=30.0, seconds=30.0)
    worst = max(window.shed for window in found.calm.windows())
    lines = [
        f"At 0.8 x for 30 s: {100 * worst:.2f} % shed in the worst second, limit {min(found.calm_limits):.0f} to "
        f"{max(found.calm_limits):.0f}.", "",
        "| the backend can do | within 20 % of it after s | then, medians: good/s | limit | p99 ms | lowest second |",
        "|---" * 6 + "|",
    ]  # fmt: skip
    for workers, windows, limits in found.steps:
        able = workers * 20.0
        reached = next((number for number in range(len(windows)) if windows[number].goodput >= 0.8 * able), None)
        rest = windows[reached or 0 :]
        lines.append(
            f"| {able:.0f}/s | {'not' if reached is None else reached + 1} | {statistics.median(one.goodput for one in rest):.0f} | "
            f"{statistics.median(limits[reached or 0 :]):.0f} | {1e3 * statistics.median(one.took(0.99) for one in rest):.0f} | "
            f"{min(one.goodput for one in rest):.0f}/s |"
        )  # fmt: skip
    return lines


async def _failing(options: Options) -> list[str]:
    """OV6: an upstream that fails altogether, then recovers."""
    with tempfile.TemporaryDirectory() as folder:
        found = await failing(options.server, Path(folder), window=30.0, seconds=20.0, most=60.0)
    return [
        f"With the default window of 30 s: {100 * statistics.mean(found.reached):.1f} % of {len(found.failing.fates):,} requests reached "
        f"it ({100 * min(found.reached):.1f} to {100 * max(found.reached):.1f} % in single seconds). After its recovery nobody was turned "
        f"away any more after {found.recovered:g} s.",
    ]  # fmt: skip


async def _blocked(options: Options) -> list[str]:
    """OV4: an app that blocks its loop for 300 ms, once a second by chance; uvicorn."""
    lines = ["| | stops | requests: good/s | shed % | p50 ms | p99 ms | health checks answered | their slowest, ms |", "|---" * 8 + "|"]  # fmt: skip
    for name, lag in (("with lag", True), ("without", False)):
        with tempfile.TemporaryDirectory() as folder:
            found = await lagging(Path(folder), seconds=20.0, lag=lag)
        lines.append(
            f"| {name} | {found.stops} | {found.busy.goodput:.0f} | {100 * found.busy.shed:.1f} | {1e3 * found.busy.took(0.5):.0f} | "
            f"{1e3 * found.busy.took(0.99):.0f} | {100 * found.health.success:.0f} % | {1e3 * found.health.took(1.0):.0f} |"
        )  # fmt: skip
    return lines


async def _cost(options: Options) -> list[str]:
    """OV5: processor time of a shed request beside a forwarded one, without a server before the gateway."""
    with tempfile.TemporaryDirectory() as folder:
        found = await asyncio.to_thread(measured, Path(folder), batches=40)
    each = [("shed", found.shed), ("shed, with a body of 1 MiB", found.shed_upload), ("forwarded", found.forwarded)]
    lines = ["| | best µs | median µs | of a forwarded one |", "|---|---|---|---|"]
    best = min(found.forwarded)
    lines += [
        f"| {name} | {min(values):.1f} | {statistics.median(values):.1f} | {min(values) / best:.2f} |"
        for name, values in each
    ]
    return [*lines, "", f"Bodies that were read: {found.read}; of the shed that reached the upstream: {found.asked}."]


async def _slow(options: Options) -> list[str]:
    """OV7: a thousand slow heads beside a load; quiet and attacked windows in turn."""
    lines = ["| server | kind | goodput, of quiet | windows quiet | attacked | processor for them |", "|---" * 6 + "|"]
    for server in ("granian", "uvicorn"):
        for kind in ("drip", "silent"):
            with tempfile.TemporaryDirectory() as folder:
                found = await beside(
                    server, Path(folder), kind="drip" if kind == "drip" else "silent", rounds=max(3, options.rounds), seconds=3.0
                )  # fmt: skip
            quiet, attacked = (", ".join(f"{one:.0f}" for one in some) for some in (found.quiet, found.attacked))
            lines.append(
                f"| {server} | {kind} | {100 * found.share:.1f} % | {quiet} | {attacked} | {100 * found.cost:+.1f} % |"
            )
    return lines


async def _uploads(options: Options) -> list[str]:
    """OV8: as many uploads as this machine has files for, to an upstream that takes nothing."""
    cap = min(9500, holding.most())
    lines = [
        "| server | uploads | under way at most | warm MiB | standing | peak | KiB each standing | at the peak | with the kernel, MiB | answers |",
        "|---" * 10 + "|",
    ]
    for server in ("uvicorn", "granian"):
        for count, most in ((1000, 1000), (1000, 250), (10_000, 2500), (10_000, cap)):
            with tempfile.TemporaryDirectory() as folder:
                one = await holding.held(server, Path(folder), count=count, cap=most, seconds=200.0)
            mib = [f"{size / holding.MIB:.0f}" for size in (one.warm, one.standing, one.peak)]
            each = [f"{size / holding.KIB:.0f}" for size in (one.each_standing, one.each)]
            lines.append(
                f"| {server} | {count:,} | {most:,} | {' | '.join(mib)} | {' | '.join(each)} | {one.kernel / holding.MIB:,.0f} | "
                f"{one.clients['statuses']} |"
            )  # fmt: skip
            say(lines[-1])
    return lines


PARTS: dict[str, tuple[str, Part]] = {
    "sweep": ("Goodput over the offered load", _sweep),
    "long": ("A minute of three times the capacity", _long),
    "levels": ("Twice the capacity, by level: answered well", _levels),
    "changes": ("The adaptive limit while the capacity changes", _changes),
    "failing": ("An upstream that fails", _failing),
    "blocked": ("A loop that stands still", _blocked),
    "cost": ("What an answer costs, in processor time", _cost),
    "slow": ("A thousand slow clients", _slow),
    "uploads": ("Uploads to an upstream that takes nothing", _uploads),
}

_COLUMNS = "offered/s | good/s | shed % | p50 ms | p99 ms | hung up | lost | sent late, ms |"


def _row(phase: Phase) -> str:
    return (
        f"{phase.offered:.0f} | {phase.goodput:.0f} | {100 * phase.shed:.1f} | {1e3 * phase.took(0.5):.0f} | "
        f"{1e3 * phase.took(0.99):.0f} | {phase.hung_up} | {phase.lost} | {1e3 * phase.late():.0f} |"
    )


async def run(options: Options) -> list[str]:
    lines: list[str] = []
    for name, (title, part) in PARTS.items():
        if fnmatch.fnmatchcase(name, options.only):
            try:
                found = await part(options)
            except AssertionError as error:
                found = [f"failed: {str(error).strip()[:500]}"]
            lines += [f"### {title}", "", *found, ""]
            say("\n".join(lines[-len(found) - 3 :]))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="PATTERN", help=f"parts, among: {', '.join(PARTS)}")
    parser.add_argument("--server", choices=("granian", "uvicorn"), default="granian")
    parser.add_argument("--rounds", type=int, default=3, help="of the sweep; default: 3")
    parser.add_argument("--seconds", type=float, default=8.0, help="that each load of the sweep is counted; default: 8")
    parser.add_argument("--long", type=float, default=60.0, help="seconds of the long load; default: 60")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to this file too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the picture of the sweep to this file")
    options = parser.parse_args()
    many_files()
    lines = asyncio.run(run(options))
    if options.markdown is not None:
        options.markdown.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
