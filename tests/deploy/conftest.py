"""What is in `deploy/` is run as it is written there, on free ports and in a folder of the test: only those are replaced."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.processes import Process, children, free_port, started

DEPLOY = Path(__file__).parents[2] / "deploy"
GATEKIT = (sys.executable, "-m", "gatekit.cli")
"""What stands for an installed `gatekit`."""
TOKEN = "a-token-that-is-long-enough"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, list[str]]:
        """The headers that the backend got, by name."""
        found: dict[str, list[str]] = {}
        for name, value in json.loads(self.body):
            found.setdefault(name, []).append(value)
        return found


def ask(
    port: int,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body: Any = None,
    client: str = "127.0.0.1",
) -> Answer:
    """One request from that address of this machine, on a connection of its own. Raises OSError."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(client, 0))) as asked:
        asked.request(method, path, body, dict(headers or {}))
        answer = asked.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_ready(admin: int) -> bool:
    """Whether the admin endpoint there says so."""
    try:
        return ask(admin, "/ready").status == 200
    except (OSError, http.client.HTTPException):
        return False


class Run(Process):
    """A command of `deploy/` that runs, with its log."""

    def __init__(self, command: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None) -> None:
        log = folder / f"{len(list(folder.glob('*.log')))}.log"
        super().__init__("the example", command, log, cwd=folder, env={**os.environ, **(env or {})})

    @property
    def pids(self) -> list[int]:
        """The process and those it has started, as they are now."""
        return [self.process.pid, *children(self.process.pid)]


class Backend(Process):
    """The backend, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "uvicorn", "backend:app", "--port", str(self.port), "--log-level", "warning"]
        super().__init__("backend", command, folder / "log.txt", cwd=Path(__file__).parent, env=dict(os.environ))
        self.wait_for(lambda: accepts(self.port) or None)


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    running = started("backend", lambda: Backend(tmp_path_factory.mktemp("backend")))
    yield running
    running.stop()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Run a command and wait until `ready` says so; it ends with the test."""
    running: list[Run] = []

    def go(command: Sequence[str | Path], ready: Callable[[], bool], env: Mapping[str, str] | None = None) -> Run:
        one = Run(command, tmp_path, env)
        running.append(one)
        one.wait_for(lambda: ready() or None)
        return one

    yield go
    for one in reversed(running):
        one.stop()


class Held:
    """A request that is under way until it is let go: `answer` then gives what became of it."""

    def __init__(self, backend: Backend, port: int, key: str, pool: ThreadPoolExecutor) -> None:
        self._backend, self._key = backend.port, key
        self._asked = pool.submit(ask, port, f"/hold/{key}")
        ask(self._backend, f"/held/{key}")

    def answer(self) -> Answer:
        ask(self._backend, f"/release/{self._key}")
        return self._asked.result(30)


@pytest.fixture
def hold(backend: Backend, tmp_path: Path) -> Iterator[Callable[[int], Held]]:
    """Send a request that is held at the backend; the call returns once it has arrived there."""
    with ThreadPoolExecutor(8) as pool:
        yield lambda port: Held(backend, port, tmp_path.name, pool)


def config(path: Path, backend: Backend, folder: Path) -> Path:
    """That configuration of `deploy/` with the backend's address for its own, in the test's folder."""
    text = path.read_text().replace(', "http://127.0.0.1:9002"', "").replace("http://127.0.0.1:9001", backend.url)
    written = folder / "gateway.yaml"
    written.write_text(text)
    return written
