"""A bounded cache whose entries can be looked through."""

from __future__ import annotations

from typing import Generic, TypeVar

V = TypeVar("V")


class Lately(Generic[V]):
    """At most so many things by name, the least recently put goes first. Threads share it without a lock: at worst one is
    lost that could have been kept."""

    __slots__ = ("_entries", "_max")

    def __init__(self, max_entries: int) -> None:
        self._entries: dict[str, V] = {}
        self._max = max_entries

    def get(self, name: str) -> V | None:
        return self._entries.get(name)

    def put(self, name: str, value: V) -> None:
        entries = self._entries
        entries.pop(name, None)
        if len(entries) >= self._max:
            try:
                entries.pop(next(iter(entries)), None)
            except (RuntimeError, StopIteration):  # pragma: no cover - another thread changed it in between
                pass
        entries[name] = value

    def values(self) -> list[V]:
        return list(self._entries.values())
