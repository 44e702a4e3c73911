"""A gateway under a server of one's own: SIGTERM drains, or the preStop hook does, and nobody loses an answer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.processes import free_ports

from .conftest import DEPLOY, TOKEN, Backend, Held, Run, ask, config, is_ready

pytestmark = pytest.mark.servers

OWN = DEPLOY / "own-server"
BEARER = {"Authorization": f"Bearer {TOKEN}"}

Start = Callable[..., Run]
Hold = Callable[[int], Held]


@pytest.fixture
def settings(backend: Backend, tmp_path: Path) -> Path:
    return config(DEPLOY / "nginx/gateway.yaml", backend, tmp_path)


def test_sigterm_drains(run: Start, hold: Hold, settings: Path) -> None:
    port, admin = free_ports(2)
    process = run([sys.executable, OWN / "serve.py", settings, str(port), str(admin)], lambda: is_ready(admin))
    process.wait_for(lambda: answers(port) or None)
    held = hold(port)
    process.process.send_signal(signal.SIGTERM)
    process.wait_for(lambda: not is_ready(admin) or None)
    assert ask(admin, "/live").status == 200
    assert ask(port, "/tell").status == 200, "in its grace it goes on as before"
    assert held.answer().status == 200
    assert process.process.wait(20) == 0
    assert "Traceback" not in process.tail()


def test_sigterm_joins_a_drain_that_goes_on(run: Start, settings: Path) -> None:
    port, admin = free_ports(2)
    process = run([sys.executable, OWN / "serve.py", settings, str(port), str(admin)], lambda: is_ready(admin))
    ask(admin, "/drain?wait=false", method="POST")
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(20) == 0


def test_reload_reads_the_file_again(run: Start, settings: Path) -> None:
    port, admin = free_ports(2)
    run([sys.executable, OWN / "serve.py", settings, str(port), str(admin)], lambda: is_ready(admin))
    assert json.loads(ask(admin, "/reload", method="POST").body)["generation"] == 2
    settings.write_text("routes: [{match: /x, to: nowhere}]")
    assert ask(admin, "/reload", method="POST").status == 409


def test_the_hook_drains_before_the_server_gets_sigterm(run: Start, hold: Hold, settings: Path) -> None:
    (container,) = pod()["spec"]["containers"]
    port, admin = free_ports(2)
    given = {one["name"]: one.get("value") for one in container["env"]}
    assert set(given) == {"GATEWAY_CONFIG", "ADMIN_HOST", "ADMIN_PORT", "GATEKIT_ADMIN_TOKEN"}
    env = {
        "GATEWAY_CONFIG": str(settings), "ADMIN_HOST": "127.0.0.1", "ADMIN_PORT": str(admin),
        "GATEKIT_ADMIN_TOKEN": TOKEN,
    }  # fmt: skip
    words = {"/opt/own/bin/uvicorn": [sys.executable, "-m", "uvicorn", "--app-dir", str(OWN)]}
    words |= {"--host=0.0.0.0": ["--host=127.0.0.1"], "--port=8000": [f"--port={port}"]}
    command = [new for word in container["command"] for new in words.get(word, [word])]
    process = run(command, lambda: is_ready(admin) and answers(port), env)
    assert ask(admin, "/status").status == 401
    held = hold(port)
    hook = container["lifecycle"]["preStop"]["exec"]["command"]
    assert hook[0] == "/opt/own/bin/python"
    with subprocess.Popen([sys.executable, *hook[1:]], env=env) as hooked:
        process.wait_for(lambda: not is_ready(admin) or None)
        assert ask(port, "/tell").status == 200, "in its grace it goes on as before"
        assert held.answer().status == 200
        assert hooked.wait(20) == 0
    assert json.loads(ask(admin, "/status", BEARER).body)["draining"] is True
    process.process.send_signal(signal.SIGTERM)
    # uvicorn ends itself by the signal that it was sent, once its shutdown is over.
    assert process.process.wait(20) in (0, -signal.SIGTERM)
    assert "Traceback" not in process.tail()


def test_the_grace_period_is_longer_than_the_drain() -> None:
    assert pod()["spec"]["terminationGracePeriodSeconds"] >= 5 + 30 + 10


def answers(port: int) -> bool:
    try:
        return ask(port, "/tell").status == 200
    except OSError:
        return False


def pod() -> Any:
    return yaml.safe_load((OWN / "pod.yaml").read_text())
