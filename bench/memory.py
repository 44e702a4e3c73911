"""What a served gateway's process has resident while it streams: long bodies, slow uploads and downloads, WebSockets.

Behind uvicorn and behind granian, each row (each server, for the long bodies) with a server of its own that has served
next to nothing before. Clients and upstreams are in this process, and every byte that arrives is checked. What counts are
the differences: `warm` is mostly Python and what is imported. Under 3 minutes:

    python bench/memory.py [--markdown FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.processes import ExitedEarly
from tests.streaming.crowds import Crowd, Downloads, Uploads
from tests.streaming.process import MIB, Server, many_files
from tests.streaming.scene import Scene, Upstreams, download, upload
from tests.streaming.sockets import Sockets

SERVERS = ("uvicorn", "granian")
BODY = 1024 * MIB
UPLOADS = (100, 250, 500, 1000)
DOWNLOADS = (50, 100, 200)
DOWNLOAD = 6 * MIB
SOCKETS = (250, 1000)

Row = tuple[str, ...]


@contextmanager
def gateway(name: str, upstreams: Upstreams) -> Iterator[Scene]:
    """A served gateway that has not served anything yet."""
    with tempfile.TemporaryDirectory() as folder:
        for attempt in range(3):
            try:
                server = Server(name, upstreams.urls, Path(folder))
                break
            except ExitedEarly:
                if attempt == 2:
                    raise
        try:
            scene = Scene(server, upstreams, "bench")
            yield scene
            scene.close()
        finally:
            server.stop()


def mib(size: float) -> str:
    return f"{size / MIB:.1f}"


def each(size: int, count: int) -> str:
    return f"{size / count / 1024:.0f}"


async def bodies(name: str, upstreams: Upstreams) -> list[Row]:
    """Each way and each framing; warm after 8 MiB."""
    rows: list[Row] = []
    with gateway(name, upstreams) as scene:
        for direction, transfer in (("down", download), ("up", upload)):
            for chunked in (False, True):
                await transfer(scene, 8 * MIB, chunked=chunked)
                warm = scene.server.mark()
                began = time.perf_counter()
                sent, came = await transfer(scene, BODY, chunked=chunked)
                rate = BODY / (time.perf_counter() - began)
                assert sent == came, "what came is not what was sent"
                peak, after = scene.server.peak, scene.server.resident
                framing = "chunked" if chunked else "length"
                rows.append((name, direction, framing, mib(warm), mib(peak), mib(after), mib(peak - warm), mib(rate)))
    return rows


async def crowd(name: str, upstreams: Upstreams, count: int, make: Callable[[Scene, int], Crowd]) -> Row:
    """So many at once: while they stand still, the most there was, and after them. Warm after four."""
    with gateway(name, upstreams) as scene:
        async with make(scene, 4):
            pass
        warm = scene.server.mark()
        async with make(scene, count):
            standing = scene.server.resident
        peak, after = scene.server.peak, scene.server.resident
    grown = each(standing - warm, count), each(peak - warm, count)
    return (name, f"{count:,}", mib(warm), mib(standing), mib(peak), mib(after), *grown)


async def sockets(name: str, upstreams: Upstreams, count: int) -> Row:
    """So many sessions: idle, after a message each way, after their close. Warm after four."""
    with gateway(name, upstreams) as scene:
        async with Sockets(scene, 4) as few:
            await few.speak()
        warm = scene.server.mark()
        async with Sockets(scene, count) as many:
            idle = scene.server.resident
            await many.speak()
            spoken = scene.server.resident
            await many.close()
        peak, after = scene.server.peak, scene.server.resident
    return (name, f"{count:,}", mib(warm), mib(idle), mib(spoken), mib(peak), mib(after), each(idle - warm, count))


def table(title: str, columns: str, rows: list[Row]) -> str:
    names = columns.split(", ")
    lines = [f"## {title}", "", f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


async def measure() -> list[str]:
    upstreams = Upstreams()
    many_files()
    tables: list[str] = []

    def told(title: str, columns: str, rows: list[Row]) -> None:
        tables.append(table(title, columns, rows))
        print(tables[-1], flush=True)  # noqa: T201

    try:
        told(
            "1 GiB through the gateway, resident MiB",
            "server, direction, framing, warm, peak, after, growth, MiB/s",
            [row for name in SERVERS for row in await bodies(name, upstreams)],
        )
        waiting = "server, at once, warm, standing still, peak, after, KiB each standing still, KiB each at the peak"
        for title, counts, make in (
            ("Slow uploads of 1 MiB, 64 KiB at a time as the upstream takes them, resident MiB", UPLOADS, polite),
            ("The same where clients write whatever is taken from them", UPLOADS, pushing),
            ("Downloads of 6 MiB by clients that do not read, resident MiB", DOWNLOADS, unread),
        ):
            told(title, waiting, [await crowd(name, upstreams, n, make) for name in SERVERS for n in counts])
        told(
            "WebSockets, resident MiB",
            "server, sessions, warm, idle, after a message each way, peak, after, KiB each idle",
            [await sockets(name, upstreams, count) for name in SERVERS for count in SOCKETS],
        )
    finally:
        upstreams.close()
    return tables


def polite(scene: Scene, count: int) -> Crowd:
    return Uploads(scene, count, pushing=False)


def pushing(scene: Scene, count: int) -> Crowd:
    return Uploads(scene, count, pushing=True)


def unread(scene: Scene, count: int) -> Crowd:
    return Downloads(scene, count, DOWNLOAD)


def main() -> None:
    parser = argparse.ArgumentParser(description="Resident memory of a served gateway that streams.")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to this file too")
    arguments = parser.parse_args()
    tables = asyncio.run(measure())
    if arguments.markdown is not None:
        arguments.markdown.write_text("\n".join(tables))


if __name__ == "__main__":
    main()
