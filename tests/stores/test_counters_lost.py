"""Counters whose server is killed, paused or cut off: what a request waits, what is raised, and that they come back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.servers.valkey import Valkey

from gatekit.core.counters import Limit
from gatekit.errors import StoreUnavailable
from gatekit.stores.counters_contact import FAILURES
from gatekit.testing.faults import FaultProxy, Stall

from .counting import OwnClock, ask, counters, one, serving, timed
from .scene import until

pytestmark = pytest.mark.servers

LIMIT = Limit(1_000_000, 1e9, "fixed_window")
WAITS = 0.025
SLACK = 0.035
"""For a machine that is busy with other tests. The loop is not ours alone."""
AT_ONCE = 0.001


async def settled(store: Any) -> None:
    """Connected, with the script on the server, and counted to three."""
    await until_it_answers(store)
    await store.reset([ask(LIMIT)])
    for _ in range(3):
        await one(store, ask(LIMIT))


async def until_it_answers(store: Any) -> Any:
    end = time.monotonic() + 10
    while True:
        try:
            return await one(store, ask(LIMIT, cost=0))
        except StoreUnavailable:
            assert time.monotonic() < end, "it never came back"
            await until(lambda: store.status()["up"])


async def check_an_outage(store: Any) -> None:
    """What requests see of it."""
    first = [await timed(store, [ask(LIMIT)]) for _ in range(FAILURES)]
    then = [await timed(store, [ask(LIMIT)]) for _ in range(500)]
    assert all(isinstance(error, StoreUnavailable) for _, error in first + then)
    assert max(took for took, _ in first) <= WAITS + SLACK
    assert sorted(took for took, _ in then)[int(0.99 * len(then))] <= AT_ONCE
    status = store.status()
    assert not status["up"]
    assert status["trouble"]


async def killed(server: list[Valkey]) -> Callable[[], Awaitable[None]]:
    server[-1].kill()

    async def again() -> None:
        server.append(server[-1].again())

    return again


async def paused(server: list[Valkey]) -> Callable[[], Awaitable[None]]:
    server[-1].pause()

    async def again() -> None:
        server[-1].resume()

    return again


@pytest.mark.parametrize("lose", [killed, paused])
async def test_rl5_a_lost_server_costs_the_first_five_25_ms_and_the_rest_nothing(
    own_valkey: list[Valkey], lose: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = counters(own_valkey[0].url)
    async with serving(store):
        await settled(store)
        again = await lose(own_valkey)
        await check_an_outage(store)
        operations = store.status()["operations"]
        await again()
        await until(lambda: store.status()["up"])
        assert store.status()["operations"] > operations
        look = await until_it_answers(store)
        # A server that was only paused has kept them. It may also have had what nobody waited for any more.
        spent = LIMIT.amount - look.remaining
        assert spent == 0 if lose is killed else 3 <= spent <= 3 + FAILURES
        assert (await one(store, ask(LIMIT))).allowed
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "nothing is asked of it" in told[0]
    assert "answers again" in told[1]


async def test_rl5_a_server_behind_a_line_that_swallows_everything(own_valkey: list[Valkey]) -> None:
    async with FaultProxy(own_valkey[0].url.removesuffix("/0")) as proxy:
        first = counters(f"{proxy.url}/0")
        await until_it_answers(first)
        await first.aclose()
    async with FaultProxy(own_valkey[0].url.removesuffix("/0")) as proxy:
        measured = counters(f"{proxy.url}/0?timeout=1")
        await one(measured, ask(LIMIT))
        said = proxy.carried[0].request
        await measured.aclose()
    # With the first byte of the second question.
    stall = Stall("request", said + 1, both=True)
    async with FaultProxy(own_valkey[0].url.removesuffix("/0"), stall, Stall("request", both=True)) as proxy:
        store = counters(f"{proxy.url}/0")
        async with serving(store):
            with pytest.MonkeyPatch.context() as patience:
                patience.setattr(store._line(), "_timeout", 1.0)
                await one(store, ask(LIMIT))
            await check_an_outage(store)
            proxy.script()
            proxy.release()
            proxy.drop_connections()
            await until(lambda: store.status()["up"])
            assert (await until_it_answers(store)).remaining < LIMIT.amount


async def test_rl5_a_thousand_at_once_wait_no_longer_than_one(own_valkey: list[Valkey]) -> None:
    store = counters(own_valkey[0].url)
    async with serving(store):
        await settled(store)
        own_valkey[0].pause()
        begun = time.perf_counter()
        answers = await asyncio.gather(*(timed(store, [ask(LIMIT)]) for _ in range(1000)))
        assert time.perf_counter() - begun <= 0.5
        assert all(isinstance(error, StoreUnavailable) for _, error in answers)
        own_valkey[0].resume()
        await until(lambda: store.status()["up"])


async def test_without_jobs_one_request_a_second_tries(own_valkey: list[Valkey]) -> None:
    clock = OwnClock()
    store = counters(f"{own_valkey[0].url}?timeout=0.2", clock)
    await settled(store)
    own_valkey[0].kill()
    for _ in range(FAILURES):
        await timed(store, [ask(LIMIT)])
    tried = store.status()["operations"]
    for _ in range(50):
        assert isinstance((await timed(store, [ask(LIMIT)]))[1], StoreUnavailable)
    assert store.status()["operations"] == tried
    clock.shift += 1.5
    assert isinstance((await timed(store, [ask(LIMIT)]))[1], StoreUnavailable)
    assert isinstance((await timed(store, [ask(LIMIT)]))[1], StoreUnavailable)
    assert store.status()["operations"] == tried + 1
    own_valkey.append(own_valkey[0].again())
    assert not store.status()["up"]
    clock.shift += 1.5
    assert (await until_it_answers(store)).allowed
    assert store.status()["up"]
    await store.aclose()


async def test_one_answer_in_between_and_it_is_not_lost(own_valkey: list[Valkey]) -> None:
    store = counters(f"{own_valkey[0].url}?timeout=0.1")
    await settled(store)
    for _ in range(3):
        own_valkey[0].pause()
        for _ in range(FAILURES - 1):
            await timed(store, [ask(LIMIT)])
        own_valkey[0].resume()
        await until(lambda: own_valkey[0].ask("PING") == b"+PONG")
        assert (await one(store, ask(LIMIT))).allowed
    assert store.status()["up"]
    assert store.status()["failures"] == 3 * (FAILURES - 1)
    await store.aclose()


async def test_an_error_of_the_server_is_an_outage_and_its_words_are_not_told(
    own_valkey: list[Valkey], caplog: pytest.LogCaptureFixture
) -> None:
    store = counters(f"{own_valkey[0].url}?timeout=1")
    await settled(store)
    own_valkey[0].ask("CONFIG", "SET", "maxmemory", "1")
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreUnavailable, match=r"answered with the error") as caught:
        await one(store, ask(LIMIT, "secret-name"))
    assert "secret-name" not in str(caught.value) + caplog.text
    await store.aclose()
