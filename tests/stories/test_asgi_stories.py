"""What only ASGI has: trailers, WebSockets, a client seen to leave, scopes of other kinds, the scope's own rules."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from gatekit.asgi import Policies
from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.verdict import Reply
from gatekit.errors import MisplacedPolicy
from gatekit.testing import Log, Probe, Replacing, call, http_scope, test_ports, websocket


def around(app: Any, *specs: Any, **options: Any) -> Policies:
    return Policies(app, *specs, ports=test_ports(), **options)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def with_trailers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
    await send({"type": "http.response.body", "body": b"ok"})
    await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")], "more_trailers": False})


async def test_trailers_pass_the_hooks_innermost_first_and_end_the_exchange() -> None:
    log: Log = []
    app = around(
        with_trailers,
        Probe("a", log, on_trailers=lambda _, trailers: trailers.append("x-a", trailers.get("x-b") or "")),
        Probe("b", log, on_trailers=lambda _, trailers: trailers.set("x-b", "1")),
    )
    response = await call(app, extensions={"http.response.trailers": {}})
    assert response.trailers == [(b"grpc-status", b"0"), (b"x-b", b"1"), (b"x-a", b"1")]
    assert log[-4:] == [
        ("b", "on_trailers"), ("a", "on_trailers"), ("a", "observe", 200, "nobody"), ("b", "observe", 200, "nobody"),
    ]  # fmt: skip


async def test_a_trailer_hook_that_raises_drops_the_trailers() -> None:
    def failing(*_: object) -> None:
        raise LookupError

    response = await call(
        around(with_trailers, Probe("a", [], on_trailers=failing)), extensions={"http.response.trailers": {}}
    )
    assert response.trailers == []
    assert response.complete


async def test_messages_pass_one_by_one_as_they_come() -> None:
    gate = asyncio.Event()
    arrived: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"2", "more_body": False})

    async def on_send(message: dict[str, Any]) -> None:
        arrived.append(message.get("body", b"-"))
        if len(arrived) == 2:
            gate.set()

    await call(around(app, Probe("a", [])), on_send=on_send)
    assert arrived == [b"-", b"1", b"2"]


async def test_observe_comes_with_the_last_part_and_before_the_background_work() -> None:
    log: Log = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        log.append(("background",))

    await call(around(app, Probe("a", log)))
    assert log[-2:] == [("a", "observe", 200, "nobody"), ("background",)]


async def test_an_exception_after_the_response_is_raised_and_observed_as_it_was_sent() -> None:
    log: Log = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        raise LookupError("in the background")

    response = await call(around(app, Probe("a", log)), raise_app_exceptions=False)
    assert isinstance(response.error, LookupError)
    assert [entry for entry in log if entry[1] == "observe"] == [("a", "observe", 200, "nobody")]


async def test_an_app_that_returns_without_a_response() -> None:
    log: Log = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    response = await call(around(app, Probe("a", log)))
    assert response.status is None
    assert log == [("a", "decide"), ("a", "observe", None, "app")]


async def test_an_app_that_never_ends_its_response() -> None:
    log: Log = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    assert not (await call(around(app, Probe("a", log)))).complete
    assert log[-1] == ("a", "observe", 200, "app")


@pytest.mark.parametrize("listens", [True, False], ids=["app listens", "app does not listen"])
async def test_a_client_that_leaves_before_the_head_is_a_499(listens: bool) -> None:
    """The app's own answer, if it gives one to nobody, changes nothing about how it ended."""
    log: Log = []
    observed = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if listens:
            assert (await receive())["type"] == "http.disconnect"
        else:
            async with asyncio.timeout(2):
                await observed.wait()
        await hello(scope, receive, send)

    probe = Probe("a", log, observe=lambda *_: observed.set())
    await call(around(app, probe), body=b"x", method="POST", disconnect_after=0)
    assert [entry for entry in log if entry[1] == "observe"] == [("a", "observe", 499, "nobody")]


async def test_a_client_that_leaves_an_app_that_only_sends_is_a_499() -> None:
    log: Log = []
    observed = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with asyncio.timeout(2):
            for _ in range(3):
                await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            await observed.wait()

    await call(around(app, Probe("a", log, observe=lambda *_: observed.set())), disconnect_after=3)
    assert [entry for entry in log if entry[1] == "observe"] == [("a", "observe", 499, "nobody")]


async def test_a_client_that_leaves_while_its_body_is_buffered_is_a_499() -> None:
    log: Log = []
    reached: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError("nobody is there")

    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = http_scope("POST", "/", headers={"content-length": "9"})
    await around(app, Probe("a", log, needs_body=64))(scope, receive, send)
    assert reached == []
    assert log[-1] == ("a", "observe", 499, "nobody")


async def test_cancelling_the_app_is_a_499_and_stays_a_cancellation() -> None:
    log: Log = []
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(call(around(app, Probe("a", log))))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log[-1] == ("a", "observe", 499, "nobody")


async def test_the_scope_is_copied_and_never_changed() -> None:
    inner: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inner.append(scope)
        await hello(scope, receive, send)

    scope = http_scope("GET", "/a//b", headers={"x": "1"}, extensions={"http.response.pathsend": {}})
    before = {key: (dict(value) if isinstance(value, dict) else value) for key, value in scope.items()}
    headers = list(scope["headers"])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        return

    changing = Probe("a", [], decide=lambda one: one.headers.set("x", "2"), body_filter=lambda *_: Replacing())
    await around(app, changing)(scope, receive, send)
    assert scope == before
    assert scope["headers"] == headers
    assert inner[0]["path"] == "/a/b"
    assert (b"x", b"2") in inner[0]["headers"]
    assert inner[0]["extensions"] == {}


@pytest.mark.parametrize(
    ("target", "raw"),
    [
        ("/a/b", b"/mnt/a/b"),
        ("/a//b", b"/mnt/a/b"),
        ("/x/../a%20b", b"/mnt/a%20b"),
        ("/", b"/mnt/"),
    ],
)
async def test_a_mounted_app_gets_its_prefix_back(target: str, raw: bytes) -> None:
    seen: list[Any] = []
    paths: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["root_path"], scope["raw_path"], scope["path"].encode()))
        await hello(scope, receive, send)

    def note(exchange: Exchange) -> None:
        paths.append(exchange.path)

    await call(around(app, Probe("a", [], decide=note)), target=target, root_path="/mnt")
    assert seen == [("/mnt", raw, unquote_to_bytes(raw))]
    assert paths == [unquote_to_bytes(raw).decode().removeprefix("/mnt")]


async def test_a_user_that_an_outer_middleware_set_is_left_alone() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["user"])
        await hello(scope, receive, send)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await gated({**scope, "user": "outer"}, receive, send)

    gated: Any = around(app, Probe("a", [], decide=_identify))
    await call(outer)
    assert seen == ["outer"]


def _identify(exchange: Exchange) -> None:
    exchange.identity = Identity("ann", scheme="test")


async def test_other_scopes_pass_to_the_app() -> None:
    kinds: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kinds.append(scope["type"])

    for kind in ("lifespan", "something.new"):
        await around(app, Probe("a", []))({"type": kind}, None, None)
    assert kinds == ["lifespan", "something.new"]


async def test_a_spec_where_a_middleware_belongs_names_the_right_import() -> None:
    with pytest.raises(MisplacedPolicy, match="no policy spec"):
        Policies(hello, hello)  # type: ignore[arg-type]
    with pytest.raises(MisplacedPolicy, match="class"):
        Policies(hello, Probe)  # type: ignore[arg-type]
    with pytest.raises(MisplacedPolicy, match="wraps an ASGI app"):
        Policies(Probe("a", []))  # type: ignore[arg-type]


# -- WebSockets take the same way


async def echo(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": "v1", "headers": [(b"x-app", b"1")]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def test_an_accepted_websocket_passes_the_hooks_as_101() -> None:
    log: Log = []
    app = around(
        echo,
        Probe("a", log, on_response=lambda _, head: head.set("x-a", "1")),
        Probe("b", log, decide=lambda exchange: exchange.respond_with("x-queued", "1")),
    )
    async with websocket(app, "/ws", subprotocols=("v1",)) as ws:
        assert ws.accepted
        assert ws.subprotocol == "v1"
        assert {b"x-app", b"x-a", b"x-queued"} <= {name for name, _ in ws.headers.raw}
        await ws.send("hello")
        assert await ws.receive() == "hello"
        assert not any(entry[1] == "observe" for entry in log)
    assert [entry for entry in log if entry[1] == "on_response"] == [
        ("b", "on_response", 101),
        ("a", "on_response", 101),
    ]
    assert [entry[0] for entry in log if entry[1] == "observe"] == ["a", "b"]


@pytest.mark.parametrize("extension", [True, False], ids=["denial response", "plain close"])
async def test_a_reply_denies_a_websocket(extension: bool) -> None:
    log: Log = []
    app = around(echo, Probe("a", log), Probe("b", log, decide=lambda _: Reply(403, "probe.refused")))
    async with websocket(app, "/ws", denial_response=extension) as ws:
        assert not ws.accepted
        if extension:
            assert ws.denial is not None
            assert ws.denial.status == 403
            assert ws.denial.json()["code"] == "probe.refused"
        else:
            assert ws.denial is None
            assert ws.close_code is not None
    assert log == [
        ("a", "decide"), ("b", "decide"), ("b", "on_response", 403), ("a", "on_response", 403),
        ("a", "observe", 403, "client"), ("b", "observe", 403, "client"),
    ]  # fmt: skip


async def test_the_door_refuses_a_websocket_through_the_policies() -> None:
    log: Log = []
    async with websocket(around(echo, Probe("a", log)), "/a%2fb") as ws:
        assert ws.denial is not None
        assert ws.denial.status == 400
    assert log == [("a", "decide"), ("a", "on_response", 400), ("a", "observe", 400, "client")]


async def test_an_app_that_denies_a_websocket_passes_the_hooks() -> None:
    log: Log = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"who are you"})

    async with websocket(around(app, Probe("a", log, on_response=lambda _, head: head.set("x-a", "1"))), "/ws") as ws:
        assert ws.denial is not None
        assert (ws.denial.status, ws.denial.body, ws.denial.header("x-a")) == (401, b"who are you", "1")
    assert [entry[:3] for entry in log] == [("a", "decide"), ("a", "on_response", 401), ("a", "observe", 401)]


async def test_an_app_that_closes_a_websocket_before_accepting_it_is_a_403() -> None:
    log: Log = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4000})

    async with websocket(around(app, Probe("a", log)), "/ws") as ws:
        assert not ws.accepted
    assert [entry[:3] for entry in log] == [("a", "decide"), ("a", "on_response", 403), ("a", "observe", 403)]


async def test_an_exception_of_a_websocket_app_is_raised_and_observed_once() -> None:
    log: Log = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise LookupError("the app broke")

    async with websocket(around(app, Probe("a", log)), "/ws", raise_app_exceptions=False) as ws:
        assert await ws.receive() is None
    assert isinstance(ws.error, LookupError)
    assert [entry[3] for entry in log if entry[1] == "observe"] == ["app"]
