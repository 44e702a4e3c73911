"""A bounded cache: so many entries and no more, the least recently used goes first, what is protected goes last.

What is protected is for the owner to say (`protects`). A rate limiter protects keys that are out of quota: otherwise
whoever is limited would only have to send many other keys to be forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_LOOKS: Final = 8
"""How many protected entries are looked at for one that no longer is, when room is needed."""


class BoundedCache(Generic[K, V]):
    """At most `max_entries` entries, each until its time to live is over. Every operation takes constant time.

    `protects(value, now)` is asked when an entry is put. An entry that was not protected then is evicted before any
    that was; one whose protection has lapsed meanwhile may be kept a while longer than it needs to be, never the
    reverse. Protected entries are evicted only where there are no others.
    """

    __slots__ = ("_kept", "_max", "_open", "_protects")

    def __init__(self, max_entries: int, *, protects: Callable[[V, float], bool] | None = None) -> None:
        """Raises ValueError unless there is room for at least one entry."""
        if max_entries < 1:
            raise ValueError("a cache has room for at least one entry")
        self._max = max_entries
        self._protects = protects
        # Two dicts in order of use, least recent first; an entry is in one of them.
        self._open: dict[K, tuple[V, float]] = {}
        self._kept: dict[K, tuple[V, float]] = {}

    def get(self, key: K, now: float) -> V | None:
        """The value of that key, now the most recently used; None where there is none or its time is over."""
        entries = self._open
        entry = entries.pop(key, None)
        if entry is None:
            entries = self._kept
            entry = entries.pop(key, None)
        if entry is None or now >= entry[1]:
            return None
        entries[key] = entry
        return entry[0]

    def put(self, key: K, value: V, now: float, ttl: float = math.inf) -> None:
        """Keep `value` for `ttl` seconds, in place of what that key had. Makes room where there is none."""
        entries, kept, protects = self._open, self._kept, self._protects
        if entries.pop(key, None) is None and kept:
            kept.pop(key, None)
        if len(entries) + len(kept) >= self._max:
            self._evict(now)
        if protects is not None and protects(value, now):
            entries = kept
        entries[key] = (value, now + ttl)

    def discard(self, key: K) -> None:
        """Forget that key, if it is there."""
        if self._open.pop(key, None) is None:
            self._kept.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._open.clear()
        self._kept.clear()

    def __len__(self) -> int:
        """How many entries there are, those included whose time is over and which nobody asked for since."""
        return len(self._open) + len(self._kept)

    def __contains__(self, key: object) -> bool:
        return key in self._open or key in self._kept

    def _evict(self, now: float) -> None:
        kept, protects = self._kept, self._protects
        if protects is not None:
            for _ in range(min(_LOOKS, len(kept))):
                key = next(iter(kept))
                entry = kept.pop(key)
                if now >= entry[1] or not protects(entry[0], now):
                    return
                kept[key] = entry
        entries = self._open or kept
        del entries[next(iter(entries))]
