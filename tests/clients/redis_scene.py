"""What the tests of Redis clients share: keys of a node, waiting for a client to be well again, and what was seen then."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import trustme

from gatekit.clients.redis import RedisServer, Script
from gatekit.errors import StoreUnavailable

ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
TOGETHER = Script("return redis.call('INCR', KEYS[1]) + redis.call('INCR', KEYS[2])")


class Outage(NamedTuple):
    """What was seen until a client was well again, all in seconds."""

    seconds: float
    longest: float
    failures: list[str]
    answer: Any


async def pause(seconds: float) -> None:
    """The loop goes on meanwhile. Only between two looks at something that is on its way."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(seconds, future.set_result, None)
    await future


async def until(condition: Callable[[], Any], patience: float = 20.0) -> None:
    """Until it holds. What it waits for is on its way; a server that changes its role cuts connections meanwhile."""
    end = asyncio.get_running_loop().time() + patience
    held = False
    while not held:
        with suppress(OSError):
            held = bool(condition())
        assert asyncio.get_running_loop().time() < end, "it never came true"
        await pause(0.005)


async def until_answered(ask: Callable[[], Awaitable[Any]], patience: float = 20.0) -> Outage:
    """Ask again and again until there is an answer."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    longest = 0.0
    failures = []
    while True:
        asked = loop.time()
        try:
            answer = await ask()
        except StoreUnavailable as error:
            longest = max(longest, loop.time() - asked)
            failures.append(str(error))
            assert loop.time() < begun + patience, f"it never came back: {failures[-1]}"
            await pause(0.01)
        else:
            return Outage(loop.time() - begun, longest, failures, answer)


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[RedisServer]:
    server = RedisServer(url, **settings)
    try:
        yield server
    finally:
        await server.aclose()


class Front:
    """TLS in front of Valkey."""

    def __init__(self, target: int) -> None:
        self.authority = trustme.CA()
        self.port = 0
        self.connections = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self, name: str, clients: trustme.CA | None = None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(context)
        if clients is not None:
            clients.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        behind, to_behind = await asyncio.open_connection("127.0.0.1", self._target)
        self._open |= {writer, to_behind}

        async def back() -> None:
            with suppress(OSError):
                while data := await behind.read(65536):
                    writer.write(data)

        returning = asyncio.ensure_future(back())
        with suppress(OSError):
            while data := await reader.read(65536):
                to_behind.write(data)
        to_behind.transport.abort()
        writer.transport.abort()
        await returning

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for one in self._open:
            one.transport.abort()
        turned = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.02, turned.set_result, None)
        await turned
