"""Real servers as processes of their own, on free loopback ports.

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
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

HERE = Path(__file__).parent
STRICT = os.environ.get("CI") == "true" or os.environ.get("GATEKIT_REQUIRE_SERVERS") == "1"
START_SECONDS = 20.0
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


class ExitedEarly(RuntimeError):
    """The server ended before it answered: its port was taken, or it could not start. The text is its log."""


class Server:
    """One running server. It answers `/records` once the constructor has returned."""

    def __init__(self, name: str, environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log.txt"
        arguments = [argument.format(port=self.port) for argument in COMMANDS[name]]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=HERE,
                env={**os.environ, **environment, **ALWAYS},
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
                if httpx.get(f"{self.url}/records", timeout=1, trust_env=False).status_code == 200:
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
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def start(name: str, environment: Mapping[str, str], folder: Path) -> Server:
    """Start a server; one whose port was taken in between is started again on another."""
    package = COMMANDS[name][0]
    if importlib.util.find_spec(package) is None:
        message = f"the server {package} is not installed: pip install {package}"
        if STRICT:
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    for attempt in range(3):
        try:
            return Server(name, environment, folder)
        except ExitedEarly as error:
            if attempt == 2:
                pytest.fail(f"{name} does not start:\n{error}", pytrace=False)
    raise AssertionError


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
