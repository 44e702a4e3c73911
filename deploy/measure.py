"""What `gatekit run` takes of memory: its processes by the number of routes, and what each connection, WebSocket and
request under way adds to a worker. Medians over fresh starts; figures are of this machine. About three minutes:

    python deploy/measure.py [--rounds N] [--server granian|uvicorn]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.processes import Instance, Place, Process, free_port
from tests.streaming.process import many_files

TESTS = Path(__file__).parents[1] / "tests/deploy"
ROUTES = (1, 100, 1_000, 5_000)
COUNT = 1_000
"""Connections, WebSockets and requests at once."""
KIB = 1024


class Backend(Process):
    """The tests' backend: it holds requests and echoes WebSockets."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        uvicorn = [sys.executable, "-m", "uvicorn", "backend:app", "--port", str(self.port), "--log-level", "error"]
        command = [*uvicorn, "--backlog", "4096", "--timeout-keep-alive", "600"]
        super().__init__("backend", command, folder / "b.log", cwd=TESTS, env=dict(os.environ))
        self.wait_for(self._listens)

    def _listens(self) -> bool | None:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0 or None


def config(backend: int, routes: int) -> str:
    """So many routes, of which the last takes everything. One cluster, as in most gateways fewer clusters than routes."""
    lines = ["routes:"]
    lines += [f"  - {{match: 'GET /v1/service-{number}/items/{{id}}', to: up}}" for number in range(routes - 1)]
    lines += ["  - {match: '/*', to: up}", "clusters:"]
    return "\n".join([*lines, f"  up: {{urls: ['http://127.0.0.1:{backend}'], max_connections: 4096, timeout: 600}}"])


def resident(pid: int, name: str = "VmRSS") -> int:
    """What is resident of a process, or the most that was (VmHWM), in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)


def forget_peak(pid: int) -> None:
    """Let VmHWM begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def proportional(pid: int) -> int:
    """The same, with what several processes share divided among them, in KiB (Pss)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise LookupError(pid)


async def instance(stack: AsyncExitStack, server: str, backend: Backend, routes: int, workers: int = 1) -> Instance:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    target = folder / "gateway.yaml"
    target.write_text(config(backend.port, routes))
    options = ("--workers", str(workers), "--grace", "0", "--log-level", "error")
    one = Instance(str(target), folder, Place.free(), *options, server=server)
    stack.callback(one.stop)
    await asyncio.to_thread(one.until_ready)
    return one


async def answered(port: int, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which that request was sent."""
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        await writer.drain()
    return reader, writer


async def idle(port: int, number: int) -> asyncio.StreamWriter:
    """A connection that has had an answer and is kept."""
    reader, writer = await answered(port, b"GET /pieces/0 HTTP/1.1\r\nhost: a\r\n\r\n")
    async with asyncio.timeout(60):
        await reader.readuntil(b"\r\n\r\n")
    return writer


async def websocket(port: int, number: int) -> asyncio.StreamWriter:
    """A WebSocket that is open and silent."""
    key = base64.b64encode(number.to_bytes(16, "big"))
    head = b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    reader, writer = await answered(port, b"%ssec-websocket-version: 13\r\nsec-websocket-key: %s\r\n\r\n" % (head, key))
    async with asyncio.timeout(60):
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return writer


async def under_way(port: int, number: int) -> asyncio.StreamWriter:
    """A request that the backend holds."""
    return (await answered(port, b"GET /hold/measure HTTP/1.1\r\nhost: a\r\n\r\n"))[1]


Make = Callable[[int, int], Awaitable[asyncio.StreamWriter]]


def files(pid: int) -> int:
    """How many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def reloaded(server: str, backend: Backend, routes: int) -> tuple[int, int, int]:
    """A worker's resident memory before a reload, the most of it meanwhile, and after it, in KiB."""
    async with AsyncExitStack() as stack:
        gateway = await instance(stack, server, backend, routes)
        (worker,) = gateway.workers()
        before = resident(worker)
        forget_peak(worker)
        assert (await asyncio.to_thread(gateway.asked, "POST", "/reload"))[0] == 200
        return before, resident(worker, "VmHWM"), resident(worker)


async def crowd(server: str, backend: Backend, make: Make) -> tuple[float, float, float]:
    """How much a worker grows for each of so many at once, in KiB and in files, and the files that it had before."""
    async with AsyncExitStack() as stack:
        gateway = await instance(stack, server, backend, 100)
        (worker,) = gateway.workers()
        port = gateway.place.port
        opened = [await idle(port, number) for number in range(20)]
        before, had = resident(worker), files(worker) - len(opened)
        for start in range(0, COUNT, 50):
            opened += await asyncio.gather(*(make(port, start + number) for number in range(50)))
        if make is under_way:
            while (await asyncio.to_thread(gateway.asked, "GET", "/status"))[1]["workers"][0]["active"] < COUNT:
                pass
        grown, more = resident(worker) - before, files(worker) - had - 20
        for writer in opened:
            writer.close()
        return grown / COUNT, more / COUNT, had


async def sizes(server: str, backend: Backend, routes: int) -> tuple[int, int, int, int]:
    """Supervisor and worker, resident; the worker and all three processes with shared pages divided; in KiB."""
    async with AsyncExitStack() as stack:
        gateway = await instance(stack, server, backend, routes, workers=2)
        workers = gateway.workers()
        everybody = sum(map(proportional, [gateway.pid, *workers]))
        return resident(gateway.pid), resident(workers[0]), proportional(workers[0]), everybody


async def measure(servers: Sequence[str], rounds: int) -> None:
    many_files()
    with tempfile.TemporaryDirectory() as folder:
        backend = Backend(Path(folder))
        try:
            for server in servers:
                await told(server, backend, rounds)
        finally:
            backend.stop()


async def told(server: str, backend: Backend, rounds: int) -> None:
    for routes in ROUTES:
        rows = [await sizes(server, backend, routes) for _ in range(rounds)]
        supervisor, worker, shared, everybody = (statistics.median(column) / KIB for column in zip(*rows, strict=True))
        say(
            f"{server}, {routes} routes, two workers: supervisor {supervisor:.0f} MiB, worker {worker:.0f} MiB resident "
            f"({shared:.0f} with shared pages divided); all three together {everybody:.0f} MiB"
        )
    for make in (idle, websocket, under_way):
        found = zip(*[await crowd(server, backend, make) for _ in range(rounds)], strict=True)
        each, more, had = map(statistics.median, found)
        say(f"{server}, each of {COUNT} {make.__name__}: {each:.1f} KiB, {more:.2f} files; before them {had:.0f} files")
    found = zip(*[await reloaded(server, backend, ROUTES[-1]) for _ in range(rounds)], strict=True)
    before, most, after = (statistics.median(column) / KIB for column in found)
    say(f"{server}, reload of {ROUTES[-1]} routes: {before:.0f} MiB before, {most:.0f} at most, {after:.0f} after")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    options = argparse.ArgumentParser(description="Resident memory of `gatekit run`.")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--server", choices=("granian", "uvicorn"))
    given = options.parse_args()
    asyncio.run(measure((given.server,) if given.server else ("granian", "uvicorn"), given.rounds))


if __name__ == "__main__":
    main()
