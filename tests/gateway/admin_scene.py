"""What the tests of the admin endpoints ask, and whom."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gatekit.gateway.admin import Admin
from gatekit.testing import TestResponse, call

TOKEN = "correct-horse-battery"
LOCAL = "127.0.0.1"
BOUND = 10.0
CLOSED = [("GET", "/status"), ("GET", "/saturation"), ("POST", "/drain"), ("POST", "/reload")]


class Told:
    """A subject that writes down what it was told, and drains when the test lets it."""

    def __init__(self) -> None:
        self.not_ready: str | None = None
        self.reloaded: Mapping[str, Any] = {"generation": 2}
        self.saturated: Mapping[str, Any] = {"saturation": 0.73}
        self.calls: list[str] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.ended = asyncio.Event()

    def ready(self) -> str | None:
        return self.not_ready

    async def status(self) -> Mapping[str, Any]:
        self.calls.append("status")
        return {"generation": 1, "path": "/a\nb"}

    async def saturation(self) -> Mapping[str, Any]:
        self.calls.append("saturation")
        return self.saturated

    async def drain(self) -> Mapping[str, Any]:
        self.calls.append("drain")
        await self.may_end.wait()
        self.ended.set()
        return {"drained": True, "cut": 0}

    async def reload(self) -> Mapping[str, Any]:
        self.calls.append("reload")
        return self.reloaded


async def ask(
    told: Told,
    method: str,
    target: str,
    *headers: tuple[str, str],
    token: str | None = None,
    client: str | None = LOCAL,
) -> TestResponse:
    """One request, from this machine and to it, unless the headers name another Host."""
    given = list(headers)
    if not any(name.lower() == "host" for name, _ in given):
        given.insert(0, ("Host", "localhost:9901"))
    return await call(Admin(told, token=token), method, target, headers=given, client=client)
