"""Processes of the benchmark: each in a group of its own, on one core, ended with the benchmark; and what /proc says of them."""

from __future__ import annotations

import ctypes
import http.client
import os
import random
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.peers.answers import KEY, KEY_HEADER

START_SECONDS = 20.0
END_SECONDS = 5.0
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PR_SET_PDEATHSIG = 1


class NotStarted(RuntimeError):
    """The server ended, or did not answer in time. The text is the end of its log."""


class Running:
    """A server on one core, with all processes that it starts. Use as a context manager: it is ended on the way out."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], core: int, folder: Path) -> None:
        self.log = folder / "log.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command,
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_bound(core),
            )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait(self, port: int, paths: Mapping[str, bytes]) -> None:
        """Until every path is answered with 200 and just those bytes. Raises NotStarted."""
        end = time.monotonic() + START_SECONDS
        found = "no answer"
        while time.monotonic() < end:
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                pass
            else:
                raise NotStarted(self.tail() or f"it ended with {self.process.returncode}")
            try:
                wrong = [path for path, body in paths.items() if _get(port, path) != (200, body)]
            except (OSError, http.client.HTTPException) as error:
                found = str(error)
                continue
            if not wrong:
                return
            found = f"{wrong[0]} is not answered as it should be: {_get(port, wrong[0])[0]}"
        raise NotStarted(f"{found}; {self.tail()}")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def cpu_seconds(self) -> float:
        """User and system time of all its processes and their threads, so far."""
        return sum(process.ticks for process in self._processes()) / TICKS

    def rss_mib(self) -> float:
        """Resident memory of all its processes, pages that they share counted for each."""
        return sum(process.pages for process in self._processes()) * PAGE / 2**20

    def tail(self) -> str:
        """The last line of its log that is not empty."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""

    def stop(self) -> None:
        """First asked, then killed; the whole group, also what outlived its leader."""
        try:
            if self.alive:
                os.killpg(self.process.pid, signal.SIGTERM)
                self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()

    def _processes(self) -> list[Stat]:
        """Whoever is in its session: a server's own children stay in it."""
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    stat = Stat.parse(Path(entry.path, "stat").read_text())
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if stat.session == self.process.pid:
                    found.append(stat)
        return found


class Stat(NamedTuple):
    """Fields of /proc/PID/stat (proc(5)): session, user + system time in ticks, resident pages."""

    session: int
    ticks: int
    pages: int

    @classmethod
    def parse(cls, text: str) -> Stat:
        fields = text.rpartition(")")[2].split()  # the name before may contain anything
        return cls(int(fields[3]), int(fields[11]) + int(fields[12]), int(fields[21]))


class Loaded(NamedTuple):
    """What the load generator wrote, and what it took: seconds on the clock, seconds of CPU."""

    output: str
    wall: float
    cpu: float


def load(command: Sequence[str], seconds: float, core: int) -> Loaded:
    """Run wrk on a core; it is interrupted after `seconds` if its own count of whole seconds is longer."""
    before, began = _children(), time.perf_counter()
    process = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_bound(core),
    )
    try:
        try:
            output, _ = process.communicate(timeout=seconds if seconds % 1 else seconds + 30)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    return Loaded(output, time.perf_counter() - began, _children() - before)


def core_seconds(cores: Sequence[int]) -> list[float]:
    """How long each core was busy since the machine started, whoever used it (proc_stat(5))."""
    lines = {words[0]: words[1:] for line in Path("/proc/stat").read_text().splitlines() if (words := line.split())}
    found = []
    for core in cores:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, lines[f"cpu{core}"][:8])
        found.append((user + nice + system + irq + softirq + steal) / TICKS)
    return found


def free_port() -> int:
    """A port that nobody listens on, below the range from which the kernel gives ports to clients."""
    while True:
        port = random.randint(20000, 32000)  # noqa: S311
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _bound(core: int) -> Callable[[], None]:
    """In the child, before it becomes the program: keep to one core, and be asked to end when the benchmark is gone.

    Asked, not killed: servers with workers take them along only if they may end in order.
    """
    libc, parent = ctypes.CDLL(None), os.getpid()

    def bind() -> None:
        os.sched_setaffinity(0, {core})
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return bind


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={KEY_HEADER: KEY})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
