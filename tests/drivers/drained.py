"""What the tests of a drain's doings share: a policy that waits, WebSocket scripts, and what observers were told."""

from __future__ import annotations

import asyncio
from typing import Any

from gatekit.core.exchange import Exchange
from gatekit.core.outcome import Fault, Grade, Outcome
from gatekit.core.policy import Spec
from gatekit.core.verdict import Reply


class Waiting(Spec):
    """Decides once `gate` is done."""

    kind = "waiting"
    gate: Any

    async def decide(self, exchange: Exchange) -> Reply | None:
        await self.gate
        return None


class Socket:
    """A destination that takes WebSockets and does what `script` says with the session."""

    name = "socket"

    def __init__(self, script: Any) -> None:
        self.script = script

    async def open(self, exchange: Exchange) -> Any:
        raise AssertionError

    async def websocket(self, exchange: Exchange, session: Any) -> None:
        await self.script(session)


async def pushing(session: Any) -> None:
    await session.accept(None, [])
    while (message := await session.receive()) is not None:
        await session.send(message)


def never() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


async def turns(count: int = 5) -> None:
    """So many turns of the loop."""
    for _ in range(count):
        turned = never()
        asyncio.get_running_loop().call_soon(turned.set_result, None)
        await turned


def outcomes(log: list[Any]) -> list[Outcome]:
    return [entry[2] for entry in log if entry[0] == "observe"]


def told(log: list[Any]) -> list[tuple[Any, ...]]:
    return [(one.status, one.reason, one.fault, one.grade, one.complete) for one in outcomes(log)]


CUT = ("gateway.draining", Fault.GATEWAY, Grade.IGNORE)
ENDED = ("gateway.draining", Fault.NOBODY, Grade.IGNORE)
