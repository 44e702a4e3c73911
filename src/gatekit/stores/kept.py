"""What every store of revocations keeps in its process: the list, who tends it, and whether it has been read yet."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from gatekit.core.ports import Clock, Ports
from gatekit.mechanisms.denylist import MAX_ENTRIES, Denylist, DenylistFull, Entry
from gatekit.mechanisms.revocation import Revocation

_log = logging.getLogger("gatekit.revocations")

SLICE: Final = 100
"""Entries that are taken in before the loop turns: a millisecond or two."""
EXPIRE_EVERY: Final = 60.0
"""Seconds after which the list is gone through for what has ended: a million entries take 50 ms, in many slices."""
LOAD_SECONDS: Final = 2.0
"""For how long the first request waits for a list, at most."""
STALE_AFTER: Final = 2.0
"""A list that was not compared with its store for so many seconds is told to be stale."""


class KeptList:
    """The list of a store. Any thread or loop may change it."""

    __slots__ = ("_lock", "_told", "changes", "list", "revoked")

    def __init__(self, ports: Ports, max_entries: int = MAX_ENTRIES) -> None:
        self.list = Denylist(ports.clock.wall, max_entries)
        self.revoked = self.list.revoked
        self.changes = 0
        """Goes up whenever the list is different from before."""
        self._lock = ports.lock()
        self._told = False

    def add(self, record: Revocation) -> None:
        """Have this revocation in force. Raises DenylistFull."""
        with self._lock:
            self.changes += self.list.add(record)

    def need_room(self) -> None:
        """Raises DenylistFull when another revocation could not be kept: better known before everybody is told."""
        if len(self.list) >= self.list.max_entries:
            self._expired()
        if len(self.list) >= self.list.max_entries:
            raise DenylistFull(f"{len(self.list)} things are revoked, which is all there is room for")

    def take(self, record: Revocation) -> None:
        """What a store says: a revocation, or that one is taken back. What there is no room for revokes everything."""
        with self._lock:
            if record.restored:
                self.changes += self.list.remove(record)
                return
            try:
                self.changes += self.list.add(record)
            except DenylistFull as full:
                self.list.leave_out(record)
                if not self._told:
                    self._told = True
                    _log.critical("%s: until what was left out ends, every credential is refused", full)

    async def take_all(self, records: Iterable[Revocation]) -> None:
        for number, record in enumerate(records, 1):
            self.take(record)
            if number % SLICE == 0:
                await turn()

    async def put_all(self, entries: Iterable[Entry]) -> None:
        """Entries that were in force, as far as there is room."""
        for number, entry in enumerate(entries, 1):
            with self._lock:
                try:
                    self.list.put(entry)
                except DenylistFull:
                    return
            if number % SLICE == 0:
                await turn()

    def part(self, number: int) -> list[Entry]:
        with self._lock:
            return self.list.part(number)

    async def expire(self) -> None:
        """Take out what has ended."""
        while self._expired():
            await turn()

    def _expired(self) -> bool:
        with self._lock:
            return self.list.expire()

    def status(self) -> dict[str, Any]:
        return {"entries": len(self.list), "max_entries": self.list.max_entries, "full": self.list.full}


class Helm:
    """Who tends a store: one task at a time, of whatever loop. One that was not heard of for `PATIENCE` seconds, as its
    loop stopped, has lost it, and so has one in the process that this one was forked from."""

    __slots__ = ("_beat", "_clock", "_holder", "_pid")

    PATIENCE: Final = 5.0

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._holder: object | None = None
        self._beat = 0.0
        self._pid = 0

    def take(self) -> object | None:
        """What shows that the caller has it; None when somebody else does."""
        now, pid = self._clock.monotonic(), os.getpid()
        if self._holder is not None and self._pid == pid and now - self._beat < self.PATIENCE:
            return None
        self._holder, self._beat, self._pid = object(), now, pid
        return self._holder

    def hold(self, holder: object) -> bool:
        """Whether it is still the caller's, who is heard of hereby."""
        if self._holder is not holder:
            return False
        self._beat = self._clock.monotonic()
        return True

    def leave(self, holder: object) -> None:
        if self._holder is holder:
            self._holder = None


class Gate:
    """Shut until it is opened, once, by any thread; tasks of any loop may wait for that."""

    __slots__ = ("_waiting", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def open(self) -> None:
        self.is_open = True
        waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, future)

    async def wait(self, timeout: float) -> bool:
        """Whether it is open, within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append((loop, future))
        if not self.is_open:
            await asyncio.wait([future], timeout=timeout)
        return self.is_open


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def wait(seconds: float) -> None:
    """Let so many seconds pass."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, _settle, over)
    try:
        await over
    finally:
        timer.cancel()


async def turn() -> None:
    """Let the event loop turn once."""
    loop = asyncio.get_running_loop()
    turned: asyncio.Future[None] = loop.create_future()
    loop.call_soon(turned.set_result, None)
    await turned


def options_of(query: str, known: tuple[str, ...]) -> Mapping[str, str]:
    """The options behind the `?` of a store's URL. Raises ValueError."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        pairs = [("", "")]
    options = dict(pairs)
    if len(options) < len(pairs) or not options.keys() <= set(known):
        raise ValueError(f"behind the ? of this URL may stand, once each: {', '.join(known)}")
    return options


def max_entries_of(options: Mapping[str, str]) -> int:
    """How many entries a list may have. Raises ValueError."""
    text = options.get("max_entries", str(MAX_ENTRIES))
    if not text.isdecimal() or not text.isascii() or not 1 <= int(text[:9]) <= 10_000_000:
        raise ValueError("max_entries is a number from 1 to 10000000")
    return int(text[:9])
