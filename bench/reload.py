"""What requests notice of new configurations: 5,000 routes, swapped and reloaded under a steady load.

Behind uvicorn and behind granian, each a process of its own on one core; load and upstream on the other. In one run a
quiet window, a window with 20 swaps a second of configurations compiled ahead, and a window of whole reloads, one after
the other. In each configuration every route differs from the one before. Of those compiled ahead there are 8, which
take turns under a new number each time. About 4 minutes; what memory does over many reloads is a run of its own:

    python bench/reload.py [--seconds 30] [--rate 500] [--only uvicorn] [--gc default] [--markdown FILE]
    python bench/reload.py --reloads 1000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.reloads.load import Load, Seen
from tests.processes import ExitedEarly, Process, free_port, free_ports

HERE = Path(__file__).parent
SERVERS = {
    "uvicorn": (
        "uvicorn", "bench.reloads.app:served", "--factory", "--host", "127.0.0.1", "--port", "{port}", "--no-access-log",
        "--log-level", "warning", "--timeout-keep-alive", "60",
    ),
    "granian": (
        "granian", "bench.reloads.app:served", "--factory", "--interface", "asgi", "--host", "127.0.0.1", "--port",
        "{port}", "--workers", "1", "--no-access-log", "--log-level", "warning", "--loop", "uvloop",
    ),
}  # fmt: skip
SWAPS = 20.0
"""Swaps a second."""
DELAYS = (
    "| server | window | requests | not 2xx | mixed | versions seen | each second | p50 µs | p99 µs | p99 / quiet "
    "| p99.9 µs | longest ms | MiB before | MiB after |"
)
MEMORY = "| server | reloads | resident MiB | not 2xx | mixed |"
MARKS = (1, 100, 250, 500, 750, 1000)
"""After how many reloads memory is looked at."""


class Served(Process):
    """A server with the gateway that is swapped."""

    def __init__(self, name: str, routes: int, upstream: int, folder: Path, gc: str = "frozen") -> None:
        self.port = free_port()
        told = {"RELOADS_ROUTES": str(routes), "RELOADS_UPSTREAM": f"http://127.0.0.1:{upstream}", "RELOADS_GC": gc}
        super().__init__(
            name,
            [*pinned(0), sys.executable, "-m", *(argument.format(port=self.port) for argument in SERVERS[name])],
            folder / f"{name}.log",
            cwd=HERE.parent,
            env=environment(told),
        )
        self.pid = self.wait_for(self._says_who_it_is)

    def _says_who_it_is(self) -> int | None:
        try:
            return int(self._ask("pid"))
        except (OSError, HTTPException):
            return None

    def _ask(self, what: str) -> Any:
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=120)) as connection:
            connection.request("GET", f"/.told/{what}")
            return json.loads(connection.getresponse().read())

    async def tell(self, what: str) -> dict[str, Any]:
        """Tell it to begin (`swaps?20`, `reloads`) or to `stop`, and what it has to say."""
        answer: dict[str, Any] = await asyncio.to_thread(self._ask, what)
        return answer

    @property
    def resident(self) -> float:
        """MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise LookupError("VmRSS")


def pinned(core: int) -> list[str]:
    """The command that keeps another on one core, where there are two."""
    return ["taskset", "-c", str(core)] if len(os.sched_getaffinity(0)) > 1 else []


def environment(more: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    return {**os.environ, **more, "PYTHONPATH": path, "GATEKIT_DIES_WITH_PARENT": "1"}


@contextlib.contextmanager
def serving(name: str, routes: int, gc: str = "frozen") -> Iterator[Served]:
    """The gateway behind one server, and the upstream behind it."""
    with tempfile.TemporaryDirectory() as text, contextlib.ExitStack() as started:
        folder = Path(text)
        for attempt in range(3):
            (port,) = free_ports(1)
            command = [*pinned(1), sys.executable, str(HERE / "reloads" / "upstream.py"), str(port)]
            upstream = Process("upstream", command, folder / "upstream.log", cwd=HERE.parent, env=environment({}))
            started.callback(upstream.stop)
            try:
                served = Served(name, routes, port, folder, gc)
                break
            except ExitedEarly:
                if attempt == 2:
                    raise
        started.callback(served.stop)
        yield served


async def window(served: Served, routes: int, rate: float, seconds: float, what: str) -> tuple[Seen, dict[str, Any]]:
    """What was seen while the server did `what`, and how often it did."""
    if what:
        await served.tell(what)
    seen = await Load(served.port, routes, rate).run(seconds)
    return seen, await served.tell("stop") if what else {"done": 0, "longest": 0.0}


async def measure(name: str, options: argparse.Namespace) -> list[str]:
    """The rows of one server."""
    rows = []
    with serving(name, options.routes, options.gc) as served:
        await window(served, options.routes, options.rate, 2, "")
        quiet = 0.0
        for title, what in (("quiet", ""), (f"{SWAPS:.0f} swaps/s", f"swaps?{SWAPS}"), ("reloads", "reloads")):
            before = served.resident
            seen, told = await window(served, options.routes, options.rate, options.seconds, what)
            p99 = seen.delay(0.99)
            quiet = quiet or p99
            each = told["done"] / options.seconds
            rows.append(
                f"| {name} | {title} | {len(seen.delays):,} | {seen.failed} | {seen.mixed} | {seen.versions} | {each:.2f} "
                f"| {seen.delay(0.5) * 1e6:,.0f} | {p99 * 1e6:,.0f} | {p99 / quiet:.2f} | {seen.delay(0.999) * 1e6:,.0f} "
                f"| {seen.delays[-1] * 1e3:.1f} | {before:.0f} | {served.resident:.0f} |"
            )
            print(rows[-1], flush=True)  # noqa: T201
            if seen.failed:
                print(f"  not answered well: {seen.statuses}", flush=True)  # noqa: T201
    return rows


async def remember(name: str, options: argparse.Namespace) -> list[str]:
    """Resident memory after so many reloads, with requests all the while."""
    rows = []
    with serving(name, options.routes, options.gc) as served:
        done = 0
        for mark in (one for one in MARKS if one <= options.reloads):
            load = asyncio.ensure_future(Load(served.port, options.routes, 50.0).run(1.0))
            while done < mark:
                await served.tell("reload")
                done += 1
                if load.done():
                    load = asyncio.ensure_future(Load(served.port, options.routes, 50.0).run(1.0))
            seen = await load
            rows.append(f"| {name} | {done:,} | {served.resident:.0f} | {seen.failed} | {seen.mixed} |")
            print(rows[-1], flush=True)  # noqa: T201
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="What requests notice of new configurations.")
    parser.add_argument("--routes", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each window")
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    parser.add_argument("--only", choices=SERVERS, help="this server only")
    parser.add_argument("--gc", choices=("frozen", "default"), default="frozen",
                        help="frozen: the collector rests while the gateway compiles, and what came of it is not looked at")  # fmt: skip
    parser.add_argument("--reloads", type=int, help="measure memory over so many reloads instead")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to this file too")
    options = parser.parse_args()
    # The load must not wait for the collector of its own process.
    gc.disable()
    if pinned(1):
        os.sched_setaffinity(0, {1})
    columns = MEMORY if options.reloads else DELAYS
    lines = [columns, "|---" * columns.count(" | ") + "|---|"]
    print("\n".join(lines), flush=True)  # noqa: T201
    for name in [options.only] if options.only else SERVERS:
        lines += asyncio.run((remember if options.reloads else measure)(name, options))
    if options.markdown is not None:
        options.markdown.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
