"""A gateway whose destination answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gatekit import Cluster, Gateway, Route, Spec
from gatekit.core.ports import Ports
from gatekit.gateway.signals import signal
from gatekit.testing import test_ports


class Slow:
    """An app that answers nobody before it is told to. `seen` are the paths that got there."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.gates: list[asyncio.Event] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        gate = asyncio.Event()
        self.seen.append(scope["path"])
        self.gates.append(gate)
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    def go(self, place: int = 0) -> None:
        self.gates[place].set()


def ports(**settings: Any) -> Ports:
    return test_ports(signals=signal, **settings)


def gateway(app: Any, *policies: Spec, **settings: Any) -> Gateway:
    return Gateway(
        policies=list(policies), routes=[Route("/*", to="app", name="all")], clusters={"app": Cluster(app=app)},
        ports=ports(**settings),
    )  # fmt: skip


async def until(true: Callable[[], object]) -> None:
    """Let the loop turn until that is so."""
    loop = asyncio.get_running_loop()
    for _ in range(2000):
        if true():
            return
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future
    raise AssertionError("it never came to that")


def told(gateway: Gateway, kind: str = "overload") -> dict[str, Any]:
    """What the policy of that kind tells of itself."""
    found: dict[str, Any] = next(one for one in gateway.status()["policies"] if one["policy"] == kind)
    return found


def scope(gateway: Gateway, name: str = "gateway") -> dict[str, Any]:
    found: dict[str, Any] = told(gateway)["scopes"][name]
    return found
