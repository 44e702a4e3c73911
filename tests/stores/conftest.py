"""A real Valkey for each worker of the tests, a TLS server in front of it, and a part of it for each test."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
import trustme
from tests.servers.valkey import Valkey, valkey_server


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = valkey_server(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[list[Valkey]]:
    """One that a test may kill or pause. The last of the list is the one that runs."""
    servers = [valkey_server(tmp_path)]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def part() -> str:
    """A prefix of this test's own."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def redis_url(valkey: Valkey, part: str) -> str:
    return f"{valkey.url}?prefix={part}"


class TlsFront:
    """TLS in front of a server that has none. `certificate` is for 127.0.0.1; `ca` is the file with who signed it."""

    def __init__(self, target: int, folder: Path) -> None:
        self._target = target
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, name: str = "127.0.0.1") -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(name).configure_cert(context)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    def url(self, part: str) -> str:
        return f"rediss://127.0.0.1:{self.port}/0?prefix={part}&ca={quote(str(self.ca))}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_behind = await asyncio.open_connection("127.0.0.1", self._target)
        ways = [asyncio.ensure_future(_pass(reader, to_behind)), asyncio.ensure_future(_pass(behind, writer))]
        self._tasks.update(ways)
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._tasks.difference_update(ways)
            writer.transport.abort()
            to_behind.transport.abort()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            while self._tasks:
                await asyncio.wait(list(self._tasks), timeout=0.01)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest_asyncio.fixture
async def tls_front(valkey: Valkey, tmp_path: Path) -> AsyncIterator[TlsFront]:
    front = TlsFront(valkey.port, tmp_path)
    yield front
    await front.close()
