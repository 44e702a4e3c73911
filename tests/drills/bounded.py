"""A backend whose capacity is known, as a process of its own: `python bounded.py WORKERS SECONDS`.

Each of so many workers takes that long for a request and does one at a time; who finds none free waits in line, first come
first served, without an end of the line. Nothing is computed meanwhile: what bounds it is time, not this machine. Work that
was begun for a client that has gone is done all the same, as threads and databases do it.

`/.told/counts` says what it has done; `/.told/workers/16` and `/.told/failing/0.5` change what it can do: the latter is the
share of requests that are answered 503 at once. Nothing of ours is imported here.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import resource
import sys
from collections import Counter

BODY = b"ok"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
FAILED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


class Capacity:
    """The workers, by the moments at which each of them will be free."""

    def __init__(self, workers: int, seconds: float) -> None:
        self.seconds = seconds
        self.failing = 0.0
        self.asked: Counter[str] = Counter()
        """Requests by the first segment of their path."""
        self.failed = 0
        self.for_nobody = 0
        """Answers whose client had gone."""
        self.most = 0
        """The most that there were at once, in work and in line."""
        self.here = 0
        self._loop = asyncio.get_running_loop()
        self._free = [self._loop.time()] * workers
        self._owed = 0.0

    def resize(self, workers: int) -> None:
        """From now on, so many work. What was begun is finished."""
        now = self._loop.time()
        while len(self._free) > workers:
            heapq.heappop(self._free)
        while len(self._free) < workers:
            heapq.heappush(self._free, now)

    def fails(self) -> bool:
        """Whether this request is one of the share that fails: evenly spread, not by chance."""
        self._owed += self.failing
        if self._owed < 1.0:
            return False
        self._owed -= 1.0
        self.failed += 1
        return True

    def done_at(self) -> float:
        """When the request that comes now will be done. A late timer costs no capacity."""
        done = max(self._loop.time(), self._free[0]) + self.seconds
        heapq.heapreplace(self._free, done)
        self.here += 1
        self.most = max(self.most, self.here)
        return done

    def told(self) -> bytes:
        said = {
            "asked": self.asked, "failed": self.failed, "for_nobody": self.for_nobody, "most": self.most,
            "workers": len(self._free),
        }  # fmt: skip
        self.most = self.here
        return json.dumps(said).encode()


class Serving(asyncio.Protocol):
    """One connection. Requests have no body."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._loop = asyncio.get_running_loop()
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *heads, self._tail = (self._tail + data).split(b"\r\n\r\n")
        capacity = self._capacity
        for head in heads:
            words = head.split(b" ", 2)[1].decode("latin-1").split("/")
            if words[1] == ".told":
                self._tell(words[2], words[-1])
                continue
            capacity.asked[words[1]] += 1
            if capacity.failing and capacity.fails():
                self._transport.write(FAILED)
            else:
                self._loop.call_at(capacity.done_at(), self._done)

    def _done(self) -> None:
        self._capacity.here -= 1
        if self._transport.is_closing():
            self._capacity.for_nobody += 1
        else:
            self._transport.write(OK)

    def _tell(self, what: str, value: str) -> None:
        if what == "workers":
            self._capacity.resize(int(value))
        elif what == "failing":
            self._capacity.failing = float(value)
        said = self._capacity.told()
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said))


async def main(workers: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    capacity = Capacity(workers, seconds)
    server = await loop.create_server(lambda: Serving(capacity), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
