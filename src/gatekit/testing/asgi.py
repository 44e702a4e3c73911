"""Call an ASGI application as a server would, one request at a time and without a socket.

The calls behave as uvicorn, granian and hypercorn do where these agree: `receive` gives `http.disconnect` once the
response is complete or the client has gone, `send` to a client that has gone raises nothing, and a breach of the
protocol is an error. Header names in upper case, which the specification forbids and Django sends, are let through as
every server does. Sources: ASGI HTTP specification 2.5.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

from gatekit.core.headers import Headers
from gatekit.testing.exchanges import CLIENT, HOST, HeaderItems, raw_headers, split_target
from gatekit.testing.responses import ProtocolBroken, TestResponse

Message = dict[str, Any]
App = Callable[..., Awaitable[None]]
BodyParts = bytes | Iterable[bytes] | AsyncIterable[bytes]
"""A request body: whole, in parts, or in parts that come when an async generator lets them."""


class _Client:
    """The far end of one request: hands out the request, takes the response, leaves when it was told to."""

    def __init__(self, method: str, body: BodyParts, disconnect_after: int | None, on_send: Any) -> None:
        self.response = TestResponse()
        self.broken: str | None = None
        self._method = method
        self._body = _parts(body)
        self._disconnect_after = disconnect_after
        self._on_send = on_send
        self._sent_last = False
        self._gone = asyncio.Event()
        self._next: bytes | None = None
        self._length = 0
        self._trailers = False
        self._started = False

    async def receive(self) -> Message:
        if self._sent_last or self._gone.is_set():
            if self._disconnect_after == 0:
                self._gone.set()
            await self._gone.wait()
            return {"type": "http.disconnect"}
        part = await anext(self._body, b"") if self._next is None else self._next
        self._next = await anext(self._body, None)
        self._sent_last = self._next is None
        return {"type": "http.request", "body": part, "more_body": not self._sent_last}

    async def send(self, message: Message) -> None:
        response = self.response
        if self._gone.is_set() and not response.complete:
            response.late.append(message)
            return
        wrong = self._breach(message)
        if wrong is not None:
            self.broken = self.broken or wrong
            raise ProtocolBroken(wrong)
        response.messages.append(message)
        self._take(message)
        if self._on_send is not None:
            await self._on_send(message)
        if response.complete or len(response.messages) == self._disconnect_after:
            self._gone.set()

    def _take(self, message: Message) -> None:
        response, kind = self.response, message["type"]
        if kind == "http.response.start":
            self._started = True
            response.status = message["status"]
            response.headers = Headers([(name.lower(), value) for name, value in message.get("headers", ())])
            self._trailers = bool(message.get("trailers", False))
        elif kind == "http.response.body":
            part = message.get("body", b"")
            self._length += len(part)
            if part and self._method != "HEAD":
                response.parts.append(part)
            response.complete = not message.get("more_body", False) and not self._trailers
        elif kind == "http.response.trailers":
            response.trailers.extend(message.get("headers", ()))
            response.complete = not message.get("more_trailers", False)

    def _breach(self, message: Message) -> str | None:
        """Which rule this message breaks, or None."""
        kind, response = message["type"], self.response
        if response.complete:
            return f"{kind} after the response was complete"
        if kind == "http.response.start":
            if self._started:
                return "a second http.response.start"
            return _bad_headers(message.get("headers", ()))
        if not self._started:
            return f"{kind} before http.response.start"
        if kind == "http.response.body":
            declared = response.headers.get("content-length")
            length = self._length + len(message.get("body", b""))
            if declared is None or self._method == "HEAD" or response.status == 304:
                return None
            if length > int(declared):
                return f"a body of {length} bytes under a Content-Length of {declared}"
            if length < int(declared) and not message.get("more_body", False):
                return f"a body of {length} bytes was ended under a Content-Length of {declared}"
            return None
        if kind == "http.response.trailers":
            return None if self._trailers else "http.response.trailers that http.response.start did not announce"
        return None if kind.startswith("http.response.") else f"a message of type {kind!r}"


def _bad_headers(headers: Any) -> str | None:
    for name, value in headers:
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            return f"a header that is not bytes: {name!r}: {value!r}"
        if name.startswith(b":"):
            return f"a pseudo header: {name!r}"
        if any(char in value for char in (b"\r", b"\n", b"\x00")):
            return f"a header value with CR, LF or NUL: {value!r}"
    return None


async def _parts(body: BodyParts) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
    elif isinstance(body, AsyncIterable):
        async for part in body:
            yield part
    else:
        for part in body:
            yield part


def http_scope(
    method: str,
    target: str,
    *,
    headers: HeaderItems | None = None,
    client: str | None = CLIENT,
    scheme: str = "http",
    http_version: str = "1.1",
    root_path: str = "",
    extensions: Mapping[str, Any] | None = None,
    state: dict[str, Any] | None = None,
    kind: str = "http",
) -> dict[str, Any]:
    """The scope that a server makes of this request. A Host is added where none is given."""
    from urllib.parse import unquote_to_bytes

    given_scheme, authority, raw_path, query = split_target(target)
    raw = raw_headers(headers)
    if not any(name == b"host" for name, _ in raw):
        raw.insert(0, (b"host", (authority or HOST).encode("latin-1")))
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": http_version,
        "method": method,
        "scheme": given_scheme or scheme,
        "path": root_path + unquote_to_bytes(raw_path).decode("utf-8", "replace"),
        "raw_path": root_path.encode() + raw_path,
        "query_string": query,
        "root_path": root_path,
        "headers": raw,
        "client": None if client is None else (client, 49152),
        "server": ("127.0.0.1", 80),
        "extensions": dict(extensions or {}),
    }
    if state is not None:
        scope["state"] = state
    if kind == "websocket":
        del scope["method"]
        scope["subprotocols"] = []
    return scope


async def call(
    app: App,
    method: str = "GET",
    target: str = "/",
    *,
    headers: HeaderItems | None = None,
    body: BodyParts = b"",
    disconnect_after: int | None = None,
    on_send: Callable[[Message], Awaitable[None]] | None = None,
    raise_app_exceptions: bool = True,
    timeout: float = 10.0,
    **scope_fields: Any,
) -> TestResponse:
    """One request to an ASGI application, until the application has returned.

    The client leaves after that many response messages when `disconnect_after` is given; 0 is once the request has
    been read. `on_send` is awaited with every message before the app may go on: a slow reader. With
    `raise_app_exceptions=False` what the app raises is kept in `error`, as behind a server. Other keywords go to
    `http_scope` (client, scheme, http_version, root_path, extensions, state). Raises ProtocolBroken when the app breaks
    the protocol, TimeoutError when it has not returned after `timeout` seconds.
    """
    raw = raw_headers(headers)
    if isinstance(body, bytes) and body and not any(name == b"content-length" for name, _ in raw):
        raw.append((b"content-length", b"%d" % len(body)))
    elif not isinstance(body, bytes) and not any(name in (b"content-length", b"transfer-encoding") for name, _ in raw):
        raw.append((b"transfer-encoding", b"chunked"))
    client = _Client(method, body, disconnect_after, on_send)
    response = client.response
    scope = http_scope(method, target, headers=raw, **scope_fields)
    try:
        async with asyncio.timeout(timeout):
            await app(scope, client.receive, client.send)
    except TimeoutError:
        raise
    except Exception as error:
        response.error = error
        if raise_app_exceptions and client.broken is None:
            raise
    if client.broken is not None:
        raise ProtocolBroken(client.broken) from response.error
    return response
