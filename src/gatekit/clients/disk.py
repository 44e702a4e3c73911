"""A directory for what outlives the process: key sets, lists of what is revoked.

What is read back is believed, so the directory and its files must belong to this user (or root) and be writable by
nobody else, and a file that is a link is not followed. The disk is a second source, never the first: what fails is
logged, for each name once until it goes well again, and is otherwise as if nothing were there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

_log = logging.getLogger("gatekit.disk")

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_MAGIC: Final = b"gatekit 1 "
_HEAD: Final = len(_MAGIC) + 64 + 1
_MOST_HANGING: Final = 2
"""How many calls may hang in a disk that does not answer: the threads they hang in are not ours alone."""
_LEFT_OVER: Final = 3_600.0
"""Seconds after which a file that was begun and not finished is nobody's any more."""


class StateDirectory:
    """`Disk` in a directory, which is made when something is first saved, and then for this user only.

    Files are written beside, synced and renamed, with a checksum in their first line: a reader gets what was saved last
    or, after a crash, what was saved before. Processes may share the directory. Where a loop runs, a call takes
    `timeout` seconds at most; in a thread without one it is made in place and takes what the disk takes. Blobs of more
    than `max_bytes` are neither saved nor read.
    """

    __slots__ = ("_failing", "_hanging", "_max_bytes", "_swept", "_timeout", "path")

    def __init__(self, path: str | Path, *, timeout: float = 5.0, max_bytes: int = 1 << 28) -> None:
        self.path = Path(path)
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._failing: set[str] = set()
        self._hanging = 0
        self._swept = False

    @classmethod
    def found(cls, environ: Mapping[str, str] = os.environ) -> StateDirectory | None:
        """The directory that `GATEKIT_STATE_DIR` or a service manager (`STATE_DIRECTORY`) names, or None."""
        # systemd gives several, parted by colons; the first is the unit's own.
        path = environ.get("GATEKIT_STATE_DIR") or environ.get("STATE_DIRECTORY", "").partition(":")[0]
        return cls(path) if path else None

    async def load(self, name: str) -> bytes | None:
        """What was saved under that name last, None where there is nothing whole. Raises ValueError on a bad name."""
        return await self._called(name, partial(self._load, _checked(name)))

    async def save(self, name: str, data: bytes) -> None:
        """Keep `data` under that name in place of what was there. Raises ValueError on a bad name."""
        await self._called(name, partial(self._save, _checked(name), data))

    async def _called(self, name: str, call: Callable[[], T]) -> T | None:
        """The result of `call`, made in a thread where a loop runs; None when that does not come back in time."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return call()
        if self._hanging < _MOST_HANGING:
            future = loop.run_in_executor(None, call)
            await asyncio.wait([future], timeout=self._timeout)
            if future.done():
                return future.result()
            self._hanging += 1
            future.add_done_callback(self._came_back)
        self._fails(name, f"the disk does not answer within {self._timeout} s")
        return None

    def _came_back(self, _: object) -> None:
        self._hanging -= 1

    def _load(self, name: str) -> bytes | None:
        try:
            data = self._read(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._fails(name, f"cannot be read: {error.strerror or error}")
            return None
        self._failing.discard(name)
        return data

    def _read(self, name: str) -> bytes:
        """The blob. Raises OSError where it cannot be read or believed."""
        with _opened(self.path, os.O_DIRECTORY) as directory:
            _check(os.fstat(directory), "its directory")
            # A pipe under that name must not make us wait for a writer.
            with _opened(name, os.O_NOFOLLOW | os.O_NONBLOCK, directory) as handle:
                found = os.fstat(handle)
                _check(found, "it")
                if not stat.S_ISREG(found.st_mode) or found.st_size > _HEAD + self._max_bytes:
                    raise OSError("it is no file of ours")
                with os.fdopen(handle, "rb", closefd=False) as file:
                    head, data = file.read(_HEAD), file.read(self._max_bytes)
        if head != _head(data):
            raise OSError("it is damaged")
        return data

    def _save(self, name: str, data: bytes) -> None:
        try:
            self._write(name, data)
        except OSError as error:
            self._fails(name, f"cannot be written: {error.strerror or error}")
        else:
            self._failing.discard(name)

    def _write(self, name: str, data: bytes) -> None:
        """Put the blob in place. Raises OSError, and then what was there is still there."""
        if len(data) > self._max_bytes:
            raise OSError(f"it is longer than {self._max_bytes} bytes")
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check(self.path.stat(), "its directory")
        if not self._swept:
            self._swept = True
            self._sweep()
        handle, temporary = tempfile.mkstemp(dir=self.path, prefix=f".{name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_head(data))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path / name)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        with _opened(self.path, os.O_DIRECTORY) as directory:
            os.fsync(directory)

    def _sweep(self) -> None:
        """Remove what processes began and were killed over."""
        for file in self.path.glob(".*"):
            with suppress(OSError):
                if time.time() - file.lstat().st_mtime > _LEFT_OVER:
                    file.unlink()

    def _fails(self, name: str, why: str) -> None:
        if name not in self._failing:
            self._failing.add(name)
            _log.warning("%s is done without: %s", self.path / name, why)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a file here: lower case letters, digits, dots, hyphens, 128 at most")
    return name


def _check(found: os.stat_result, what: str) -> None:
    """Raises OSError where somebody else could have written it."""
    if found.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(found.st_mode) & 0o022:
        raise OSError(f"{what} belongs to, or can be written by, somebody else")


def _head(data: bytes) -> bytes:
    return _MAGIC + sha256(data).hexdigest().encode("ascii") + b"\n"


@contextmanager
def _opened(path: str | Path, flags: int, directory: int | None = None) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=directory)
    try:
        yield handle
    finally:
        os.close(handle)
