"""Certificates and authorities replaced while the listener serves. `test_renewal_load` does it under load."""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing
from pathlib import Path

import pytest
import trustme
from tests.processes import Instance
from tests.serving.conftest import Pair, Run
from tests.serving.origin import Origin

from gatekit.serving.servers import SERVERS

pytestmark = pytest.mark.servers
BOUND = 15.0


def shown(port: int) -> bytes:
    """The certificate that a new connection is shown, as DER."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))


@pytest.mark.parametrize("server", SERVERS)
def test_a_key_of_another_type_is_used(run: Run, config: Path, pair: Pair, authority: trustme.CA, server: str) -> None:
    one = run(config, *pair.options, server=server)
    after = pair.put(authority, trustme.KeyType.RSA)
    assert one.asked("POST", "/reload")[0] == 200
    one.wait_for(lambda: shown(one.place.port) == after or None)


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
    run: Run, config: Path, pair: Pair, authority: trustme.CA, origin: Origin, tmp_path: Path, server: str
) -> None:
    old, new = trustme.CA(), trustme.CA()
    file = tmp_path / "clients.pem"
    old.cert_pem.write_to_path(file)
    one = run(config, *pair.options, "--client-ca", str(file), server=server)
    workers = one.workers()
    assert let_in(one, authority, old)
    assert not let_in(one, authority, new)
    context = showing(authority, old)
    with closing(http.client.HTTPSConnection("127.0.0.1", one.place.port, timeout=BOUND, context=context)) as stream:
        # It holds an old worker up, which must not let anybody in meanwhile.
        name = f"authorities-{server}"
        stream.request("GET", f"/stream/{name}")
        origin.push(name, b"before")
        response = stream.getresponse()
        assert response.read(6) == b"before"
        new.cert_pem.write_to_path(file)
        assert one.asked("POST", "/reload")[0] == 200
        one.wait_for(lambda: not let_in(one, authority, old) or None)
        assert set(workers) & set(one.workers())
        assert not any(let_in(one, authority, old) for _ in range(20))
        assert all(let_in(one, authority, new) for _ in range(5))
        origin.end(name)
        assert response.read() == b""
    one.wait_for(lambda: not set(workers) & set(one.workers()) or None)


def showing(authority: trustme.CA, issuer: trustme.CA) -> ssl.SSLContext:
    """A client with a certificate of that issuer."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    issuer.issue_cert("ann@clients.example").configure_cert(context)
    return context


def let_in(one: Instance, authority: trustme.CA, issuer: trustme.CA) -> bool:
    """Whether a client with a certificate of that issuer is answered."""
    context = showing(authority, issuer)
    try:
        with closing(
            http.client.HTTPSConnection("127.0.0.1", one.place.port, timeout=BOUND, context=context)
        ) as client:
            client.request("GET", "/hello")
            return client.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
