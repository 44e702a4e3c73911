"""What was used lately: a bounded cache of which threads share the entries without a lock.

It is one dict in order of use, the least recent first. Every step is one operation of the dict, which threads cannot
break into; between two steps another may get in, and then an entry is lost that could have been kept, or one too many is
there for a moment. Nobody ever gets a wrong one.
"""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class RecentCache(Generic[K, V]):
    """At most `max_entries` entries, each until its time to live is over; the least recently used goes first."""

    __slots__ = ("_entries", "_max")

    def __init__(self, max_entries: int) -> None:
        """Raises ValueError unless there is room for at least one entry."""
        if max_entries < 1:
            raise ValueError("a cache has room for at least one entry")
        self._max = max_entries
        self._entries: dict[K, tuple[V, float]] = {}

    def get(self, key: K, now: float) -> V | None:
        """The value of that key, now the most recently used; None where there is none or its time is over."""
        entries = self._entries
        entry = entries.pop(key, None)
        if entry is None or now >= entry[1]:
            return None
        entries[key] = entry
        return entry[0]

    def put(self, key: K, value: V, now: float, ttl: float) -> None:
        """Keep `value` for `ttl` seconds, in place of what that key had. Makes room where there is none."""
        entries = self._entries
        entries.pop(key, None)
        if ttl <= 0:
            return
        if len(entries) >= self._max:
            self._evict()
        entries[key] = (value, now + ttl)

    def discard(self, key: K) -> None:
        """Forget that key, if it is there."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def __len__(self) -> int:
        """How many entries are held, those included whose time is over and which nobody asked for since."""
        return len(self._entries)

    def _evict(self) -> None:
        try:
            self._entries.pop(next(iter(self._entries)), None)
        except (
            RuntimeError,
            StopIteration,
        ):  # Another thread changed it in between: what it left has room, or soon will.
            pass
