"""TLS listeners with real clients, on each server: what is spoken, from which version on, and who has to show what."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import trustme
import websockets.asyncio.client
from tests.processes import Instance
from tests.serving.conftest import Pair, Run

from gatekit.cli import main
from gatekit.serving.servers import SERVERS

pytestmark = pytest.mark.servers
BOUND = 10.0
OLD = "DEFAULT:@SECLEVEL=0"
"""Ciphers that let a modern OpenSSL speak the old versions."""


def get(one: Instance, context: ssl.SSLContext, path: str = "/hello", *, http2: bool = False) -> httpx.Response:
    with httpx.Client(verify=context, trust_env=False, timeout=BOUND, http2=http2) as client:
        return client.get(f"https://127.0.0.1:{one.place.port}{path}")


def handshake(port: int, context: ssl.SSLContext, name: str = "localhost") -> ssl.SSLSocket:
    """A connection on which both sides have said that they are content."""
    sock = socket.create_connection(("127.0.0.1", port), BOUND)
    try:
        return context.wrap_socket(sock, server_hostname=name)
    except BaseException:
        sock.close()
        raise


@pytest.mark.parametrize("server", SERVERS)
async def test_https_and_wss_are_answered(
    run: Run, config: Path, pair: Pair, trusting: ssl.SSLContext, server: str
) -> None:
    one = await asyncio.to_thread(run, config, *pair.options, server=server)
    answer = await asyncio.to_thread(get, one, trusting)
    assert (answer.status_code, answer.text) == (200, "hi")
    seen = (await asyncio.to_thread(get, one, trusting, "/seen")).json()
    assert seen["headers"]["x-forwarded-proto"] == "https"
    async with websockets.asyncio.client.connect(f"wss://127.0.0.1:{one.place.port}/ws", ssl=trusting) as client:
        await client.send("ping")
        assert await asyncio.wait_for(client.recv(), BOUND) == "ping"
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await asyncio.to_thread(get, one, ssl.create_default_context())
    async with httpx.AsyncClient(trust_env=False, timeout=BOUND) as plain:
        with pytest.raises(httpx.TransportError):
            await plain.get(f"http://127.0.0.1:{one.place.port}/hello")
    assert "certificate " + str(pair.cert) in one.tail()


@pytest.mark.parametrize(
    ("server", "options", "offered", "chosen"),
    [
        ("granian", [], ["h2", "http/1.1"], "h2"),
        ("granian", [], ["http/1.1"], "http/1.1"),
        ("granian", ["--http", "1"], ["h2", "http/1.1"], "http/1.1"),
        ("granian", ["--http", "2"], ["h2", "http/1.1"], "h2"),
        # uvicorn speaks HTTP/1.1 alone and does not say so: clients that offer both take it for that.
        ("uvicorn", [], ["h2", "http/1.1"], None),
    ],
)
def test_the_protocol_is_agreed_on(
    run: Run, config: Path, pair: Pair, trusting: ssl.SSLContext, server: str, options: list[str], offered: list[str],
    chosen: str | None,
) -> None:  # fmt: skip
    one = run(config, *pair.options, *options, server=server)
    trusting.set_alpn_protocols(offered)
    with closing(handshake(one.place.port, trusting)) as sock:
        assert sock.selected_alpn_protocol() == chosen
    answer = get(one, trusting, http2="h2" in offered)
    assert (answer.status_code, answer.text) == (200, "hi")
    assert answer.http_version == ("HTTP/2" if chosen == "h2" else "HTTP/1.1")


@pytest.fixture
def old_client(authority: trustme.CA) -> ssl.SSLContext:
    """A client of before TLS 1.2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    context.set_ciphers(OLD)
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    return context


def test_the_old_client_can_speak_to_an_old_server(pair: Pair, old_client: ssl.SSLContext) -> None:
    """Else what follows would show nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.set_ciphers(OLD)
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        listening.settimeout(BOUND)

        def serve() -> None:
            accepted, _ = listening.accept()
            accepted.settimeout(BOUND)
            context.wrap_socket(accepted, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        with closing(handshake(listening.getsockname()[1], old_client)) as sock:
            assert sock.version() == "TLSv1.1"
        thread.join(BOUND)


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_older_than_tls_1_2_is_spoken(
    run: Run, config: Path, pair: Pair, trusting: ssl.SSLContext, old_client: ssl.SSLContext, server: str
) -> None:
    one = run(config, *pair.options, server=server)
    for version, said in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        trusting.minimum_version = trusting.maximum_version = version
        with closing(handshake(one.place.port, trusting)) as sock:
            assert sock.version() == said
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(one.place.port, old_client)
    assert get(one, trusting).text == "hi"


# -- certificates of clients


@pytest.fixture
def clients(tmp_path: Path) -> trustme.CA:
    """The authority that signs what clients show."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    return authority


def showing(authority: trustme.CA, issuer: trustme.CA) -> ssl.SSLContext:
    """A client with a certificate of `issuer`."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    issuer.issue_cert("ann@clients.example").configure_cert(context)
    return context


REFUSED = (httpx.TransportError, ssl.SSLError)


@pytest.mark.parametrize("server", SERVERS)
def test_a_required_certificate_lets_in_who_has_one(
    run: Run, config: Path, pair: Pair, authority: trustme.CA, trusting: ssl.SSLContext, clients: trustme.CA,
    tmp_path: Path, server: str,
) -> None:  # fmt: skip
    one = run(config, *pair.options, "--client-ca", str(tmp_path / "clients.pem"), server=server)
    assert get(one, showing(authority, clients)).text == "hi"
    with pytest.raises(REFUSED):
        get(one, trusting)
    with pytest.raises(REFUSED):
        get(one, showing(authority, trustme.CA()))
    with pytest.raises(REFUSED):
        get(one, showing(authority, authority))
    assert get(one, showing(authority, clients)).text == "hi"
    assert "client certificates required" in one.tail()


def test_an_optional_certificate_lets_in_who_has_none(
    run: Run, config: Path, pair: Pair, authority: trustme.CA, trusting: ssl.SSLContext, clients: trustme.CA,
    tmp_path: Path,
) -> None:  # fmt: skip
    options = ("--client-ca", str(tmp_path / "clients.pem"), "--client-cert", "optional")
    one = run(config, *pair.options, *options, server="uvicorn")
    assert get(one, trusting).text == "hi"
    assert get(one, showing(authority, clients)).text == "hi"
    with pytest.raises(REFUSED):
        get(one, showing(authority, trustme.CA()))


def test_an_optional_certificate_is_refused_for_granian(
    config: Path, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--client-ca", str(tmp_path / "clients.pem"), "--client-cert", "optional")
    assert main(["run", str(config), *pair.options, *options]) == 1
    said = capsys.readouterr().err
    assert said == (
        "gatekit run: granian can require client certificates, not ask for them: --server uvicorn does both\n"
    )


EDGE = """
import json
from gatekit import Cluster, Gateway, Route

async def app(scope, receive, send):
    told = {"extensions": sorted(scope.get("extensions") or {}), "scheme": scope["scheme"]}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})

gateway = Gateway(routes=[Route("/*", to="app")], clusters={"app": Cluster(app=app)})
"""


@pytest.mark.parametrize("server", SERVERS)
def test_no_server_tells_which_certificate_was_shown(
    run: Run, pair: Pair, authority: trustme.CA, clients: trustme.CA, tmp_path: Path, server: str
) -> None:
    """The ASGI extension `tls` would. When one of them begins to, a policy can look at it, and this test says so."""
    (tmp_path / "edge.py").write_text(EDGE)
    one = run("edge:gateway", *pair.options, "--client-ca", str(tmp_path / "clients.pem"), server=server)
    told = json.loads(get(one, showing(authority, clients)).text)
    assert told["scheme"] == "https"
    assert "tls" not in told["extensions"]


# -- what cannot be started


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("how", ["missing", "garbage", "another key"])
def test_files_that_cannot_be_used_are_said_before_anything_starts(
    config: Path, pair: Pair, authority: trustme.CA, capfd: pytest.CaptureFixture[str], how: str, server: str
) -> None:
    if how == "missing":
        pair.key.unlink()
    elif how == "garbage":
        pair.cert.write_text("nonsense")
    else:
        authority.issue_cert("localhost").private_key_pem.write_to_path(pair.key)
    options = ("--server", server, "--port", "0", "--admin", "off")
    assert main(["run", str(config), *pair.options, *options]) == 1
    assert "gatekit run: " in capfd.readouterr().err
