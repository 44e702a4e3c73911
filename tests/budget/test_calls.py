"""How many Python calls one request costs, for three shapes: a ratchet, not a clock.

The count is the same on every run, so it cannot flake: what makes it grow is a change to the hot path. When a change makes
it smaller, lower the number; when it has to grow, say why in the commit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from gatekit import Exchange, RateLimit, Route, SecurityHeaders, Telemetry
from gatekit.asgi import Policies
from gatekit.config.compile import compile_config
from gatekit.config.documents import config_from
from gatekit.config.snapshot import Snapshot
from gatekit.core.destination import Response
from gatekit.core.plan import ClusterPlan, SplitPlan
from gatekit.core.ports import Ports
from gatekit.drivers.asgi import AsgiDriver
from gatekit.gateway.system import system_ports

HEADERS = [
    (b"host", b"shop.example"), (b"user-agent", b"curl/8"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip"),
    (b"cookie", b"a=b"), (b"x-one", b"1"), (b"x-two", b"2"), (b"x-three", b"3"),
]  # fmt: skip
POLICIES = (Telemetry(access_log=False), SecurityHeaders(), RateLimit("1000000/second", by="client_ip"))


class Ready:
    """A destination that has its answer already: what is counted is the gateway, not a pool."""

    name = "ready"
    status = 200
    trailers: list[tuple[bytes, bytes]]

    def __init__(self, plan: ClusterPlan | SplitPlan, ports: Ports) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.trailers = []

    async def open(self, exchange: Exchange) -> Response:
        self.headers = [(b"content-length", b"2")]
        return self

    def take(self) -> tuple[bytes, bool]:
        return b"hi", True

    async def read(self) -> bytes:
        return b""

    def close(self) -> None:
        """Nothing is held."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Any) -> None:
    """A server that takes everything."""


class Source:
    def __init__(self, plan: Snapshot) -> None:
        self.plan = plan


def gateway(path: str) -> Any:
    config = config_from(
        {
            "policies": list(POLICIES),
            "routes": [Route("GET /v1/orders/{id}", to="orders"), Route("/static/*", to="orders")],
            "clusters": {"orders": {"urls": ["http://127.0.0.1:1"]}},
        }
    )
    ports = system_ports()
    source = Source(compile_config(config, ports=ports, generation=1, destination=Ready))
    return AsgiDriver(source, now=ports.clock.monotonic), path


SHAPES: dict[str, tuple[Callable[[], Any], int]] = {
    "three policies in front of an app": (lambda: (Policies(app, *POLICIES), "/"), 68),
    "a gateway that forwards": (lambda: gateway("/v1/orders/42"), 63),
    "a gateway that knows no route": (lambda: gateway("/nothing"), 95),
}


async def calls(asgi: Any, path: str) -> int:
    """Python calls of a request, an earlier one having warmed what is made lazily. The smaller of two: now and then one
    fetches randomness for those after it."""
    counted = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal counted
        counted += event == "call"

    def scope() -> dict[str, Any]:
        return {
            "type": "http", "method": "GET", "scheme": "http", "http_version": "1.1", "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": list(HEADERS),
            "client": ("192.0.2.1", 1),
        }  # fmt: skip

    found: list[int] = []
    await asgi(scope(), receive, send)
    before = sys.getprofile()
    for request in (scope(), scope()):
        counted = 0
        sys.setprofile(profile)
        try:
            await asgi(request, receive, send)
        finally:
            sys.setprofile(before)
        found.append(counted)
    return min(found)


@pytest.mark.parametrize("shape", SHAPES)
async def test_calls_for_each_request(shape: str) -> None:
    build, most = SHAPES[shape]
    assert await calls(*build()) <= most
