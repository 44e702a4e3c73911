"""An issuer that takes its time, behind the single flight of a running process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from tests.policies.authn.keysets_scene import Idp, Scene

from gatekit.core.ports import Fetched
from gatekit.errors import StoreUnavailable
from gatekit.gateway.loop_thread import LoopThread
from gatekit.gateway.shared import Shared
from gatekit.policies.authn.jose_keys import Key
from gatekit.policies.authn.keysets import RemoteKeys


class Gated:
    """The issuer behind a gate: a fetch takes its answer when it comes and hands it over when the gate of its loop is
    opened."""

    def __init__(self, idp: Idp) -> None:
        self.idp = idp
        self.gates: dict[asyncio.AbstractEventLoop, asyncio.Event] = {}
        self.arrived = 0

    def shut(self) -> asyncio.Event:
        """The gate of the running loop, shut."""
        gate = self.gates[asyncio.get_running_loop()] = asyncio.Event()
        return gate

    async def __call__(self, *args: Any, **kwargs: Any) -> Fetched:
        try:
            answer: Fetched | StoreUnavailable = await self.idp(*args, **kwargs)
        except StoreUnavailable as error:
            answer = error
        self.arrived += 1
        gate = self.gates.get(asyncio.get_running_loop())
        if gate is not None:
            await gate.wait()
        if isinstance(answer, StoreUnavailable):
            raise answer
        return answer


class Busy(Scene):
    """A scene with the single flight of a running process."""

    def __init__(self, *kids: str, loop_thread: LoopThread, **ports: Any) -> None:
        super().__init__(*kids)
        self.gated = Gated(self.idp)
        self.shared = Shared(loop_thread)
        given = {"clock": self.clock, "fetch": self.gated, "once": self.shared, "lock": threading.Lock, **ports}
        self.ports = Scene(**given).ports


async def asked(keys: RemoteKeys, kid: str) -> Key | None:
    found = keys.find(kid, "EdDSA")
    return await found if isinstance(found, Awaitable) else found


async def turns(count: int = 5) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await turns(1)
