"""Connections kept between calls of one loop: httpcore's connections in a small pool of our own.

httpcore's pool is left out: a request that is cancelled while it waits there can take the place it was about to get
with it for good, and thirty-two deadlines later nobody is served. Here a call waits at a semaphore, outside.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpcore

from gatekit.clients.dial import GuardedDialer
from gatekit.clients.urls import Url
from gatekit.clients.wire import GuardedBackend

MAX_CONNECTIONS: Final = 32
"""Calls of one loop that are under way at once, to all hosts together; as many connections may lie idle."""
KEEPALIVE: Final = 3.0
"""Seconds a connection may lie idle: less than the 5 s after which common servers close theirs."""


class Links:
    """The connections of one loop."""

    def __init__(self, dialer: GuardedDialer, tls: ssl.SSLContext) -> None:
        self._backend = GuardedBackend(dialer)
        self._tls = tls
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: dict[str, list[httpcore.AsyncHTTPConnection]] = {}
        self._closed = False

    @asynccontextmanager
    async def to(self, url: Url) -> AsyncIterator[httpcore.AsyncHTTPConnection]:
        """A connection to the URL's origin, for one request; kept afterwards if another may follow on it."""
        async with self._places:
            for expired in self._take_expired():
                await expired.aclose()
            idle = self._idle.get(url.origin)
            connection = idle.pop() if idle else self._new(url)
            try:
                yield connection
            finally:
                if self._closed or not connection.is_available() or self._full():
                    await connection.aclose()
                else:
                    self._idle.setdefault(url.origin, []).append(connection)

    async def aclose(self) -> None:
        """Close what lies idle now, and what is in use when its call ends."""
        self._closed = True
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                await connection.aclose()

    def _new(self, url: Url) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(
            httpcore.Origin(url.scheme.encode("ascii"), url.host.encode("ascii"), url.port),
            ssl_context=self._tls,
            keepalive_expiry=KEEPALIVE,
            network_backend=self._backend,
        )

    def _full(self) -> bool:
        return sum(map(len, self._idle.values())) >= MAX_CONNECTIONS

    def _take_expired(self) -> list[httpcore.AsyncHTTPConnection]:
        """What was idle for too long, and what the peer has closed or written to meanwhile."""
        expired = []
        for origin, connections in list(self._idle.items()):
            kept = [connection for connection in connections if not connection.has_expired()]
            expired += [connection for connection in connections if connection not in kept]
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        return expired
