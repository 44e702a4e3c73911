"""Separate middlewares of ours, one within the other: what an inner one learns must not undo what an outer one said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gatekit import asgi, wsgi
from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.testing import Log, Probe, call, call_wsgi, test_ports


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def hello_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"ok"]


def apart(app: Any, *specs: Any, policies: Any) -> Any:
    """One middleware for each spec, with something foreign between."""
    ports = test_ports()
    for spec in reversed(specs):
        app = foreign(policies(app, spec, ports=ports))
    return app


def foreign(inner: Any) -> Any:
    """A middleware that is not ours and changes nothing."""
    return lambda *given: inner(*given)


def identify(name: str) -> Callable[[Exchange], None]:
    def decide(exchange: Exchange) -> None:
        exchange.identity = Identity(name, scheme="test")

    return decide


def failing(*_: object) -> None:
    raise LookupError("hook")


async def test_an_inner_identity_is_the_one_the_app_sees() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["user"].subject)
        await hello(scope, receive, send)

    specs = [Probe("a", [], decide=identify("outer")), Probe("b", [], decide=identify("inner"))]
    await call(asgi.Policies(app, *specs, ports=test_ports()))
    await call(apart(app, *specs, policies=asgi.Policies))
    assert seen == ["inner", "inner"]


async def test_an_identity_learned_inside_is_known_outside() -> None:
    known: list[Any] = []
    specs = [
        Probe("a", [], on_response=lambda exchange, _: known.append(exchange.identity)),
        Probe("b", [], decide=identify("inner")),
    ]
    await call(apart(hello, *specs, policies=asgi.Policies))
    call_wsgi(apart(hello_wsgi, *specs, policies=wsgi.Policies))
    assert [one.subject for one in known] == ["inner", "inner"]


async def test_a_hook_that_fails_outside_is_the_gateways_fault_under_asgi() -> None:
    log: Log = []
    await call(apart(hello, Probe("a", log, on_response=failing), Probe("b", log), policies=asgi.Policies))
    assert ("a", "observe", 500, "gateway") in log
    assert [entry[:2] for entry in log].count(("b", "observe")) == 1


def empty_wsgi(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    yield from ()


@pytest.mark.parametrize("app", [hello_wsgi, empty_wsgi])
def test_a_hook_that_fails_outside_is_the_gateways_fault_under_wsgi(app: Any) -> None:
    log: Log = []
    call_wsgi(apart(app, Probe("a", log, on_response=failing), Probe("b", log), policies=wsgi.Policies))
    assert ("a", "observe", 500, "gateway") in log
    assert [entry[:2] for entry in log].count(("b", "observe")) == 1


async def test_request_ids_are_one_id() -> None:
    ids: list[str] = []

    def note(exchange: Exchange) -> None:
        ids.append(exchange.request_id)

    def note_response(exchange: Exchange, head: Any) -> None:
        ids.append(exchange.request_id)

    specs = [Probe("a", [], on_response=note_response), Probe("b", [], decide=note), Probe("c", [], decide=note)]
    await call(apart(hello, *specs, policies=asgi.Policies))
    call_wsgi(apart(hello_wsgi, *specs, policies=wsgi.Policies))
    assert len(set(ids[:3])) == 1
    assert len(set(ids[3:])) == 1


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_the_state_is_a_stack_with_the_innermost_last(depth: int) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["state"]["gatekit"])
        await hello(scope, receive, send)

    await call(apart(app, *[Probe(f"p{n}", []) for n in range(depth)], policies=asgi.Policies))
    (stack,) = seen
    assert len(stack) == depth
    assert [one.parent for one in stack] == [None, *stack[:-1]]
