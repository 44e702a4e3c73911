"""Every exchange that a policy has seen is observed, once, also where the server's own calls raise."""

from __future__ import annotations

from typing import Any

import pytest

from gatekit import Exchange, Outcome, Placement, Reply, Spec, Stage
from gatekit.asgi import Policies
from gatekit.core.outcome import Fault
from gatekit.testing import http_scope


class Watch(Spec):
    """Notes every end it hears of; `replies` says whether it replies itself."""

    seen: Any
    replies: bool = True

    def placement(self) -> Placement:
        return Placement(Stage.SHED)

    def decide(self, exchange: Exchange) -> Reply | None:
        return Reply(503, "overload.shed") if self.replies else None

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        self.seen.append((outcome.reason, outcome.fault, outcome.complete))


class Broken(RuntimeError):
    """What a server raises that it should not."""


async def unsendable(message: Any) -> None:
    raise Broken(message["type"])


async def no_more() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})


async def test_a_reply_that_cannot_be_sent(request: pytest.FixtureRequest) -> None:
    seen: list[Any] = []
    with pytest.raises(Broken):
        await Policies(app, Watch(seen=seen))(http_scope("GET", "/"), no_more, unsendable)
    assert seen == [("gateway.failed", Fault.GATEWAY, False)]


@pytest.mark.parametrize("answers", [True, False], ids=["a denial", "the app's accept"])
async def test_a_websocket_whose_server_fails(answers: bool) -> None:
    seen: list[Any] = []
    scope = http_scope("GET", "/", kind="websocket", scheme="ws")

    async def connect() -> Any:
        return {"type": "websocket.connect"}

    with pytest.raises(Broken):
        await Policies(app, Watch(seen=seen, replies=answers))(scope, connect, unsendable)
    assert len(seen) == 1
    assert seen[0][2] is False


async def test_a_websocket_that_cannot_even_be_received() -> None:
    seen: list[Any] = []

    async def receive() -> Any:
        raise Broken("receive")

    scope = http_scope("GET", "/", kind="websocket", scheme="ws")
    with pytest.raises(Broken):
        await Policies(app, Watch(seen=seen, replies=False))(scope, receive, unsendable)
    assert len(seen) == 1
