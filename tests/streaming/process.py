"""Real servers as processes, and what the kernel says about them: resident memory, bytes in socket queues.

Neither pytest nor gatekit is imported here: the bench uses it too.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from tests.processes import Process, free_port

HERE = Path(__file__).parent
MIB = 1024 * 1024
SERVERS: Mapping[str, tuple[str, ...]] = {
    "uvicorn": (
        "uvicorn", "gateway_app:app", "--host", "127.0.0.1", "--port", "{port}", "--backlog", "4096", "--no-access-log",
        "--log-level", "warning",
    ),
    "granian": (
        "granian", "gateway_app:app", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1",
        "--backlog", "4096", "--backpressure", "4096", "--no-access-log", "--log-level", "warning",
    ),
    "hypercorn": ("hypercorn", "gateway_app:app", "--bind", "127.0.0.1:{port}", "--log-level", "warning"),
}  # fmt: skip


class Server(Process):
    """One running server. It answers once the constructor has returned; `pid` is the process that serves."""

    def __init__(self, name: str, upstreams: Mapping[str, str], folder: Path) -> None:
        self.port = free_port()
        addresses = {f"GATEKIT_{key}": url for key, url in upstreams.items()}
        path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        super().__init__(
            name,
            [sys.executable, "-m", *(argument.format(port=self.port) for argument in SERVERS[name])],
            folder / f"{name}.log",
            cwd=HERE,
            env={**os.environ, **addresses, "PYTHONPATH": path, "GATEKIT_DIES_WITH_PARENT": "1"},
        )
        self.pid = self.wait_for(self._says_who_it_is)

    def _says_who_it_is(self) -> int | None:
        try:
            return int(self.told("pid"))
        except (OSError, HTTPException):
            return None

    def told(self, what: str) -> Any:
        """What the app says under `/.told/`. Blocks."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", f"/.told/{what}")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    # -- memory, in bytes

    @property
    def resident(self) -> int:
        """What is resident now (VmRSS)."""
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """The most that was resident since `mark` (VmHWM)."""
        return self._status("VmHWM")

    def mark(self) -> int:
        """Let the peak begin anew; what is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self.resident

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise LookupError(name)


def queued(*ports: int) -> int:
    """Bytes that are with the kernel, sent and not yet read, on the connections of these ports."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if {int(local.split(":")[1], 16), int(remote.split(":")[1], 16)} & set(ports):
            sent, received = queues.split(":")
            total += int(sent, 16) + int(received, 16)
    return total


def many_files() -> None:
    """As many open files as this process may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
