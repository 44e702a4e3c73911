"""A real memcached. pip cannot bring it, so no test may need it unless whoever has it says so."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import NoReturn

import pytest
from tests.processes import Process, free_port, started

REQUIRED = os.environ.get("GATEKIT_REQUIRE_MEMCACHED") == "1"
"""Whether tests fail, and are not skipped, without it."""


class Memcached(Process):
    """One running server. It answers once the constructor has returned; a second one may take its `port`."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.folder = folder
        # It refuses to be root; who is nobody may not read a private folder, and need not.
        user = ("-u", "nobody") if os.geteuid() == 0 else ()
        super().__init__(
            "memcached",
            [_binary(), "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-m", "16", *user],
            folder / f"memcached-{self.port}.log",
            cwd=Path("/"),
            env=dict(os.environ),
        )
        self.wait_for(self._answers)

    @property
    def url(self) -> str:
        return f"limits+memcached://127.0.0.1:{self.port}"

    def _answers(self) -> bool | None:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"version\r\n")
                return connection.recv(100).startswith(b"VERSION") or None
        except OSError:
            return None

    def kill(self) -> None:
        """kill -9: everything is lost."""
        self.process.kill()
        self.process.wait()

    def again(self) -> Memcached:
        """Another one in the place of this one, which has ended. It is empty."""
        return Memcached(self.folder, self.port)

    def pause(self) -> None:
        """It lives on and its port takes connections, but nothing is answered."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.resume()
        super().stop()


def need_client() -> None:
    """Nothing, if the client is installed."""
    if importlib.util.find_spec("memcachio") is None:
        _missing("the client of memcached is not installed: pip install memcachio")


def memcached_server(folder: Path) -> Memcached:
    """A new server. Without the program or its client the test is skipped, or fails where they are required."""
    need_client()
    if shutil.which("memcached") is None:
        _missing("memcached is not installed: apt-get install memcached")
    return started("memcached", lambda: Memcached(folder))


def _missing(message: str) -> NoReturn:
    if REQUIRED:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _binary() -> str:
    found = shutil.which("memcached")
    assert found is not None
    return found
