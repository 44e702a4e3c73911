"""Requests that arrive by chance at given rates, whatever becomes of earlier ones, and the fate of each.

Arrivals are Poisson, from a seed. What a request took is counted from when it fell due, not from when it could be sent: an
overloaded client would hide an overloaded server otherwise. A client waits for its answer for so long and then hangs up.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import httptools

from .load import pause

PATIENCE = 1.0
"""Seconds after which a client hangs up."""


class Stream(NamedTuple):
    """One kind of request: its path, how many come a second, header lines of its own."""

    path: str
    rate: float
    headers: tuple[str, ...] = ()


class Fate(NamedTuple):
    """What became of a request: `due` since the start of the phase, `took` since then, both in seconds; the status, 0 where
    the client hung up, -1 where the connection ended or none was to be had. `sent` is how late it was sent."""

    stream: str
    due: float
    took: float
    status: int
    sent: float

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def shed(self) -> bool:
        return self.status in (429, 503)


@dataclass
class Phase:
    """What became of all the requests that fell due in so many seconds."""

    seconds: float
    fates: list[Fate] = field(default_factory=list)
    hints: Counter[str] = field(default_factory=Counter)
    """Values of Retry-After."""

    def of(self, stream: str) -> Phase:
        return Phase(self.seconds, [fate for fate in self.fates if fate.stream == stream])

    def since(self, begin: float) -> Phase:
        """Without the first seconds, in which things settle."""
        return Phase(self.seconds - begin, [fate for fate in self.fates if fate.due >= begin], self.hints)

    @property
    def goodput(self) -> float:
        """Good answers a second, to clients that still waited for them."""
        return sum(fate.good for fate in self.fates) / self.seconds

    @property
    def offered(self) -> float:
        return len(self.fates) / self.seconds

    @property
    def success(self) -> float:
        return share(fate.good for fate in self.fates)

    @property
    def shed(self) -> float:
        return share(fate.shed for fate in self.fates)

    @property
    def lost(self) -> int:
        """Requests whose connection ended, or that got none."""
        return sum(fate.status == -1 for fate in self.fates)

    @property
    def hung_up(self) -> int:
        return sum(fate.status == 0 for fate in self.fates)

    def took(self, part: float) -> float:
        """The seconds within which this part of the good answers came; those hung up on count as if they came then."""
        return quantile([fate.took for fate in self.fates if fate.good or fate.status == 0], part)

    def late(self, part: float = 0.99) -> float:
        """How late this part of the requests was sent at most: more than a few milliseconds, and the generator was the limit."""
        return quantile([fate.sent for fate in self.fates], part)

    def windows(self, width: float = 1.0) -> list[Phase]:
        """The phase in windows of that width, by when requests fell due; a last one that is not whole is left out."""
        found = [Phase(width) for _ in range(int(self.seconds / width + 1e-9))]
        first = min((fate.due for fate in self.fates), default=0.0)
        begin = math.floor(first / width) * width
        for fate in self.fates:
            number = int((fate.due - begin) / width)
            if number < len(found):
                found[number].fates.append(fate)
        return found

    def told(self) -> str:
        """In one line."""
        statuses = Counter(fate.status for fate in self.fates)
        return (
            f"{self.offered:.0f}/s offered, {self.goodput:.0f}/s good, statuses {dict(sorted(statuses.items()))}, "
            f"p50 {1e3 * self.took(0.5):.1f} ms, p99 {1e3 * self.took(0.99):.1f} ms, sent {1e3 * self.late():.1f} ms late"
        )


def share(true: Iterable[bool]) -> float:
    found = list(true)
    return sum(found) / len(found) if found else 0.0


def quantile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


class Arrivals:
    """The clients of one server. Connections are kept from phase to phase, and made when none is idle."""

    def __init__(self, host: str, port: int, *, seed: int = 7, patience: float = PATIENCE) -> None:
        self._address = host, port
        self._patience = patience
        self._random = Random(seed)
        self._loop = asyncio.get_running_loop()
        self._idle: list[Client] = []
        self._open: set[Client] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[Client, int]] = deque()
        self.phase = Phase(0.0)
        self.began = 0.0

    async def run(self, seconds: float, streams: Mapping[str, Stream]) -> Phase:
        """One phase: all that falls due in so many seconds, and what becomes of it."""
        phase = self.phase = Phase(seconds)
        self.began = self._loop.time()
        requests = {
            name: (
                f"GET {one.path} HTTP/1.1\r\nhost: shop.test\r\n"
                + "".join(f"{line}\r\n" for line in one.headers)
                + "\r\n"
            ).encode()
            for name, one in streams.items()
        }
        due = [(self._random.expovariate(one.rate), name) for name, one in streams.items() if one.rate]
        heapq.heapify(due)
        while due:
            now = self._loop.time() - self.began
            while due and due[0][0] <= now:
                moment, name = due[0]
                if moment >= seconds:
                    heapq.heappop(due)
                    continue
                heapq.heapreplace(due, (moment + self._random.expovariate(streams[name].rate), name))
                self._send(name, moment, requests[name])
            self._hang_up()
            if due:
                await pause(min(0.002, max(0.0, due[0][0] - (self._loop.time() - self.began))))
        while self._waiting or self._connecting:
            self._hang_up()
            await pause(0.005)
        return phase

    async def close(self) -> None:
        for client in list(self._open):
            client.transport.abort()
        await pause(0)

    def _send(self, stream: str, due: float, request: bytes) -> None:
        while self._idle:
            client = self._idle.pop()
            if client in self._open:
                self._ask(client, stream, due, request)
                return
        task = self._loop.create_task(self._connect(stream, due, request))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, stream: str, due: float, request: bytes) -> None:
        begun = self._loop.time() - self.began
        left = due + self._patience - begun
        try:
            async with asyncio.timeout(max(0.0, left)):
                _, client = await self._loop.create_connection(lambda: Client(self), *self._address)
        except TimeoutError:
            self.note(Fate(stream, due, self._patience, 0, begun - due))
        except OSError:
            self.note(Fate(stream, due, begun - due, -1, begun - due))
        else:
            self._open.add(client)
            self._ask(client, stream, due, request)
            # What connecting takes is the server's time, not this generator's.
            client.sent = begun - due

    def _ask(self, client: Client, stream: str, due: float, request: bytes) -> None:
        client.stream, client.due = stream, due
        client.sent = self._loop.time() - self.began - due
        client.busy = True
        client.asked += 1
        self._waiting.append((client, client.asked))
        client.transport.write(request)

    def _hang_up(self) -> None:
        """End what has waited for too long. Those at the front have waited longest, or are answered."""
        waiting, limit = self._waiting, self._loop.time() - self.began - self._patience
        while waiting:
            client, number = waiting[0]
            if client.busy and client.asked == number:
                if client.due > limit:
                    return
                client.end(0)
            waiting.popleft()

    def note(self, fate: Fate) -> None:
        self.phase.fates.append(fate)

    def answered(self, client: Client, status: int, keeps: bool) -> None:
        took = self._loop.time() - self.began - client.due
        client.busy = False
        self.note(Fate(client.stream, client.due, took, status, client.sent))
        if keeps:
            self._idle.append(client)
        else:
            client.transport.close()

    def gone(self, client: Client) -> None:
        self._open.discard(client)


class Client(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self.busy = False
        self.asked = 0
        self.stream = ""
        self.due = 0.0
        self.sent = 0.0
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.end(-1)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._arrivals.phase.hints[value.decode("latin-1")] += 1

    def on_message_complete(self) -> None:
        if self.busy:
            status, keeps = self._parser.get_status_code(), self._parser.should_keep_alive()
            self._parser = httptools.HttpResponseParser(self)
            self._arrivals.answered(self, status, keeps)

    def end(self, status: int) -> None:
        """Without an answer."""
        if self.busy:
            self.busy = False
            took = asyncio.get_running_loop().time() - self._arrivals.began - self.due
            self._arrivals.note(Fate(self.stream, self.due, took, status, self.sent))
        self._arrivals.gone(self)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(-1)
