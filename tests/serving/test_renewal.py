"""A certificate replaced while the listener serves: new connections see it, old ones go on, nobody is refused."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme
import websockets.sync.client
from tests.processes import Instance
from tests.serving.conftest import Pair, Run
from tests.serving.origin import Origin

from gatekit.serving.servers import SERVERS

pytestmark = pytest.mark.servers
BOUND = 15.0


def shown(port: int) -> bytes:
    """The certificate that a new connection is shown, as DER."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))


class Steady:
    """A client that never stops: one request on a connection of its own after the other, from a thread."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context
        self._over = threading.Event()
        self.answered = 0
        self.lost: list[str] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with closing(
                    http.client.HTTPSConnection("127.0.0.1", self._port, timeout=BOUND, context=self._context)
                ) as one:
                    one.request("GET", "/hello")
                    response = one.getresponse()
                    if (response.status, response.read()) != (200, b"hi"):
                        self.lost.append(f"status {response.status}")
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
            self.answered += 1

    def stop(self) -> None:
        self._over.set()
        self._thread.join(BOUND)


@pytest.fixture
def steady(trusting: ssl.SSLContext) -> Iterator[list[Steady]]:
    running: list[Steady] = []
    yield running
    for one in running:
        one.stop()


@pytest.mark.parametrize("server", SERVERS)
def test_a_new_certificate_is_shown_and_nothing_is_lost(
    run: Run, config: Path, pair: Pair, authority: trustme.CA, trusting: ssl.SSLContext, origin: Origin,
    steady: list[Steady], server: str,
) -> None:  # fmt: skip
    before = pair.put(authority)
    one = run(config, *pair.options, "--grace", "0.5", server=server)
    port = one.place.port
    assert shown(port) == before
    load = Steady(port, trusting)
    steady.append(load)
    stream = http.client.HTTPSConnection("127.0.0.1", port, timeout=BOUND, context=trusting)
    name = f"renewal-{server}"
    stream.request("GET", f"/stream/{name}")
    origin.push(name, b"before ")
    response = stream.getresponse()
    assert response.read(7) == b"before "
    with websockets.sync.client.connect(f"wss://127.0.0.1:{port}/ws", ssl=trusting) as socket:
        after = pair.put(authority)
        status, outcome = one.asked("POST", "/reload")
        assert (status, outcome["generation"]) == (200, 2)
        one.wait_for(lambda: shown(port) == after or None)
        if server == "uvicorn":
            # It takes the new files in place; under granian the old worker is leaving, and ends what goes on for ever.
            socket.send("still there")
            assert socket.recv(BOUND) == "still there"
    origin.push(name, b"after")
    origin.end(name)
    assert response.read() == b"after"
    stream.close()
    seen = load.answered
    one.wait_for(lambda: load.answered > seen + 20 or None)
    load.stop()
    assert load.lost == []
    assert "the renewed certificate is in use" in one.tail()


@pytest.mark.parametrize("server", SERVERS)
def test_files_that_cannot_be_used_change_nothing(
    run: Run, config: Path, pair: Pair, authority: trustme.CA, server: str
) -> None:
    before = pair.put(authority)
    one = run(config, *pair.options, server=server)
    workers = one.workers()
    other_key = authority.issue_cert("localhost").private_key_pem.bytes()
    good_cert, good_key = pair.cert.read_bytes(), pair.key.read_bytes()
    for cert, key in ((b"nonsense", good_key), (good_cert, other_key), (None, good_key)):
        pair.key.write_bytes(key)
        if cert is None:
            pair.cert.unlink()
        else:
            pair.cert.write_bytes(cert)
        status, outcome = one.asked("POST", "/reload")
        assert status == 409
        assert "the certificate files cannot be used, those in use stay" in outcome["refused"][0]
        assert outcome["generation"] == 1
        assert shown(one.place.port) == before
    assert "certificate files cannot be used" in one.asked("GET", "/status")[1]["refused"]["problems"][0]
    assert one.workers() == workers
    after = pair.put(authority)
    assert one.asked("POST", "/reload")[0] == 200
    one.wait_for(lambda: shown(one.place.port) == after or None)
    assert one.asked("GET", "/status")[1]["refused"] is None


@pytest.mark.parametrize("server", SERVERS)
def test_other_authorities_for_clients_replace_the_workers(
    run: Run, config: Path, pair: Pair, authority: trustme.CA, tmp_path: Path, server: str
) -> None:
    old, new = trustme.CA(), trustme.CA()
    file = tmp_path / "clients.pem"
    old.cert_pem.write_to_path(file)
    one = run(config, *pair.options, "--client-ca", str(file), server=server)
    workers = one.workers()
    assert let_in(one, authority, old)
    assert not let_in(one, authority, new)
    new.cert_pem.write_to_path(file)
    assert one.asked("POST", "/reload")[0] == 200
    one.wait_for(lambda: not set(workers) & set(one.workers()) or None)
    assert let_in(one, authority, new)
    assert not let_in(one, authority, old)


def let_in(one: Instance, authority: trustme.CA, issuer: trustme.CA) -> bool:
    """Whether a client with a certificate of that issuer is answered."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    issuer.issue_cert("ann@clients.example").configure_cert(context)
    try:
        with closing(
            http.client.HTTPSConnection("127.0.0.1", one.place.port, timeout=BOUND, context=context)
        ) as client:
            client.request("GET", "/hello")
            return client.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
