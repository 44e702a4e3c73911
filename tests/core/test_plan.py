"""Plans: endpoints and their names, and the plan of a middleware."""

from __future__ import annotations

from typing import Any

import pytest

from gatekit.core.destination import WebSocketDestination
from gatekit.core.events import Events
from gatekit.core.exchange import Exchange
from gatekit.core.paths import SEMICOLON
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import ClusterPlan, Document, Endpoint, FixedPlan, RoutePlan, SplitPlan


@pytest.mark.parametrize(
    ("endpoint", "key", "authority"),
    [
        (Endpoint("a", 80), "http://a:80", "a"),
        (Endpoint("a", 8080), "http://a:8080", "a:8080"),
        (Endpoint("a", 443, tls=True), "https://a:443", "a"),
        (Endpoint("a", 443), "http://a:443", "a:443"),
        (Endpoint("::1", 80), "http://[::1]:80", "[::1]"),
        (Endpoint("::1", 8443, tls=True), "https://[::1]:8443", "[::1]:8443"),
        (Endpoint("localhost", 80, uds="/run/app.sock"), "unix:/run/app.sock", "localhost"),
    ],
)
def test_an_endpoint_has_an_identity_and_an_authority(endpoint: Endpoint, key: str, authority: str) -> None:
    assert (endpoint.key, endpoint.authority) == (key, authority)


def test_plans_are_values() -> None:
    assert Endpoint("a", 80) == Endpoint("a", 80)
    assert len({Endpoint("a", 80), Endpoint("a", 80, weight=2)}) == 2
    assert ClusterPlan("c").timeout == 15.0
    assert SplitPlan("s", ()).parts == ()
    assert Document("file", {}).lines == {}
    pipeline = Pipeline([], events=Events())
    route = RoutePlan("r", "/r", pipeline, allowed_marks=SEMICOLON)
    assert (route.pipeline, route.allowed_marks, route.refusal) == (pipeline, SEMICOLON, None)


@pytest.mark.parametrize(("path", "reason"), [(b"/a", None), (b"/a;b", "door.odd_path"), (b"/%00", "door.bad_path")])
def test_a_middleware_has_one_pipeline_for_all_also_for_what_it_refuses(
    make_exchange: Any, path: bytes, reason: str | None
) -> None:
    exchange = make_exchange()
    pipeline = Pipeline([], events=Events())
    plan = FixedPlan(exchange.door, pipeline)
    assert plan.generation == 1
    assert plan.admit(exchange, path, b"") is pipeline
    assert (None if exchange.refusal is None else exchange.refusal.reason) == reason


def test_who_takes_websockets() -> None:
    class Talks:
        async def websocket(self, exchange: Exchange, session: object) -> None: ...

    assert isinstance(Talks(), WebSocketDestination)
    assert not isinstance(object(), WebSocketDestination)
