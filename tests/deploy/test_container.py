"""The Containerfile: its command is run as it stands there, as process 1 where the kernel lets us. No image is built here.

Its `RUN` line is run by `install.py`, which needs the network.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.processes import children, free_ports

from gatekit import __version__
from gatekit.cli import parser
from gatekit.cli.run import settings_from

from .conftest import DEPLOY, GATEKIT, Backend, Held, Run, ask, config, is_ready

FILE = DEPLOY / "container/Containerfile"


def instructions() -> list[tuple[str, str]]:
    """Each instruction and the rest of its line."""
    lines = FILE.read_text().replace("\\\n", " ").splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")]


def last(name: str) -> str:
    """What holds for the image: the last of that name after the last FROM."""
    starts = [number for number, (one, _) in enumerate(instructions()) if one == "FROM"]
    return [rest for one, rest in instructions()[starts[-1] :] if one == name][-1]


def command() -> list[str]:
    return [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]


def test_it_is_not_root_and_sigterm_is_what_stops_it() -> None:
    user, _, group = last("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert last("STOPSIGNAL") == "SIGTERM"


def test_it_installs_this_version_with_the_servers() -> None:
    step, _ = [rest for name, rest in instructions() if name == "RUN"]
    assert shlex.split(step)[-1] == f"gatekit-asgi[server]=={__version__}"


def test_what_outlives_a_restart_has_a_folder_of_the_users_own() -> None:
    _, made = [rest for name, rest in instructions() if name == "RUN"]
    user, _, group = last("USER").partition(":")
    assert shlex.split(made) == ["install", "-d", "-o", user, "-g", group, "-m", "0700", last("ENV").partition("=")[2]]
    assert last("ENV").startswith("GATEKIT_STATE_DIR=")


def test_its_ports_are_those_that_are_listened_on() -> None:
    settings = settings_from(parser().parse_args(command()[1:]))
    assert settings.admin is not None
    assert last("EXPOSE").split() == [str(settings.port), settings.admin.rpartition(":")[2]]
    assert settings.host == "0.0.0.0"


def test_what_it_copies_is_there() -> None:
    copied = [rest.split() for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    assert [source for source, _ in copied] == ["dist/*.whl", "deploy/gateway.yaml"]
    assert copied[1][1] in command()
    assert (DEPLOY.parent / copied[1][0]).is_file()


@pytest.mark.servers
def test_the_check_it_offers_works(run: Callable[..., Run], backend: Backend, tmp_path: Path) -> None:
    admin = Image(run, backend, tmp_path).admin
    found = re.search(r"^# HEALTHCHECK CMD (\[.*\])$", FILE.read_text(), re.MULTILINE)
    assert found is not None
    _, *arguments = json.loads(found[1])
    for port, code in ((admin, 0), (free_ports(1)[0], 1)):
        asked = [sys.executable, *(one.replace("9901", str(port)) for one in arguments)]
        assert subprocess.run(asked, capture_output=True, check=False, timeout=30).returncode == code


class Image:
    """The command, with the test's file and ports; `before` is what starts it."""

    def __init__(
        self, run: Callable[..., Run], backend: Backend, folder: Path, before: tuple[str, ...] = (), grace: str = "0"
    ) -> None:
        self.port, self.admin = free_ports(2)
        settings = config(DEPLOY / "gateway.yaml", backend, folder)
        settings.write_text(settings.read_text().replace("/v1/orders/*", "/*"))
        words = {
            "/opt/gatekit/bin/gatekit": [*GATEKIT],
            "/etc/gatekit/gateway.yaml": [str(settings)],
            "0.0.0.0": ["127.0.0.1"],
            "8000": [str(self.port)],
        }
        given = [new for word in command() for new in words.get(word, [word])]
        given += ["--admin", f"127.0.0.1:{self.admin}", "--grace", grace]
        self.process = run([*before, *given], lambda: is_ready(self.admin))


@pytest.mark.servers
def test_as_process_1_it_drains_and_leaves_nothing(
    run: Callable[..., Run], backend: Backend, hold: Callable[[int], Held], tmp_path: Path
) -> None:
    inside = alone()
    image = Image(run, backend, tmp_path, inside, grace="0.5")
    (supervisor,) = below(image.process.process.pid)
    assert "\t1\n" in re.findall(r"NSpid:.*\n", Path(f"/proc/{supervisor}/status").read_text())[0]
    held = hold(image.port)
    os.kill(supervisor, signal.SIGTERM)
    image.process.wait_for(lambda: not is_ready(image.admin) or None)
    assert held.answer().status == 200
    assert image.process.process.wait(20) == 0


@pytest.mark.servers
def test_as_process_1_it_replaces_a_worker_and_leaves_no_zombie(
    run: Callable[..., Run], backend: Backend, tmp_path: Path
) -> None:
    image = Image(run, backend, tmp_path, alone())
    (supervisor,) = below(image.process.process.pid)
    (first,) = children(supervisor)
    os.kill(first, signal.SIGKILL)
    image.process.wait_for(lambda: (is_ready(image.admin) and children(supervisor) not in ([], [first])) or None)
    assert ask(image.port, "/tell").status == 200
    assert first not in below(supervisor)


def alone() -> tuple[str, ...]:
    """What makes a command process 1 of a process namespace, without privileges. Skips where the kernel does not."""
    unshare = shutil.which("unshare")
    given = () if unshare is None else (unshare, "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    if not given or subprocess.run([*given, "true"], capture_output=True, check=False, timeout=10).returncode:
        pytest.skip("this kernel gives no process namespace to whoever asks")
    return given


def below(pid: int) -> list[int]:
    """The children of a process, zombies too."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
