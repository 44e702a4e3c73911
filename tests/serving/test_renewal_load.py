"""A certificate renewed under load: some hundred requests a second, each on a connection of its own, and none is lost.

What is open meanwhile (a kept connection, a long response, a WebSocket) is served on.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import websockets.asyncio.client
from tests.processes import Instance
from tests.serving.conftest import Pair, Run
from tests.serving.origin import Origin

from gatekit.serving.servers import SERVERS

pytestmark = pytest.mark.servers
BOUND = 20.0
CLIENTS = 6
"""Each asks one request after the other."""


class Connection:
    """One connection that is kept open, and the certificate that it was shown."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        self.certificate = tls.getpeercert(binary_form=True)

    @classmethod
    async def open(cls, one: Instance, context: ssl.SSLContext) -> Connection:
        opening = asyncio.open_connection("127.0.0.1", one.place.port, ssl=context, server_hostname="localhost")
        return cls(*await asyncio.wait_for(opening, BOUND))

    async def get(self, path: str, *, more: str = "") -> bytes:
        """The head of the answer, and its content where its length was told."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n".encode())
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), BOUND)
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return head + (await asyncio.wait_for(self.reader.readexactly(int(length)), BOUND) if length else b"")

    async def chunk(self) -> bytes:
        """The next chunk of a body whose length was not told; empty at its end."""
        size = await asyncio.wait_for(self.reader.readuntil(b"\r\n"), BOUND)
        return (await asyncio.wait_for(self.reader.readexactly(int(size, 16) + 2), BOUND))[:-2]

    async def close(self) -> None:
        self.writer.close()
        try:
            await asyncio.wait_for(self.writer.wait_closed(), BOUND)
        except (OSError, ssl.SSLError):
            pass  # It was closed already, which is not what is looked at here.


class Load:
    """Clients that go on asking. `shown` are the certificates they saw, in order; `lost` is what went wrong."""

    def __init__(self, one: Instance, context: ssl.SSLContext) -> None:
        self._one = one
        self._context = context
        self._on = True
        self._moved = asyncio.Event()
        self.shown: list[bytes | None] = []
        self.lost: list[str] = []

    async def client(self) -> None:
        while self._on:
            try:
                connection = await Connection.open(self._one, self._context)
                try:
                    answer = await connection.get("/hello", more="connection: close\r\n")
                finally:
                    await connection.close()
                if not (answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\nhi")):
                    self.lost.append(repr(answer))
                self.shown.append(connection.certificate)
            except (OSError, EOFError, TimeoutError) as error:
                self.lost.append(repr(error))
            self._moved.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND):
            while not enough():
                self._moved.clear()
                await self._moved.wait()

    async def more(self, count: int) -> None:
        seen = len(self.shown)
        await self.until(lambda: len(self.shown) >= seen + count)

    def stop(self) -> None:
        self._on = False


@asynccontextmanager
async def load(one: Instance, context: ssl.SSLContext) -> AsyncIterator[Load]:
    made = Load(one, context)
    clients = [asyncio.create_task(made.client()) for _ in range(CLIENTS)]
    try:
        await made.more(50)
        yield made
    finally:
        made.stop()
        await asyncio.wait(clients, timeout=BOUND)


async def until(one: Instance, found: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The status, once it is as it should be."""

    def asked() -> dict[str, Any] | None:
        said = one.asked("GET", "/status")[1]
        return said if said is not None and found(said) else None

    return await asyncio.to_thread(one.wait_for, asked)


def pids(said: dict[str, Any]) -> list[int]:
    return [worker["pid"] for worker in said["workers"]]


@pytest.mark.parametrize(("server", "workers"), [("uvicorn", 1), ("uvicorn", 2), ("granian", 1), ("granian", 2)])
async def test_a_renewed_certificate_costs_nobody_a_request(
    run: Run, config: Path, pair: Pair, authority: trustme.CA, trusting: ssl.SSLContext, origin: Origin, server: str,
    workers: int,
) -> None:  # fmt: skip
    """On uvicorn the workers stay; on granian others take their place, and the old ones serve on what they have."""
    first = pair.put(authority)
    options = ("--workers", str(workers), "--grace", "3", "--timeout", "10")
    one = await asyncio.to_thread(run, config, *pair.options, *options, server=server)
    before = await until(one, lambda said: True)
    kept, stream = await Connection.open(one, trusting), await Connection.open(one, trusting)
    assert kept.certificate == stream.certificate == first
    assert (await kept.get("/hello")).endswith(b"hi")
    name = f"{server}{workers}"
    origin.push(name, b"one")
    assert b"200 OK" in await stream.get(f"/stream/{name}")
    assert await stream.chunk() == b"one"
    address = f"wss://127.0.0.1:{one.place.port}/ws"
    async with websockets.asyncio.client.connect(address, ssl=trusting) as talking, load(one, trusting) as steady:
        second = pair.put(authority)
        one.tell(signal.SIGHUP)
        await steady.until(lambda: second in steady.shown)
        after = await until(one, lambda said: said["generation"] == 2)
        # What was open is served on.
        assert (await kept.get("/hello")).endswith(b"hi")
        await talking.send("ping")
        assert await asyncio.wait_for(talking.recv(), BOUND) == "ping"
        origin.push(name, b"two")
        assert await stream.chunk() == b"two"
        if server == "granian":
            after = await until(one, lambda said: not set(pids(said)) & set(pids(before)))
        else:
            assert pids(after) == pids(before)
        await steady.more(100)
        origin.push(name, b"three")
        assert await stream.chunk() == b"three"
        origin.end(name)
        assert await stream.chunk() == b""
    assert steady.lost == []
    assert set(steady.shown) == {first, second}
    assert after["restarts"] == 0
    await kept.close()
    await stream.close()


@pytest.mark.parametrize("server", SERVERS)
async def test_once_the_old_workers_have_left_everybody_sees_the_new_certificate(
    run: Run, config: Path, pair: Pair, authority: trustme.CA, trusting: ssl.SSLContext, server: str
) -> None:
    one = await asyncio.to_thread(run, config, *pair.options, "--workers", "2", server=server)
    before = set(one.workers())
    second = pair.put(authority)
    assert (await asyncio.to_thread(one.asked, "POST", "/reload"))[0] == 200
    if server == "granian":
        await asyncio.to_thread(one.wait_for, lambda: not before & set(one.workers()) or None)
    for _ in range(20):
        connection = await Connection.open(one, trusting)
        await connection.close()
        assert connection.certificate == second
    assert len(one.workers()) == 2


@pytest.mark.parametrize("server", SERVERS)
async def test_bad_files_under_load_cost_nobody_a_request_and_are_said(
    run: Run, config: Path, pair: Pair, authority: trustme.CA, trusting: ssl.SSLContext, server: str
) -> None:
    first = pair.put(authority)
    one = await asyncio.to_thread(run, config, *pair.options, server=server)
    before = await until(one, lambda said: True)
    async with load(one, trusting) as steady:
        pair.cert.write_text("nonsense")
        one.tell(signal.SIGHUP)
        said = await until(one, lambda said: said["refused"] is not None)
        await steady.more(50)
    assert steady.lost == []
    assert set(steady.shown) == {first}
    [problem] = said["refused"]["problems"]
    assert problem.startswith("the certificate files cannot be used, those in use stay: ")
    assert problem in one.log.read_text()
    assert (said["generation"], pids(said), said["ready"]) == (1, pids(before), True)


@pytest.mark.parametrize("server", SERVERS)
async def test_a_configuration_that_is_refused_keeps_the_certificate_too(
    run: Run, config: Path, pair: Pair, authority: trustme.CA, trusting: ssl.SSLContext, server: str
) -> None:
    """Both or nothing."""
    first = pair.put(authority)
    one = await asyncio.to_thread(run, config, *pair.options, server=server)
    good = await asyncio.to_thread(config.read_text)
    await asyncio.to_thread(config.write_text, good + "surplus: 1\n")
    second = pair.put(authority)
    assert (await asyncio.to_thread(one.asked, "POST", "/reload"))[0] == 409
    connection = await Connection.open(one, trusting)
    await connection.close()
    assert connection.certificate == first
    await asyncio.to_thread(config.write_text, good)
    assert (await asyncio.to_thread(one.asked, "POST", "/reload"))[0] == 200
    async with load(one, trusting) as steady:
        await steady.until(lambda: second in steady.shown)
    assert steady.lost == []
