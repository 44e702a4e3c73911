"""`gatekit demo`: a gateway on loopback before a few backends, to be tried by hand or by a tour (`--once`).

The backends are processes of their own, reached through the real upstream pool; one more app runs in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

from gatekit import (
    ApiKey,
    Authn,
    Cluster,
    Exchange,
    Gateway,
    Outcome,
    Placement,
    RateLimit,
    Redirect,
    RequestHeaders,
    ResponseHeaders,
    Rewrite,
    Route,
    SecurityHeaders,
    Spec,
    Stage,
    Telemetry,
    api_keys,
)
from gatekit.cli import say
from gatekit.cli.tour import STOPS, Trace, tour

KEY = "demo-key-not-a-secret"

PAGE = """gatekit demo on {base}

  curl {base}/v1/orders/42                              a template route, two backends in turn
  curl -H 'x-tier: beta' {base}/v1/orders/42            a header match: another backend
  curl {base}/admin/users                               401: needs a key
  curl -H 'x-api-key: {key}' {base}/admin/users         an app in this process, told who is calling
  curl -i {base}/old/orders/42                          redirected to /v1/orders/42
  curl {base}/shop/orders/42                            rewritten to /v1/orders/42
  curl {base}/canary                                    9 in 10 to orders, 1 in 10 to next
  curl -i {base}/limited                                twice a minute, then 429
  curl -i --path-as-is {base}/v1/orders/..%2f..%2fadmin  refused: that path has two readings
  curl -i -X DELETE {base}/v1/orders/42                 405 with Allow
"""


class Watch(Spec):
    """Notes how every exchange ended, for the tour."""

    kind = "demo_watch"
    traces: dict[str, Trace]

    def placement(self) -> Placement:
        return Placement(Stage.OBSERVE)

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        route = "-" if exchange.route is None else exchange.route.template
        self.traces[exchange.request_id] = Trace(route, outcome.reason)


async def members(scope: Any, receive: Any, send: Any) -> None:
    """The app in this process: it says who is calling."""
    if scope["type"] != "http":
        raise TypeError(f"this app serves http only, not {scope['type']}")
    user = scope.get("user")
    body = f'{{"backend": "members", "path": "{scope["path"]}", "user": "{user.subject if user else ""}"}}\n'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def build(ports: dict[str, int], traces: dict[str, Trace], *, access_log: bool) -> Gateway:
    """The gateway of the demo, before backends at these ports."""

    def at(*names: str) -> Cluster:
        return Cluster(*(f"http://127.0.0.1:{ports[name]}" for name in names))

    keyed = Authn(api_keys({"demo": ApiKey(secret=KEY, subject="alice", roles=["admin"])}))
    shipped = [Telemetry(access_log=access_log), SecurityHeaders(), RateLimit("200/second", by="client_ip")]
    return Gateway(
        policies=[Watch.model_construct(traces=traces), *shipped],
        routes=[
            Route("GET /v1/orders/{id}", to="orders", policies=[ResponseHeaders(set={"x-served-by": "gatekit"})]),
            Route("GET /v1/orders/{id}", to="next", headers={"x-tier": "beta"}, name="beta orders"),
            Route("POST /v1/orders", to="orders", policies=[keyed, RequestHeaders(set={"x-checked": "yes"})]),
            Route("/admin/*", to="members", policies=[keyed]),
            Route("/old/*", policies=[Redirect(prefix=("/old", "/v1"), status=301)]),
            Route("/shop/*", to="orders", policies=[Rewrite(prefix=("/shop", "/v1"))]),
            Route("/canary", to={"orders": 90, "next": 10}),
            Route("/limited", to="orders", policies=[RateLimit("2/minute", by="client_ip", name="limited")]),
        ],
        clusters={"orders": at("orders-1", "orders-2"), "next": at("next"), "members": Cluster(app=members)},
    )


@contextlib.contextmanager
def backends(*names: str) -> Iterator[dict[str, int]]:
    """Start a backend process for each name; the ports they listen on. They end with us, whatever happens."""
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        for name in names:
            running[name] = subprocess.Popen(  # noqa: S603 - our own module under our own interpreter
                [sys.executable, "-m", "gatekit.cli.backend", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        yield {name: _port(name, process) for name, process in running.items()}
    finally:
        for process in running.values():
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        for process in running.values():
            process.wait(10)


def _port(name: str, process: subprocess.Popen[str]) -> int:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise OSError(f"the backend {name!r} did not start (exit code {process.wait(10)})")
    return int(line)


def _listen(port: int) -> socket.socket:
    """A listening socket on that loopback port, or on a free one if it is taken."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError:
        listening.bind(("127.0.0.1", 0))
        say(f"port {port} is taken, so the demo takes another")
    return listening


@contextlib.asynccontextmanager
async def serving(gateway: Gateway, listening: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """The gateway under uvicorn for as long as the context lasts; the task ends when the server was told to stop."""
    try:
        import uvicorn
    except ImportError:
        raise OSError("the demo needs a server: pip install 'gatekit-asgi[server]'") from None
    ready = asyncio.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready.set()

    server = Server(uvicorn.Config(gateway, log_level="warning", access_log=False, proxy_headers=False))
    task = asyncio.create_task(server.serve([listening]))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        yield task
    finally:
        server.should_exit = True
        await task


def demo(port: int, *, once: bool) -> int:
    """Run the demo until it is interrupted, or once. 0 if all came out as stated."""
    traces: dict[str, Trace] = {}
    with backends("orders-1", "orders-2", "next") as ports, _listen(0 if once else port) as listening:
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        gateway = build(ports, traces, access_log=not once)

        async def run() -> int:
            async with serving(gateway, listening) as server:
                if once:
                    return await tour(base, STOPS, traces, key=KEY)
                say(PAGE.format(base=base, key=KEY))
                await server
                return 0

        if not once:
            logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
            logging.getLogger("httpx").setLevel(logging.WARNING)
        try:
            return asyncio.run(run())
        except KeyboardInterrupt:
            return 0
