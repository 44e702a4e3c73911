"""Connections that uvicorn would keep for ever: looked at now and then, by a clock of the test's."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.serving.conftest import Run

from gatekit.serving.on_uvicorn import Patience
from gatekit.serving.servers import SERVERS


class Connection:
    """As uvicorn's: `cycle` is the request it was asked last, None before the first."""

    def __init__(self, cycle: Any = None) -> None:
        self.cycle = cycle
        self.closed = False
        self.transport = SimpleNamespace(close=lambda: setattr(self, "closed", True))


def cycle(*, complete: bool) -> Any:
    return SimpleNamespace(response_complete=complete)


def closed_after(connection: Connection, looks: list[float]) -> list[bool]:
    patience = Patience(10.0)
    found = []
    for now in looks:
        patience.look([connection], now)
        found.append(connection.closed)
    return found


@pytest.mark.parametrize("asked", [None, cycle(complete=True)], ids=["never", "before"])
def test_one_that_asks_nothing_is_closed(asked: Any) -> None:
    assert closed_after(Connection(asked), [0.0, 5.0, 9.9, 10.0]) == [False, False, False, True]


def test_one_that_is_answered_is_left_alone() -> None:
    assert closed_after(Connection(cycle(complete=False)), [0.0, 100.0, 200.0]) == [False, False, False]


def test_every_request_begins_the_time_anew() -> None:
    patience, connection = Patience(10.0), Connection()
    for now in range(0, 100, 8):
        patience.look([connection], float(now))
        connection.cycle = cycle(complete=True)
    assert not connection.closed


def test_a_websocket_waits_for_no_head() -> None:
    Patience(0.0).look([object()], 0.0)


@pytest.mark.servers
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("said", [b"", b"GET /hello HTTP/1.1\r\nhost: a\r\nx-"], ids=["nothing", "half a head"])
def test_a_client_that_never_ends_its_head_is_let_go(run: Run, config: Path, server: str, said: bytes) -> None:
    one = run(config, "--keepalive", "1", server=server)
    with closing(socket.create_connection(("127.0.0.1", one.place.port), 20.0)) as client:
        client.sendall(said)
        answer = client.recv(1000)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
