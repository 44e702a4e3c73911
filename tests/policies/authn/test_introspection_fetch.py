"""SE9 for introspection: the real guarded fetch, to a real server on this host, with and without an operator's word."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import pytest
from tests.policies.authn.introspection_scene import GOOD, NOW, SECRET, Scene

from gatekit.core.verdict import Reply
from gatekit.gateway.shared import Shared
from gatekit.gateway.system import SystemFetch
from gatekit.policies.authn.method import Verified
from gatekit.testing import ManualClock, request, test_ports


class Site:
    """An HTTP server on loopback that gives every request one answer."""

    def __init__(self, status: int = 200, answer: Any = GOOD, headers: str = "") -> None:
        self._head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{headers}Connection: close\r\n"
        self._body = json.dumps(answer).encode()
        self.port = 0
        self.asked: list[tuple[bytes, bytes]] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        self.asked.append((head, await reader.readexactly(length)))
        writer.write(f"{self._head}Content-Length: {len(self._body)}\r\n\r\n".encode() + self._body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def served(site: Site) -> AsyncIterator[Site]:
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    async with server:
        yield site


@asynccontextmanager
async def real(**fields: Any) -> AsyncIterator[Scene]:
    fetch = SystemFetch()
    ports = test_ports(clock=ManualClock(wall=NOW), fetch=fetch, once=Shared())
    try:
        yield Scene(ports=ports, **fields)
    finally:
        await fetch.aclose()


async def ask(scene: Scene) -> Verified | Reply:
    found: Any = scene.bearer.identify(request("GET", "/", headers={"Authorization": "Bearer a+b/c="}))
    answer: Verified | Reply = await found if isinstance(found, Awaitable) else found
    return answer


async def test_a_real_server_in_a_network_that_was_named_is_asked() -> None:
    async with (
        served(Site()) as site,
        real(url=f"http://127.0.0.1:{site.port}/introspect", networks=["127.0.0.0/8"]) as scene,
    ):
        found = await ask(scene)
        assert isinstance(found, Verified)
        assert found.identity.subject == "ann"
        ((head, body),) = site.asked
        assert head.startswith(b"POST /introspect HTTP/1.1\r\n")
        assert base64.b64encode(f"gw:{SECRET}".encode()) in head
        assert parse_qs(body.decode()) == {"token": ["a+b/c="], "token_type_hint": ["access_token"]}


@pytest.mark.parametrize("networks", [[], ["10.0.0.0/8"]], ids=["none", "another"])
async def test_se9_a_private_address_is_not_connected_to_without_its_network(networks: list[str]) -> None:
    async with served(Site()) as site, real(url=f"https://127.0.0.1:{site.port}/", networks=networks) as scene:
        found = await ask(scene)
        assert isinstance(found, Reply)
        assert (found.status, found.reason) == (503, "authn.introspection_unavailable")
        assert site.connections == 0
        assert "refused" in scene.line.last_error


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.7",
        "169.254.169.254",
        "[::1]",
        "[fd00:ec2::254]",
        "100.64.0.1",
        "0x7f.1",
        "2130706433",
        "[::ffff:10.0.0.1]",
    ],
)
async def test_se9_no_spelling_of_an_address_within_is_asked(host: str) -> None:
    async with real(url=f"https://{host}/introspect") as scene:
        found = await ask(scene)
        assert isinstance(found, Reply)
        assert found.reason == "authn.introspection_unavailable"
        assert "refused" in scene.line.last_error


async def test_se9_a_redirect_is_not_followed_with_our_credentials() -> None:
    async with (
        served(Site()) as elsewhere,
        served(Site(307, headers=f"Location: http://127.0.0.1:{elsewhere.port}/\r\n")) as site,
        real(url=f"http://127.0.0.1:{site.port}/", networks=["127.0.0.0/8"]) as scene,
    ):
        found = await ask(scene)
        assert isinstance(found, Reply)
        assert found.reason == "authn.introspection_unavailable"
        assert elsewhere.connections == 0
        assert scene.line.last_error == "it answered 307"


async def test_an_answer_longer_than_the_cap_is_none() -> None:
    long = {**GOOD, "x": "y" * 1_100_000}
    async with (
        served(Site(answer=long)) as site,
        real(url=f"http://127.0.0.1:{site.port}/", networks=["127.0.0.0/8"]) as scene,
    ):
        found = await ask(scene)
        assert isinstance(found, Reply)
        assert found.reason == "authn.introspection_unavailable"
        assert "longer than" in scene.line.last_error


async def test_a_server_that_is_not_there_is_an_outage() -> None:
    async with served(Site()) as site:
        port = site.port
    async with real(url=f"http://127.0.0.1:{port}/", networks=["127.0.0.0/8"]) as scene:
        found = await ask(scene)
        assert isinstance(found, Reply)
        assert found.reason == "authn.introspection_unavailable"
        assert scene.line.in_row == 1
