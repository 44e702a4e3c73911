"""The application behind the gateways of these tests: it says what it saw, streams what the test lets it, echoes messages.

It runs in a thread of the test process, so that a test can hold a response open and go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import uvicorn

BOUND = 20.0


class Origin:
    """One running origin. `push` sends the next part of the stream of that name, `end` ends it."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self._sock.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._streams: dict[str, asyncio.Queue[bytes]] = defaultdict(asyncio.Queue)
        config = uvicorn.Config(
            self._app, interface="asgi3", lifespan="off", log_config=None, access_log=False, ws="websockets-sansio"
        )
        self._server = _Quiet(config)
        self._thread = threading.Thread(target=self._run, name="origin", daemon=True)
        self._thread.start()

    def push(self, stream: str, part: bytes) -> None:
        self._loop.call_soon_threadsafe(lambda: self._streams[stream].put_nowait(part))

    def end(self, stream: str) -> None:
        self.push(stream, b"")

    def stop(self) -> None:
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(BOUND)
        self._sock.close()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._server.serve([self._sock]))

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await _echo(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        kind, _, name = scope["path"][1:].partition("/")
        if kind == "stream":
            while part := await self._streams[name].get():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        seen = {"path": scope["path"], "method": scope["method"], "headers": headers}
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
