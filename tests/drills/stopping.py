"""An app in the gateway's own process that blocks its event loop when it is told to: `gatekit run stopping:gateway`."""

from __future__ import annotations

import os
import time
from typing import Any

from gatekit import Cluster, Gateway, Overload, Route

STOP = float(os.environ["DRILL_STOP"])
WORK = 0.002
"""Seconds that an ordinary request keeps the loop busy."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path != "/healthz":
        # In place of work that nobody took out of the loop.
        until = time.monotonic() + (STOP if path == "/stop" else WORK)
        while time.monotonic() < until:
            pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


gateway = Gateway(
    policies=[Overload(lag=bool(os.environ["DRILL_LAG"]), concurrency=1000, exempt=["/healthz", "/stop"])],
    routes=[Route("/*", to="app")],
    clusters={"app": Cluster(app=app)},
)
