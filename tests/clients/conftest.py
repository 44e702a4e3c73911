"""Sites on loopback under names of their own, a resolver that the test writes, and every address that was dialled."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
import pytest_asyncio
import trustme

from gatekit.clients.addresses import AddressRules
from gatekit.clients.dial import GuardedDialer
from gatekit.clients.eyeballs import open_socket
from gatekit.clients.fetch import HttpFetch

Address = IPv4Address | IPv6Address


class Asked:
    """One request as the site saw it."""

    def __init__(self, head: bytes, body: bytes) -> None:
        line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.method, self.target, _ = line.split(" ")
        self.raw = [(name, value) for name, _, value in (field.partition(": ") for field in fields)]
        self.headers = {name.lower(): value for name, value in self.raw}
        self.body = body


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


class Site:
    """A server in this process. Every request is answered by `answer`, then the connection is kept."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.connections = 0
        self.closed = 0
        self.names: list[str | None] = []
        self.port = 0
        self.tasks: set[asyncio.Task[Any]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                asked = Asked(head, b"")
                asked.body = await reader.readexactly(int(asked.headers.get("content-length", 0)))
                self.asked.append(asked)
                await self.answer(asked, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.closed += 1
            self.tasks.discard(task)
            writer.transport.abort()


def answering(
    *responses: tuple[int, dict[str, str], bytes] | tuple[int, dict[str, str]] | bytes,
) -> Answer:
    """These answers in order, the last one again and again. Bytes go out as they are."""
    left = list(responses)

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        response = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(response, bytes):
            writer.write(response)
            return
        status, headers, *rest = response
        body = rest[0] if rest else b""
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        length = f"content-length: {len(body)}\r\n" if status >= 200 else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{fields}{length}\r\n".encode("latin-1"))
        if asked.method != "HEAD":
            writer.write(body)

    return answer


class Net:
    """What the tests of a client need. `records` is the zone: what each name resolves to, one answer for each time."""

    answering = staticmethod(answering)

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.records: dict[str, list[list[str]]] = {}
        self.looked_up: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self._sites: list[tuple[Site, asyncio.AbstractServer]] = []
        self._fetches: list[HttpFetch] = []

    async def serve(self, answer: Answer, *, certificate: str | None = None) -> Site:
        site = Site(answer)
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.authority.issue_cert(certificate).configure_cert(context)
            context.sni_callback = lambda sock, name, context: site.names.append(name)
        server = await asyncio.start_server(site.accept, "127.0.0.1", 0, ssl=context)
        site.port = server.sockets[0].getsockname()[1]
        self._sites.append((site, server))
        return site

    async def resolve(self, name: str) -> list[str]:
        """What the zone says; a name's answers are used up but for the last. Names it lacks are on loopback."""
        self.looked_up.append(name)
        answers = self.records.get(name, [["127.0.0.1"]])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def connect(self, address: Address, port: int) -> socket.socket:
        """A real connection to that address, written down."""
        self.dialled.append((str(address), port))
        return await open_socket(address, port)

    async def pretend(self, address: Address, port: int) -> socket.socket:
        """Written down as that address, but really one to a site on loopback."""
        self.dialled.append((str(address), port))
        return await open_socket(IPv4Address("127.0.0.1"), port)

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def rules(self, **changed: Any) -> AddressRules:
        return AddressRules(**{"allow": ["127.0.0.0/8"], "ports": None, "schemes": ["http", "https"], **changed})

    def dialer(self, rules: AddressRules | None = None, **settings: Any) -> GuardedDialer:
        settings = {"resolve": self.resolve, "connect": self.connect, **settings}
        return GuardedDialer(self.rules() if rules is None else rules, **settings)

    def fetch(self, **settings: Any) -> HttpFetch:
        settings = {
            "guard": self.rules(), "tls": self.trust(), "resolve": self.resolve, "connect": self.connect, **settings,
        }  # fmt: skip
        fetch = HttpFetch(**settings)
        self._fetches.append(fetch)
        return fetch

    async def settle(self, turns: int = 3) -> None:
        """Let the loop turn, and sockets be looked at."""
        loop = asyncio.get_running_loop()
        for _ in range(turns):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until it holds. What it waits for is on its way over loopback."""
        loop = asyncio.get_running_loop()
        end = loop.time() + 5
        while not condition():
            assert loop.time() < end, "it never came true"
            future = loop.create_future()
            loop.call_later(0.001, future.set_result, None)
            await future

    async def close(self) -> None:
        for fetch in self._fetches:
            await fetch.aclose()
        for site, server in self._sites:
            server.close()
            for task in tuple(site.tasks):
                task.cancel()
        await self.until(lambda: not any(site.tasks for site, _ in self._sites))
        await self.settle()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, left


@pytest_asyncio.fixture
async def net() -> AsyncIterator[Net]:
    """Whatever is left of it at the end fails the test."""
    made = Net()
    yield made
    await made.close()


@pytest.fixture
def make_net() -> type[Net]:
    """For tests that bring a loop of their own; they close what they make."""
    return Net
