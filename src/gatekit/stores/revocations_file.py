"""Revocations in a file: one JSON object on each line, appended and read by any number of processes of one machine.

Whoever reads never writes, and needs no right to. Whoever writes appends whole lines under a lock on the file, and now
and then puts a shorter file in its place. What is garbage, cut short or rotated away is passed over: what was read
before stays in force until it ends.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeVar, Unpack
from urllib.parse import unquote, urlsplit

from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.errors import StoreUnavailable
from gatekit.mechanisms.denylist import ends, is_over
from gatekit.mechanisms.revocation import (
    MAX_JSON,
    Revocation,
    RevocationRefused,
    What,
    Which,
    read_revocation,
    restoration,
    revocation,
)
from gatekit.stores.kept import (
    EXPIRE_EVERY,
    LOAD_SECONDS,
    STALE_AFTER,
    Gate,
    Helm,
    KeptList,
    max_entries_of,
    options_of,
)

T = TypeVar("T")

_log = logging.getLogger("gatekit.revocations")

LOOK_EVERY: Final = 0.25
WRITE_SECONDS: Final = 5.0
LOCK_SECONDS: Final = 4.0
"""For how long a lock is waited for that somebody else has."""
COMPACT_FROM: Final = 1 << 20
"""Bytes below which a file is never worth being shortened."""

_OPTIONS: Final = ("max_entries",)
_CHUNK: Final = 8 * MAX_JSON
_MEMORY: Final = 64
"""Bytes before the place one has read to, by which a file is known to be the one that was read."""
_SAMPLE: Final = 64
_MODE: Final = 0o640


class Place(NamedTuple):
    """How far a file has been read: which one it was, to which byte, what stood before that, and when it was changed."""

    device: int
    inode: int
    offset: int
    before: bytes
    changed: int


class FileRevocations:
    """`file:///var/lib/gatekit/revoked.jsonl`. What is appended is in force after a quarter of a second."""

    __slots__ = (
        "_clock", "_garbage", "_gate", "_helm", "_kept", "_looked_at", "_path", "_place", "_trouble", "revoked",
    )  # fmt: skip

    def __init__(self, url: str, ports: Ports) -> None:
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.netloc not in ("", "localhost") or not path.startswith("/") or path.endswith("/") or "\0" in path:
            raise ValueError("the URL of a file of revocations is file:///path/of/the/file")
        if parts.fragment:
            raise ValueError("the URL of a file has no #")
        self._path = Path(path)
        self._clock = ports.clock
        self._kept = KeptList(ports, max_entries_of(options_of(parts.query, _OPTIONS)))
        self.revoked = self._kept.revoked
        self._helm = Helm(ports.clock)
        self._place: Place | None = None
        self._gate = Gate()
        self._looked_at: float | None = None
        self._garbage = 0
        self._trouble: str | None = None

    async def revoke(self, **what: Unpack[What]) -> None:
        """Revoke what has this claim: `await revoke(jti="…", until=exp)`. It is on the disk when this returns, and in
        force here. Raises RevocationRefused, DenylistFull, StoreUnavailable."""
        now = self._clock.wall()
        record = revocation(now, **what)
        self._kept.need_room()
        await self._written(lambda: _append(self._path, record, now))
        self._kept.take(record)

    async def restore(self, **which: Unpack[Which]) -> bool:
        """Take back what these words revoked; whether it was in force. Raises RevocationRefused, StoreUnavailable."""
        now = self._clock.wall()
        record = restoration(now, **which)
        found = await self._written(lambda: _take_back(self._path, record, now))
        self._kept.take(record)
        return found

    def loaded(self) -> Awaitable[None] | None:
        """None once the file has been read; before that what waits for it, `LOAD_SECONDS` at most."""
        return None if self._gate.is_open else self._load()

    async def _load(self) -> None:
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self.look()
                await self._gate.wait(LOAD_SECONDS)
        except TimeoutError:
            _log.warning("%s has not been read within %g s; requests are served meanwhile", self._path, LOAD_SECONDS)
        self._gate.open()

    async def look(self) -> None:
        """Read what is new, if nobody else is about to."""
        holder = self._helm.take()
        if holder is None:
            return
        try:
            while await self._step() and self._helm.hold(holder):
                pass
        finally:
            self._helm.leave(holder)

    async def _step(self) -> bool:
        """Read a piece; whether there may be more."""
        try:
            place, data = await asyncio.to_thread(_tail, self._path, self._place)
        except OSError as error:
            self._troubled(
                "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
            )
            self._gate.open()
            return False
        self._troubled(None)
        self._looked_at = self._clock.monotonic()
        lines, line_break, rest = data.rpartition(b"\n")
        if not line_break and len(data) < _CHUNK:
            self._place = place
            self._gate.open()
            return False
        # A piece without a line break is part of a line that is longer than any may be.
        taken = len(data) - len(rest) if line_break else len(data)
        await self._kept.take_all(self._records(lines or rest))
        before = (place.before + data[:taken])[-_MEMORY:]
        self._place = place._replace(offset=place.offset + taken, before=before)
        return True

    def _records(self, data: bytes) -> Iterator[Revocation]:
        for line in data.split(b"\n"):
            text = line.strip()
            if text:
                try:
                    yield read_revocation(text)
                except RevocationRefused as refused:
                    self._garbage += 1
                    if self._garbage == 1:
                        _log.warning(
                            "%s has a line that is passed over, and others like it from now on: %s", self._path, refused
                        )

    def jobs(self) -> list[Job]:
        return [
            Job(("revocations", self), self.look, lambda: LOOK_EVERY),
            Job(("revocations", self, "expire"), self._kept.expire, lambda: EXPIRE_EVERY, EXPIRE_EVERY),
        ]

    def status(self) -> Mapping[str, Any]:
        age = None if self._looked_at is None else self._clock.monotonic() - self._looked_at
        return {
            "store": f"file://{self._path}",
            **self._kept.status(),
            "read_to": 0 if self._place is None else self._place.offset,
            "refused": self._garbage,
            "age": age,
            "connected": self._looked_at is not None and self._trouble is None,
            "stale": age is None or age > STALE_AFTER,
            "trouble": self._trouble,
        }

    async def _written(self, write: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                return await asyncio.to_thread(write)
        except TimeoutError:
            raise StoreUnavailable(f"{self._path} could not be written within {WRITE_SECONDS:g} s") from None
        except OSError as error:
            raise StoreUnavailable(f"{self._path} cannot be written: {error.strerror}") from None

    def _troubled(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble is not None:
                _log.warning("%s %s; what was read of it stays in force", self._path, trouble)


def _tail(path: Path, known: Place | None) -> tuple[Place, bytes]:
    """What stands behind the place that is known, and the place it was read from: the beginning, where the file is not
    the one that was read or somebody wrote over it."""
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        place = Place(found.st_dev, found.st_ino, 0, b"", found.st_mtime_ns)
        if known is not None and known[:2] == place[:2] and _is_continued(file, known, found):
            place = known
        file.seek(place.offset)
        data = file.read(_CHUNK)
        return place._replace(changed=os.fstat(file.fileno()).st_mtime_ns), data


def _is_continued(file: BinaryIO, known: Place, found: os.stat_result) -> bool:
    """Whether the file is what was read, and perhaps more behind it."""
    if found.st_size < known.offset or (found.st_size == known.offset and found.st_mtime_ns != known.changed):
        return False
    file.seek(known.offset - len(known.before))
    return file.read(len(known.before)) == known.before


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file that stands at `path`, to be appended to by nobody else meanwhile. Raises OSError."""
    end = time.monotonic() + LOCK_SECONDS
    pause = threading.Event()
    while True:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            if _is_ours(handle, path):
                yield handle
                return
        finally:
            os.close(handle)
        if time.monotonic() > end:
            raise OSError(errno.EBUSY, "somebody else has locked it")
        pause.wait(0.01)


def _is_ours(handle: int, path: Path) -> bool:
    """Whether the file could be locked, and nobody has put another one in its place before that."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False


def _append(path: Path, record: Revocation, now: float) -> None:
    with _locked(path) as handle:
        _write_line(handle, record)
        if os.fstat(handle).st_size >= COMPACT_FROM and _mostly_over(path, now):
            try:
                _compact(path, handle, now)
            except OSError as error:
                _log.warning("%s cannot be shortened: %s", path, error.strerror)


def _take_back(path: Path, record: Revocation, now: float) -> bool:
    """Append that a revocation is taken back, if it is in force. The line is kept as long as that would have been: until
    then somebody might know the one and not the other."""
    with _locked(path) as handle:
        found: Revocation | None = None
        for one in _read_lines(path):
            if one.name == record.name and (found is None or found.restored or one.restored or ends(one) > ends(found)):
                found = one
        if found is None or found.restored or is_over(found, now):
            return False
        _write_line(handle, replace(found, at=record.at, restored=True))
        return True


def _write_line(handle: int, record: Revocation) -> None:
    # With a line break before it as well: whoever died in the middle of a line has not spoilt this one.
    line = b"\n" + record.as_json().encode("ascii") + b"\n"
    if os.write(handle, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(handle)


def _read_lines(path: Path) -> Iterator[Revocation]:
    with path.open("rb") as file:
        while line := file.readline(MAX_JSON + 1):
            with suppress(RevocationRefused):
                yield read_revocation(line.strip())


def _mostly_over(path: Path, now: float) -> bool:
    """Whether most of what was written first has ended: then a shorter file is worth its while."""
    first = list(islice(_read_lines(path), _SAMPLE))
    return sum(is_over(record, now) for record in first) * 2 > len(first)


def _compact(path: Path, handle: int, now: float) -> None:
    """Put a file in place of this one that lacks what has ended, with the same owner and mode. Raises OSError where that
    cannot be."""
    kept = os.fstat(handle)
    fresh, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fresh, "wb") as file:
            os.fchown(fresh, kept.st_uid, kept.st_gid)
            os.fchmod(fresh, kept.st_mode & 0o7777)
            for record in _read_lines(path):
                if not is_over(record, now):
                    file.write(record.as_json().encode("ascii") + b"\n")
            file.flush()
            os.fsync(fresh)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
