"""Real servers as processes of their own, on free loopback ports, one of each kind for the whole session.

A server that is not installed skips its tests, or fails them where CI=true or GATEKIT_REQUIRE_SERVERS=1: a run that
promises servers must not pass without them.
"""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.processes import Process, free_port, need_module, started

HERE = Path(__file__).parent

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


class Server(Process):
    """One running server. `url` answers once the constructor has returned."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(
            name,
            [sys.executable, "-m", *(argument.format(port=self.port) for argument in arguments)],
            folder / "log.txt",
            cwd=HERE,
            env={**os.environ, "PYTHONPATH": str(HERE), "GATEKIT_DIES_WITH_PARENT": "1"},
        )
        self.wait_for(self._answers)

    def _answers(self) -> bool | None:
        try:
            return httpx.get(f"{self.url}/records/ready", timeout=1, trust_env=False).status_code == 200 or None
        except httpx.TransportError:
            return None


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, list[str]], Server]]:
    """Start a server; one whose port was taken in between is started again on another."""
    running: list[Server] = []

    def go(name: str, arguments: list[str]) -> Server:
        need_module(arguments[0])
        server = started(name, lambda: Server(name, arguments, tmp_path_factory.mktemp(name)))
        running.append(server)
        return server

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
