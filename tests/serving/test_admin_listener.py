"""The admin endpoints of real instances: where they listen, who gets in, and that the public listener never has them."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.processes import Instance, Place
from tests.serving.conftest import Run

from gatekit.cli import main
from gatekit.serving.servers import SERVERS

pytestmark = pytest.mark.servers
BOUND = 10.0
TOKEN = "correct-horse-battery-staple"
ENDPOINTS = ["/live", "/ready", "/status", "/drain", "/reload"]


def ask(
    where: str, method: str, path: str, headers: Mapping[str, str] | None = None, *, uds: Path | None = None
) -> httpx.Response:
    transport = httpx.HTTPTransport(uds=None if uds is None else str(uds))
    with httpx.Client(transport=transport, trust_env=False, timeout=BOUND) as client:
        return client.request(method, f"http://{where}{path}", headers=headers)


def raw(port: int, request: bytes) -> tuple[int, bytes]:
    """Status and content of the answer to exactly these bytes."""
    with closing(socket.create_connection(("127.0.0.1", port), BOUND)) as client:
        client.sendall(request)
        found = b""
        while part := client.recv(65536):
            found += part
    head, _, body = found.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def public(one: Instance) -> str:
    return f"127.0.0.1:{one.place.port}"


def admin(one: Instance) -> str:
    return f"127.0.0.1:{one.place.admin}"


def secrets_of(pid: int) -> bytes:
    """What anybody who may look at that process sees: its arguments and its environment."""
    return Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("server", SERVERS)
def test_the_public_listener_forwards_these_paths_like_any_other(run: Run, config: Path, server: str) -> None:
    one = run(config, server=server)
    for path in ENDPOINTS:
        answer = ask(public(one), "GET", path)
        assert (answer.status_code, answer.json()["path"]) == (200, path)
    assert ask(admin(one), "GET", "/hello").status_code == 404
    status = ask(admin(one), "GET", "/status").json()
    assert (status["ready"], status["draining"], status["generation"]) == (True, False, 1)
    [worker] = status["workers"]
    assert (worker["worker"], worker["pid"], worker["ready"]) == (1, one.workers()[0], True)
    assert list(worker["clusters"]) == ["origin"]


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        (b"GET /status HTTP/1.1", b"host: localhost\r\n", 200),
        (b"GET /status HTTP/1.0", b"", 200),
        (b"GET /%73tatus HTTP/1.1", b"HOST: LocalHost\r\n", 200),
        (b"GET //status HTTP/1.1", b"host: localhost\r\n", 404),
        (b"GET /status/ HTTP/1.1", b"host: localhost\r\n", 404),
        (b"GET /./status HTTP/1.1", b"host: localhost\r\n", 404),
        (b"GET /x/../status HTTP/1.1", b"host: localhost\r\n", 404),
        (b"GET /status HTTP/1.1", b"host: evil.example\r\n", 403),
        (b"GET /status HTTP/1.1", b"host: localhost.\r\n", 403),
        (b"GET /status HTTP/1.1", b"host: 127.1\r\n", 403),
        (b"GET /status HTTP/1.1", b"host: evil.example\r\nhost: localhost\r\n", 403),
        (b"GET http://localhost/status HTTP/1.1", b"host: evil.example\r\n", 403),
        (b"POST /reload HTTP/1.1", b"host: localhost\r\norigin: null\r\ncontent-length: 0\r\n", 403),
        (b"POST /drain HTTP/1.1", b"host: localhost\r\nsec-fetch-site: cross-site\r\ncontent-length: 0\r\n", 403),
        (b"GET /drain HTTP/1.1", b"host: localhost\r\n", 405),
        (b"GET /drain HTTP/1.1", b"host: localhost\r\nx-http-method-override: POST\r\n", 405),
    ],
)  # fmt: skip
def test_no_trick_of_a_request_gets_in(shared: Instance, request_line: bytes, headers: bytes, status: int) -> None:
    found, _ = raw(shared.place.admin, request_line + b"\r\n" + headers + b"connection: close\r\n\r\n")
    assert found == status
    assert ask(admin(shared), "GET", "/ready").json() == {"ready": True}, "nothing was drained"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One instance for requests that change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "gateway.yaml").write_text("routes: []\n")
    one = Instance("gateway.yaml", folder, Place.free(), "--grace", "0", "--timeout", "1")
    try:
        yield one.until_ready()
    finally:
        one.stop()


def test_on_a_unix_socket_it_is_for_who_may_open_that(run: Run, config: Path, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    one = run(config, "--admin", f"unix:{path}", ready=False)
    one.wait_for(lambda: path.exists() or None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def ready() -> bool | None:
        return ask("localhost", "GET", "/ready", uds=path).status_code == 200 or None

    one.wait_for(ready)
    assert ask("localhost", "GET", "/status", uds=path).json()["ready"] is True
    assert ask("localhost", "POST", "/reload", uds=path).json()["generation"] == 2
    assert ask("localhost", "POST", "/reload", {"origin": "null"}, uds=path).status_code == 403
    assert ask("evil.example", "GET", "/status", uds=path).status_code == 403
    assert f"admin      unix:{path}" in one.tail()
    assert one.end(BOUND) == 0
    assert not path.exists()


def test_off_it_listens_nowhere(run: Run, config: Path) -> None:
    one = run(config, "--admin", "off", ready=False)

    def serves() -> bool | None:
        return True if "SIGHUP" in one.log.read_text() else None

    one.wait_for(serves)
    assert ask(public(one), "GET", "/hello").text == "hi"
    assert "admin      off" in one.tail()
    with pytest.raises(httpx.ConnectError):
        ask(admin(one), "GET", "/live")
    assert one.end(BOUND) == 0


def test_for_other_machines_it_wants_a_token(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(config), "--port", "0", "--admin", "0.0.0.0:0"]) == 1
    assert "can be reached from other machines: give --admin-token-file" in capsys.readouterr().err


def test_a_token_that_keeps_nobody_out_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("short")
    options = ("--port", "0", "--admin", "127.0.0.1:0", "--admin-token-file", str(tmp_path / "token"))
    assert main(["run", str(config), *options]) == 1
    assert "16 characters" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["file", "environment"])
@pytest.mark.parametrize("server", SERVERS)
def test_with_a_token_it_is_asked_of_everybody_and_shown_to_nobody(
    run: Run, config: Path, tmp_path: Path, how: str, server: str
) -> None:
    place = Place.free()
    options = ["--admin", f"0.0.0.0:{place.admin}", "--workers", "2", "--log-level", "debug"]
    env = {}
    if how == "file":
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        options += ["--admin-token-file", str(tmp_path / "token")]
    else:
        env["GATEKIT_ADMIN_TOKEN"] = TOKEN
    one = run(config, *options, server=server, ready=False, env=env)
    where = f"127.0.0.1:{place.admin}"
    one.wait_for(lambda: _ready(where) or None)
    good = {"authorization": f"Bearer {TOKEN}"}
    assert ask(where, "GET", "/live").status_code == 200
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
        for method, path in (("GET", "/status"), ("POST", "/reload"), ("POST", "/drain")):
            answer = ask(where, method, path, headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    status = ask(where, "GET", "/status", good)
    assert status.status_code == 200
    assert ask(where, "POST", "/reload", good).json()["workers"] == 2
    workers = one.workers()
    assert len(workers) == 2
    for pid in workers:
        assert TOKEN.encode() not in secrets_of(pid)
    assert TOKEN.encode() not in Path(f"/proc/{one.pid}/cmdline").read_bytes()
    assert TOKEN not in status.text
    assert one.end(BOUND) == 0
    assert TOKEN not in one.log.read_text()
    assert "(with the token)" in one.log.read_text()


def _ready(where: str) -> bool:
    try:
        return ask(where, "GET", "/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_a_drain_is_told_waited_for_and_outlives_who_asked(run: Run, config: Path) -> None:
    one = run(config, "--grace", "0.5")
    assert one.asked("POST", "/drain?wait=false") == (202, {"draining": True})
    assert one.asked("GET", "/ready") == (503, {"ready": False, "reason": "draining"})
    with closing(socket.create_connection(("127.0.0.1", one.place.admin), BOUND)) as gone:
        gone.sendall(b"POST /drain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
    status, said = one.asked("POST", "/drain")
    assert (status, said) == (200, {"drained": True, "cut": 0, "ended": 0})
    status, said = one.asked("POST", "/reload")
    assert (status, "draining" in said["refused"][0]) == (409, True)
    assert one.asked("GET", "/live")[0] == 200
    assert one.end(BOUND) == 0


def test_a_reload_that_was_refused_is_a_conflict_with_its_findings(run: Run, config: Path) -> None:
    one = run(config)
    good = config.read_text()
    config.write_text(good + "surplus: 1\n")
    status, said = one.asked("POST", "/reload")
    assert (status, said["generation"]) == (409, 1)
    assert "surplus" in json.dumps(said["refused"])
    assert one.asked("GET", "/status")[1]["refused"]["problems"] == said["refused"]
    config.write_text(good)
    status, said = one.asked("POST", "/reload")
    assert (status, said["generation"], said["workers"]) == (200, 2, 1)
    assert one.asked("GET", "/status")[1]["refused"] is None


def test_a_port_that_is_taken_ends_the_start_and_leaves_nothing(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.sock"
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        before = set(os.listdir("/proc/self/fd"))
        assert main(["run", str(config), "--uds", str(path), "--admin", where]) == 1
        assert len(os.listdir("/proc/self/fd")) <= len(before)
    assert "Address already in use" in capfd.readouterr().err
    assert not path.exists()
