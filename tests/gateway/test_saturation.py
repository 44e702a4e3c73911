"""The number that autoscalers go by: of a process, and of an instance with several."""

from __future__ import annotations

from typing import Any

import pytest

from gatekit import Cluster, Gateway, Overload, Respond, Route
from gatekit.gateway.status import mean_pressure
from gatekit.testing import call, test_ports


def made(*policies: Any) -> Gateway:
    return Gateway(
        policies=list(policies),
        routes=[Route("/held", to="held"), Route("/*", policies=[Respond(200)])],
        clusters={"held": Cluster(app=_nothing)},
        ports=test_ports(),
    )


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nobody asks for it")


async def test_a_process_tells_the_greatest_of_its_policies_and_each_limiter_by_its_name() -> None:
    gateway = made(Overload(4, queue=0, lag=False), Overload(8, queue=0, per="upstream", lag=False))
    await call(gateway, "GET", "/")
    assert gateway.pressure() == {"saturation": 0.0, "lag": 0.0, "scopes": {"gateway": 0.0, "-": 0.0}}
    await gateway.aclose()


async def test_a_process_without_such_a_policy_tells_nothing() -> None:
    gateway = made()
    assert gateway.pressure() == {}
    await gateway.aclose()


def process(saturation: float, lag: float = 0.0, **scopes: float) -> dict[str, Any]:
    return {"saturation": saturation, "lag": lag, "scopes": scopes}


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ([process(0.5, 0.01, gateway=0.5)], {**process(0.5, 0.01, gateway=0.5), "workers": 1}),
        ([process(0.5, 0.01, a=0.5), process(1.0, 0.2, a=1.0)], {**process(0.75, 0.2, a=0.75), "workers": 2}),
        ([process(1.0, b=1.0), process(0.0)], {**process(0.5, b=0.5), "workers": 2}),
        ([process(2.0), {}, {"error": "gone"}], {**process(2.0), "workers": 1}),
    ],
    ids=["one", "the mean, and the latest loop", "a limiter that one has not needed yet", "what tells nothing is left out"],
)  # fmt: skip
def test_an_instance_tells_the_mean_of_its_workers(processes: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    assert mean_pressure(processes) == expected


@pytest.mark.parametrize("processes", [[], [{}], [{"error": "not started yet"}]], ids=["none", "no policy", "starting"])
def test_not_to_know_is_no_number(processes: list[dict[str, Any]]) -> None:
    (only,) = mean_pressure(processes)
    assert only == "error"
