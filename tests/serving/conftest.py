"""Instances of `gatekit run`, an origin behind them, and certificates for their listeners."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import trustme
from tests.processes import Instance, Place, need_module, started
from tests.serving.fakes import BOUND, Scene, Staff
from tests.serving.origin import Origin

from gatekit.serving import supervisor as supervisor_module

QUICK = ("--grace", "0", "--timeout", "5")
"""A drain that nobody has to wait for."""


class Run(Protocol):
    """Start an instance and wait until it serves. `ready=False` does not wait: its admin endpoints are elsewhere."""

    def __call__(
        self, target: str | Path, *options: str, server: str = ..., ready: bool = ..., **more: Any
    ) -> Instance: ...


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start instances of `gatekit run` in the test's folder; they end with it."""
    running: list[Instance] = []

    def go(target: str | Path, *options: str, server: str = "granian", ready: bool = True, **more: Any) -> Instance:
        need_module(server)

        def start() -> Instance:
            one = Instance(str(target), tmp_path, Place.free(), *QUICK, *options, server=server, cwd=tmp_path, **more)
            running.append(one)
            return one.until_ready() if ready else one

        return started("gatekit run", start)

    yield go
    for one in running:
        one.stop()


@pytest.fixture(scope="session")
def origin() -> Iterator[Origin]:
    one = Origin()
    yield one
    one.stop()


@pytest.fixture
def config(tmp_path: Path, origin: Origin) -> Path:
    """A configuration: `/hello` is answered by the gateway, everything else goes to the origin."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        f"routes:\n  - match: /hello\n    policies: [{{respond: {{status: 200, body: hi}}}}]\n"
        f"  - {{match: '/*', to: origin}}\nclusters:\n  origin: {{urls: ['{origin.url}']}}\n"
    )
    return file


class Pair:
    """A certificate and its key on disk, and how a client sees them."""

    def __init__(self, folder: Path, name: str = "server") -> None:
        self.cert, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        self.options = ("--tls-cert", str(self.cert), "--tls-key", str(self.key))

    def put(self, authority: trustme.CA, key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> bytes:
        """Replace both files by a new certificate of that authority; the certificate as DER."""
        issued = authority.issue_cert("localhost", "127.0.0.1", key_type=key_type)
        for path, content in (
            (self.key, issued.private_key_pem.bytes()),
            (self.cert, b"".join(blob.bytes() for blob in issued.cert_chain_pems)),
        ):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(content)
            fresh.replace(path)
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pair(tmp_path: Path, authority: trustme.CA) -> Pair:
    made = Pair(tmp_path)
    made.put(authority)
    return made


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the authority and shows no certificate."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A supervisor over workers that are no processes; all of them are gone once it was stopped."""
    staff = Staff()
    monkeypatch.setattr(supervisor_module, "WorkerProcess", staff)
    made = Scene(staff)
    yield made
    if hasattr(made, "supervisor"):
        await asyncio.wait_for(made.supervisor.stop(), BOUND)
        assert all(worker.gone for worker in staff.made)
