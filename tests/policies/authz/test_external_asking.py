"""How an outside authoriser is asked: again, at once, not at all; and which of its answers are kept."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from tests.policies.authz.external_scene import (
    ANN,
    OPA,
    Held,
    Scene,
    Unreached,
    asked,
    asking,
)

from gatekit.core.events import BreakerChanged, Events
from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.ports import Fetched
from gatekit.errors import StoreUnavailable
from gatekit.gateway.shared import Shared
from gatekit.mechanisms.breaker import State
from gatekit.policies.authz.external_call import BREAKER, QUIET
from gatekit.testing import FakeFetch

# -- trying again


def test_az3_one_more_attempt_is_made_where_no_connection_came_about() -> None:
    scene = Scene().answers(error=Unreached("refused")).says(True)
    assert scene.ask() is True
    assert scene.counts == {"asked": 1, "allowed": 1, "retried": 1}


def test_az3_there_are_never_more_than_two_attempts() -> None:
    scene = Scene().answers(error=Unreached("refused"))
    assert scene.ask() is None
    assert len(scene.fetch.calls) == 2
    assert scene.counts == {"asked": 1, "failed": 1, "retried": 1}


@pytest.mark.parametrize(
    "how", [{"error": StoreUnavailable("broke off")}, {"status": 503}, {"error": RuntimeError()}], ids=range(3)
)
def test_az3_what_may_have_been_heard_is_not_said_again(how: dict[str, Any]) -> None:
    scene = Scene().answers(**how).says(True)
    assert scene.ask() is None
    assert len(scene.fetch.calls) == 1


def test_no_second_attempt_where_none_is_wanted_or_no_time_is_left() -> None:
    scene = Scene(retry=False).answers(error=Unreached("refused")).says(True)
    assert scene.ask() is None
    assert len(scene.fetch.calls) == 1

    class Slow(FakeFetch):
        async def __call__(self, *args: Any, **fields: Any) -> Fetched:
            clock.advance(after.pop(0))
            return await super().__call__(*args, **fields)

    for spent, calls in (([0.15], 2), ([0.196], 1)):
        after = [*spent, 0.0]
        scene = Scene(fetch=Slow())
        clock = scene.clock
        scene.answers(error=Unreached("refused")).says(True)
        assert scene.ask() is (True if calls == 2 else None)
        assert len(scene.fetch.calls) == calls
    assert after == [0.0]


def test_both_attempts_share_one_timeout() -> None:
    class Slow(FakeFetch):
        async def __call__(self, *args: Any, **fields: Any) -> Fetched:
            scene.clock.advance(0.05)
            return await super().__call__(*args, **fields)

    scene = Scene(fetch=Slow(), timeout=0.3).answers(error=Unreached("refused")).says(True)
    assert scene.ask() is True
    assert [round(call.timeout, 3) for call in scene.fetch.calls] == [0.3, 0.25]


# -- answers that are kept


def test_an_answer_stands_for_equal_questions_until_its_time_is_over() -> None:
    scene = Scene(cache={"ttl": 30}, upstream_headers=["x-a"])
    scene.says({"allow": True, "headers": {"x-a": "1"}}, False)
    for _ in range(3):
        exchange = asked(headers={"X_A": "spoofed"})
        assert scene.ask(exchange) is True
        assert exchange.headers.get("x-a") == "1"
        assert b"x_a" not in exchange.headers
    assert scene.counts == {"asked": 1, "allowed": 1, "cached": 2}
    scene.clock.advance(30)
    for _ in range(2):
        exchange = asked()
        assert scene.ask(exchange) is False
        assert scene.reply(exchange).reason == "authz.denied_by_authoriser"
    assert scene.counts == {"asked": 2, "allowed": 1, "denied": 1, "cached": 3}


@pytest.mark.parametrize(
    "other",
    [
        asked("/v1/orders/8"), asked(method="POST"), asked(client="192.0.2.2"), asked(headers={"x-a": "1"}),
        asked(identity=None), asked(identity=Identity("bob", scheme="jwt")),
        asked(identity=Identity("ann", tenant="acme", client="app", scopes=ANN.scopes, roles=frozenset({"admin"}), scheme="jwt")),
    ],
    ids=range(7),
)  # fmt: skip
@pytest.mark.parametrize("style", ["opa", "envoy"])
def test_whatever_is_told_tells_questions_apart(other: Exchange, style: str) -> None:
    class Counting(FakeFetch):
        async def __call__(self, method: str, url: str, **fields: Any) -> Fetched:
            self._answers.setdefault(url, self._answers[OPA])
            return await super().__call__(method, url, **fields)

    scene = Scene(fetch=Counting(), style=style, cache={"ttl": 30}, headers=["x-a"]).says(True)
    scene.ask(asked())
    scene.ask(other)
    assert len(scene.fetch.calls) == 2
    scene.ask(asked())
    assert len(scene.fetch.calls) == 2


def test_what_is_not_told_does_not() -> None:
    scene = Scene(cache={"ttl": 30}, send=["path", "roles"]).says(True)
    assert scene.ask(asked(method="GET")) is True
    assert scene.ask(asked(method="POST", client="192.0.2.9", headers={"x-a": "1"})) is True
    assert len(scene.fetch.calls) == 1


@pytest.mark.parametrize("how", [{"status": 503}, {"error": StoreUnavailable("down")}, {"body": b"?"}], ids=range(3))
def test_failures_are_never_kept(how: dict[str, Any]) -> None:
    scene = Scene(cache={"ttl": 30}).answers(**how).says(True)
    assert scene.ask() is None
    assert scene.ask() is True


def test_a_request_that_cannot_be_put_is_denied_with_a_cache_too() -> None:
    scene = Scene(cache={"ttl": 30}, claims=["bad"])
    exchange = asked(identity=Identity("ann", claims={"bad": object()}, scheme="jwt"))
    assert scene.ask(exchange) is None
    assert scene.reply(exchange).reason == "authz.question_refused"


def test_so_many_answers_are_kept_and_no_more() -> None:
    scene = Scene(cache={"ttl": 60, "entries": 10}, send=["params"]).says(True)
    for number in range(50):
        scene.ask(asked(params={"id": str(number)}))
    assert scene.decider._line.cache is not None
    assert len(scene.decider._line.cache) <= 10
    assert scene.ask(asked(params={"id": "49"})) is True
    assert len(scene.fetch.calls) == 50


async def test_an_equal_question_is_asked_once_at_a_time() -> None:
    fetch = Held()
    scene = Scene(fetch=fetch, cache={"ttl": 30}, ports={"once": Shared()})
    waiting = [asyncio.ensure_future(asking(scene)) for _ in range(20)]
    await fetch.begun(1)
    waiting.pop().cancel()
    fetch.let_go()
    assert await asyncio.gather(*waiting) == [True] * 19
    assert fetch.calls == 1
    assert scene.counts == {"asked": 1, "allowed": 1}


def test_a_shared_question_that_nobody_answers_in_time_fails_closed() -> None:
    async def late(key: object, work: object) -> Any:
        raise StoreUnavailable("no answer within 30 s")

    scene = Scene(cache={"ttl": 30}, ports={"once": late})
    exchange = asked()
    assert scene.ask(exchange) is None
    assert scene.reply(exchange).reason == "authz.authoriser_unavailable"


# -- too many, and down


async def test_beyond_so_many_questions_one_more_is_a_failure() -> None:
    fetch = Held()
    scene = Scene(fetch=fetch, max_in_flight=3)
    waiting = [asyncio.ensure_future(asking(scene)) for _ in range(3)]
    await fetch.begun(3)
    assert scene.decider.status()["in_flight"] == 3
    exchange = asked()
    assert await asking(scene, exchange) is None
    assert scene.reply(exchange).reason == "authz.authoriser_unavailable"
    fetch.let_go()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert await asking(scene) is True
    assert scene.counts == {"asked": 4, "allowed": 4, "withheld": 1}
    assert scene.decider.status()["in_flight"] == 0


async def test_a_caller_who_gives_up_gives_his_place_back_and_blames_nobody() -> None:
    fetch = Held()
    scene = Scene(fetch=fetch, max_in_flight=1)
    for number in range(20):
        waiting = asyncio.ensure_future(asking(scene))
        await fetch.begun(number + 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert scene.decider.status()["in_flight"] == 0
    assert scene.decider.status()["breaker"] == "closed"


def test_after_failures_in_a_row_nobody_waits_for_the_timeout_any_more() -> None:
    moves: list[tuple[str, str, str]] = []
    events = Events()
    events.subscribe(BreakerChanged, lambda event: moves.append((event.name, event.before, event.after)))
    scene = Scene(ports={"events": events}).answers(error=StoreUnavailable("no answer"))
    for _ in range(20):
        assert scene.ask() is None
    assert len(scene.fetch.calls) == BREAKER.min_requests == 5
    assert scene.decider.status()["breaker"] == State.OPEN
    assert scene.counts == {"asked": 5, "failed": 5, "withheld": 15}
    scene.clock.advance(BREAKER.open_for * 1.3)
    assert scene.ask() is None
    assert len(scene.fetch.calls) == 6
    scene.fetch = FakeFetch()
    scene.decider._fetch = scene.fetch
    scene.says(True)
    scene.clock.advance(BREAKER.open_for * 2 * 1.3)
    assert scene.ask() is True
    assert scene.ask() is True
    assert scene.decider.status()["breaker"] == State.CLOSED
    assert moves[0] == ("authz:opa.internal", "closed", "open")
    assert moves[-1][2] == "closed"


@pytest.mark.parametrize(
    "how", [{"status": 500}, {"status": 400}, {"body": b"?"}, {"json": {"result": {"headers": 1}}}], ids=range(4)
)
def test_one_who_answers_in_time_is_not_down_so_no_request_can_shut_out_others(how: dict[str, Any]) -> None:
    scene = Scene().answers(**how)
    for _ in range(50):
        assert scene.ask() is None
    assert scene.decider.status()["breaker"] == "closed"
    assert scene.counts == {"asked": 50, "failed": 50}


@pytest.mark.parametrize("status", [502, 503, 504])
def test_one_behind_a_proxy_that_does_not_reach_it_is_down(status: int) -> None:
    scene = Scene().answers(status=status)
    for _ in range(9):
        scene.ask()
    assert scene.decider.status()["breaker"] == "open"


def test_where_failures_allow_they_do_while_the_breaker_is_open() -> None:
    scene = Scene(on_error="allow").answers(error=StoreUnavailable("no answer"))
    assert {scene.ask() for _ in range(20)} == {True}
    assert scene.decider.status()["breaker"] == "open"


def test_an_outage_is_logged_once_in_a_while_and_without_anything_of_a_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene().answers(status=500)
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            scene.ask(asked("/MARKER", headers={"x": "MARKER"}, identity=Identity("MARKER", scheme="jwt")))
        assert len(caplog.records) == 1
        scene.clock.advance(QUIET)
        scene.ask()
    assert [record.getMessage() for record in caplog.records] == [
        "the authoriser at opa.internal: the answer has status 500"
    ] * 2
