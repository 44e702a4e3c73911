"""A gateway on a Unix socket, or on a socket that somebody else opened: HTTP and WebSocket over it, on each server."""

from __future__ import annotations

import socket
import stat
import subprocess
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
import pytest
import websockets.sync.client
from tests.serving.conftest import Run

from gatekit.serving.servers import SERVERS

pytestmark = pytest.mark.servers
BOUND = 10.0


def get(path: Path, target: str = "/seen", **headers: str) -> httpx.Response:
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, trust_env=False, timeout=BOUND) as client:
        return client.get(f"http://gateway.example{target}", headers=headers)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_http_and_websocket_over_a_unix_socket(
    run: Run, config: Path, tmp_path: Path, server: str, workers: str
) -> None:
    path = tmp_path / "a.sock"
    one = run(config, "--uds", str(path), "--uds-mode", "666", "--workers", workers, server=server)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    for _ in range(10):
        assert get(path, "/hello").text == "hi"
    with websockets.sync.client.unix_connect(str(path), "ws://gateway.example/ws") as client:
        client.send("ping")
        assert client.recv(BOUND) == "ping"
    assert f"listening  unix:{path} ({server}" in one.tail()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", one.place.port), BOUND)
    assert one.asked("POST", "/reload")[0] == 200
    assert get(path, "/hello").text == "hi"
    assert one.end(BOUND) == 0
    assert not path.exists()


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(("trusted", "believed"), [("[unix]", True), ("[127.0.0.1]", False), ("[]", False)])
def test_whoever_is_behind_the_socket_is_believed_when_unix_is_trusted(
    run: Run, config: Path, tmp_path: Path, server: str, trusted: str, believed: bool
) -> None:
    config.write_text(f"trusted_proxies: {trusted}\n{config.read_text()}")
    path = tmp_path / "a.sock"
    run(config, "--uds", str(path), server=server)
    headers = get(path, **{"X-Forwarded-For": "192.0.2.9", "X-Forwarded-Proto": "https"}).json()["headers"]
    assert ("192.0.2.9" in headers.get("x-forwarded-for", "")) is believed
    assert (headers.get("x-forwarded-proto") == "https") is believed


@pytest.mark.parametrize("server", SERVERS)
def test_a_socket_of_a_run_that_was_killed_is_taken_over(run: Run, config: Path, tmp_path: Path, server: str) -> None:
    path = tmp_path / "a.sock"
    first = run(config, "--uds", str(path), server=server)
    first.stop()
    assert path.exists()
    run(config, "--uds", str(path), server=server)
    assert get(path, "/hello").text == "hi"


def test_a_socket_that_another_run_has_is_left_alone(run: Run, config: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    run(config, "--uds", str(path))
    second = run(config, "--uds", str(path), ready=False)
    assert second.process.wait(BOUND) == 1
    assert f"somebody listens on {path} already" in second.tail()
    assert get(path, "/hello").text == "hi"


@pytest.mark.parametrize("server", SERVERS)
def test_a_socket_that_was_handed_over_is_served(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """The number is inherited: what opened the socket keeps it, so that connections wait while there is no gateway."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as listening:
        number = listening.fileno()
        monkeypatch.setattr(subprocess, "Popen", partial(subprocess.Popen, pass_fds=(number,)))
        one = run(config, "--fd", str(number), server=server)
        monkeypatch.undo()
        address = "http://{}:{}/hello".format(*listening.getsockname())
        with httpx.Client(trust_env=False, timeout=BOUND) as client:
            assert client.get(address).text == "hi"
        assert one.end(BOUND) == 0
        socket.create_connection(listening.getsockname(), BOUND).close()
