"""What an operator sees of the rate limits of a gateway, and how he lets somebody go."""

from __future__ import annotations

import pytest

from gatekit import Gateway, Overload, RateLimit, Respond, Route
from gatekit.testing import call


def limited() -> Gateway:
    return Gateway(
        policies=[RateLimit("2/minute", by="client_ip", name="everybody"), Respond(204)],
        routes=[Route("/busy", policies=[RateLimit("1/minute", by="client_ip", name="busy")])],
    )


async def test_somebody_is_shown_and_let_go() -> None:
    gateway = limited()
    for _ in range(2):
        await call(gateway, target="/busy", client="203.0.113.9")
    assert (await call(gateway, target="/busy", client="203.0.113.9")).status == 429
    shown = await gateway.limits.peek(client_ip="203.0.113.9")
    assert [(one["owner"], one["remaining"], one["limited"]) for one in shown] == [
        ("gateway", 0, True), ("route:/busy", 0, True),
    ]  # fmt: skip
    assert [one["owner"] for one in await gateway.limits.peek("busy", client_ip="203.0.113.9")] == ["route:/busy"]
    assert len(await gateway.limits.reset(client_ip="203.0.113.9")) == 2
    assert (await call(gateway, target="/busy", client="203.0.113.9")).status == 204


async def test_who_has_used_most_and_who_was_refused() -> None:
    gateway = limited()
    for times, address in ((1, "203.0.113.1"), (4, "203.0.113.2")):
        for _ in range(times):
            await call(gateway, target="/busy", client=address)
    assert len(gateway.limits) == 2
    assert {one["owner"] for one in gateway.limits.top(1)} == {"gateway", "route:/busy"}
    refused = gateway.limits.refused(1)
    assert [(one["owner"], one["refused"]) for one in refused] in ([("gateway", 2)], [("route:/busy", 1)])


async def test_what_no_limit_counts_by_is_said() -> None:
    with pytest.raises(ValueError, match="no rule counts by"):
        await limited().limits.peek(tenant="acme")
    with pytest.raises(ValueError, match="no rate limits"):
        await Gateway(policies=[Respond(204)]).limits.reset(tenant="acme")


async def test_the_figure_for_autoscalers_is_the_greatest_of_all() -> None:
    assert limited().saturation == 0.0
    gateway = Gateway(policies=[Overload(4), Respond(204)], routes=[Route("/a", policies=[Overload(2, lag=False)])])
    assert gateway.saturation == 0.0
    assert (await call(gateway, target="/a")).status == 204
    assert gateway.saturation == 0.0
    assert {one["policy"] for one in gateway.plan.figures()} == {"overload"}
    await gateway.aclose()
