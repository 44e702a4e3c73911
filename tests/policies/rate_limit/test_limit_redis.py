"""The policy over a real Valkey: two gateways count together, settle at the end, and go on without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.servers.valkey import Valkey, valkey_server

from gatekit import Cluster, Gateway, LimitRule, RateLimit, Route
from gatekit.testing import TestResponse, call

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = valkey_server(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


async def backend(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 100})


class Two:
    """Two gateways of the same policies, asked in turn."""

    def __init__(self, *policies: Any) -> None:
        self.gateways = [
            Gateway(
                policies=list(policies),
                routes=[Route("/*", to="app", name="all")],
                clusters={"app": Cluster(app=backend)},
            )
            for _ in range(2)
        ]
        self.asked = 0

    async def ask(self) -> TestResponse:
        self.asked += 1
        return await call(self.gateways[self.asked % 2])

    async def statuses(self, times: int) -> list[int | None]:
        return [(await self.ask()).status for _ in range(times)]

    def charges(self) -> list[dict[str, int]]:
        return [gateway.plan.figures()[0]["charges"] for gateway in self.gateways]


@pytest.fixture
async def two() -> AsyncIterator[Any]:
    made: list[Two] = []

    def make(*policies: Any) -> Two:
        made.append(Two(*policies))
        return made[-1]

    yield make
    for one in made:
        for gateway in one.gateways:
            await gateway.aclose()


async def told(found: Two, most: int) -> None:
    """Wait until the store has heard of so many charges."""
    async with asyncio.timeout(5):
        while sum(one["told"] for one in found.charges()) < most:
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)


async def test_rl1_two_gateways_admit_as_many_as_one(two: Any, valkey: Valkey) -> None:
    found = two(RateLimit("5/hour;1000/day", by="client_ip", name="shared", store=f"{valkey.url}?prefix=a:&timeout=1"))
    assert await found.statuses(7) == [200] * 5 + [429] * 2


async def test_rules_of_different_keys_are_asked_in_one_call(two: Any, valkey: Valkey) -> None:
    rules = [LimitRule("3/hour", by="client_ip"), LimitRule("100/month", by="global", calendar=True)]
    found = two(RateLimit(rules=rules, name="rules", store=f"{valkey.url}?prefix=b:&timeout=1"))
    assert await found.statuses(4) == [200] * 3 + [429]


async def test_what_was_sent_is_charged_and_what_was_under_way_given_back(two: Any, valkey: Valkey) -> None:
    rules = [LimitRule("350/hour", name="bytes", charge="response_bytes"), LimitRule("1 concurrent", name="open")]
    found = two(RateLimit(rules=rules, name="ends", store=f"{valkey.url}?prefix=c:&timeout=1"))
    for number in range(1, 5):
        assert (await found.ask()).status == 200
        await told(found, 2 * number)
    refused = await found.ask()
    assert refused.json()["violated-policies"] == ["bytes"]


async def test_rl5_without_the_server_each_goes_on_with_its_part(two: Any, tmp_path: Any) -> None:
    server = valkey_server(tmp_path)
    found = two(RateLimit("6/hour", name="alone", instances=2, store=f"{server.url}?prefix=d:&timeout=1"))
    assert await found.statuses(2) == [200, 200]
    server.stop()
    assert sorted(await found.statuses(10)) == [200] * 6 + [429] * 4
