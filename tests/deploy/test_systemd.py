"""The units: their commands are run as they stand there, told to reload and to stop as systemd does it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest
import trustme
from tests.processes import alive, free_ports

from gatekit.cli import parser
from gatekit.cli.run import settings_from

from .conftest import DEPLOY, GATEKIT, TOKEN, Backend, Held, Run, accepts, ask, config, is_ready
from .units import Unit

pytestmark = pytest.mark.servers

SYSTEMD = DEPLOY / "systemd"
SERVICES = ["gatekit.service", "gatekit-activated.service"]
LEAVING = 12.0
"""Seconds that the parts of a stop may take that are neither grace nor timeout: supervisor.ENDING and the admin's end."""

Start = Callable[..., Run]
Hold = Callable[[int], Held]


class Service:
    """gatekit.service, with the test's paths and ports in place of its own."""

    def __init__(self, run: Start, backend: Backend, folder: Path) -> None:
        self.unit = Unit(SYSTEMD / "gatekit.service")
        self.config = config(DEPLOY / "gateway.yaml", backend, folder)
        self.port, self.admin = free_ports(2)
        (folder / "admin-token").write_text(f"{TOKEN}\n")
        self.words: dict[str, list[str]] = {
            "/opt/gatekit/bin/gatekit": [*GATEKIT],
            "/etc/gatekit/gateway.yaml": [str(self.config)],
            "%d/admin-token": [str(folder / "admin-token")],
            "0.0.0.0": ["127.0.0.1"],
            "8000": [str(self.port)],
            "0.0.0.0:9901": [f"127.0.0.1:{self.admin}"],
            # Five seconds of grace prove no more than half of one.
            "5": ["0.5"],
        }
        (command,) = self.unit.commands("ExecStart", self.words)
        self.process = run(command, lambda: is_ready(self.admin))

    def reload(self) -> int:
        """What `systemctl reload` does: the commands in order, until one fails; its exit code."""
        for command in self.unit.commands("ExecReload", {**self.words, "$MAINPID": [str(self.process.process.pid)]}):
            code = subprocess.run(command, check=False, capture_output=True, timeout=30).returncode
            if code:
                return code
        return 0

    def generations(self) -> set[int]:
        """What is in force at the supervisor and at each worker."""
        status = json.loads(ask(self.admin, "/status", {"Authorization": f"Bearer {TOKEN}"}).body)
        return {status["generation"], *(worker["generation"] for worker in status["workers"])}


@pytest.fixture
def service(run: Start, backend: Backend, tmp_path: Path) -> Service:
    return Service(run, backend, tmp_path)


def test_it_serves_and_asks_for_the_token(service: Service) -> None:
    assert ask(service.port, "/v1/orders/1").status == 200
    assert ask(service.admin, "/status").status == 401


@pytest.mark.parametrize("to_all", [False, True], ids=["KillMode=mixed", "KillMode=control-group"])
def test_stopping_drains(service: Service, hold: Hold, to_all: bool) -> None:
    service.config.write_text(service.config.read_text().replace("/v1/orders/*", "/*"))
    assert service.reload() == 0
    service.process.wait_for(lambda: service.generations() == {2} or None)
    held = hold(service.port)
    pids = service.process.pids
    assert len(pids) == 3
    for pid in pids if to_all else pids[:1]:
        os.kill(pid, signal.SIGTERM)
    service.process.wait_for(lambda: not is_ready(service.admin) or None)
    assert ask(service.port, "/tell").status == 200, "in its grace it goes on as before"
    assert held.answer().status == 200
    assert service.process.process.wait(20) == 0
    assert not any(alive(pid) for pid in pids)


def test_a_bad_configuration_fails_the_reload_and_changes_nothing(service: Service) -> None:
    service.config.write_text("routes: [{match: /x, to: nowhere}]")
    assert service.reload() == 1
    assert service.generations() == {1}
    assert ask(service.port, "/v1/orders/1").status == 200


@pytest.mark.parametrize("name", SERVICES)
def test_the_command_is_one_that_gatekit_takes(name: str, tmp_path: Path) -> None:
    (tmp_path / "admin-token").write_text(TOKEN)
    unit = Unit(SYSTEMD / name)
    (command,) = unit.commands("ExecStart", {"%d/admin-token": [str(tmp_path / "admin-token")]})
    settings = settings_from(parser().parse_args(command[1:]))
    assert float(unit.one("Service", "TimeoutStopSec")) >= settings.grace + settings.timeout + LEAVING


@pytest.mark.parametrize("name", SERVICES)
def test_the_hardening_of_both_is_the_same(name: str) -> None:
    ours, first = (Unit(SYSTEMD / one) for one in (name, SERVICES[0]))
    for setting in ("DynamicUser", "ProtectSystem", "NoNewPrivileges", "SystemCallFilter", "RestrictAddressFamilies"):
        assert ours.all("Service", setting) == first.all("Service", setting) != []


def test_a_socket_of_systemd_is_served(run: Start, backend: Backend, tmp_path: Path) -> None:
    unit = Unit(SYSTEMD / "gatekit-activated.service")
    assert unit.one("Unit", "Requires") == "gatekit-activated.socket"
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    for part in issued.cert_chain_pems:
        part.write_to_path(str(tmp_path / "chain.pem"), append=True)
    admin = tmp_path / "admin.sock"
    (port,) = free_ports(1)
    (command,) = unit.commands(
        "ExecStart",
        {
            "/opt/gatekit/bin/gatekit": [*GATEKIT],
            "/etc/gatekit/gateway.yaml": [str(config(DEPLOY / "gateway.yaml", backend, tmp_path))],
            "/etc/ssl/gatekit/fullchain.pem": [str(tmp_path / "chain.pem")],
            "/etc/ssl/private/gatekit.pem": [str(tmp_path / "key.pem")],
            "unix:/run/gatekit/admin.sock": [f"unix:{admin}"],
        },
    )
    launcher = [GATEKIT[0], Path(__file__).with_name("activated.py"), str(port)]
    process = run([*launcher, *command], lambda: unix_ready(admin))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with closing(HTTPSConnection("localhost", port, timeout=10, context=trust)) as asked:
        asked.request("GET", "/v1/orders/1")
        assert asked.getresponse().status == 200
    pids = process.pids
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    assert process.process.wait(20) == 0
    assert not accepts(port)
    assert not admin.exists()


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


def unix_ready(path: Path) -> bool:
    with closing(UnixConnection(path)) as asked:
        try:
            asked.request("GET", "/ready")
            return asked.getresponse().status == 200
        except OSError:
            return False


@pytest.mark.parametrize("name", [*SERVICES, "gatekit-activated.socket"])
def test_systemd_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        # pip cannot bring it, so the tests may not need it. Whoever has it says so.
        assert os.environ.get("GATEKIT_REQUIRE_SYSTEMD") != "1", "systemd-analyze is missing: apt-get install systemd"
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    for path in SYSTEMD.iterdir():
        # The command has to exist; that of the test's environment does.
        text = path.read_text().replace("/opt/gatekit/bin/gatekit", GATEKIT[0])
        (tmp_path / path.name).write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
