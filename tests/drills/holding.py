"""OV8: uploads to an upstream that takes nothing, more of them than may be under way: what the gateway's process holds.

Neither pytest nor gatekit is imported here: the bench runs this drill too, with ten thousand of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.processes import Instance, Process

from .load import pause, until
from .overloaded import HERE, start

KIB, MIB = 1024, 1024 * 1024
EACH = 128 * KIB
"""What each of those that are under way may take at most, by the bar."""
CONFIG = """\
policies: [{{overload: {{concurrency: {cap}, queue: 0, lag: false}}}}]
routes: [{{match: /*, to: up}}]
clusters:
  up: {{urls: ["http://127.0.0.1:{port}"], max_connections: 20000, max_waiting: 0, timeout: 5m, idle_timeout: 5m}}
"""


class Told(Process):
    """A process of `uploads.py`, and the last that it said."""

    def __init__(self, folder: Path, *what: str) -> None:
        super().__init__(
            f"uploads, {what[0]}", [sys.executable, HERE / "uploads.py", *what], folder / f"{what[0]}.log",
            cwd=HERE, env=dict(os.environ),
        )  # fmt: skip

    def seen(self) -> dict[str, Any]:
        lines = [line for line in self.log.read_text().rpartition("\n")[0].splitlines() if line.startswith("{")]
        found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return found

    def port(self) -> int:
        """Of the upstream."""
        return self.wait_for(lambda: int(line) if (line := self.log.read_text().partition("\n")[0]) else None)


@dataclass
class Held:
    """Resident bytes of the worker: warm, while all stand still, the most there was until the last had ended. `kernel` is
    what all sockets of this machine held meanwhile, besides that."""

    count: int
    cap: int
    warm: int
    standing: int
    peak: int
    kernel: int
    under_way: int
    """Requests that were at the upstream while they stood still."""
    clients: dict[str, Any]
    upstream: dict[str, Any]

    @property
    def each(self) -> float:
        """Bytes for each that was under way, at the peak."""
        return (self.peak - self.warm) / self.cap

    @property
    def each_standing(self) -> float:
        return (self.standing - self.warm) / self.cap

    def told(self) -> str:
        return (
            f"{self.count} uploads of 1 MiB, {self.under_way} under way of {self.cap} that may be: warm {self.warm / MIB:.0f} MiB, "
            f"standing {self.standing / MIB:.0f}, peak {self.peak / MIB:.0f}; {self.each_standing / KIB:.0f} KiB each standing, "
            f"{self.each / KIB:.0f} at the peak; {self.kernel / MIB:.0f} MiB with the kernel; clients {self.clients}"
        )  # fmt: skip


def most() -> int:
    """How many uploads one worker can have under way here: each takes two of its files."""
    return (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500) // 2


async def held(server: str, folder: Path, *, count: int, cap: int, seconds: float = 60.0) -> Held:
    """All at once; then the upstream reads, and all that were let in come to their end. `seconds` is for either."""
    upstream = Told(folder, "upstream")
    try:
        instance = await start(CONFIG.format(cap=cap, port=upstream.port()), folder, server)
        try:
            return await _held(instance, upstream, folder, count, cap, seconds)
        finally:
            instance.stop()
    finally:
        upstream.stop()


async def _held(instance: Instance, upstream: Told, folder: Path, count: int, cap: int, seconds: float) -> Held:
    (worker,) = instance.workers()
    warm = mark(worker)
    clients = Told(folder, "clients", instance.place.host, str(instance.place.port), str(count))
    try:
        before: tuple[Any, ...] = ()

        def still() -> bool:
            nonlocal before
            now = (clients.seen().get("connected"), clients.seen().get("written"), upstream.seen().get("heads"))
            settled, before = now == before and now[0] == count, now
            return settled

        async def settled() -> bool:
            end = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < end:
                await pause(1.2)
                if still():
                    return True
            return False

        assert await settled(), f"they never stood still: {clients.seen()}, {upstream.seen()}, {instance.tail()}"
        standing, kernel, under_way = memory(worker, "VmRSS"), in_sockets(), upstream.seen()["heads"]
        await asyncio.to_thread(go, upstream.port())
        assert await until(seconds, lambda: clients.seen()["over"]), f"{clients.seen()}, {instance.tail()}"
        await until(5, lambda: upstream.seen()["whole"] >= clients.seen()["statuses"].get("200", 0))
        return Held(
            count, cap, warm, standing, memory(worker, "VmHWM"), kernel, under_way, clients.seen(), upstream.seen()
        )
    finally:
        clients.stop()


def mark(pid: int) -> int:
    """Let the peak begin anew; what is resident now, in bytes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return memory(pid, "VmRSS")


def go(port: int) -> None:
    """Let the upstream read."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/.told/go")
    connection.getresponse().read()
    connection.close()


def memory(pid: int, name: str) -> int:
    """Bytes, by the kernel's word."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * KIB
    raise LookupError(name)


def in_sockets() -> int:
    """Bytes that TCP sockets of this machine hold in the kernel."""
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    words = line.split()
    return int(words[words.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")
