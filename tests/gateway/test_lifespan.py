"""The lifespans of apps behind a gateway."""

from __future__ import annotations

from typing import Any

from gatekit.gateway.lifespan import Lifespan


class App:
    def __init__(self, log: list[str], name: str, *, fail: str = "") -> None:
        self.log, self.name, self.fail = log, name, fail

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.fail == "unknown":
            raise TypeError("http only")
        while True:
            kind = (await receive())["type"]
            what = kind.removeprefix("lifespan.")
            self.log.append(f"{self.name} {what}")
            if self.fail == what:
                await send({"type": f"{kind}.failed", "message": f"{self.name} no"})
                return
            scope.get("state", {})[self.name] = 1
            await send({"type": f"{kind}.complete"})
            if what == "shutdown":
                return


async def test_started_in_order_stopped_in_reverse() -> None:
    log: list[str] = []
    state: dict[str, Any] = {}
    lifespan = Lifespan([App(log, "a"), App(log, "b")])
    assert await lifespan.startup(state) is None
    assert await lifespan.shutdown() is None
    assert log == ["a startup", "b startup", "b shutdown", "a shutdown"]
    assert state == {"a": 1, "b": 1}


async def test_one_that_refuses_to_start_stops_those_before_it() -> None:
    log: list[str] = []
    lifespan = Lifespan([App(log, "a"), App(log, "b", fail="startup")])
    assert await lifespan.startup(None) == "b no"
    assert log == ["a startup", "b startup", "a shutdown"]


async def test_one_that_knows_no_lifespan_is_left_alone() -> None:
    lifespan = Lifespan([App([], "a", fail="unknown")])
    assert await lifespan.startup(None) is None
    assert await lifespan.shutdown() is None


async def test_one_that_fails_to_stop_is_told_of() -> None:
    log: list[str] = []
    lifespan = Lifespan([App(log, "a"), App(log, "b", fail="shutdown")])
    await lifespan.startup(None)
    assert await lifespan.shutdown() == "b no"
    assert log[-1] == "a shutdown"
