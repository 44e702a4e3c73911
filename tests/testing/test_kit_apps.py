"""The kit's half that calls applications: ASGI, WSGI and WebSockets, and what it finds wrong with them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gatekit.testing import Closes, ProtocolBroken, call, call_wsgi, environ, http_scope, websocket


async def echo(scope: Any, receive: Any, send: Any) -> None:
    parts = []
    while True:
        message = await receive()
        parts.append(message["body"])
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x", b"1")]})
    await send({"type": "http.response.body", "body": b"|".join(parts), "more_body": True})
    await send({"type": "http.response.body"})


def sends(*messages: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def start(*headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": list(headers), **more}


def part(body: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def test_a_call_records_what_was_sent() -> None:
    response = await call(echo, "POST", "/a?b", body=b"hello")
    assert (response.status, response.header("x"), response.text, response.complete) == (201, "1", "hello", True)
    assert [message["type"] for message in response.messages] == ["http.response.start", *["http.response.body"] * 2]
    assert "201" in repr(response)


async def test_a_body_comes_in_the_parts_it_was_given_in() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"

    assert (await call(echo, "POST", body=[b"a", b"b"])).body == b"a|b"
    assert (await call(echo, "POST", body=slow())).body == b"1|2"
    assert (await call(echo, "POST", body=[])).body == b""


async def test_the_client_leaves_when_it_was_told_to() -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(start())
        await send(part(b"1", more=True))
        heard.append((await receive())["type"])
        await send(part(b"2"))

    response = await call(app, disconnect_after=2)
    assert heard == ["http.disconnect"]
    assert (response.body, response.complete, len(response.late)) == (b"1", False, 1)


async def test_the_client_is_gone_once_the_response_is_complete() -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        heard.append((await receive())["type"])

    assert (await call(app)).complete
    assert heard == ["http.disconnect"]


@pytest.mark.parametrize(
    ("app", "what"),
    [
        (sends(part()), "before http.response.start"),
        (sends(start(), start()), "second http.response.start"),
        (sends(start(), part(), part()), "after the response was complete"),
        (sends(start((b":status", b"1"))), "pseudo header"),
        (sends(start((b"x", b"a\nb"))), "CR, LF or NUL"),
        (sends({"type": "http.response.start", "status": 200, "headers": [("x", "1")]}), "not bytes"),
        (sends(start((b"content-length", b"1")), part(b"ab")), "2 bytes under a Content-Length of 1"),
        (sends(start((b"content-length", b"3")), part(b"ab")), "2 bytes was ended"),
        (sends(start(), part(more=True), {"type": "http.response.trailers"}), "did not announce"),
        (sends(start(), {"type": "websocket.send"}), "of type 'websocket.send'"),
    ],
)
async def test_a_breach_of_asgi_is_found_even_when_the_app_swallows_it(app: Any, what: str) -> None:
    with pytest.raises(ProtocolBroken, match=what):
        await call(app)

    async def swallowing(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except ProtocolBroken:
            pass

    with pytest.raises(ProtocolBroken, match=what):
        await call(swallowing)


async def test_an_exception_is_raised_or_kept() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await call(app)
    assert isinstance((await call(app, raise_app_exceptions=False)).error, LookupError)


async def test_an_app_that_does_not_return_is_given_up() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await call(app, timeout=0.01)


def test_a_scope_is_what_a_server_makes() -> None:
    scope = http_scope("GET", "http://a.test/x%20y?q", root_path="/r", state={"k": 1})
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/r/x y", b"/r/x%20y", b"q")
    assert scope["headers"] == [(b"host", b"a.test")]
    assert scope["state"] == {"k": 1}
    assert "method" not in http_scope("GET", "/", kind="websocket")


# -- WSGI


def hello(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"o", b"k"]


def test_a_wsgi_call() -> None:
    closes = Closes(hello)
    response = call_wsgi(closes, target="/a%20b?q")
    assert (response.status, response.reason, response.body, response.complete) == (200, "OK", b"ok", True)
    assert (closes.opened, closes.closed) == (1, 1)
    assert call_wsgi(hello, "HEAD").body == b""
    early = call_wsgi(hello, close_after=1)
    assert (early.body, early.complete) == (b"o", False)


def test_an_environ_merges_spellings_and_tells_the_raw_target() -> None:
    found = environ("POST", "/a%2Fb?q", headers=[("X-Y", "1"), ("x_y", "2"), ("Content-Type", "t")], body=b"abc")
    assert found["HTTP_X_Y"] == "1,2"
    assert found["REQUEST_URI"] == "/a%2Fb?q"
    assert found["PATH_INFO"] == "/a/b"
    assert (found["CONTENT_LENGTH"], found["CONTENT_TYPE"]) == ("3", "t")
    assert "REQUEST_URI" not in environ("GET", "/", raw_uri=None)


def wsgi(*calls: tuple[Any, ...], result: Any = ()) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        for arguments in calls:
            start_response(*arguments)
        return result

    return app


@pytest.mark.parametrize(
    ("app", "what"),
    [
        (wsgi(), "never called"),
        (wsgi(result=[b"x"]), "before start_response"),
        (wsgi(("200 OK", []), ("200 OK", [])), "a second time"),
        (wsgi((200, [])), "status line"),
        (wsgi(("200", [])), "status line"),
        (wsgi(("200 OK", ())), "must be a list"),
        (wsgi(("200 OK", [["a", "b"]])), "tuple of two strings"),
        (wsgi(("200 OK", [("a", b"b")])), "tuple of two strings"),
        (wsgi(("200 OK", [("a", "b\r\nc")])), "may not be sent"),
        (wsgi(("200 OK", []), result=["text"]), "must be bytes"),
        (wsgi(("200 OK", []), result=b"bytes"), "not a string"),
        (wsgi(("200 OK", [("Content-Length", "3")]), result=[b"ab"]), "2 bytes under a Content-Length of 3"),
    ],
)
def test_a_breach_of_pep_3333_is_found(app: Any, what: str) -> None:
    with pytest.raises(ProtocolBroken, match=what):
        call_wsgi(app)


def test_exc_info_before_and_after_the_body_began() -> None:
    def late(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"x"
        try:
            raise LookupError
        except LookupError:
            start_response("500 Oops", [], sys.exc_info())

    assert isinstance(call_wsgi(late, raise_app_exceptions=False).error, LookupError)
    with pytest.raises(LookupError):
        call_wsgi(late)

    def early(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        try:
            raise LookupError
        except LookupError:
            start_response("500 Oops", [], sys.exc_info())
        return []

    assert call_wsgi(early).status == 500


# -- WebSockets


async def echo_ws(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "v1"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 4001, "reason": "asked to"})
        elif message.get("bytes") is not None:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        else:
            await send({"type": "websocket.send", "text": message["text"]})


async def test_a_websocket_echoes_and_is_closed_by_either_side() -> None:
    async with websocket(echo_ws, "/ws") as ws:
        assert ws.accepted
        assert ws.subprotocol == "v1"
        await ws.send("a")
        await ws.send(b"b")
        assert [await ws.receive(), await ws.receive()] == ["a", b"b"]
        await ws.send("bye")
        assert await ws.receive() is None
        assert (ws.close_code, ws.close_reason) == (4001, "asked to")
    async with websocket(echo_ws, "/ws") as ws:
        ws.close(1006)


async def test_a_websocket_app_that_raises_is_raised_or_kept() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        async with websocket(app):
            pass
    async with websocket(app, raise_app_exceptions=False) as ws:
        assert not ws.accepted
    assert isinstance(ws.error, LookupError)


async def test_a_websocket_app_that_does_not_return_is_given_up() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match="had not returned"):
        async with websocket(app, timeout=0.01):
            pass
