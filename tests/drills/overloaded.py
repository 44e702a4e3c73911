"""A gateway before a backend of known capacity, with more asked of it than that.

Neither pytest nor gatekit is imported here: the bench runs these drills too. Everything is on loopback; the backend and the
gateway are processes, the clients are in this one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.processes import ExitedEarly, Instance, Place, Process, cpu_seconds

from .arrivals import Arrivals, Phase, Stream

HERE = Path(__file__).parent
WORKERS, SERVICE = 20, 0.05
"""So 400 requests a second: a fifth of what one worker of the gateway carries here, so that only the backend is short."""
LATE = 0.02
"""Seconds that 99 % of the requests may be sent late: with more, the generator was what was short."""


class Bounded(Process):
    """The backend. `url` is there once the constructor has returned."""

    def __init__(self, folder: Path, workers: int = WORKERS, service: float = SERVICE) -> None:
        super().__init__(
            "bounded backend", [sys.executable, HERE / "bounded.py", str(workers), str(service)],
            folder / "backend.log", cwd=HERE, env=dict(os.environ),
        )  # fmt: skip
        self.workers = workers
        self.capacity = workers / service
        self.port = self.wait_for(self._said)

    def _said(self) -> int | None:
        line, _, rest = self.log.read_text().partition("\n")
        return int(line) if rest or (line.isdigit() and self.log.read_text().endswith("\n")) else None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def told(self, *what: str) -> dict[str, Any]:
        """What it has done; `told("workers", "16")` changes what it can do. Blocks."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", "/".join(("/.told", *(what or ("counts",)))))
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found


@dataclass
class Overloaded:
    """The gateway, its backend and its clients."""

    instance: Instance
    backend: Bounded
    clients: Arrivals

    @property
    def capacity(self) -> float:
        return self.backend.capacity

    async def phase(self, seconds: float, times: float, *, path: str = "/default/1", settle: float = 0.0) -> Phase:
        """That many times the capacity, on one path; the first `settle` seconds beyond are not counted."""
        found = await self.clients.run(seconds + settle, {"all": Stream(path, times * self.capacity)})
        return found.since(settle)

    async def mixed(self, seconds: float, shares: Mapping[str, float], *, settle: float = 0.0) -> Phase:
        """Several paths, each at its share of the capacity."""
        streams = {name: Stream(f"/{name}/1", part * self.capacity) for name, part in shares.items()}
        return (await self.clients.run(seconds + settle, streams)).since(settle)

    async def told(self, *what: str) -> dict[str, Any]:
        return await asyncio.to_thread(self.backend.told, *what)

    async def admin(self, path: str) -> Any:
        code, found = await asyncio.to_thread(self.instance.asked, "GET", path)
        assert code == 200, (code, found, self.instance.tail())
        return found

    async def figures(self) -> dict[str, Any]:
        """What the overload policy of the first worker says of itself."""
        (worker, *_) = (await self.admin("/status"))["workers"]
        (found,) = [one for one in worker["policies"] if one["policy"] == "overload"]
        return dict(found)

    def cpu(self) -> float:
        """Seconds of processor that the first worker has used."""
        return cpu_seconds(self.instance.workers()[0])


@asynccontextmanager
async def overloaded(
    config: str,
    folder: Path,
    *options: str,
    server: str = "uvicorn",
    workers: int = WORKERS,
    service: float = SERVICE,
    seed: int = 7,
) -> AsyncIterator[Overloaded]:
    """Everything ready. `URL` in the configuration stands for the backend's address."""
    backend = Bounded(folder, workers, service)
    try:
        instance = await start(config.replace("URL", backend.url), folder, server, *options)
        clients = Arrivals(instance.place.host, instance.place.port, seed=seed)
        try:
            yield Overloaded(instance, backend, clients)
        finally:
            await clients.close()
            instance.stop()
    finally:
        backend.stop()


async def start(config: str, folder: Path, server: str, *options: str) -> Instance:
    """`gatekit run` with one worker and that configuration. One whose port was taken in between is started again."""
    path = folder / "gateway.yaml"
    path.write_text(config)
    for attempt in range(3):
        instance = Instance(str(path), folder, Place.free(), "--workers", "1", *options, server=server, cwd=HERE)
        try:
            return await asyncio.to_thread(instance.until_ready)
        except ExitedEarly:
            if attempt == 2:
                raise
    raise AssertionError("not reached")
