"""`Split`: each request to one of several destinations, by weight. A weight of 0 gets exactly none."""

from __future__ import annotations

from gatekit.core.destination import Destination, Response, WebSocketDestination, WebSocketSession
from gatekit.core.exchange import Exchange
from gatekit.core.plan import SplitPlan
from gatekit.core.ports import Ports
from gatekit.errors import UpstreamError
from gatekit.routing.split import Split as Shares


class Split:
    """The destination over a SplitPlan. It decides anew for every attempt and remembers nobody."""

    __slots__ = ("_random", "_shares", "name")

    def __init__(self, plan: SplitPlan, ports: Ports) -> None:
        self.name = plan.name
        self._random = ports.random
        self._shares: Shares[Destination] = Shares(plan.parts)

    async def open(self, exchange: Exchange) -> Response:
        return await self._shares.pick(self._random.random()).open(exchange)

    async def websocket(self, exchange: Exchange, session: WebSocketSession) -> None:
        picked = self._shares.pick(self._random.random())
        if not isinstance(picked, WebSocketDestination):
            raise UpstreamError("upstream.no_websocket", f"{picked.name} takes no WebSockets", status=501)
        await picked.websocket(exchange, session)
