"""Requests at a steady rate, over many routes. Each answer is looked at: status, versions, how long it took."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final, NamedTuple

CONNECTIONS: Final = 16
PATIENCE: Final = 10.0
"""Seconds that answers are waited for at the end of a window."""
STRIDE: Final = 7919
"""A prime: routes are asked for in an order that visits all of them, far apart."""


class Seen(NamedTuple):
    """What came of the requests of one window. `delays` are seconds, sorted; `versions` how many there were."""

    delays: list[float]
    statuses: dict[int, int]
    mixed: int
    versions: int

    @property
    def failed(self) -> int:
        """Answers other than 2xx, and connections that ended without one (status 0)."""
        return sum(number for status, number in self.statuses.items() if not 200 <= status < 300)

    def delay(self, share: float) -> float:
        """The delay that this share of the requests stayed below."""
        return self.delays[min(len(self.delays) - 1, int(len(self.delays) * share))]


class Load:
    """A window of requests. One that falls due while every connection is busy waits, and its wait counts."""

    def __init__(self, port: int, routes: int, rate: float) -> None:
        self._port = port
        self._routes = routes
        self._rate = rate
        self._idle: list[_Connection] = []
        self._due: list[float] = []
        self._number = 0
        self._delays: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._versions: set[bytes] = set()
        self._mixed = 0
        self._all: list[_Connection] = []
        self._sent = -1
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, seconds: float) -> Seen:
        """Ask for so long, wait for what is under way, and say what was seen."""
        for _ in range(CONNECTIONS):
            await self._connect()
        begun = time.perf_counter()
        sent = 0
        while (now := time.perf_counter()) - begun < seconds:
            while sent < (now - begun) * self._rate:
                sent += 1
                # Late by the clock of this process is not late by the gateway's: a request is due when it is sent.
                self._ask(time.perf_counter())
            await asyncio.sleep(max(0.0, begun + sent / self._rate - time.perf_counter()))  # noqa: TID251
        self._sent = sent
        self._tell()
        await asyncio.wait([self._over], timeout=PATIENCE)
        self._statuses[0] += sent - sum(self._statuses.values())
        for connection in self._all:
            connection.close()
        statuses = {status: number for status, number in self._statuses.items() if number}
        return Seen(sorted(self._delays), statuses, self._mixed, len(self._versions))

    def _tell(self) -> None:
        """Whether what was sent has all come to an end."""
        if len(self._delays) + self._statuses[0] == self._sent and not self._over.done():
            self._over.set_result(None)

    async def _connect(self) -> None:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self), "127.0.0.1", self._port
        )
        self._all.append(connection)
        self._idle.append(connection)

    def _ask(self, due: float) -> None:
        if not self._idle:
            self._due.append(due)
            return
        self._number += 1
        self._idle.pop(0).ask(self._number * STRIDE % self._routes, due)

    def answered(self, connection: _Connection, delay: float, head: bytes) -> None:
        self._delays.append(delay)
        self._statuses[int(head[9:12])] += 1
        gateway, route = _value(head, b"x-gateway"), _value(head, b"x-route")
        self._versions.add(gateway)
        self._mixed += gateway != route or not gateway
        self._idle.append(connection)
        if self._due:
            self._ask(self._due.pop(0))
        self._tell()

    def lost(self) -> None:
        """A connection ended under a request. There are fewer of them now, which the rest will tell."""
        self._statuses[0] += 1
        self._tell()


class _Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._due: float | None = None
        self._came = b""
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, route: int, due: float) -> None:
        self._due = due
        self._came = b""
        self._transport.write(b"GET /r%d/items/42 HTTP/1.1\r\nhost: gateway.test\r\n\r\n" % route)

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, end, body = self._came.partition(b"\r\n\r\n")
        if not end or len(body) < int(_value(head, b"content-length") or 0) or self._due is None:
            return
        delay, self._due = time.perf_counter() - self._due, None
        self._load.answered(self, delay, head)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due is not None and not self._closed:
            self._due = None
            self._load.lost()

    def close(self) -> None:
        self._closed = True
        self._transport.close()


def _value(head: bytes, name: bytes) -> bytes:
    """The value of a header, which servers write in their own case; empty if it is not there."""
    _, found, rest = head.lower().partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else b""
