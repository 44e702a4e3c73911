"""One process, several loops, a fork, gateways within gateways: nothing of ours may be tied to where it was first used."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from typing import Any

from gatekit import Cluster, Gateway, RateLimit, Route
from gatekit.asgi import Policies
from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.testing import Answer, Log, Probe, Upstream, call, call_wsgi, test_ports
from gatekit.wsgi import Policies as WsgiPolicies


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What `work` gave in each of several threads that begin together. An error of one is raised."""
    ready = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        ready.wait(10)
        try:
            results[number] = work(number)
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def test_three_loops_in_three_threads_share_one_middleware_and_its_limit() -> None:
    app = Policies(hello, RateLimit("30/hour", by="global"))

    async def twenty() -> list[int | None]:
        return [(await call(app)).status for _ in range(20)]

    statuses = [status for one in in_threads(3, lambda _: asyncio.run(twenty())) for status in one]
    assert (statuses.count(200), statuses.count(429)) == (30, 30)


def test_three_loops_in_three_threads_share_one_gateway_and_each_has_its_connections() -> None:
    async def one_upstream() -> list[Any]:
        async with Upstream(Answer(body=b"up")) as up:
            gateway = Gateway(
                policies=[RateLimit("1000/minute", by="global")],
                routes=[Route("/*", to="up")],
                clusters={"up": Cluster(up.url)},
            )

            async def ten() -> list[Any]:
                answers = [await call(gateway, target=f"/{number}") for number in range(10)]
                await gateway.aclose()
                return [(answer.status, answer.body) for answer in answers]

            results = await asyncio.to_thread(in_threads, 3, lambda _: asyncio.run(ten()))
            await up.wait_for(lambda up: up.open_connections == 0)
            assert up.connections == 3
            return results

    assert asyncio.run(one_upstream()) == [[(200, b"up")] * 10] * 3


def test_threads_of_a_wsgi_server_share_one_limit() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"ok"]

    gated = WsgiPolicies(app, RateLimit("50/hour", by="global"))
    results = in_threads(4, lambda _: [call_wsgi(gated).status for _ in range(25)])
    statuses = [status for one in results for status in one]
    assert (statuses.count(200), statuses.count(429)) == (50, 50)


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` gives in a forked child. Only a thread-free parent may fork, as a server's master is."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            result = json.dumps({"result": work()})
        except BaseException as error:
            result = json.dumps({"error": repr(error)})
        os.write(writing, result.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        told = json.loads(answer.read())
    os.waitpid(pid, 0)
    assert "error" not in told, told
    return told["result"]


def test_a_fork_after_first_use_serves_in_the_parent_and_in_the_child() -> None:
    app = Policies(hello, RateLimit("1000/minute", by="global"))

    def once() -> list[Any]:
        answer = asyncio.run(call(app))
        return [answer.status, answer.text]

    assert once() == [200, "ok"]
    assert in_child(once) == [200, "ok"]
    assert once() == [200, "ok"]


def test_a_gateway_that_forwarded_before_a_fork_forwards_in_the_child_over_its_own_connections() -> None:
    """A child that used its parent's connection would read the answer to somebody else's request."""

    async def upstream() -> None:
        async with Upstream(lambda seen: Answer(body=seen.target.encode())) as up:
            gateway = Gateway(routes=[Route("/*", to="up")], clusters={"up": Cluster(up.url)})
            assert (await call(gateway, target="/parent")).body == b"/parent"

            def child() -> list[Any]:
                async def ask() -> list[Any]:
                    answer = await call(gateway, target="/child")
                    await gateway.aclose()
                    return [answer.status, answer.text]

                asyncio.events._set_running_loop(None)
                return asyncio.run(ask())

            pid_result: list[Any] = await asyncio.to_thread(in_child, child)
            assert pid_result == [200, "/child"]
            assert up.connections == 2
            assert (await call(gateway, target="/parent")).body == b"/parent"
            assert up.connections == 2
            await gateway.aclose()

    asyncio.run(upstream())


def identify(exchange: Exchange) -> None:
    exchange.identity = Identity("ann", scheme="test")


def nested(log: Log, seen: list[Any]) -> Gateway:
    """A gateway whose app notes what it was given."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        stack = scope.get("state", {}).get("gatekit", ())
        seen.append((getattr(scope.get("user"), "subject", None), scope["path"], [one.path for one in stack]))
        await hello(scope, receive, send)

    return Gateway(
        policies=[Probe("inner", log, decide=lambda one: log.append(("inner", "knows", one.has("identity"))))],
        routes=[Route("/orders/*", to="app")],
        clusters={"app": Cluster(app=app)},
        ports=test_ports(),
    )


PASSED = [
    ("outer", "decide"), ("inner", "decide"), ("inner", "knows", True), ("inner", "on_response", 200),
    ("outer", "on_response", 200), ("outer", "observe", 200, "nobody"), ("inner", "observe", 200, "nobody"),
]  # fmt: skip


async def test_a_gateway_within_a_middleware_begins_with_what_the_outer_one_knows() -> None:
    log: Log = []
    inner = nested(log, [])
    app: Any = inner
    outer = Policies(app, Probe("outer", log, decide=identify), ports=test_ports())
    assert (await call(outer, target="/orders//7")).body == b"ok"
    assert sorted(log) == sorted(PASSED)
    log.clear()
    assert (await call(outer, target="/elsewhere")).status == 404
    assert ("outer", "observe", 404, "client") in log
    assert ("inner", "observe", 404, "client") in log
    await inner.aclose()


async def test_a_gateway_within_a_gateway_begins_with_what_the_outer_one_knows() -> None:
    log: Log = []
    seen: list[Any] = []
    inner = nested(log, seen)
    outer = Gateway(
        policies=[Probe("outer", log, decide=identify)],
        routes=[Route("/*", to="inner")],
        clusters={"inner": Cluster(app=inner)},
        ports=test_ports(),
    )
    assert (await call(outer, target="/orders//7")).body == b"ok"
    assert seen == [("ann", "/orders/7", ["/orders/7", "/orders/7"])]
    assert sorted(log) == sorted(PASSED)
    await outer.aclose()
    await inner.aclose()
