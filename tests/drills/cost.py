"""OV5: the processor time of a request that is shed, through the whole gateway, beside one that is forwarded.

In this process, without a server before the gateway: what a server needs to read and write is the same for both. What is
counted is this process's time; the upstream is another process. Neither pytest nor gatekit is imported with this module.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .overloaded import Bounded

BATCH = 500
"""Requests whose time is taken together."""


@dataclass
class Cost:
    """Microseconds of processor time for each request, batch by batch."""

    shed: list[float] = field(default_factory=list)
    shed_upload: list[float] = field(default_factory=list)
    """The same for one with a body, which is not read."""
    forwarded: list[float] = field(default_factory=list)
    read: int = 0
    """How often the body of one that was shed was asked for."""
    asked: int = 0
    """How many of those that were shed reached the upstream."""

    @property
    def ratio(self) -> float:
        """What a shed request costs, in forwarded ones. By the best batches: others only ever add to them."""
        return min(self.shed) / min(self.forwarded)


class Client:
    """One request after the other, as a server would put them."""

    def __init__(self, app: Any, method: str, headers: list[tuple[bytes, bytes]]) -> None:
        self._app = app
        self._scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": "/default/1", "raw_path": b"/default/1", "query_string": b"", "root_path": "",
            "headers": [(b"host", b"shop.test"), (b"accept", b"*/*"), *headers], "client": ("127.0.0.1", 40000),
            "server": ("127.0.0.1", 8000), "state": {},
        }  # fmt: skip
        self.read = 0
        self.status = 0

    async def ask(self) -> int:
        body_end = False

        async def receive() -> dict[str, Any]:
            nonlocal body_end
            if body_end:
                # A client that says no more: nobody hears of it again.
                await asyncio.get_running_loop().create_future()
            self.read += 1
            body_end = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]

        await self._app({**self._scope, "state": {}}, receive, send)
        return self.status

    async def batch(self, expected: int) -> float:
        """Microseconds of processor time for each of a batch."""
        ask = self.ask
        began = time.process_time()
        for _ in range(BATCH):
            assert await ask() == expected, self.status
        return (time.process_time() - began) / BATCH * 1e6


async def cost(folder: Path, *, batches: int = 8) -> Cost:
    """Batches in turn: shed, shed with a body, forwarded."""
    from gatekit import Authn, Cluster, Gateway, Overload, RateLimit, Route, api_keys

    key = "an-example-of-a-key-never-use-it"
    backend = Bounded(folder, 1000, 1e-9)
    found = Cost()
    entered, release = asyncio.Event(), asyncio.Event()

    async def held(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def gateway(*policies: Any) -> Gateway:
        return Gateway(
            policies=[*policies, Authn(api_keys({"shop": key})), RateLimit("1000000/second")],
            routes=[Route("/held", to="held"), Route("/*", to="up")],
            clusters={"up": Cluster(backend.url), "held": Cluster(app=held)},
        )

    full, free = gateway(Overload(1, queue=0, lag=False)), gateway(Overload(1000, lag=False))
    known = [(b"x-api-key", key.encode()), (b"authorization", b"Bearer " + key.encode())]
    holding = Client(full, "GET", known)
    holding._scope |= {"path": "/held", "raw_path": b"/held"}
    shed, upload = Client(full, "GET", known), Client(full, "POST", [*known, (b"content-length", b"1048576")])
    forwarded = Client(free, "GET", known)
    place = asyncio.ensure_future(holding.ask())
    try:
        await entered.wait()
        before = backend.told()["asked"].get("default", 0)
        for client, status in ((shed, 503), (upload, 503), (forwarded, 200)):
            await client.batch(status)
        for _ in range(batches):
            found.shed.append(await shed.batch(503))
            found.shed_upload.append(await upload.batch(503))
            found.forwarded.append(await forwarded.batch(200))
        found.read = shed.read + upload.read
        found.asked = backend.told()["asked"]["default"] - before - BATCH * (batches + 1)
    finally:
        release.set()
        await asyncio.gather(place, return_exceptions=True)
        await full.aclose()
        await free.aclose()
        backend.stop()
    return found


def measured(folder: Path, *, batches: int = 8) -> Cost:
    """The same in a loop of its own: the one that `gatekit run` has, where it is installed."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        import uvloop
    except ImportError:
        pass
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(cost(folder, batches=batches))
