"""A draining instance of `gatekit run`: after the grace nobody is taken who would be cut with the rest."""

from __future__ import annotations

import http.client
import signal
import socket
from contextlib import closing
from pathlib import Path

import pytest
from tests.serving.conftest import Run
from tests.serving.origin import Origin

from gatekit.serving.servers import SERVERS

pytestmark = pytest.mark.servers
BOUND = 15.0


def taken(port: int) -> bool | None:
    """Whether a new connection is answered; None, so that it is asked again, while it is."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND)) as one:
            one.request("GET", "/hello")
            one.getresponse().read()
    except ConnectionRefusedError:
        return False
    except (OSError, http.client.HTTPException):
        # It waited in the queue at the very moment at which the socket was closed.
        return None
    return None


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("workers", [1, 2])
def test_after_the_grace_new_connections_are_refused_and_what_is_under_way_ends(
    run: Run, config: Path, origin: Origin, server: str, workers: int
) -> None:
    one = run(config, "--grace", "0.5", "--timeout", "30", "--workers", str(workers), server=server)
    name = f"drain-{server}-{workers}"
    with closing(http.client.HTTPConnection("127.0.0.1", one.place.port, timeout=BOUND)) as stream:
        stream.request("GET", f"/stream/{name}")
        origin.push(name, b"before ")
        response = stream.getresponse()
        assert response.read(7) == b"before "
        one.tell(signal.SIGTERM)
        assert one.wait_for(lambda: False if taken(one.place.port) is False else None) is False
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", one.place.port), BOUND)
        origin.push(name, b"after")
        origin.end(name)
        assert response.read() == b"after"
    assert one.process.wait(BOUND) == 0
