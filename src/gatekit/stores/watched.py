"""Files that stores look at again and again: read when they are other ones, and only where nobody else can write to them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Unusable(Exception):
    """The file is not used. The text says why and shows nothing of what is in it but names."""

    look: Look | None = None
    """What the file looked like whose content is at fault; None where it was not read."""


class Look(NamedTuple):
    """What tells one file from another without reading it."""

    modified: int
    size: int
    inode: int


def read_watched(
    path: Path, before: Look | None, most: int, parsed: Callable[[bytes, bool], T]
) -> tuple[T, Look] | None:
    """What `parsed` makes of the file's bytes, told whether it is JSON by its name, and what the file looks like; None where
    it looks as it did before. Raises Unusable, also where it has more than `most` bytes."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            check_owner(found, path.parent.stat())
            look = _look(found)
            if look == before:
                return None
            raw = file.read(most + 1)
            if _look(os.fstat(file.fileno())) != look:
                raise Unusable("it was being written: write another file and rename it")
    except OSError as error:
        raise Unusable(error.strerror or "it cannot be read") from None
    try:
        if len(raw) > most:
            raise Unusable(f"it is larger than {most} bytes")
        return parsed(raw, path.suffix == ".json"), look
    except Unusable as error:
        error.look = look
        raise


def _look(found: os.stat_result) -> Look:
    return Look(found.st_mtime_ns, found.st_size, found.st_ino)


def check_owner(file: os.stat_result, directory: os.stat_result) -> None:
    if not stat.S_ISREG(file.st_mode):
        raise Unusable("it is no file")
    if file.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(file.st_mode) & 0o022:
        raise Unusable("it belongs to, or can be written by, somebody else: chown it to this user and chmod go-w")
    mode = stat.S_IMODE(directory.st_mode)
    if directory.st_uid not in (os.geteuid(), 0) or (mode & 0o022 and not mode & stat.S_ISVTX):
        raise Unusable(
            "its directory belongs to, or can be written by, somebody else, who could put another in its place"
        )
