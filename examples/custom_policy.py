"""A policy of your own, the same under ASGI and WSGI."""

from __future__ import annotations

import asyncio
from typing import Any

from gatekit import Cluster, Exchange, Gateway, Placement, Reply, ResponseHead, Route, Spec, Stage


class OfficeHours(Spec):
    """Open from `opens` to `closes`, by the clock it is bound to."""

    kind = "office_hours"
    opens: int = 9
    closes: int = 17

    def placement(self) -> Placement:
        return Placement(Stage.SHED)

    def bind_to(self, ports: Any) -> OpenHours:
        return OpenHours(self.opens, self.closes, ports.clock.wall)


class OpenHours:
    def __init__(self, opens: int, closes: int, now: Any) -> None:
        self.opens, self.closes, self.now = opens, closes, now

    def decide(self, exchange: Exchange) -> Reply | None:
        hour = int(self.now() // 3600 % 24)
        if self.opens <= hour < self.closes:
            return None
        return Reply(503, "office_hours.closed", f"Open from {self.opens} to {self.closes} UTC.")

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        head.set("x-office", "gatekit")


async def shop(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"come in\n"})


async def main() -> None:
    from gatekit.testing import ManualClock, call, test_ports

    clock = ManualClock(wall=8 * 3600)
    gateway = Gateway(
        policies=[OfficeHours()],
        routes=[Route("/*", to="shop")],
        clusters={"shop": Cluster(app=shop)},
        ports=test_ports(clock=clock),
    )
    assert (await call(gateway)).status == 503
    clock.advance(2 * 3600)
    open_now = await call(gateway)
    assert (open_now.status, open_now.header("x-office")) == (200, "gatekit")
    await gateway.aclose()


if __name__ == "__main__":
    asyncio.run(main())
