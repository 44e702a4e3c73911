"""What the real servers serve: one gated app for ASGI, one for WSGI, and an ungated endpoint that tells what was
recorded.

A request carries a key (`x-key`); `/records/KEY?wait=WORD` answers with what was recorded under it, as soon as an entry
begins with that word or after a few seconds. `/release/KEY` lets a response that waits go on.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

from gatekit.asgi import Policies
from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Outcome
from gatekit.core.policy import Spec
from gatekit.core.verdict import Reply
from gatekit.wsgi import Policies as WsgiPolicies

PATIENCE = 4.0
"""Seconds that `/records` and a waiting response wait at most."""

if os.environ.get("GATEKIT_DIES_WITH_PARENT"):
    # Servers start workers of their own; no worker may outlive the process that started it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Records:
    """What happened, by key. Entries may come from any thread or loop."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: dict[str, list[list[Any]]] = defaultdict(list)
        self._released: dict[str, int] = defaultdict(int)

    def add(self, key: str | None, *entry: Any) -> None:
        with self._changed:
            self._entries[key or ""].append(list(entry))
            self._changed.notify_all()

    def wait(self, key: str, word: str) -> list[list[Any]]:
        """The entries of that key, once one begins with `word`. Blocks."""
        with self._changed:
            self._changed.wait_for(lambda: not word or any(one[0] == word for one in self._entries[key]), PATIENCE)
            return list(self._entries[key])

    def release(self, key: str) -> None:
        with self._changed:
            self._released[key] += 1
            self._changed.notify_all()

    def released(self, key: str, times: int) -> None:
        """Return once `release` was called that often. Blocks."""
        with self._changed:
            self._changed.wait_for(lambda: self._released[key] >= times, PATIENCE)


RECORDS = Records()


class Recording(Spec):
    """Records every hook; refuses what asks for it in its query; marks every response."""

    kind: ClassVar[str] = "recording"

    async def decide(self, exchange: Exchange) -> Reply | None:
        RECORDS.add(exchange.header("x-key"), "decide", exchange.path)
        return Reply(403, "probe.refused") if exchange.query == b"refuse" else None

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        RECORDS.add(exchange.header("x-key"), "on_response", head.status)
        head.set("x-gate", "1")

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        RECORDS.add(exchange.header("x-key"), "observe", outcome.status, outcome.fault.value, outcome.complete)


# -- ASGI


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """The app behind the policies. It has no lifespan, as many have none."""
    if scope["type"] == "lifespan":
        raise RuntimeError("this app has no lifespan")
    key = next((value.decode() for name, value in scope["headers"] if name == b"x-key"), "")
    if scope["type"] == "websocket":
        await _echo(receive, send)
        return
    path = scope["path"]
    body = await _body(receive)
    if path == "/raise":
        raise LookupError("the app broke")
    status = 404 if path == "/missing" else 200
    headers = [(b"content-type", b"text/plain")]
    if path == "/ok":
        headers.append((b"content-length", b"2"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if path == "/stream":
        for number in range(3):
            await send({"type": "http.response.body", "body": b"part %d\n" % number, "more_body": True})
            await asyncio.to_thread(RECORDS.released, key, number + 1)
    if path == "/listens":
        await send({"type": "http.response.body", "body": b"begun\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        RECORDS.add(key, "app heard")
        return
    if path == "/deaf":
        await send({"type": "http.response.body", "body": b"begun\n", "more_body": True})
        await asyncio.to_thread(RECORDS.wait, key, "observe")
        return
    if path == "/break":
        await send({"type": "http.response.body", "body": b"begun\n", "more_body": True})
        raise LookupError("the app broke in the middle")
    await send({"type": "http.response.body", "body": body or (b"ok" if path == "/ok" else b"")})
    RECORDS.add(key, "background")


async def _body(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


gated = Policies(behind, Recording())


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The gated app, and what tells about it."""
    words = scope.get("path", "").split("/")
    if scope["type"] != "http" or words[1] not in ("records", "release"):
        await gated(scope, receive, send)
        return
    query = scope["query_string"].decode()
    found = await asyncio.to_thread(_told, words[1], words[2], query.removeprefix("wait=").replace("+", " "))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": found})


def _told(what: str, key: str, word: str) -> bytes:
    if what == "release":
        RECORDS.release(key)
        return b"[]"
    return json.dumps(RECORDS.wait(key, word)).encode()


# -- WSGI


class _Parts:
    """A body that records its close."""

    def __init__(self, key: str, parts: Iterator[bytes]) -> None:
        self._key = key
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        RECORDS.add(self._key, "close")


def wsgi_behind(environ: dict[str, Any], start_response: Any) -> Any:
    """The app behind the policies under WSGI."""
    path, key = environ["PATH_INFO"], environ.get("HTTP_X_KEY", "")
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length else b""
    if path == "/raise":
        raise LookupError("the app broke")
    headers = [("Content-Type", "text/plain")]
    if path == "/ok":
        headers.append(("Content-Length", "2"))
    start_response("404 Not Found" if path == "/missing" else "200 OK", headers)
    # Not every server cuts the body of an answer to HEAD (waitress does not): that is left to the app.
    return _Parts(key, iter(()) if environ["REQUEST_METHOD"] == "HEAD" else _wsgi_parts(path, key, body))


def _wsgi_parts(path: str, key: str, body: bytes) -> Iterator[bytes]:
    if path == "/stream":
        for number in range(3):
            yield b"part %d\n" % number
            RECORDS.released(key, number + 1)
    elif path == "/break":
        yield b"begun\n"
        raise LookupError("the app broke in the middle")
    elif path == "/endless":
        for _ in range(2_000):
            yield b"x" * 65536
    else:
        yield body or (b"ok" if path == "/ok" else b"")


wsgi_gated = WsgiPolicies(wsgi_behind, Recording())


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    """The gated app under WSGI, and what tells about it."""
    words = environ["PATH_INFO"].split("/")
    if words[1] not in ("records", "release"):
        return wsgi_gated(environ, start_response)
    word = environ["QUERY_STRING"].removeprefix("wait=").replace("+", " ")
    found = _told(words[1], words[2], word)
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(found)))])
    return [found]
