"""The same for a server that is started by its own command and takes SIGTERM itself: `uvicorn app:app --no-proxy-headers`.

The admin endpoints listen for as long as that server runs. Whoever stops it asks for POST /drain first and waits for the
answer: see pod.yaml. One process for each admin port: with several workers, each would need its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import Any

import uvicorn

from gatekit import Gateway

CONFIG = os.environ.get("GATEWAY_CONFIG", "gateway.yaml")


class AdminServer(uvicorn.Server):
    """uvicorn beside another server, to which it leaves the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WithAdmin:
    """The gateway, and a listener beside it from the server's lifespan.startup to its lifespan.shutdown."""

    def __init__(self, gateway: Gateway, host: str, port: int, token: str | None) -> None:
        self._gateway = gateway
        admin = gateway.admin(token=token, source=CONFIG)
        self._admin = AdminServer(uvicorn.Config(admin, host=host, port=port, lifespan="off", access_log=False))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self._gateway(scope, receive, send)
            return
        serving = asyncio.create_task(self._admin.serve())
        try:
            await self._gateway(scope, receive, send)
        finally:
            self._admin.should_exit = True
            await serving


app = WithAdmin(
    Gateway.from_config(CONFIG),
    os.environ.get("ADMIN_HOST", "127.0.0.1"),
    int(os.environ.get("ADMIN_PORT", "9901")),
    os.environ.get("GATEKIT_ADMIN_TOKEN"),
)
