"""The gateway that the streaming tests put real servers in front of, and what it tells about itself.

Upstream addresses come from the environment. `/.told/pid` is the process that serves; `/.told/KEY?N` answers once N
exchanges with that `x-key` have ended (or after a few seconds) with how they did. Both pass no policy.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
from collections import defaultdict
from typing import Any, ClassVar

from gatekit import Cluster, Gateway, Route
from gatekit.core.exchange import Exchange
from gatekit.core.outcome import Outcome
from gatekit.core.policy import Spec
from gatekit.core.verdict import Reply

PATIENCE = 5.0
"""Seconds that `/.told/KEY` waits at most."""
IDLE_TIMEOUT = 0.3
"""Seconds of silence that the cluster `quick` allows."""
MAX_CONNECTIONS = 4096

if os.environ.get("GATEKIT_DIES_WITH_PARENT"):
    # Servers start workers of their own; no worker may outlive the process that started it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Ends:
    """How exchanges ended, by key."""

    def __init__(self) -> None:
        self._ends: dict[str, list[list[Any]]] = defaultdict(list)
        self._changed = asyncio.Event()

    def add(self, key: str, outcome: Outcome) -> None:
        self._ends[key].append([outcome.status, outcome.fault.value, outcome.reason, outcome.complete])
        self._changed.set()

    async def wait(self, key: str, count: int) -> list[list[Any]]:
        try:
            async with asyncio.timeout(PATIENCE):
                while len(self._ends[key]) < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self._ends[key]


ENDS = Ends()


class Recording(Spec):
    """Keeps how every exchange ended."""

    kind: ClassVar[str] = "recording"

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        ENDS.add(exchange.header("x-key") or "", outcome)


class Refusing(Spec):
    """Lets nobody through."""

    kind: ClassVar[str] = "refusing"

    def decide(self, exchange: Exchange) -> Reply | None:
        return Reply(403, "probe.refused")


def upstream(name: str, **fields: Any) -> Cluster:
    return Cluster(os.environ[f"GATEKIT_{name}"], max_connections=MAX_CONNECTIONS, keepalive=60, **fields)


gateway = Gateway(
    policies=[Recording()],
    routes=[
        Route("/*", to="wide"),
        Route("/narrow/*", to="narrow"),
        Route("/quick/*", to="quick"),
        Route("/sockets/*", to="sockets"),
        Route("/dead/*", to="dead"),
        Route("/refused/*", to="wide", policies=[Refusing()]),
    ],
    clusters={
        "wide": upstream("WIDE"),
        "narrow": upstream("NARROW"),
        "quick": upstream("WIDE", idle_timeout=IDLE_TIMEOUT),
        "sockets": upstream("SOCKETS"),
        "dead": upstream("DEAD"),
    },
    max_body="unlimited",
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The gateway, and what tells about it."""
    if scope["type"] != "http" or not scope["path"].startswith("/.told/"):
        await gateway(scope, receive, send)
        return
    key = scope["path"].removeprefix("/.told/")
    told = os.getpid() if key == "pid" else await ENDS.wait(key, int(scope["query_string"]))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
