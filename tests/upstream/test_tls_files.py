"""TLS to endpoints from files: an authority of one's own, a client certificate, another name to check."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from gatekit import Cluster, Gateway, Route
from gatekit.core.plan import Endpoint, TlsPlan
from gatekit.errors import ConfigRefused, UpstreamError
from gatekit.upstream.dial import target_key


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.pem`, and a client's `client.pem` (certificate and key), `cert.pem`, `key.pem`."""
    folder = tmp_path_factory.mktemp("pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    client = authority.issue_cert("gateway.test")
    client.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    client.private_key_pem.write_to_path(folder / "key.pem")
    client.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    (folder / "empty.pem").write_text("")
    return folder


def serving(authority: trustme.CA, name: str, *, asks: bool = False, seen: list[Any] | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    if seen is not None:
        context.sni_callback = lambda sock, found, ctx: seen.append(found)
    return context


async def answering(peer: Any) -> None:
    certificate = peer.writer.get_extra_info("peercert")
    if await peer.request():
        names = [value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "DNS"]
        body = ",".join(names).encode()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


@pytest.mark.parametrize("pair", [("client.pem", None), ("cert.pem", "key.pem")])
async def test_a_client_certificate(
    world: Any, authority: trustme.CA, files: Path, pair: tuple[str, str | None]
) -> None:
    server = await world.serve(answering, tls=serving(authority, "127.0.0.1", asks=True))
    cert, key = pair
    tls = TlsPlan(ca=str(files / "ca.pem"), cert=str(files / cert), key=None if key is None else str(files / key))
    cluster = world.cluster(endpoints=(Endpoint("127.0.0.1", server.port, tls=True),), tls=tls)
    assert (await world.get(cluster))[1] == b"gateway.test"


async def test_without_the_certificate_that_is_asked_for(world: Any, authority: trustme.CA, files: Path) -> None:
    server = await world.serve(tls=serving(authority, "127.0.0.1", asks=True))
    tls = TlsPlan(ca=str(files / "ca.pem"))
    cluster = world.cluster(endpoints=(Endpoint("127.0.0.1", server.port, tls=True),), tls=tls)
    with pytest.raises(UpstreamError) as caught:
        await world.get(cluster)
    # TLS 1.3: the client has finished its side when the server refuses.
    assert caught.value.reason in ("upstream.tls_failed", "upstream.closed")


async def test_another_name_is_sent_and_checked(world: Any, authority: trustme.CA, files: Path) -> None:
    seen: list[Any] = []
    server = await world.serve(answering, tls=serving(authority, "api.internal", seen=seen))
    tls = TlsPlan(ca=str(files / "ca.pem"), server_name="api.internal")
    endpoint = Endpoint("127.0.0.1", server.port, tls=True)
    await world.get(world.cluster(endpoints=(endpoint,), tls=tls))
    assert seen == ["api.internal"]
    with pytest.raises(UpstreamError, match=r"upstream\.tls_failed"):
        await world.get(world.cluster(endpoints=(endpoint,), tls=TlsPlan(ca=str(files / "ca.pem"))))


async def test_a_check_that_is_switched_off(world: Any, authority: trustme.CA) -> None:
    server = await world.serve(answering, tls=serving(authority, "other.test"))
    cluster = world.cluster(endpoints=(Endpoint("127.0.0.1", server.port, tls=True),), tls=TlsPlan(verify=False))
    assert (await world.get(cluster))[0].status == 200


@pytest.mark.parametrize(
    ("tls", "names"),
    [({"ca": "missing.pem"}, "tls.ca"), ({"ca": "empty.pem"}, "tls.ca"), ({"cert": "ca.pem"}, "tls.cert")],
)
def test_files_that_cannot_be_used_refuse_the_configuration(files: Path, tls: dict[str, str], names: str) -> None:
    given = {field: str(files / name) for field, name in tls.items()}
    with pytest.raises(ConfigRefused, match=rf"clusters\.up: .*{names}"):
        Gateway(routes=[Route("/*", to="up")], clusters={"up": Cluster("https://127.0.0.1:1", tls=given)})


def test_a_changed_setting_makes_another_pool(world: Any) -> None:
    endpoint = Endpoint("a.test", 443, tls=True)
    keys = {
        target_key(world.plan(endpoints=(endpoint,), tls=tls), endpoint)
        for tls in (None, TlsPlan(), TlsPlan(ca="a"), TlsPlan(ca="a"), TlsPlan(ca="a", verify=False))
    }
    assert len(keys) == 4
