"""nginx and Caddy, one of each for the session, and gateways in this process that forward to them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha256
from typing import Any

import pytest
import pytest_asyncio
import trustme

from gatekit import Cluster, Gateway, Route

from .origins import Files, Origin, start

Make = Callable[..., Gateway]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Files:
    made = Files(tmp_path_factory.mktemp("files"))
    made.put("small.txt", b"small")
    made.put("long.txt", b"\n".join(sha256(b"%d" % number).hexdigest().encode() for number in range(3_000)))
    made.put("big.bin", bytes(range(256)) * 16_384)
    authority.cert_pem.write_to_path(str(made.folder / "authority.pem"))
    for name, host in (("server", "localhost"), ("other", "other.test")):
        authority.issue_cert(host).private_key_and_cert_chain_pem.write_to_path(str(made.folder / f"{name}.pem"))
    return made


@pytest.fixture(scope="session")
def origins(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Origin]]:
    """A server of that name, started when it is first asked for."""
    made: dict[str, Origin] = {}

    def get(name: str) -> Origin:
        if name not in made:
            made[name] = start(name, files, tmp_path_factory)
        return made[name]

    yield get
    for one in made.values():
        one.stop()


@pytest.fixture
def nginx(origins: Callable[[str], Origin]) -> Origin:
    return origins("nginx")


@pytest.fixture
def caddy(origins: Callable[[str], Origin]) -> Origin:
    return origins("caddy")


@pytest.fixture(params=["nginx", "caddy"])
def origin(request: pytest.FixtureRequest, origins: Callable[[str], Origin]) -> Origin:
    return origins(request.param)


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """What a gateway trusts that knows the authority, and shows no certificate of its own."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(params=["tcp", "unix", "tls"])
def way(request: pytest.FixtureRequest, origin: Origin, gateway: Make, tls: ssl.SSLContext) -> Gateway:
    """A gateway that reaches the origin that way."""
    if request.param == "tls":
        return gateway(origin.url("tls"), tls_context=lambda: tls)
    if request.param == "unix":
        return gateway(f"unix:{origin.unix}", host_header="client")
    return gateway(origin.url("plain"))


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Make]:
    """`gateway(url, **settings of the cluster)`; all are closed afterwards."""
    made: list[Gateway] = []

    def make(url: str, **settings: Any) -> Gateway:
        made.append(Gateway(routes=[Route("/*", to="origin")], clusters={"origin": Cluster(url, **settings)}))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()
