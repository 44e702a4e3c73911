"""Stories of a whole gateway, asked over ASGI and over WSGI: what no route takes still meets its policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gatekit import Cluster, Gateway, Route
from gatekit.core.exchange import Exchange
from gatekit.core.policy import Stage
from gatekit.core.verdict import Reply
from gatekit.errors import ConfigRefused
from gatekit.gateway.loop_thread import SHARED
from gatekit.testing import Log, Probe, TestResponse, call, call_wsgi, test_ports


async def orders(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def breaks(scope: Any, receive: Any, send: Any) -> None:
    raise LookupError("the app broke")


Ask = Callable[..., Any]


@pytest.fixture(params=["asgi", "wsgi"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Asks a gateway over one of the two interfaces."""

    async def go(gateway: Gateway, method: str, target: str, **given: Any) -> TestResponse:
        if request.param == "asgi":
            return await call(gateway, method, target, **given)
        return call_wsgi(gateway.wsgi(), method, target, **given)

    yield go
    SHARED.stop()


def gateway(log: Log, *policies: Any, route_policies: tuple[Any, ...] = ()) -> Gateway:
    return Gateway(
        policies=[Probe("a", log, stage=Stage.OBSERVE), *policies],
        routes=[
            Route("GET /orders/{id}", to="orders", policies=[Probe("r", log), *route_policies]),
            Route("PUT /orders/{id}", to="orders"),
            Route("/broken", to="broken"),
        ],
        clusters={"orders": Cluster(app=orders), "broken": Cluster(app=breaks)},
        ports=test_ports(),
    )


async def test_a_matched_request_passes_the_gateways_policies_and_the_routes(ask: Ask) -> None:
    log: Log = []
    response = await ask(gateway(log), "GET", "/orders/7")
    assert (response.status, response.body) == (200, b"ok")
    assert log == [
        ("a", "decide"), ("r", "decide"), ("r", "on_response", 200), ("a", "on_response", 200),
        ("a", "observe", 200, "nobody"), ("r", "observe", 200, "nobody"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "target", "status", "reason"),
    [
        ("GET", "/nowhere", 404, "router.no_route"),
        ("DELETE", "/orders/7", 405, "router.method_not_allowed"),
        ("GET", "/orders/%2f", 400, "door.odd_path"),
        ("GET", "/orders/%00", 400, "door.bad_path"),
    ],
)
async def test_an_unmatched_request_passes_the_gateways_policies_only(
    ask: Ask, method: str, target: str, status: int, reason: str
) -> None:
    log: Log = []
    response = await ask(gateway(log), method, target)
    assert (response.status, response.json()["code"]) == (status, reason)
    assert log == [("a", "decide"), ("a", "on_response", status), ("a", "observe", status, "client")]
    assert response.header("allow") == ("GET, HEAD, PUT" if status == 405 else None)


async def test_a_policy_may_answer_what_no_route_takes(ask: Ask) -> None:
    log: Log = []

    def limit(exchange: Exchange) -> Reply:
        return Reply(429, "probe.limited")

    response = await ask(gateway(log, Probe("limit", log, decide=limit)), "GET", "/nowhere")
    assert response.status == 429


async def test_what_an_app_behind_the_gateway_raises_is_502(ask: Ask) -> None:
    log: Log = []
    response = await ask(gateway(log), "GET", "/broken")
    assert response.status == 502
    assert b"broke" not in response.body
    assert log == [("a", "decide"), ("a", "on_response", 502), ("a", "observe", 502, "upstream")]


async def test_a_gateway_sorts_by_stage(ask: Ask) -> None:
    log: Log = []
    early, late = Probe("early", log, stage=Stage.SHED), Probe("late", log, stage=Stage.INSPECT)
    await ask(gateway(log, late, early), "GET", "/nowhere")
    assert [entry[0] for entry in log if entry[1] == "decide"] == ["a", "early", "late"]


def test_a_set_of_policies_that_cannot_work_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigRefused, match="no policy here provides it: add one that does"):
        gateway([], Probe("b", [], requires=frozenset({"identity"})))
