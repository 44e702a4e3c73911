"""A whole gateway over real sockets: forwarding, reload, state, lifespan, the same under WSGI."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from gatekit import (
    ApiKey,
    Authn,
    Cluster,
    ConfigApplied,
    ConfigRefused,
    ConfigRejected,
    Exchange,
    Gateway,
    Job,
    Outcome,
    Ports,
    RateLimit,
    Rewrite,
    Route,
    Spec,
    api_keys,
)
from gatekit.asgi import Policies, Router
from gatekit.gateway.loop_thread import SHARED
from gatekit.testing import Answer, ManualClock, Upstream, call, call_wsgi, test_ports
from gatekit.wsgi import Router as WsgiRouter


@pytest.fixture
async def up() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


async def close(gateway: Gateway) -> None:
    await gateway.aclose()


async def test_a_request_is_forwarded_and_the_connection_kept(up: Upstream) -> None:
    gateway = Gateway(routes=[Route("/a/*", to="up")], clusters={"up": Cluster(up.url)})
    for number in range(3):
        got = await call(gateway, "POST", f"/a/{number}?q=1", body=b"abc")
        assert (got.status, got.body) == (200, b"ok")
    assert up.connections == 1
    assert (up.last.method, up.last.target, up.last.body) == ("POST", "/a/2?q=1", b"abc")
    await close(gateway)


async def test_no_route_is_404_and_a_wrong_method_405(up: Upstream) -> None:
    gateway = Gateway(routes=[Route("GET /a", to="up"), Route("PUT /a", to="up")], clusters={"up": Cluster(up.url)})
    assert (await call(gateway, "GET", "/b")).json()["code"] == "router.no_route"
    got = await call(gateway, "POST", "/a")
    assert (got.status, got.header("allow")) == (405, "GET, HEAD, PUT")
    assert up.requests == []


async def test_unmatched_requests_meet_the_limits_of_the_gateway() -> None:
    gateway = Gateway(policies=[RateLimit("1/minute")], ports=test_ports())
    assert (await call(gateway, "GET", "/a")).status == 404
    assert (await call(gateway, "GET", "/b")).status == 429


async def test_a_config_that_is_refused_changes_nothing(up: Upstream) -> None:
    gateway = Gateway(routes=[Route("/a", to="up")], clusters={"up": Cluster(up.url)})
    heard: list[object] = []
    gateway.events.subscribe(ConfigRejected, heard.append)
    gateway.events.subscribe(ConfigApplied, heard.append)
    before = gateway.plan
    with pytest.raises(ConfigRefused) as refused:
        gateway.apply({"routes": [{"match": "/a", "to": "nowhere"}, {"match": "nonsense", "to": "up"}]})
    assert len([p for p in refused.value.problems if p.severity == "error"]) >= 2
    assert gateway.plan is before
    assert isinstance(heard[0], ConfigRejected)
    gateway.apply({"routes": [{"match": "/b", "to": "up"}], "clusters": {"up": {"urls": [up.url]}}})
    assert gateway.generation == 2
    assert isinstance(heard[1], ConfigApplied)
    assert (await call(gateway, "GET", "/b")).status == 200
    await close(gateway)


class Slow:
    """An app that answers when it is told to."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        self.entered.set()
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})


class Generation(Spec):
    """Says which generation the exchange began and ended with."""

    kind = "generation"
    log: Any

    def decide(self, exchange: Exchange) -> None:
        self.log.append(exchange.generation)

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        self.log.append((exchange.generation, outcome.status))


async def test_requests_under_way_finish_on_their_generation() -> None:
    slow = Slow()
    log: list[Any] = []
    gateway = Gateway(
        policies=[Generation(log=log)], routes=[Route("/a", to="slow")], clusters={"slow": Cluster(app=slow)}
    )
    first = asyncio.create_task(call(gateway, "GET", "/a"))
    await slow.entered.wait()
    other = gateway.config.model_copy(update={"routes": (), "clusters": {}})
    gateway.apply(other)
    assert (await call(gateway, "GET", "/a")).status == 404
    slow.go.set()
    assert (await first).body == b"/a"
    assert log == [1, 2, (2, 404), (1, 200)]
    await close(gateway)


async def test_state_of_what_did_not_change_lives_on(up: Upstream) -> None:
    clock = ManualClock()
    limit = RateLimit("2/minute")
    clusters = {"up": Cluster(up.url)}
    gateway = Gateway(policies=[limit], routes=[Route("/a", to="up")], clusters=clusters, ports=test_ports(clock=clock))
    assert (await call(gateway, "GET", "/a")).status == 200
    gateway.apply(Gateway(policies=[limit], routes=[Route("/b", to="up")], clusters=clusters).config)
    assert (await call(gateway, "GET", "/b")).status == 200
    assert (await call(gateway, "GET", "/b")).status == 429
    assert up.connections == 1
    await close(gateway)


async def test_state_of_what_is_gone_is_forgotten_and_its_connections_closed(up: Upstream) -> None:
    gateway = Gateway(
        policies=[RateLimit("1/minute")], routes=[Route("/a", to="up")], clusters={"up": Cluster(up.url)},
        ports=(ports := test_ports()),
    )  # fmt: skip
    assert (await call(gateway, "GET", "/a")).status == 200
    assert len(ports.cells) > 0
    gateway.apply({})
    gc.collect()
    gateway.apply({})
    assert len(ports.cells) == 0
    await up.wait_for(lambda up: up.open_connections == 0)
    await close(gateway)


class Ticking(Spec):
    """A policy with background work."""

    kind = "ticking"
    log: Any
    name: str

    def bind_to(self, ports: Ports) -> Ticking:
        return self

    def jobs(self) -> Iterable[Job]:
        return [Job(("tick", self.name), self.tick, lambda: 60.0)]

    async def tick(self) -> None:
        self.log.append(self.name)


async def test_jobs_run_with_the_first_request_and_follow_a_reload() -> None:
    log: list[str] = []
    gateway = Gateway(policies=[Ticking(log=log, name="a")])
    await call(gateway)
    await call(gateway)
    await _turns()
    assert log == ["a"]
    gateway.apply(Gateway(policies=[Ticking(log=log, name="a"), Ticking(log=log, name="b")]).config)
    await _turns()
    assert log == ["a", "b"]
    await close(gateway)


async def test_the_jobs_of_a_middleware_begin_and_end_with_the_lifespan_of_its_app() -> None:
    log: list[str] = []
    app = Lifespanned()
    middleware = Policies(app, Ticking(log=log, name="a"))
    assert await lifespan(middleware) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert app.log == ["lifespan.startup", "lifespan.shutdown"]
    assert not [task for task in asyncio.all_tasks() if "gatekit job" in task.get_name()]

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await _turns()

    await Policies(slow, Ticking(log=log, name="b"))({"type": "lifespan"}, None, None)
    assert log[-1] == "b"


async def _turns() -> None:
    for _ in range(5):
        await asyncio.wait([asyncio.create_task(_nothing())])


async def _nothing() -> None:
    """One turn of the loop."""


class Lifespanned:
    def __init__(self) -> None:
        self.log: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                self.log.append(kind)
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"app"})


async def lifespan(app: Any) -> list[str]:
    """Start and stop an app as a server does; the types of what it sent."""
    sent: list[str] = []
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Any:
        return events.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    return sent


async def test_the_lifespan_of_apps_behind_it_is_theirs_too() -> None:
    app = Lifespanned()
    gateway = Gateway(routes=[Route("/*", to="app")], clusters={"app": Cluster(app=app)})
    assert await lifespan(gateway) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert app.log == ["lifespan.startup", "lifespan.shutdown"]


async def test_a_router_passes_what_no_route_takes_and_the_lifespan_to_its_app(up: Upstream) -> None:
    app = Lifespanned()
    router = Router(
        app, routes=[Route("GET /up", to="up")], clusters={"up": Cluster(up.url)}, policies=[RateLimit("3/minute")],
        ports=test_ports(),
    )  # fmt: skip
    assert (await call(router, "GET", "/up")).body == b"ok"
    assert (await call(router, "POST", "/up")).body == b"app"
    assert (await call(router, "GET", "/else")).body == b"app"
    assert (await call(router, "GET", "/else")).status == 429
    assert await lifespan(router) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert app.log == ["lifespan.startup", "lifespan.shutdown"]


async def test_the_same_under_wsgi(up: Upstream) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
        return [b"app"]

    router = WsgiRouter(app, routes=[Route("/up/*", to="up")], clusters={"up": Cluster(up.url)})
    got = await asyncio.to_thread(call_wsgi, router, "POST", "/up/x", body=b"abc")
    assert (got.status, got.body) == (200, b"ok")
    assert up.last.body == b"abc"
    assert (await asyncio.to_thread(call_wsgi, router, "GET", "/other")).body == b"app"
    await asyncio.to_thread(SHARED.run, router.gateway.aclose())
    await asyncio.to_thread(SHARED.stop)


async def test_an_error_of_an_endpoint_is_502_and_named_nowhere() -> None:
    async with Upstream() as gone:
        url = gone.url
    gateway = Gateway(routes=[Route("/*", to="up")], clusters={"up": Cluster(url)})
    got = await call(gateway)
    assert (got.status, got.json()["code"]) == (502, "upstream.connect_failed")
    assert url.rpartition(":")[2] not in got.text
    await close(gateway)


async def test_a_split_sends_each_its_share(up: Upstream) -> None:
    async with Upstream(Answer(body=b"other")) as other:
        gateway = Gateway(
            routes=[Route("/*", to={"a": 100, "b": 0})],
            clusters={"a": Cluster(up.url), "b": Cluster(other.url)},
        )
        for _ in range(20):
            await call(gateway)
        assert (len(up.requests), len(other.requests)) == (20, 0)
        await close(gateway)


async def test_a_file_is_read_and_explained(tmp_path: Path, up: Upstream) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"routes:\n  - match: GET /a/{{id}}\n    to: up\nclusters:\n  up:\n    urls: [{up.url}]\n")
    gateway = Gateway.from_config(file)
    assert (await call(gateway, "GET", "/a/1")).status == 200
    winner = gateway.explain("GET", "http://shop.example/a/1").winner
    assert winner is not None
    assert winner.id == "GET /a/{id}"
    assert gateway.explain("POST", "/a/1").winner is None
    file.write_text("routes:\n  - match: nonsense\n    to: up\n")
    with pytest.raises(ConfigRefused, match=r"gateway.yaml:2"):
        gateway.apply(file)
    await close(gateway)


def test_either_a_config_or_its_parts() -> None:
    with pytest.raises(TypeError, match="either"):
        Gateway(config=Gateway().config, routes=[Route("/a", to="x")])


async def test_it_can_be_used_again_after_closing(up: Upstream) -> None:
    gateway = Gateway(routes=[Route("/*", to="up")], clusters={"up": Cluster(up.url)})
    await call(gateway)
    await close(gateway)
    assert (await call(gateway)).status == 200
    assert up.connections == 2
    await close(gateway)


async def test_a_gateway_mounted_below_a_path_matches_what_is_below_it() -> None:
    seen: list[tuple[str, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["path"], scope["raw_path"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"app"})

    gateway = Gateway(routes=[Route("/a", to="app")], clusters={"app": Cluster(app=app)})
    assert (await call(gateway, "GET", "/a", root_path="/mnt")).status == 200
    assert (await call(gateway, "GET", "/mnt", root_path="")).status == 404
    router = Router(app, routes=[], clusters={})
    assert (await call(router, "GET", "/x/../b", root_path="/mnt")).status == 200
    assert seen[-1] == ("/mnt/b", b"/mnt/b")
    await close(gateway)


async def test_an_app_in_this_process_knows_who_is_calling() -> None:
    """The identity that the gateway found is the app's `scope["user"]`, and a middleware inside begins with it."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope["user"].subject, len(scope["state"]["gatekit"])])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    class Inside(Spec):
        kind = "inside"

        def decide(self, exchange: Exchange) -> None:
            assert exchange.identity is not None
            seen.append(exchange.identity.subject)

    gateway = Gateway(
        policies=[Authn(api_keys({"k": ApiKey(secret="s3cret-s3cret", subject="alice")}))],
        routes=[Route("/*", to="app")],
        clusters={"app": Cluster(app=Policies(app, Inside()))},
    )
    assert (await call(gateway, headers={"x-api-key": "s3cret-s3cret"})).status == 200
    assert seen == ["alice", "alice", 2]
    await close(gateway)


async def test_the_threads_of_a_wsgi_app_end_with_the_gateway() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [b"hi"]

    gateway = Gateway(routes=[Route("/*", to="app")], clusters={"app": Cluster(app=app)})
    assert (await call(gateway)).body == b"hi"
    await close(gateway)
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("gatekit-wsgi-app")]
    for thread in workers:
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()


async def test_the_same_limit_twice_is_two_limits() -> None:
    """Each counts for itself: one of them must not be charged twice for a request."""
    limit = RateLimit("2/minute")
    gateway = Gateway(policies=[limit, limit], ports=test_ports())
    assert [(await call(gateway)).status for _ in range(3)] == [404, 404, 429]
    stack = Policies(Lifespanned(), limit, Rewrite(path="/x"), limit, ports=test_ports())
    assert [(await call(stack)).status for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("target", ["/v1/./orders//42", "/v1/x/../orders/%34%32", "/v1/%2e/orders/42"])
async def test_rt6_matching_policies_and_upstream_see_one_path(up: Upstream, target: str) -> None:
    seen: list[str] = []

    class Look(Spec):
        kind = "look"

        def decide(self, exchange: Exchange) -> None:
            seen.append(exchange.path)

    gateway = Gateway(
        policies=[Look()], routes=[Route("GET /v1/orders/{id}", to="up")], clusters={"up": Cluster(up.url)}
    )
    assert (await call(gateway, "GET", target)).status == 200
    assert (seen, up.last.target) == (["/v1/orders/42"], "/v1/orders/42")
    assert (await call(gateway, "GET", "/v1/orders%2F42")).status in (400, 404)
    assert len(up.requests) == 1
    await close(gateway)
