"""What was used lately: a bounded cache whose every operation is a few steps on plain dicts, so that threads need no lock.

There are two halves. What is put or found goes into the young one; when that is full it becomes the old one, and what
was old and has not been asked for since is gone. So what is in use stays, and nothing is moved on an ordinary hit.
"""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class RecentCache(Generic[K, V]):
    """At most `max_entries` entries, each until its time to live is over; those used lately outlast the others.

    Two threads that fill it at once may lose entries, never get a wrong one.
    """

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, max_entries: int) -> None:
        """Raises ValueError unless there is room for at least two entries."""
        if max_entries < 2:
            raise ValueError("a cache of two halves has room for at least two entries")
        self._half = max_entries // 2
        self._young: dict[K, tuple[V, float]] = {}
        self._old: dict[K, tuple[V, float]] = {}

    def get(self, key: K, now: float) -> V | None:
        """The value of that key; None where there is none or its time is over."""
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.get(key)
            if entry is None or now >= entry[1]:
                return None
            self._add(key, entry)
        elif now >= entry[1]:
            return None
        return entry[0]

    def put(self, key: K, value: V, now: float, ttl: float) -> None:
        """Keep `value` for `ttl` seconds, in place of what that key had."""
        if ttl > 0:
            self._add(key, (value, now + ttl))

    def discard(self, key: K) -> None:
        """Forget that key, if it is there."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}

    def __len__(self) -> int:
        """How many entries are held, those included whose time is over; one that was found again may count twice."""
        return len(self._young) + len(self._old)

    def _add(self, key: K, entry: tuple[V, float]) -> None:
        young = self._young
        if len(young) >= self._half and key not in young:
            self._old = young
            self._young = young = {}
        young[key] = entry
