"""Load shedding in a whole gateway: over ASGI, WebSockets and WSGI, with clients that go and drains that come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gatekit import ApiKey, Authn, Cluster, Gateway, Respond, Route, api_keys
from gatekit.core.policy import Placement, Spec, Stage
from gatekit.policies.overload import Overload, Priority
from gatekit.testing import call, http_scope, websocket

from .gateway_scene import Slow, gateway, ports, scope, told, until

KEY = "s3cret-s3cret-s3cret"


async def test_who_waits_is_served_when_a_place_is_free() -> None:
    app = Slow()
    gate = gateway(app, Overload(1, queue=5, max_wait="30s"))
    first = asyncio.ensure_future(call(gate, "GET", "/1"))
    await until(lambda: app.gates)
    second = asyncio.ensure_future(call(gate, "GET", "/2"))
    await until(lambda: scope(gate)["waiting"] == 1)
    assert app.seen == ["/1"]
    app.go()
    assert (await first).status == 200
    await until(lambda: len(app.gates) == 2)
    app.go(1)
    assert (await second).status == 200
    assert (scope(gate)["in_flight"], scope(gate)["waiting"]) == (0, 0)
    await gate.aclose()


async def test_a_shed_request_is_told_so_and_when_to_come_back() -> None:
    app = Slow()
    gate = gateway(app, Overload(1, queue=0, retry_after=2))
    first = asyncio.ensure_future(call(gate, "GET", "/1"))
    await until(lambda: app.gates)
    waits = set()
    for _ in range(40):
        got = await call(gate, "GET", "/2")
        assert got.status == 503
        document = got.json()
        assert document["code"] == "overload.concurrency"
        assert document["type"] == "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
        waits.add(int(got.headers.get("retry-after") or "0"))
    assert waits == {2, 3, 4, 5, 6}, "not all come back at once"
    app.go()
    await first
    await gate.aclose()


async def test_who_waits_too_long_is_turned_away() -> None:
    app = Slow()
    gate = gateway(app, Overload(1, queue=1, max_wait="1ms"))
    first = asyncio.ensure_future(call(gate, "GET", "/1"))
    await until(lambda: app.gates)
    got = await call(gate, "GET", "/2")
    assert (got.status, got.json()["code"]) == (503, "overload.queue_timeout")
    app.go()
    await first
    await gate.aclose()


async def test_a_task_that_is_cancelled_while_it_waits_leaves_nothing_behind() -> None:
    app = Slow()
    gate = gateway(app, Overload(1, queue=5, max_wait="30s"))
    first = asyncio.ensure_future(call(gate, "GET", "/1"))
    await until(lambda: app.gates)
    gone = asyncio.ensure_future(call(gate, "GET", "/2"))
    await until(lambda: scope(gate)["waiting"] == 1)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert scope(gate)["waiting"] == 0
    app.go()
    await first
    assert scope(gate)["in_flight"] == 0
    await gate.aclose()


async def test_cancelled_in_the_moment_that_it_gets_its_place_it_passes_it_on() -> None:
    app = Slow()
    gate = gateway(app, Overload(1, queue=5, max_wait="30s"))
    first = asyncio.ensure_future(call(gate, "GET", "/1"))
    await until(lambda: app.gates)
    gone = asyncio.ensure_future(call(gate, "GET", "/2"))
    await until(lambda: scope(gate)["waiting"] == 1)
    third = asyncio.ensure_future(call(gate, "GET", "/3"))
    await until(lambda: scope(gate)["waiting"] == 2)
    app.go()
    await until(lambda: scope(gate)["waiting"] == 1)
    gone.cancel()
    await asyncio.wait([gone])
    await first
    await until(lambda: "/3" in app.seen)
    app.go(len(app.gates) - 1)
    assert (await third).status == 200
    assert (scope(gate)["in_flight"], scope(gate)["waiting"]) == (0, 0)
    await gate.aclose()


async def test_a_client_that_left_while_it_waited_gives_its_place_back_at_once() -> None:
    app = Slow()
    gate = gateway(app, Overload(1, queue=5, max_wait="30s"))
    first = asyncio.ensure_future(call(gate, "GET", "/1"))
    await until(lambda: app.gates)
    gone = asyncio.ensure_future(call(gate, "GET", "/2", disconnect_after=0))
    await until(lambda: scope(gate)["waiting"] == 1)
    app.go()
    await first
    # Nobody listens for a client that leaves before its request is forwarded; then it is noticed within milliseconds.
    await asyncio.wait_for(gone, 5)
    assert (scope(gate)["in_flight"], scope(gate)["waiting"]) == (0, 0)
    await gate.aclose()


async def test_a_drain_cuts_who_waits_and_loses_no_place() -> None:
    app = Slow()
    gate = gateway(app, Overload(1, queue=5, max_wait="30s"))
    first = asyncio.ensure_future(call(gate, "GET", "/1"))
    await until(lambda: app.gates)
    second = asyncio.ensure_future(call(gate, "GET", "/2"))
    await until(lambda: scope(gate)["waiting"] == 1)
    drain = asyncio.ensure_future(gate.drain(grace=0.0, timeout=0.0))
    got = await second
    assert (got.status, got.json()["code"]) == (503, "gateway.draining")
    await first
    await until(lambda: not gate.active)
    assert (scope(gate)["in_flight"], scope(gate)["waiting"]) == (0, 0)
    await drain
    await gate.aclose()


class Asked(Spec):
    """Notes that it was asked."""

    seen: Callable[[str], None]

    def placement(self) -> Placement:
        return Placement(Stage.LIMIT_ANONYMOUS)

    def decide(self, exchange: Any) -> None:
        self.seen(exchange.path)


async def test_ov5_it_is_decided_before_the_body_is_read_and_before_identification_and_upstream_work() -> None:
    app = Slow()
    seen: list[str] = []
    gate = gateway(
        app,
        Authn(api_keys({"k": ApiKey(secret=KEY)})),
        Asked(seen=seen.append),
        Overload(1, queue=0),
        Priority("default"),
    )
    key = {"x-api-key": KEY}
    first = asyncio.ensure_future(call(gate, "GET", "/1", headers=key))
    await until(lambda: app.gates)
    asked: list[int] = []

    async def body() -> Any:
        asked.append(1)
        yield b"x"

    reading = body()
    received: list[str] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def listening() -> Any:
            received.append("received")
            return await receive()

        await gate(scope, listening, send)

    got = await call(watched, "POST", "/2", body=reading)
    assert (got.status, got.json()["code"]) == (503, "overload.concurrency"), "and not 401, though it has no key"
    assert (received, asked, seen, app.seen) == ([], [], ["/1"], ["/1"])
    await reading.aclose()
    app.go()
    await first
    await gate.aclose()


async def test_a_priority_of_the_gateway_is_known_when_it_is_decided_who_is_shed() -> None:
    app = Slow()
    gate = Gateway(
        policies=[Overload(1, queue=1, max_wait="30s"), Priority(routes={"batch": "bulk"})],
        routes=[
            Route("/batch", to="app", name="batch"),
            Route("/pay", to="app", name="pay", policies=[Priority("critical")]),
            Route("/*", to="app", name="rest"),
        ],
        clusters={"app": Cluster(app=app)},
        ports=ports(),
    )
    first = asyncio.ensure_future(call(gate, "GET", "/1"))
    await until(lambda: app.gates)
    batch = asyncio.ensure_future(call(gate, "GET", "/batch"))
    await until(lambda: scope(gate)["waiting"] == 1)
    pay = asyncio.ensure_future(call(gate, "GET", "/pay"))
    got = await batch
    assert got.json()["code"] == "overload.queue_full"
    app.go()
    await first
    await until(lambda: app.seen[-1] == "/pay")
    app.go(1)
    assert (await pay).status == 200
    assert scope(gate)["shed"] == {"overload.queue_full": {"bulk": 1}}
    await gate.aclose()


async def test_an_answer_of_another_policy_gives_the_place_back() -> None:
    gate = Gateway(routes=[Route("/*", policies=[Respond(418), Overload(1, queue=0)])], clusters={}, ports=ports())
    for _ in range(3):
        assert (await call(gate, "GET", "/")).status == 418
    await gate.aclose()


async def test_what_no_route_matches_is_counted_and_given_back() -> None:
    gate = gateway(Slow(), Overload(1, queue=0, per="route"))
    bare = Gateway(policies=[Overload(1, queue=0)], ports=ports())
    for _ in range(3):
        assert (await call(bare, "GET", "/nothing")).status == 404
    assert scope(bare)["in_flight"] == 0
    await gate.aclose()
    await bare.aclose()


@pytest.mark.parametrize("hold", [False, True])
async def test_a_websocket_holds_its_place_for_the_handshake_or_to_its_end(hold: bool) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    gate = gateway(echo, Overload(1, queue=0, hold_streams=hold))
    async with websocket(gate, "/a"):
        assert scope(gate)["in_flight"] == int(hold)
    await until(lambda: not gate.active)
    assert scope(gate)["in_flight"] == 0
    await gate.aclose()


async def test_a_websocket_that_waits_and_is_cancelled_leaves_nothing_behind() -> None:
    app = Slow()
    gate = gateway(app, Overload(1, queue=5, max_wait="30s"))
    first = asyncio.ensure_future(call(gate, "GET", "/1"))
    await until(lambda: app.gates)

    async def silent() -> Any:
        return {"type": "websocket.connect"}

    async def unheard(message: Any) -> None: ...

    task = asyncio.ensure_future(gate(http_scope("GET", "/ws", kind="websocket"), silent, unheard))
    await until(lambda: scope(gate)["waiting"] == 1)
    task.cancel()
    await asyncio.wait([task])
    app.go()
    await first
    assert (scope(gate)["in_flight"], scope(gate)["waiting"]) == (0, 0)
    await gate.aclose()


async def test_a_reload_keeps_places_and_waiters() -> None:
    app = Slow()
    gate = gateway(app, Overload(1, queue=5, max_wait="30s"))
    first = asyncio.ensure_future(call(gate, "GET", "/1"))
    await until(lambda: app.gates)
    second = asyncio.ensure_future(call(gate, "GET", "/2"))
    await until(lambda: scope(gate)["waiting"] == 1)
    gate.apply(gate.config.model_copy(update={"policies": (Overload(2, queue=5, max_wait="30s"),)}))
    assert scope(gate)["in_flight"] == 1
    third = asyncio.ensure_future(call(gate, "GET", "/3"))
    await until(lambda: len(app.gates) == 2)
    assert app.seen == ["/1", "/2"], "the new limit lets in who has waited, before who comes now"
    for place in range(3):
        await until(lambda place=place: len(app.gates) > place)  # type: ignore[misc]
        app.go(place)
    assert [(await one).status for one in (first, second, third)] == [200] * 3
    assert scope(gate)["in_flight"] == 0
    await gate.aclose()


async def test_lag_is_watched_in_each_loop_and_forgotten_with_it() -> None:
    gate = gateway(Slow(), Overload())
    gate.runtime.enter()
    await until(lambda: told(gate)["lag"] == 0.0)
    await gate.aclose()
    assert told(gate)["lag"] == 0.0
