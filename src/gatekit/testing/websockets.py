"""A small WebSocket client for ASGI applications, without a socket. Source: ASGI WebSocket specification 2.5."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from gatekit.core.headers import Headers
from gatekit.testing.asgi import App, Message, http_scope
from gatekit.testing.exchanges import HeaderItems
from gatekit.testing.responses import TestResponse


class websocket:
    """One WebSocket to an ASGI application: `async with websocket(app, "/ws") as ws`.

    On entry the handshake has been answered: `accepted` says how, `headers` and `subprotocol` are those of the accept,
    `denial` has the HTTP response of a refusal (only where `denial_response` is offered, as the extension
    `websocket.http.response`; else the refusal is a plain close). Leaving sends a close and waits for the app to
    return; what it raised is raised there, unless it is in `error` because `raise_app_exceptions` is False.
    """

    def __init__(
        self,
        app: App,
        target: str = "/",
        *,
        headers: HeaderItems | None = None,
        subprotocols: tuple[str, ...] = (),
        denial_response: bool = True,
        raise_app_exceptions: bool = True,
        timeout: float = 10.0,
        **scope_fields: Any,
    ) -> None:
        self._scope = http_scope("GET", target, headers=headers, kind="websocket", **{"scheme": "ws", **scope_fields})
        self._scope["subprotocols"] = list(subprotocols)
        if denial_response:
            self._scope["extensions"]["websocket.http.response"] = {}
        self._app = app
        self._raise = raise_app_exceptions
        self._timeout = timeout
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._left = False
        self.accepted = False
        self.headers = Headers()
        self.subprotocol: str | None = None
        self.denial: TestResponse | None = None
        self.close_code: int | None = None
        self.close_reason = ""
        self.error: BaseException | None = None
        self.messages: list[Message] = []

    async def __aenter__(self) -> Self:
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._serve())
        first = await self._next()
        if first is None:
            return self
        if first["type"] == "websocket.accept":
            self.accepted = True
            self.headers = Headers(list(first.get("headers", ())))
            self.subprotocol = first.get("subprotocol")
        elif first["type"] == "websocket.http.response.start":
            self.denial = denial = TestResponse()
            denial.status = first["status"]
            denial.headers = Headers(list(first.get("headers", ())))
            while not denial.complete:
                part = await self._next()
                if part is None:
                    break
                denial.parts.append(part.get("body", b""))
                denial.complete = not part.get("more_body", False)
            self._leave(1006)
        else:
            self._closed(first)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(1000)
        task = self._task
        assert task is not None
        _, waiting = await asyncio.wait([task], timeout=self._timeout)
        if waiting:
            task.cancel()
            await asyncio.wait([task])
            raise TimeoutError(f"the app had not returned {self._timeout} seconds after the client closed")
        if self.error is not None and self._raise and error is None:
            raise self.error

    async def _serve(self) -> None:
        try:
            await self._app(self._scope, self._to_app.get, self._from_app_send)
        except Exception as error:
            self.error = error
        finally:
            self._from_app.put_nowait(None)

    async def _from_app_send(self, message: Message) -> None:
        self.messages.append(message)
        self._from_app.put_nowait(message)

    async def _next(self) -> Message | None:
        async with asyncio.timeout(self._timeout):
            return await self._from_app.get()

    def _closed(self, message: Message) -> None:
        self.close_code = message.get("code", 1000)
        self.close_reason = message.get("reason") or ""
        self._leave(self.close_code or 1000)

    def _leave(self, code: int) -> None:
        if not self._left:
            self._left = True
            self._to_app.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})

    async def send(self, data: str | bytes) -> None:
        """Send a message to the app."""
        key = "text" if isinstance(data, str) else "bytes"
        self._to_app.put_nowait({"type": "websocket.receive", key: data})

    async def receive(self) -> str | bytes | None:
        """The app's next message; None once it has closed or returned (`close_code` says how it closed)."""
        message = await self._next()
        if message is None:
            return None
        if message["type"] == "websocket.close":
            self._closed(message)
            return None
        text: str | None = message.get("text")
        data: bytes | None = message.get("bytes")
        return data if text is None else text

    def close(self, code: int = 1000) -> None:
        """Leave with this close code; 1006 stands for a connection that broke."""
        self._leave(code)
