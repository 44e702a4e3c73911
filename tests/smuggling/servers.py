"""Real servers as processes of their own, on free loopback ports.

A server that is not installed skips its tests, or fails them where CI=true or GATEKIT_REQUIRE_SERVERS=1: a run that
promises servers must not pass without them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
from tests.processes import Process, free_port, need_module, started

HERE = Path(__file__).parent
KEY = "k1-0123456789abcdef"
"""The API key of `alice`, whom the served gateway knows."""
ALWAYS = {
    "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
    "GATEKIT_DIES_WITH_PARENT": "1",
    "GATEKIT_TEST_KEY": KEY,
}

# uvicorn and gunicorn believe forwarding headers of loopback peers unless told not to, which is not what is tried here.
COMMANDS = {
    "uvicorn-h11": [
        "uvicorn", "app:app", "--http", "h11", "--host", "127.0.0.1", "--port", "{port}", "--no-proxy-headers",
        "--log-level", "critical", "--no-server-header",
    ],
    "uvicorn-httptools": [
        "uvicorn", "app:app", "--http", "httptools", "--host", "127.0.0.1", "--port", "{port}",
        "--no-proxy-headers", "--log-level", "critical", "--no-server-header",
    ],
    "granian": [
        "granian", "app:app", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1",
        "--log-level", "critical",
    ],
    "hypercorn": ["hypercorn", "app:app", "--bind", "127.0.0.1:{port}", "--log-level", "critical"],
    "gunicorn": [
        "gunicorn", "app:wsgi", "--bind", "127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "16",
        "--log-level", "critical", "--forwarded-allow-ips", "",
    ],
}  # fmt: skip
ASGI = ["uvicorn-h11", "uvicorn-httptools", "granian", "hypercorn"]
WSGI = ["gunicorn"]


class Server(Process):
    """One running server. It answers `/records` once the constructor has returned."""

    def __init__(self, name: str, environment: Mapping[str, str], folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(
            name,
            [sys.executable, "-m", *(argument.format(port=self.port) for argument in COMMANDS[name])],
            folder / "log.txt",
            cwd=HERE,
            env={**os.environ, **environment, **ALWAYS},
        )
        self.wait_for(self._answers)

    def _answers(self) -> bool | None:
        try:
            return httpx.get(f"{self.url}/records", timeout=1, trust_env=False).status_code == 200 or None
        except httpx.TransportError:
            return None


def start(name: str, environment: Mapping[str, str], folder: Path) -> Server:
    """Start a server; one whose port was taken in between is started again on another."""
    need_module(COMMANDS[name][0])
    return started(name, lambda: Server(name, environment, folder))
