"""SE9 and AZ3 with the real thing: the guarded fetch, a real event loop, and authorisers on this host that misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.verdict import Reply
from gatekit.gateway.loop_thread import SHARED
from gatekit.gateway.system import SystemFetch, system_ports
from gatekit.policies.authz.external import External
from gatekit.policies.authz.external_call import BoundExternal
from gatekit.policies.authz.rules import ANSWER
from gatekit.testing import request
from gatekit.testing.policies import step
from gatekit.testing.upstream import Answer, Seen, Upstream

ANN = Identity("ann", tenant="acme", roles=frozenset({"admin"}), scheme="jwt")


def asked(method: str = "GET", **given: Any) -> Exchange:
    return request(method, "/v1/orders/7?q=1", **{"identity": ANN, **given})


def opa(rule: Callable[[dict[str, Any]], Any]) -> Callable[[Seen], Answer]:
    """An authoriser that answers as the Open Policy Agent does: what `rule` makes of the input, None for undefined."""

    def answer(seen: Seen) -> Answer:
        result = rule(json.loads(seen.body)["input"])
        document = {} if result is None else {"result": result}
        return Answer(headers={"content-type": "application/json"}, body=json.dumps(document).encode())

    return answer


def is_ours(told: dict[str, Any]) -> Any:
    if told["method"] != "GET":
        return None
    return {"allow": told["identity"]["tenant"] == "acme", "headers": {"x-plan": "gold"}}


@asynccontextmanager
async def real(url: str, **fields: Any) -> AsyncIterator[BoundExternal]:
    """An authoriser asked by the fetch of a running process."""
    fetch = SystemFetch()
    ports = system_ports()
    ports._fetch = fetch
    try:
        yield External(url=url, **{"networks": ["127.0.0.0/8"], "timeout": 5, **fields}).bind_to(ports)
    finally:
        await fetch.aclose()


async def ask(decider: BoundExternal, exchange: Exchange | None = None) -> bool | None:
    found = decider.decide(asked() if exchange is None else exchange)
    return await found() if callable(found) else found


def why(decider: BoundExternal) -> str:
    return str(decider.status()["last_error"])


async def test_an_authoriser_like_opa_is_asked_and_believed() -> None:
    async with (
        Upstream(opa(is_ours)) as site,
        real(f"{site.url}/v1/data/authz", upstream_headers=["x-plan"]) as decider,
    ):
        exchange = asked(headers={"X-Plan": "none", "Cookie": "MARKER"})
        assert await ask(decider, exchange) is True
        assert exchange.headers.get("x-plan") == "gold"
        assert await ask(decider, asked(identity=None)) is False
        assert await ask(decider, asked("POST")) is False
        assert (site.last.method, site.last.path, site.connections) == ("POST", "/v1/data/authz", 1)
        assert site.last.headers.get("content-type") == "application/json"
        assert not any(b"MARKER" in seen.raw for seen in site.requests)


async def test_an_authoriser_like_envoys_is_asked_and_believed() -> None:
    def answer(seen: Seen) -> Answer:
        if seen.headers.get("x-auth-subject") != "ann":
            return Answer(401, headers={"www-authenticate": 'Bearer realm="x"', "x-other": "1"}, body=b"who?")
        return Answer(200, headers={"x-plan": "gold"})

    async with (
        Upstream(answer) as site,
        real(f"{site.url}/check", style="envoy", upstream_headers=["x-plan"]) as decider,
    ):
        for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PURGE"):
            exchange = asked(method)
            assert await ask(decider, exchange) is True
            assert exchange.headers.get("x-plan") == "gold"
            assert (site.last.method, site.last.target, site.last.body) == (method, "/check/v1/orders/7", b"")
            assert site.last.headers.get("content-length") == "0"
        exchange = asked(identity=None)
        assert await ask(decider, exchange) is False
        reply: Reply = exchange.facts[ANSWER]
        assert (reply.status, reply.headers) == (401, [(b"www-authenticate", b'Bearer realm="x"')])


# -- SE9: where it may go


@pytest.mark.parametrize("networks", [[], ["10.0.0.0/8"]], ids=["none", "another"])
async def test_se9_a_private_address_is_not_connected_to_without_its_network(networks: list[str]) -> None:
    async with Upstream() as site, real(f"https://127.0.0.1:{site.port}/", networks=networks) as decider:
        exchange = asked()
        assert await ask(decider, exchange) is None
        assert exchange.facts[ANSWER].status == 403
        assert "refused" in why(decider)
        assert site.connections == 0


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:10.0.0.1]", "[::1]", "0x7f.1", "2130706433", "0.0.0.0"])
async def test_se9_no_spelling_of_an_address_gets_past_the_guard(host: str) -> None:
    async with real(f"https://{host}/", networks=[]) as decider:
        assert await ask(decider) is None
        assert "refused" in why(decider)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("style", ["opa", "envoy"])
async def test_se9_a_redirect_is_never_followed(style: str, status: int) -> None:
    """Followed, a login page that answers 200 would allow everything."""
    async with Upstream(Answer(body=b'{"result": true}')) as login:
        there = Answer(status, headers={"location": f"{login.url}/login"}, body=b'{"result": true}')
        async with Upstream(there) as site, real(f"{site.url}/", style=style) as decider:
            for method in ("GET", "HEAD", "POST"):
                assert await ask(decider, asked(method)) is None
            assert why(decider) == f"the answer has status {status}"
            assert len(site.requests) == 3
        assert login.connections == 0


# -- AZ3: answers that are none


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(body=b"<html>"), "not JSON"),
        (Answer(body=b'{"result": true, "x": "' + b"a" * 70_000 + b'"}'), "longer than 65536"),
        (Answer(body=b'{"result": true, "x": "' + b"a" * 2_000_000 + b'"}'), "longer than"),
        (Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"result\": ", close=True), "http://127.0.0.1"),
        (Answer(raw=b"garbage\r\n\r\n", close=True), "http://127.0.0.1"),
        (Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"), "compressed"),
        (Answer(truncate_after=0), "http://127.0.0.1"),
        (Answer(500, body=b'{"result": true}'), "status 500"),
    ],
    ids=["garbage", "long", "huge", "cut", "no-http", "compressed", "dead", "500"],
)  # fmt: skip
async def test_az3_an_answer_that_is_none_fails_closed(answer: Answer, says: str) -> None:
    async with Upstream(answer) as site, real(f"{site.url}/") as decider:
        exchange = asked()
        assert await ask(decider, exchange) is None
        assert (exchange.facts[ANSWER].status, exchange.facts[ANSWER].reason) == (403, "authz.authoriser_unavailable")
        assert says in why(decider)
        assert len(site.requests) == 1


async def test_az3_a_slow_one_is_waited_for_as_long_as_the_timeout_and_not_asked_twice() -> None:
    async with (
        Upstream(Answer(hang=True)) as site,
        real(f"{site.url}/", timeout=0.5, on_error="unavailable") as decider,
    ):
        loop = asyncio.get_running_loop()
        begun = loop.time()
        exchange = asked()
        assert await ask(decider, exchange) is None
        assert 0.4 < loop.time() - begun < 5
        assert exchange.facts[ANSWER].status == 503
        assert "no answer within 0.5 s" in why(decider)
        assert len(site.requests) == 1


async def test_az3_one_that_is_not_there_is_tried_at_most_twice_and_then_left_alone() -> None:
    async with Upstream() as site:
        url = f"{site.url}/"
    async with real(url) as decider:
        for _ in range(12):
            assert await ask(decider) is None
        told = decider.status()
        assert (told["failed"], told["withheld"], told["breaker"]) == (5, 7, "open")
        assert told["retried"] == 5


async def test_a_client_who_leaves_cuts_the_question_short() -> None:
    async with Upstream(Answer(hang=True)) as site, real(f"{site.url}/") as decider:
        waiting = asyncio.ensure_future(ask(decider))
        await site.wait_for(lambda up: bool(up.requests))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await site.wait_for(lambda up: up.aborted == 1)
        assert decider.status()["in_flight"] == 0


async def test_many_at_once_are_answered() -> None:
    async with Upstream(opa(is_ours)) as site, real(f"{site.url}/") as decider:
        assert await asyncio.gather(*(ask(decider) for _ in range(90))) == [True] * 90
        assert len(site.requests) == 90
        assert site.connections <= 32


async def test_equal_questions_at_once_are_one_where_answers_are_kept() -> None:
    gate = asyncio.Event()
    async with (
        Upstream(Answer(gate=gate, body=b'{"result": true}')) as site,
        real(f"{site.url}/", cache={"ttl": 60}) as decider,
    ):
        waiting = [asyncio.ensure_future(ask(decider)) for _ in range(50)]
        await site.wait_for(lambda up: bool(up.requests))
        waiting.pop().cancel()
        gate.set()
        assert await asyncio.gather(*waiting) == [True] * 49
        assert decider.decide(asked()) is True
        assert len(site.requests) == 1


@pytest.mark.parametrize("cache", [None, {"ttl": 60}], ids=["asked", "kept"])
async def test_threads_without_a_loop_ask_too(cache: dict[str, float] | None) -> None:
    """As under WSGI: there the decision must come without a suspension."""

    def one(method: str = "GET") -> bool | None:
        found = decider.decide(asked(method))
        if not callable(found):
            return found
        pending: Any = found()
        told: bool | None = step(pending, "asking")
        return told

    loop = asyncio.get_running_loop()
    async with Upstream(opa(is_ours)) as site, real(f"{site.url}/", cache=cache) as decider:
        with ThreadPoolExecutor(8) as threads:
            assert await loop.run_in_executor(threads, one, "POST") is False
            found = await asyncio.gather(*(loop.run_in_executor(threads, one) for _ in range(40)))
        assert found == [True] * 40
        assert decider.status()["in_flight"] == 0
        assert len(site.requests) == (41 if cache is None else 2)
        fetch: Any = decider._fetch
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(fetch.aclose(), SHARED.loop))
        await asyncio.to_thread(SHARED.stop)
