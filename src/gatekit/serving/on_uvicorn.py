"""Serving by uvicorn: HTTP/1.1 and WebSocket; certificates are renewed while it serves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterable, Iterator
from typing import Any

import uvicorn

from gatekit.serving.certificates import context_of
from gatekit.serving.settings import Settings


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the worker decides when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def quiet_server(app: Any) -> uvicorn.Server:
    """A server for the admin endpoints: no signals, no lines, in the loop that runs."""
    config = uvicorn.Config(
        app, interface="asgi3", lifespan="off", log_config=None, access_log=False, proxy_headers=False,
        server_header=False, ws="none", timeout_graceful_shutdown=1,
    )  # fmt: skip
    return _Server(config)


class Patience:
    """How long clients may let uvicorn wait for the head of a request: it has no limit of its own for one that says
    nothing, or never ends what it begins.

    `look` is called now and then. A connection that was asked nothing new since a look `limit` seconds ago is closed.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._waiting: dict[Any, tuple[Any, float]] = {}

    def look(self, connections: Iterable[Any], now: float) -> None:
        """Close those that have waited for too long. WebSockets wait for no head."""
        waiting: dict[Any, tuple[Any, float]] = {}
        for connection in connections:
            if not hasattr(connection, "cycle"):
                continue
            cycle = connection.cycle
            if cycle is not None and not cycle.response_complete:
                continue
            before, since = self._waiting.get(connection, (self, now))
            if before is not cycle:
                since = now
            if now - since >= self._limit:
                connection.transport.close()
            else:
                waiting[connection] = (cycle, since)
        self._waiting = waiting


class OnUvicorn:
    """`gatekit.serving.servers.Server` by uvicorn."""

    name = "uvicorn"

    def __init__(self, app: Any, sock: socket.socket, settings: Settings) -> None:
        self._tls = settings.tls
        self._context: ssl.SSLContext | None = None
        self._config = uvicorn.Config(
            app,
            interface="asgi3",
            lifespan="on",
            log_config=None,
            access_log=False,
            # Who the client is, the gateway decides itself (trusted_proxies).
            proxy_headers=False,
            server_header=False,
            backlog=settings.backlog,
            # uvicorn has whole seconds.
            timeout_keep_alive=max(1, round(settings.keepalive)),
            timeout_graceful_shutdown=max(1, round(settings.timeout)),
            ssl_certfile=None if self._tls is None else self._tls.cert,
            ssl_keyfile=None if self._tls is None else self._tls.key,
        )
        if self._tls is not None:
            self._config.load()
            # One of our own: older uvicorns have no way to be given one.
            self._context = context_of(self._tls)
            listening = context_of(self._tls)
            listening.sni_callback = self._shake
            self._config.ssl = listening
        self._sock = sock
        self._keepalive = settings.keepalive
        self._server = _Server(self._config)

    @property
    def protocols(self) -> str:
        return "HTTP/1.1, WebSocket"

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        patience = Patience(self._keepalive)
        serving = loop.create_task(self._server.serve([self._sock]), name="uvicorn")
        try:
            while not serving.done():
                await asyncio.wait([serving], timeout=max(0.1, self._keepalive / 4))
                patience.look(list(self._server.server_state.connections), loop.time())
            await serving
        finally:
            serving.cancel()

    async def stop_accepting(self) -> None:
        # It has none before it has started.
        for server in getattr(self._server, "servers", ()):
            server.close()

    def stop(self) -> None:
        self._server.should_exit = True

    def renew(self) -> None:
        if self._tls is not None:
            self._context = context_of(self._tls)

    def _shake(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        """A client says hello: it is shown the certificate that is in use now. Loading the new one into the old context
        would not do: that keeps one for each type of key."""
        if self._context is not None:
            connection.context = self._context
