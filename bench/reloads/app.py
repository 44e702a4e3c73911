"""The gateway whose configuration is swapped while it serves, and how it is told to: paths under `/.told/`.

Every configuration has a version, which a policy of the gateway and one of each route write into the response. Where
the two are not the same, a request has seen two configurations. All routes differ from version to version.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Any

from gatekit import Gateway
from gatekit.config.snapshot import Snapshot
from gatekit.gateway.beside import Breather
from gatekit.routing.pause import let_go, no_pause

CLUSTERS = 20
AHEAD = 8
"""How many configurations are compiled ahead for swapping. They take turns, each under a new number every time."""

if os.environ.get("GATEKIT_DIES_WITH_PARENT"):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def document(routes: int, version: int, upstream: str, pause: Callable[[], None] = no_pause) -> dict[str, Any]:
    """A configuration of so many routes, each with a policy of its own."""
    found: list[dict[str, Any]] = []
    for number in range(routes):
        own = {"response_headers": {"set": {"x-route": str(version)}}}
        found.append({"match": f"GET /r{number}/items/{{id}}", "to": f"c{number % CLUSTERS}", "policies": [own]})
        pause()
    return {
        "policies": [{"response_headers": {"set": {"x-gateway": str(version)}}}],
        "routes": found,
        "clusters": {f"c{number}": {"urls": [upstream]} for number in range(CLUSTERS)},
    }


class Swapped:
    """The application. What it is told to do goes on until it is told to stop, and then it says how often."""

    def __init__(self, routes: int, upstream: str, *, collects: bool) -> None:
        self._routes = routes
        self._upstream = upstream
        self._collects = collects
        self._versions = count(1)
        self._ahead: list[Snapshot] = []
        self._doing: asyncio.Task[None] | None = None
        self._done = 0
        self._longest = 0.0
        self.gateway = Gateway.from_config(document(routes, next(self._versions), upstream))
        self._settle()

    def _settle(self) -> None:
        """What a process that owns itself does after a reload: what is there now need not be looked at again."""
        if not self._collects:
            gc.freeze()

    def _prepared(self, *, beside: bool) -> Snapshot:
        """The next configuration, compiled. For a thread: what is made there and let go takes its time too."""
        pause = Breather() if beside else no_pause
        data = document(self._routes, next(self._versions), self._upstream, pause)
        # The snapshots that took turns were numbered past what the gateway has issued itself.
        snapshot = self.gateway.prepare(data, generation=self.gateway.generation + 1, beside=beside)
        let_go(data.pop("routes"), pause)
        return snapshot

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/.told/"):
            told = await self._told(scope["path"].removeprefix("/.told/"), scope["query_string"].decode())
            body = json.dumps(told).encode()
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
            )
            await send({"type": "http.response.body", "body": body})
        else:
            await self.gateway(scope, receive, send)

    async def _told(self, what: str, argument: str) -> Any:
        if what == "pid":
            return os.getpid()
        if what == "swaps":
            for _ in range(AHEAD - len(self._ahead)):
                self._ahead.append(await asyncio.to_thread(self._prepared, beside=True))
            self._settle()
            self._begin(lambda: self._swaps(float(argument)))
        elif what == "reloads":
            self._begin(self._reloads)
        elif what == "reload":
            await self._reload(beside=False)
        elif what == "stop" and self._doing is not None:
            self._doing.cancel()
            await asyncio.wait([self._doing])
            self._doing = None
            self._ahead = []
        return {"done": self._done, "longest": self._longest, "version": self.gateway.generation}

    def _begin(self, work: Callable[[], Awaitable[None]]) -> None:
        self._done, self._longest = 0, 0.0
        self._doing = asyncio.ensure_future(work())

    async def _swaps(self, rate: float) -> None:
        """So many a second. A snapshot is put in force once only, so the ones that take turns are numbered anew."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number, snapshot in enumerate(self._turns()):
            await asyncio.sleep(max(0.0, begun + number / rate - loop.time()))  # noqa: TID251 - real time is what is measured
            snapshot.generation = self.gateway.generation + 1
            before = time.perf_counter()
            self.gateway.activate(snapshot)
            self._longest = max(self._longest, time.perf_counter() - before)
            self._done += 1

    def _turns(self) -> Iterator[Snapshot]:
        while True:
            yield from self._ahead

    async def _reloads(self) -> None:
        while True:
            await self._reload(beside=True)

    async def _reload(self, *, beside: bool) -> None:
        """A whole reload, the document made and the configuration compiled in a thread."""
        if not self._collects:
            gc.disable()
        try:
            self.gateway.activate(await asyncio.to_thread(self._prepared, beside=beside))
        finally:
            self._settle()
            gc.enable()
        self._done += 1


def served() -> Swapped:
    """The application, as the environment says."""
    environ = os.environ
    if "RELOADS_INTERVAL" in environ:
        sys.setswitchinterval(float(environ["RELOADS_INTERVAL"]))
    return Swapped(
        int(environ["RELOADS_ROUTES"]), environ["RELOADS_UPSTREAM"], collects=environ["RELOADS_GC"] == "default"
    )
