"""Who is measured, and how each is started: the command, its environment, its configuration. Starts nothing."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import NamedTuple

from bench.peers.answers import LARGE, PATHS, SMALL, UPSTREAM_VARIABLE
from bench.peers.programs import CADDY, ENVOY, NGINX, Module, Program

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path(__file__).parent / "configs"

UVICORN = (
    "--loop", "uvloop", "--http", "httptools", "--workers", "1", "--no-access-log", "--log-level", "warning",
)  # fmt: skip
GRANIAN = (
    "--interface", "asgi", "--loop", "uvloop", "--workers", "1", "--runtime-threads", "1", "--no-access-log",
    "--log-level", "warning",
)  # fmt: skip
SERVERS = {"uvicorn": UVICORN, "granian": GRANIAN}
"""Server → its arguments. All else as each server has it by default, WebSockets included: a gateway carries them."""


class Place(NamedTuple):
    """Where one start of a target happens. Words instead of numbers make a command that can be shown."""

    folder: Path
    port: str
    upstream: str


SHOWN = Place(Path("DIR"), "PORT", "UPSTREAM")


class Target(NamedTuple):
    """`command` starts with a name of `programs.PROGRAMS` or with `python`; words between @ are filled in."""

    name: str
    needs: tuple[Module | Program, ...]
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    config: str = ""
    """A file of `configs`, which is filled in and written to the folder of the start."""

    def missing(self) -> str | None:
        """What is not installed, and how to install it."""
        return next((found for need in self.needs if (found := need.missing())), None)

    def words(self, place: Place) -> list[str]:
        return [_filled(word, place) for word in self.command]

    def variables(self, place: Place) -> dict[str, str]:
        return {name: _filled(text, place) for name, text in self.environment}

    def write(self, place: Place) -> None:
        if self.config:
            (place.folder / self.config).write_text(_filled((CONFIGS / self.config).read_text(), place))
        if self is UPSTREAM:
            (place.folder / "large").write_bytes(LARGE)


def _filled(text: str, place: Place) -> str:
    for word, filling in {
        "@DIR@": str(place.folder),
        "@PORT@": place.port,
        "@UPSTREAM@": place.upstream,
        "@USER@": getpass.getuser(),
        "@SMALL@": SMALL.decode(),
        "@LARGE_PATH@": PATHS["64k"],
    }.items():
        text = text.replace(word, filling)
    return text


def _app(name: str, server: str, module: str, *needs: Module) -> Target:
    """An ASGI app of `apps` on a server."""
    command = ("python", "-m", server, *SERVERS[server], "--host", "127.0.0.1", "--port", "@PORT@")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return Target(
        name,
        (
            Module(server, f"{server}[{'standard' if server == 'uvicorn' else 'uvloop'}]"),
            Module("uvloop", "uvloop"),
            *needs,
        ),
        (*command, f"bench.peers.apps.{module}:app"),
        ((UPSTREAM_VARIABLE, "http://127.0.0.1:@UPSTREAM@"), ("PYTHONPATH", path)),
    )


def _nginx(name: str, config: str) -> Target:
    return Target(name, (NGINX,), ("nginx", "-p", "@DIR@", "-c", f"@DIR@/{config}"), config=config)


GATEKIT = Module("gatekit", "-e .[bench]")
UPSTREAM = _nginx("upstream", "upstream.conf")
DIRECT = "direct"
"""The load generator straight at the upstream: no gateway, and so no target that is started."""

TARGETS = (
    *(_app(f"hello/{server}", server, "hello") for server in SERVERS),
    *(_app(f"gatekit/{server}", server, "forward", GATEKIT) for server in SERVERS),
    *(_app(f"gatekit-1000/{server}", server, "thousand", GATEKIT) for server in SERVERS),
    _nginx("nginx", "nginx.conf"),
    Target(
        "envoy",
        (ENVOY,),
        ("envoy", "-c", "@DIR@/envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"),
        config="envoy.yaml",
    ),
    Target(
        "caddy",
        (CADDY,),
        ("caddy", "run", "--config", "@DIR@/Caddyfile", "--adapter", "caddyfile"),
        (("GOMAXPROCS", "1"), ("HOME", "@DIR@"), ("XDG_CONFIG_HOME", "@DIR@"), ("XDG_DATA_HOME", "@DIR@")),
        "Caddyfile",
    ),
    _app("asgiproxy", "uvicorn", "asgiproxy_app", Module("asgiproxy", "asgiproxy")),
    _app("httpx2", "uvicorn", "httpx2_app", Module("httpx2", "httpx2")),
    _app("httpx", "uvicorn", "httpx_app", Module("httpx", "httpx"), Module("sniffio", "sniffio")),
)
