"""SE9 for key sets: whoever may name a URL (a configuration, an issuer's metadata, a redirect) reaches nothing inside by it.

The guarded client is the real one. Only what it dials after it has judged an address ends at a site of this test.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from ipaddress import IPv4Address, IPv6Address

import pytest
import pytest_asyncio
import trustme
from tests.policies.authn.keysets_scene import ISSUER, URL, Scene, jwks, plain, status

from gatekit.clients.addresses import AddressRules
from gatekit.clients.eyeballs import open_socket
from gatekit.clients.fetch import HttpFetch
from gatekit.core.ports import PUBLIC, Fetched, Reach
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.jose_keys import Key
from gatekit.policies.authn.keysets import RemoteKeys

PUBLIC_ADDRESS = "93.184.216.34"
OPENID = f"{ISSUER}/.well-known/openid-configuration"
INSIDE = [
    pytest.param("127.0.0.1", id="loopback"),
    pytest.param("::1", id="loopback of IPv6"),
    pytest.param("10.1.2.3", id="private"),
    pytest.param("192.168.0.1", id="private too"),
    pytest.param("169.254.169.254", id="metadata"),
    pytest.param("fd00:ec2::254", id="metadata of IPv6"),
    pytest.param("::ffff:127.0.0.1", id="mapped"),
    pytest.param("64:ff9b::7f00:1", id="NAT64"),
    pytest.param("100.64.0.1", id="of carriers"),
    pytest.param("0.0.0.0", id="unspecified"),
]


class World:
    """The site of an issuer, the zone that names are looked up in, and every address that was dialled.

    As a `Fetch` it has a client for each reach, as the running process has.
    """

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        self._server_context = server
        self._client_context = client
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.zone: dict[str, list[str]] = {}
        self.dialled: list[str] = []
        self.ports: dict[bool, int] = {}
        self._clients: dict[Reach, HttpFetch] = {}
        self._servers: list[asyncio.AbstractServer] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        for tls in (True, False):
            context = self._server_context if tls else None
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
            self.ports[tls] = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                host = head.lower().partition("\r\nhost: ")[2].partition("\r\n")[0]
                status, headers, body = self.pages.get(host + head.split(" ")[1], (404, {}, b""))
                fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{fields}content-length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.transport.abort()

    async def resolve(self, name: str) -> list[str]:
        return self.zone.get(name, [PUBLIC_ADDRESS])

    async def connect(self, address: IPv4Address | IPv6Address, port: int) -> socket.socket:
        self.dialled.append(str(address))
        return await open_socket(IPv4Address("127.0.0.1"), self.ports[True] if port == 443 else port)

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 5.0,
        reach: Reach = PUBLIC,
    ) -> Fetched:
        client = self._clients.get(reach)
        if client is None:
            client = self._clients[reach] = HttpFetch(
                guard=AddressRules.trusted(*reach.networks) if reach.networks else None,
                tls=self._client_context,
                resolve=self.resolve,
                connect=self.connect,
            )
        return await client(method, url, headers=headers, body=body, timeout=timeout)

    def publishes(self, url: str, body: bytes, status: int = 200, **headers: str) -> None:
        self.pages[url.partition("://")[2]] = (status, headers, body)

    def tells(self, uri: str, issuer: str = ISSUER) -> None:
        """The metadata of the issuer names that URL."""
        metadata = json.dumps({"issuer": issuer, "jwks_uri": uri}).encode()
        self.publishes(f"{issuer}/.well-known/openid-configuration", metadata)


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A certificate for the issuer's names, and trust in it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("id.example", "moved.example").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest_asyncio.fixture
async def world(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> AsyncIterator[World]:
    one = World(*contexts)
    await one.open()
    yield one
    await one.close()


def scene_in(world: World) -> Scene:
    return Scene(fetch=world)


async def asked(keys: RemoteKeys, kid: str = "a") -> Key | None:
    found = keys.find(kid, "EdDSA")
    return found if found is None or isinstance(found, Key) else await found


def written(address: str) -> str:
    return f"[{address}]" if ":" in address else address


async def refused(keys: RemoteKeys) -> str:
    """Why the key set could not be had."""
    with pytest.raises(StoreUnavailable):
        await asked(keys)
    return str(status(keys)["last_error"])


async def test_a_public_issuer_is_reached_by_url_and_by_discovery(world: World) -> None:
    world.publishes(URL, jwks("a"))
    world.tells(URL)
    scene = scene_in(world)
    assert await asked(scene.keys()) is not None
    assert await asked(scene.keys(issuer=ISSUER)) is not None
    assert set(world.dialled) == {PUBLIC_ADDRESS}


@pytest.mark.parametrize("named", [False, True], ids=["literal", "name"])
@pytest.mark.parametrize("place", ["url", "issuer", "jwks_uri", "redirect"])
@pytest.mark.parametrize("address", INSIDE)
async def test_se9_nothing_inside_is_dialled_for_a_key_set(world: World, address: str, place: str, named: bool) -> None:
    host = "inside.example" if named else written(address)
    world.zone["inside.example"] = [address]
    inside = f"https://{host}/keys"
    scene = scene_in(world)
    if place == "url":
        keys = scene.keys(url=inside)
    elif place == "issuer":
        keys = scene.keys(issuer=f"https://{host}")
    elif place == "jwks_uri":
        world.tells(inside)
        keys = scene.keys(issuer=ISSUER)
    else:
        world.publishes(URL, b"", 302, location=inside)
        keys = scene.keys()
    why = await refused(keys)
    assert "refused" in why
    assert address in why or str(IPv6Address(address)) in why if ":" in address else address in why
    assert set(world.dialled) <= {PUBLIC_ADDRESS}


@pytest.mark.parametrize("spelling", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1."])
@pytest.mark.parametrize("place", ["url", "jwks_uri"])
async def test_se9_other_spellings_of_an_address_are_none(world: World, spelling: str, place: str) -> None:
    scene, url = scene_in(world), f"https://{spelling}/keys"
    world.tells(url)
    why = await refused(scene.keys(url=url) if place == "url" else scene.keys(issuer=ISSUER))
    assert "refused" in why
    assert set(world.dialled) <= {PUBLIC_ADDRESS}


async def test_se9_a_name_that_turns_inward_is_not_followed_and_the_keys_stay(world: World) -> None:
    world.publishes(URL, jwks("a"))
    scene = scene_in(world)
    keys = scene.keys()
    assert await asked(keys) is not None
    world.zone["id.example"] = [PUBLIC_ADDRESS, "127.0.0.1"]
    for client in world._clients.values():
        await client.aclose()
    scene.clock.advance(301)
    (job,) = keys.jobs()
    await job.run()
    assert "127.0.0.0/8" in str(status(keys)["last_error"])
    assert plain(keys, "a") is not None
    assert set(world.dialled) == {PUBLIC_ADDRESS}


async def test_se9_an_issuer_inside_is_reached_where_its_network_is_named_and_nothing_else_is(world: World) -> None:
    origin = f"http://127.0.0.1:{world.ports[False]}"
    reach = Reach(networks=("127.0.0.0/8", "169.254.0.0/16"))
    world.publishes(f"{origin}/keys", jwks("a"))
    scene = scene_in(world)
    assert await asked(scene.keys(url=f"{origin}/keys", reach=reach)) is not None
    world.tells(f"{origin}/keys", origin)
    assert await asked(scene.keys(issuer=origin, reach=reach)) is not None
    assert set(world.dialled) == {"127.0.0.1"}
    for elsewhere in ("http://10.0.0.1/keys", "http://169.254.169.254/keys"):
        assert "refused" in await refused(scene.keys(url=elsewhere, reach=reach))
    assert set(world.dialled) == {"127.0.0.1"}


async def test_se9_keys_that_were_asked_for_over_https_never_come_over_http(world: World) -> None:
    reach = Reach(networks=("127.0.0.0/8",))
    world.publishes(URL, b"", 302, location=f"http://127.0.0.1:{world.ports[False]}/keys")
    scene = scene_in(world)
    assert "redirects from https to http" in await refused(scene.keys(reach=reach))
    world.tells(f"http://127.0.0.1:{world.ports[False]}/keys")
    assert "is https" in await refused(scene.keys(issuer=ISSUER, reach=reach))


async def test_a_document_longer_than_the_client_takes_is_a_failure(world: World) -> None:
    world.publishes(URL, b" " * (1 << 20) + jwks("a"))
    assert "longer than 1048576 bytes" in await refused(scene_in(world).keys())


async def test_a_refresh_goes_through_the_same_client(world: World) -> None:
    world.publishes(URL, jwks("a"))
    world.publishes("https://moved.example/keys", jwks("b"))
    world.tells(URL)
    scene = scene_in(world)
    keys = scene.keys(issuer=ISSUER)
    assert await asked(keys) is not None
    world.tells("https://moved.example/keys")
    scene.clock.advance(601)
    (job,) = keys.jobs()
    await job.run()
    assert plain(keys, "b") is not None
