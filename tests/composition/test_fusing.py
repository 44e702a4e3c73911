"""One run of n policies and n runs of one policy are the same: the same bytes, the same observations.

Random stacks are built three ways: all policies in one middleware; one middleware each, which gatekit fuses; one
middleware each with a transparent foreign one between, which cannot be fused.

A request that the door refuses is left out: the outermost middleware has to answer it, since nothing foreign behind it
may see such a request, so that its own policies run and those further in do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekit import asgi, wsgi
from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.identity import Identity
from gatekit.core.policy import Spec
from gatekit.core.verdict import Reply
from gatekit.testing import FixedRandom, Log, ManualClock, Probe, Replacing, call, call_wsgi, test_ports

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Layer:
    """What one random policy does."""

    decide: str = "pass"
    respond: str = "pass"
    filter: str = "none"
    needs_body: int | None = None


@dataclass(frozen=True)
class Inner:
    """What the app behind does, and what is asked of it."""

    method: str = "GET"
    target: str = "/"
    status: int = 200
    chunks: tuple[bytes, ...] = (b"ok",)
    sse: bool = False
    raises: bool = False
    body: bytes = b""


LAYERS = st.builds(
    Layer,
    decide=st.sampled_from(["pass", "pass", "pass", "reply", "raise", "queue", "header", "identity", "id"]),
    respond=st.sampled_from(["pass", "pass", "append", "status", "raise", "queued"]),
    filter=st.sampled_from(["none", "none", "tail", "upper", "declines"]),
    needs_body=st.sampled_from([None, None, 4, 64]),
)
INNERS = st.builds(
    Inner,
    method=st.sampled_from(["GET", "POST", "HEAD"]),
    target=st.sampled_from(["/", "/a//b/../c?q"]),
    status=st.sampled_from([200, 204, 304, 404, 500]),
    chunks=st.lists(st.sampled_from([b"a", b"bc", b""]), max_size=3).map(tuple),
    sse=st.booleans(),
    raises=st.booleans(),
    body=st.sampled_from([b"", b"abc", b"abcdef"]),
)


def probe(name: str, layer: Layer, log: Log) -> Probe:
    def decide(exchange: Exchange) -> Reply | None:
        match layer.decide:
            case "reply":
                return Reply(403, f"probe.{name}", headers=[("x-by", name)])
            case "raise":
                raise LookupError(name)
            case "queue":
                exchange.respond_with("x-queued", name)
            case "header":
                exchange.headers.append("x-seen", name)
            case "identity":
                exchange.identity = Identity(name, scheme="test")
            case "id":
                log.append((name, "id", exchange.request_id, exchange.identity and exchange.identity.subject))
        return None

    def on_response(exchange: Exchange, head: ResponseHead) -> None:
        match layer.respond:
            case "append":
                head.append("x-passed", name)
            case "status":
                head.status = 202 if head.status == 200 else head.status
            case "raise":
                raise LookupError(name)
            case "queued":
                head.set("x-queued", f"{head.get('x-queued')} {name}")

    filters: dict[str, Any] = {
        "tail": lambda *_: Replacing(lambda part: part, name.encode()),
        "upper": lambda *_: Replacing(),
        "declines": lambda *_: None,
    }
    hooks = {} if layer.filter == "none" else {"body_filter": filters[layer.filter]}
    return Probe(name, log, decide=decide, on_response=on_response, needs_body=layer.needs_body, **hooks)


def headers_of(inner: Inner) -> list[tuple[bytes, bytes]]:
    if inner.sse:
        return [(b"content-type", b"text/event-stream")]
    return [(b"content-type", b"text/plain"), (b"etag", b'"1"')]


Build = Callable[[Any, Sequence[Spec], Any], Any]


def together(app: Any, specs: Sequence[Spec], policies: Any) -> Any:
    return policies(app, *specs)


def adjacent(app: Any, specs: Sequence[Spec], policies: Any) -> Any:
    for spec in reversed(specs):
        app = policies(app, spec)
    return app


def apart_asgi(app: Any, specs: Sequence[Spec], policies: Any) -> Any:
    def foreign(inner: Any) -> Any:
        async def transparent(scope: Any, receive: Any, send: Any) -> None:
            await inner(scope, receive, send)

        return transparent

    for spec in reversed(specs):
        app = foreign(policies(app, spec))
    return app


def apart_wsgi(app: Any, specs: Sequence[Spec], policies: Any) -> Any:
    def foreign(inner: Any) -> Any:
        return lambda environ, start_response: inner(environ, start_response)

    for spec in reversed(specs):
        app = foreign(policies(app, spec))
    return app


def by_policy(log: Log, layers: list[Layer]) -> dict[str, list[Any]]:
    """What each policy went through, in its own order.

    Two things are not promised. Who observes first when an app raises: separate middlewares hear it from the inside.
    And which status a policy observes when one outside of it replaces the response or its status: a fused run knows
    what was sent, a middleware of its own knows only what it let pass.
    """
    found: dict[str, list[Any]] = {}
    changed = False
    for place, layer in enumerate(layers):
        name = f"p{place}"
        mine = [entry[1:] for entry in log if entry[0] == name]
        found[name] = [entry[:1] if changed and entry[0] == "observe" else entry for entry in mine]
        changed = changed or layer.respond in ("status", "raise")
    return found


async def play_asgi(inner: Inner, layers: list[Layer], build: Build) -> tuple[Any, ...]:
    log: Log = []
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive()).get("more_body", False):
            body += message["body"]
        body += message["body"]
        got.append((scope["path"], scope["raw_path"], sorted(scope["headers"]), body, scope.get("user")))
        await send({"type": "http.response.start", "status": inner.status, "headers": headers_of(inner)})
        for chunk in inner.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if inner.raises:
            raise OSError("the app broke")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    ports = test_ports(clock=ManualClock(), random=FixedRandom())
    specs = [probe(f"p{place}", layer, log) for place, layer in enumerate(layers)]
    stack = build(app, specs, lambda app, *specs: asgi.Policies(app, *specs, ports=ports))
    response = await call(stack, inner.method, inner.target, body=inner.body, raise_app_exceptions=False)
    return response.messages, repr(response.error), by_policy(log, layers), got


def play_wsgi(inner: Inner, layers: list[Layer], build: Build) -> tuple[Any, ...]:
    log: Log = []
    got: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        got.append((environ["PATH_INFO"], environ["REQUEST_URI"], environ.get("HTTP_X_SEEN"), body))
        headers = [(name.decode(), value.decode()) for name, value in headers_of(inner)]
        start_response(f"{inner.status} Whatever", headers)
        yield from inner.chunks
        if inner.raises:
            raise OSError("the app broke")

    ports = test_ports(clock=ManualClock(), random=FixedRandom())
    specs = [probe(f"p{place}", layer, log) for place, layer in enumerate(layers)]
    stack = build(app, specs, lambda app, *specs: wsgi.Policies(app, *specs, ports=ports))
    response = call_wsgi(stack, inner.method, inner.target, body=inner.body, raise_app_exceptions=False)
    return response.status, response.headers.raw, response.body, repr(response.error), by_policy(log, layers), got


@given(INNERS, st.lists(LAYERS, min_size=1, max_size=4))
@QUICK
def test_fused_and_unfused_are_the_same_under_asgi(inner: Inner, layers: list[Layer]) -> None:
    async def all_three() -> None:
        fused = await play_asgi(inner, layers, together)
        assert await play_asgi(inner, layers, adjacent) == fused
        assert await play_asgi(inner, layers, apart_asgi) == fused

    asyncio.run(all_three())


@given(INNERS, st.lists(LAYERS, min_size=1, max_size=4))
@QUICK
def test_fused_and_unfused_are_the_same_under_wsgi(inner: Inner, layers: list[Layer]) -> None:
    fused = play_wsgi(inner, layers, together)
    assert play_wsgi(inner, layers, adjacent) == fused
    assert play_wsgi(inner, layers, apart_wsgi) == fused
