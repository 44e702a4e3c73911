"""Real servers as processes of their own, on free loopback ports, one of each kind for the whole session.

A server that is not installed skips its tests, or fails them where CI=true or GATEKIT_REQUIRE_SERVERS=1: a run that
promises servers must not pass without them.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

HERE = Path(__file__).parent
STRICT = os.environ.get("CI") == "true" or os.environ.get("GATEKIT_REQUIRE_SERVERS") == "1"
START_SECONDS = 20.0

ASGI = {
    "uvicorn": ["uvicorn", "apps:app", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning"],
    "granian": [
        "granian", "apps:app", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1",
        "--log-level", "warning",
    ],
    "hypercorn": ["hypercorn", "apps:app", "--bind", "127.0.0.1:{port}", "--log-level", "warning"],
}  # fmt: skip
WSGI = {
    "gunicorn": [
        "gunicorn", "apps:wsgi", "--bind", "127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "8",
        "--log-level", "warning",
    ],
    "waitress": ["waitress", "--listen=127.0.0.1:{port}", "--threads=8", "apps:wsgi"],
    "granian-wsgi": [
        "granian", "apps:wsgi", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1",
        "--blocking-threads", "8", "--log-level", "warning",
    ],
}  # fmt: skip


class ExitedEarly(RuntimeError):
    """The server ended before it answered: its port was taken, or it could not start. The text is its log."""


class Server:
    """One running server. `url` answers once the constructor has returned."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.name = name
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *(argument.format(port=self.port) for argument in arguments)],
                cwd=HERE,
                env={**os.environ, "PYTHONPATH": str(HERE), "GATEKIT_DIES_WITH_PARENT": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._wait()

    def _wait(self) -> None:
        """Until the server answers over HTTP. A refused connection comes back at once; the process wait paces it."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                pass
            else:
                raise ExitedEarly(self.tail())
            try:
                if httpx.get(f"{self.url}/records/ready", timeout=1, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                continue
        self.stop()
        raise RuntimeError(f"{self.name} did not answer within {START_SECONDS} s:\n{self.tail()}")

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """End its whole process group: first asked, then killed."""
        if self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _free_port() -> int:
    """A port that nobody listens on, below the range from which the kernel gives ports to clients."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, list[str]], Server]]:
    """Start a server; one whose port was taken in between is started again on another."""
    running: list[Server] = []

    def go(name: str, arguments: list[str]) -> Server:
        module = arguments[0]
        if importlib.util.find_spec(module) is None:
            message = f"the server {module} is not installed: pip install {module}"
            if STRICT:
                pytest.fail(message, pytrace=False)
            pytest.skip(message)
        for attempt in range(3):
            try:
                server = Server(name, arguments, tmp_path_factory.mktemp(name))
            except ExitedEarly as error:
                if attempt == 2:
                    pytest.fail(f"{name} does not start:\n{error}", pytrace=False)
            else:
                running.append(server)
                return server
        raise AssertionError

    yield go
    for server in reversed(running):
        server.stop()


@pytest.fixture(scope="session", params=list(ASGI))
def asgi_server(request: pytest.FixtureRequest, start: Any) -> Server:
    return start(request.param, ASGI[request.param])  # type: ignore[no-any-return]


@pytest.fixture(scope="session", params=list(WSGI))
def wsgi_server(request: pytest.FixtureRequest, start: Any) -> Server:
    return start(request.param, WSGI[request.param])  # type: ignore[no-any-return]


class Visitor:
    """A client with a key of its own, so that tests share a server and not their records."""

    def __init__(self, server: Server, client: httpx.Client) -> None:
        self.server = server
        self.client = client
        self.key = uuid.uuid4().hex

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self.client.request(method, self.server.url + path, headers={"x-key": self.key}, **given)

    def records(self, wait: str = "") -> list[list[Any]]:
        """What was recorded for this visitor, once an entry of that kind is there."""
        found: list[list[Any]] = self.client.get(
            f"{self.server.url}/records/{self.key}", params={"wait": wait} if wait else None
        ).json()
        return found

    def observed(self) -> list[list[Any]]:
        return [entry[1:] for entry in self.records("observe") if entry[0] == "observe"]

    def release(self) -> None:
        self.client.get(f"{self.server.url}/release/{self.key}")

    def connect(self, path: str) -> socket.socket:
        """A bare socket on which the request has been sent."""
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=5)
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: a.test\r\nx-key: {self.key}\r\n\r\n".encode())
        return connection


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10) as client:
        yield client


@pytest.fixture
def asgi(asgi_server: Server, client: httpx.Client) -> Visitor:
    return Visitor(asgi_server, client)


@pytest.fixture
def wsgi(wsgi_server: Server, client: httpx.Client) -> Visitor:
    return Visitor(wsgi_server, client)
