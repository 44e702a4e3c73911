"""Many WebSockets at once through a gateway: `websockets` on both ends, nothing compressed, nobody pings.

Neither pytest nor gatekit is imported here: the bench uses it too.
"""

from __future__ import annotations

import asyncio

from tests.streaming.scene import Scene
from tests.streaming.wire import PATIENCE
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve

AT_ONCE = 50
"""Handshakes under way at the same time."""


class Sockets:
    """`async with` opens them; both ends of each are then in hand, in `pairs`."""

    def __init__(self, scene: Scene, count: int) -> None:
        self.count = count
        self.pairs: list[tuple[ClientConnection, ServerConnection]] = []
        self._scene = scene
        self._arrived: dict[str, ServerConnection] = {}
        self._server: Server | None = None
        self._over = asyncio.Event()

    async def __aenter__(self) -> Sockets:
        self._server = await serve(
            self._accept, sock=self._scene.sockets.sock.dup(), compression=None, ping_interval=None
        )
        places = asyncio.Semaphore(AT_ONCE)

        async def opened(number: int) -> tuple[ClientConnection, ServerConnection]:
            async with places:
                path = f"/sockets/{number}"
                client = await connect(
                    f"ws://127.0.0.1:{self._scene.server.port}{path}", additional_headers={"x-key": self._scene.key},
                    compression=None, ping_interval=None, proxy=None, open_timeout=PATIENCE,
                )  # fmt: skip
                return client, self._arrived[path]

        self.pairs = await asyncio.gather(*(opened(number) for number in range(self.count)))
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self._over.set()
        for client, _ in self.pairs:
            client.transport.abort()
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _accept(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self._arrived[connection.request.path] = connection
        await self._over.wait()

    async def speak(self) -> None:
        """A message each way on every one: first all of them up, then all of them down."""
        async with asyncio.timeout(PATIENCE):
            for number, (client, _) in enumerate(self.pairs):
                await client.send(f"up {number}")
            for number, (_, upstream) in enumerate(self.pairs):
                assert await upstream.recv() == f"up {number}"
                await upstream.send(b"down %d" % number)
            for number, (client, _) in enumerate(self.pairs):
                assert await client.recv() == b"down %d" % number

    async def close(self) -> None:
        """Every other one is closed by the client, the rest by the upstream; the other end gets the same code.

        The upstream's reason goes with it. What a client gives as its reason stays with the server.
        """
        async with asyncio.timeout(PATIENCE):
            for number, (client, upstream) in enumerate(self.pairs):
                first, second = (client, upstream) if number % 2 else (upstream, client)
                await first.close(4000 + number % 900, "over")
                await second.wait_closed()
                assert second.close_code == 4000 + number % 900
                assert second is upstream or second.close_reason == "over"
