"""An open-loop load: requests fall due at a steady rate over keep-alive connections, and the fate of each is counted.

A request falls due whether or not earlier ones have been answered. Nothing is sent twice: what a client may send again is
for its owner to say, so it is told apart here and no more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import httptools

PATIENCE = 15.0
"""Seconds that the last requests have to be answered once no more fall due."""


class Lost(NamedTuple):
    """A request without a whole answer. `kind` is what became of it, `at` the seconds from the start of the load to its
    sending, `after` those to its loss, `port` the client's port (0 when it had none), `reused` how many answers had come
    over that connection before."""

    kind: str
    at: float
    after: float
    port: int
    reused: int


@dataclass
class Tally:
    """What became of the requests. `lost` has those that were not answered, or not to the end:

    `refused`: no connection. `reset`: the connection ended before any byte of the answer, and it was a new one. `raced`:
    the same on a connection that had served before, so that it may have been closed while it was idle. `truncated`: it
    ended within the answer. `garbled`: what came was no HTTP. `silent`: nothing within the patience.
    """

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    lost: list[Lost] = field(default_factory=list)
    wrong: list[bytes] = field(default_factory=list)
    connections: int = 0
    closing: int = 0
    delays: list[float] = field(default_factory=list)

    def count(self, *kinds: str) -> int:
        """How many were lost; of these kinds, where some are given."""
        return sum(not kinds or one.kind in kinds for one in self.lost)

    @property
    def good(self) -> int:
        return sum(number for status, number in self.statuses.items() if 200 <= status < 300) - len(self.wrong)

    @property
    def whole(self) -> bool:
        """Whether every request was answered with 2xx, to the end and with what was expected."""
        return self.sent > 0 and self.good == self.sent

    def delay(self, share: float) -> float:
        """The seconds that this share of the answered requests took at most."""
        ordered = sorted(self.delays)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0

    def told(self) -> str:
        """In one line."""
        kinds = Counter(one.kind for one in self.lost)
        bad = {status: number for status, number in sorted(self.statuses.items()) if not 200 <= status < 300}
        return (
            f"{self.sent} sent, {self.good} good, not 2xx {bad or 0}, lost {dict(kinds) or 0}, wrong {len(self.wrong)}, "
            f"{self.connections} connections, {self.closing} with Connection: close, "
            f"p50 {1e3 * self.delay(0.5):.1f} ms, p99 {1e3 * self.delay(0.99):.1f} ms, max {1e3 * self.delay(1):.0f} ms"
        )


class Load:
    """Requests for one path. `connections` are kept and used in turn; more are made while all of them are busy. With 0,
    each request has its own and asks for its close.

    `expected` is the body that each answer must have; `mark` names a header whose values are counted. A `rate` of 0 is no
    open load: each connection asks again as soon as it is answered.
    """

    def __init__(
        self,
        host: str,
        port: int,
        rate: float,
        *,
        path: str = "/",
        connections: int = 32,
        expected: bytes | None = None,
        mark: str = "",
    ) -> None:
        self.tally = Tally()
        self.expected = expected
        self.mark = mark.lower().encode()
        self._address = host, port
        self._rate = rate
        last = "" if connections else "connection: close\r\n"
        self._request = f"GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\n{last}\r\n".encode()
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()
        self.began = 0.0
        self._ceaseless = False

    def start(self) -> Load:
        """Let requests fall due from now on."""
        self.began = self._loop.time()
        if self._rate:
            self._tick()
            return self
        self._ceaseless = True
        for _ in range(self._connections):
            self._ask()
        return self

    def now(self) -> float:
        """Seconds since its start."""
        return self._loop.time() - self.began

    def ask_once(self) -> Load:
        """One request, now."""
        self.began = self._loop.time()
        self._ask()
        return self

    async def run(self, seconds: float) -> Tally:
        """Ask for so long; what became of it."""
        self.start()
        await pause(seconds)
        return await self.stop()

    async def stop(self, patience: float = PATIENCE) -> Tally:
        """Let no more fall due, wait for what is under way, and end every connection."""
        self.hold()
        try:
            async with asyncio.timeout(patience):
                while self.under_way:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            for connection in self.busy():
                connection.give_up("silent")
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for connection in list(self._open):
            connection.transport.abort()
        await pause(0)
        return self.tally

    def hold(self) -> None:
        """Let no more fall due."""
        self._ceaseless = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def under_way(self) -> int:
        """Requests that are sent, or wait for their connection."""
        return len(self.busy()) + len(self._connecting)

    def busy(self) -> list[Connection]:
        """The connections with a request on them."""
        return [one for one in self._open if one.sent_at is not None]

    def ports(self) -> set[int]:
        """This end's ports of all connections."""
        return {one.port for one in self._open}

    def _tick(self) -> None:
        now = self._loop.time()
        while self.began + self.tally.sent / self._rate <= now:
            self._ask()
        self._timer = self._loop.call_at(self.began + self.tally.sent / self._rate, self._tick)

    def _ask(self) -> None:
        self.tally.sent += 1
        if self._idle and len(self._open) + len(self._connecting) >= self._connections:
            self._idle.pop(0).ask(self._request)
            return
        task = self._loop.create_task(self._connect(self._loop.time()))
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    async def _connect(self, due: float) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                _, connection = await self._loop.create_connection(lambda: Connection(self), *self._address)
        except (OSError, TimeoutError):
            self.lose("refused", due, 0, 0)
        else:
            self.tally.connections += 1
            self._open.add(connection)
            connection.ask(self._request)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        self._settled.set()

    # -- told by connections

    def answered(self, connection: Connection, status: int, took: float, mark: str, body: bytes) -> None:
        self.tally.statuses[status] += 1
        self.tally.delays.append(took)
        if mark:
            self.tally.marks[mark] += 1
        if self.expected is not None and body != self.expected and 200 <= status < 300:
            self.tally.wrong.append(body[:200])
        self._settled.set()

    def idle(self, connection: Connection) -> None:
        self._idle.append(connection)
        if self._ceaseless:
            self._ask()

    def lose(self, kind: str, sent_at: float, port: int, reused: int) -> None:
        self.tally.lost.append(Lost(kind, sent_at - self.began, self._loop.time() - self.began, port, reused))
        self._settled.set()

    def gone(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._loop = asyncio.get_running_loop()
        self.sent_at: float | None = None
        self.port = 0
        self._reused = 0
        self._clean()

    def _clean(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._begun = False
        self._mark = ""
        self._closes = False
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def ask(self, request: bytes) -> None:
        self.sent_at = self._loop.time()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self.sent_at is None:
            # An answer to nothing: a server's parting 408 to an idle connection, which then ends.
            self._load.gone(self)
            self.transport.abort()
            return
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.give_up("garbled")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == self._load.mark:
            self._mark = value.decode("latin-1")
        elif name == b"connection" and value.lower() == b"close":
            self._load.tally.closing += 1

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self.sent_at is None:
            return
        took, self.sent_at = self._loop.time() - self.sent_at, None
        status, keeps = self._parser.get_status_code(), self._parser.should_keep_alive()
        self._load.answered(self, status, took, self._mark, bytes(self._body))
        self._reused += 1
        if keeps:
            self._clean()
            self._load.idle(self)
        else:
            self._load.gone(self)
            self.transport.close()

    def give_up(self, kind: str) -> None:
        """The request on it is lost, and so is the connection."""
        if self.sent_at is not None:
            self._load.lose(kind, self.sent_at, self.port, self._reused)
            self.sent_at = None
        self._load.gone(self)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.sent_at is not None:
            self.give_up("truncated" if self._begun else "raced" if self._reused else "reset")
        self._load.gone(self)


async def pause(seconds: float) -> None:
    """Real time, which is what real processes take."""
    loop = asyncio.get_running_loop()
    due = loop.create_future()
    timer = loop.call_later(seconds, due.set_result, None)
    try:
        await due
    finally:
        timer.cancel()


async def until(seconds: float, true: Callable[[], object]) -> bool:
    """Wait until `true` says so, or for so long; what it says then. It is asked in a thread, since it may block."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not (said := await asyncio.to_thread(true)) and loop.time() < end:
        await pause(0.02)
    return bool(said)
