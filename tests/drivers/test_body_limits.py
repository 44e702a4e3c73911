"""SE6: how much body a request may have, and how slowly it may come."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any, ClassVar

import pytest

from gatekit import Cluster, Gateway, Route, asgi, wsgi
from gatekit.core.exchange import Exchange
from gatekit.core.outcome import Fault, Outcome
from gatekit.core.policy import Spec
from gatekit.core.verdict import Reply
from gatekit.errors import ConfigRefused
from gatekit.testing import Answer, Upstream, call, call_wsgi

SEEN: list[tuple[int | None, str | None, Fault]] = []


class Watching(Spec):
    """Remembers how exchanges ended."""

    kind: ClassVar[str] = "watching"

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        SEEN.append((outcome.status, outcome.reason, outcome.fault))


class Reading(Spec):
    """Reads the body before the app does."""

    kind: ClassVar[str] = "reading"
    needs_body: ClassVar[int] = 100

    def decide(self, exchange: Exchange) -> Reply | None:
        return None


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    SEEN.clear()


async def reading_app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body; says nothing to a client that has left."""
    read = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            if scope["path"] == "/stubborn":
                break
            raise ConnectionError("the client has left")
        read += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % read})


def reading_wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [b"%d" % len(body)]


def gateway(to: Any, **settings: Any) -> Gateway:
    routes = [
        Route("/wide/*", to="up", max_body=1000),
        Route("/any/*", to="up", max_body="unlimited"),
        Route("/*", to="up"),
    ]
    return Gateway(policies=[Watching()], routes=routes, clusters={"up": to}, **settings)


LENGTH = [("content-length", "11")]
CHUNKED = [("transfer-encoding", "chunked")]
WHERE = ["forwarded", "app", "wsgi-app"]


def parts(*sizes: int) -> list[bytes]:
    return [b"x" * size for size in sizes]


async def sent_to(where: str, target: str, body: Any, headers: Any, **settings: Any) -> tuple[Any, int]:
    """The answer, and how many requests the upstream saw whole (-1: there is none)."""
    if where == "forwarded":
        async with Upstream(lambda seen: Answer(body=b"%d" % len(seen.body))) as up:
            served = gateway(Cluster(up.url), **settings)
            try:
                return await call(served, "POST", target, headers=headers, body=body), len(up.requests)
            finally:
                await served.aclose()
    app: Any = reading_app if where == "app" else reading_wsgi
    served = gateway(Cluster(app=app), **settings)
    try:
        return await call(served, "POST", target, headers=headers, body=body), -1
    finally:
        await served.aclose()
        for thread in threading.enumerate():
            if thread.name.startswith("gatekit-wsgi"):
                thread.join(5)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(("headers", "body"), [(LENGTH, parts(11)), (CHUNKED, parts(6, 5)), (CHUNKED, parts(11))])
async def test_se6_a_body_that_is_too_long(where: str, headers: Any, body: list[bytes]) -> None:
    response, seen = await sent_to(where, "/", body, headers, max_body=10)
    assert (response.status, response.json()["code"]) == (413, "body.too_large")
    assert seen <= 0
    assert SEEN == [(413, "body.too_large", Fault.CLIENT)]


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("headers", [[("content-length", "10")], CHUNKED])
async def test_se6_a_body_that_just_fits(where: str, headers: Any) -> None:
    response, _ = await sent_to(where, "/", parts(4, 6), headers, max_body=10)
    assert (response.status, response.body) == (200, b"10")


@pytest.mark.parametrize(
    ("target", "size", "status"),
    [("/wide/a", 1000, 200), ("/wide/a", 1001, 413), ("/any/a", 5000, 200), ("/a", 11, 413), ("/a", 10, 200)],
)
async def test_se6_a_route_has_its_own_limit(target: str, size: int, status: int) -> None:
    for headers in (CHUNKED, [("content-length", str(size))]):
        response, _ = await sent_to("forwarded", target, parts(size), headers, max_body=10)
        assert response.status == status


async def test_se6_the_default_is_ten_mebibytes() -> None:
    mebibytes = [("content-length", str(10 * 1024 * 1024 + 1))]
    response, _ = await sent_to("app", "/", b"", mebibytes)
    assert response.status == 413


def test_sizes_are_written_with_units() -> None:
    served = Gateway.from_config({"max_body": "64KiB", "routes": [{"match": "/*", "to": "up"}],
                                  "clusters": {"up": {"urls": "http://127.0.0.1:1"}}})  # fmt: skip
    assert served.plan.routes[0].max_body == 65536
    with pytest.raises(ConfigRefused, match="64KiB"):
        Gateway.from_config({"max_body": "many", "routes": [], "clusters": {}})
    with pytest.raises(ConfigRefused, match="64KiB"):
        Gateway.from_config({"max_body": True, "routes": [], "clusters": {}})


# -- what a policy reads


async def test_se6_a_policy_that_reads_meets_the_limit() -> None:
    served = Gateway(policies=[Watching(), Reading()], app=reading_app, max_body=10)
    response = await call(served, "POST", "/", headers=CHUNKED, body=parts(6, 5))
    assert (response.status, response.json()["code"]) == (413, "body.too_large")


async def test_se6_a_policy_that_reads_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekit.drivers.body.BODY_GRACE", 0.0)

    async def trickling() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    # A hundred bytes at the least rate would take a hundredth of a second.
    served = Gateway(policies=[Reading()], app=reading_app, min_body_rate=10_000)
    response = await call(served, "POST", "/", headers=CHUNKED, body=trickling())
    assert (response.status, response.json()["code"]) == (408, "body.too_slow")


# -- in front of an app


@pytest.mark.parametrize("path", ["/", "/stubborn"])
@pytest.mark.parametrize("specs", [(), (Watching(),)], ids=["bare", "observed"])
async def test_se6_a_middleware_tells_the_app_that_its_client_left(path: str, specs: tuple[Spec, ...]) -> None:
    app = asgi.Policies(reading_app, *specs, max_body=10)
    response = await call(app, "POST", path, headers=CHUNKED, body=parts(6, 5))
    assert (response.status, response.json()["code"]) == (413, "body.too_large")
    assert [(413, "body.too_large", Fault.CLIENT)] * len(specs) == SEEN
    response = await call(app, "POST", path, headers=LENGTH, body=parts(11))
    assert response.status == 413
    response = await call(app, "POST", path, headers=CHUNKED, body=parts(6, 4))
    assert (response.status, response.body) == (200, b"10")


async def test_a_middleware_has_no_limit_of_its_own() -> None:
    response = await call(asgi.Policies(reading_app), "POST", "/", headers=CHUNKED, body=parts(20_000_000))
    assert response.body == b"20000000"


async def test_an_answer_that_has_begun_is_cut() -> None:
    async def echoing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ConnectionError("the client has left")

    app = asgi.Policies(echoing, Watching(), max_body=10)
    with pytest.raises(ConnectionError):
        await call(app, "POST", "/", headers=CHUNKED, body=parts(6, 5))


@pytest.mark.parametrize("specs", [(), (Watching(),)], ids=["bare", "observed"])
def test_a_wsgi_middleware(specs: tuple[Spec, ...]) -> None:
    app = wsgi.Policies(reading_wsgi, *specs, max_body=10)
    assert call_wsgi(app, "POST", "/", body=b"x" * 10).body == b"10"
    assert call_wsgi(app, "POST", "/", body=b"x" * 11).status == 413
    undeclared = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    assert call_wsgi(app, "POST", "/", body=b"x" * 10, extra=undeclared).body == b"10"
    assert call_wsgi(app, "POST", "/", body=b"x" * 11, extra=undeclared).status == 413
    assert SEEN[1:2] == [(413, "body.too_large", Fault.CLIENT)] * len(specs)


# -- pace


async def test_se6_a_client_that_trickles_is_answered_with_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekit.upstream.upload.BODY_GRACE", 0.0)

    async def trickling() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async with Upstream() as up:
        served = gateway(Cluster(up.url), min_body_rate=100)
        response = await call(served, "POST", "/", headers=CHUNKED, body=trickling())
        assert (response.status, response.json()["code"]) == (408, "body.too_slow")
        assert SEEN == [(408, "body.too_slow", Fault.CLIENT)]
        await up.wait_for(lambda up: up.open_connections == 0)
        assert not up.requests
        await served.aclose()
