"""Many exchanges at once whose other end is slow: they are held where they stand still, then go on to their ends.

Neither pytest nor gatekit is imported here: the bench uses it too.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Self

from tests.streaming.process import MIB
from tests.streaming.scene import NARROW, PIECE, STALL, Scene, Tally, expected, framing, pieces
from tests.streaming.wire import PATIENCE, Wire, pause


class Crowd(ABC):
    """`count` exchanges of `size` bytes each, begun by `async with`, which goes on once nothing moves any more.

    On leaving it the slow ends begin to read, and all of them come to their ends. Every byte is checked.
    """

    def __init__(self, scene: Scene, count: int, size: int = MIB) -> None:
        self.count = count
        self.size = size
        self.sent = 0
        """Bytes the senders got rid of."""
        self._scene = scene
        self._told = asyncio.Event()
        self._begun = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._whole = expected(size)

    async def __aenter__(self) -> Self:
        self._tasks.append(asyncio.create_task(self._accept()))
        self._tasks += [asyncio.create_task(self._client(number)) for number in range(self.count)]
        before = -1
        async with asyncio.timeout(3 * PATIENCE):
            while self._begun < self.count or self.sent != before:
                before = self.sent
                await pause(STALL)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            for task in self._tasks:
                task.cancel()
        self._told.set()
        async with asyncio.timeout(3 * PATIENCE):
            while self._tasks:
                await self._tasks.pop()

    async def _accept(self) -> None:
        for _ in range(self.count):
            self._tasks.append(asyncio.create_task(self._upstream(await self._scene.narrow.accept())))

    async def _write(self, wire: Wire, piece: memoryview) -> None:
        """It may take as long as it takes: the whole has a bound."""
        await asyncio.get_running_loop().sock_sendall(wire.sock, piece)
        self.sent += len(piece)

    @abstractmethod
    async def _client(self, number: int) -> None: ...

    @abstractmethod
    async def _upstream(self, upstream: Wire) -> None: ...


class Uploads(Crowd):
    """Uploads to an upstream that reads nothing at first, then slowly, then answers.

    A client that is `pushing` writes whatever is taken from it; else it writes a piece once the upstream has read the one
    before.
    """

    def __init__(self, scene: Scene, count: int, size: int = MIB, *, pushing: bool) -> None:
        super().__init__(scene, count, size)
        self._allowed = [asyncio.Semaphore(size if pushing else 1) for _ in range(count)]

    async def _client(self, number: int) -> None:
        client = await self._scene.client(buffer=NARROW)
        await client.send(self._scene.request(f"POST /narrow/{number}", framing(self.size, chunked=False)))
        for piece in pieces(self.size):
            await self._allowed[number].acquire()
            await self._write(client, piece)
        head = await asyncio.get_running_loop().sock_recv(client.sock, 4096)
        assert head.startswith(b"HTTP/1.1 200 "), head
        client.close()

    async def _upstream(self, upstream: Wire) -> None:
        head = await upstream.head()
        allowed = self._allowed[int(head.split()[1].rpartition(b"/")[2])]
        self._begun += 1
        await self._told.wait()
        tally = Tally()
        async for part in upstream.parts(head, most=NARROW):
            before = tally.count // PIECE
            tally.add(part)
            for _ in range(tally.count // PIECE - before):
                allowed.release()
        assert tally == self._whole
        await upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        upstream.close()


class Downloads(Crowd):
    """Downloads by clients that read nothing at first, from an upstream that writes whatever is taken from it."""

    async def _client(self, number: int) -> None:
        client = await self._scene.client(buffer=NARROW)
        await client.send(self._scene.request(f"GET /narrow/{number}"))
        await self._told.wait()
        tally = Tally()
        async for part in client.parts(await client.head()):
            tally.add(part)
        assert tally == self._whole
        client.close()

    async def _upstream(self, upstream: Wire) -> None:
        await upstream.head()
        self._begun += 1
        await upstream.send(f"HTTP/1.1 200 OK\r\n{framing(self.size, chunked=False)}\r\n\r\n".encode())
        for piece in pieces(self.size):
            await self._write(upstream, piece)
        upstream.close()
