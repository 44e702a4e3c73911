"""A gateway in Python, as `gatekit run target:gateway` serves it. Each response says which process gave it."""

from __future__ import annotations

import os
import threading
from typing import Any

from gatekit import Cluster, Gateway, ResponseHeaders, Route


async def blocked(scope: Any, receive: Any, send: Any) -> None:
    """An app that never gives the loop back, once it is asked anything."""
    if scope["type"] == "http":
        threading.Event().wait()


gateway = Gateway(
    policies=[ResponseHeaders(set={"x-worker": str(os.getpid())})],
    routes=[Route("/blocked", to="blocked"), Route("/*", to="up")],
    clusters={"up": Cluster(os.environ["DRILL_BACKEND"]), "blocked": Cluster(app=blocked)},
)
