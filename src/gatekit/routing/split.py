"""Weighted splits: which of several parts a request gets. A weight of 0 gets exactly none."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from typing import Generic, TypeVar

T = TypeVar("T")


class Split(Generic[T]):
    """Parts and their weights, compiled: each gets weight / sum of weights of the picks.

    Weights are whole numbers. Raises ValueError when one is negative, or when none is above 0.
    """

    __slots__ = ("_bounds", "_parts", "_total")

    def __init__(self, parts: Sequence[tuple[T, int]]) -> None:
        self._parts: list[T] = []
        self._bounds: list[int] = []
        total = 0
        for part, weight in parts:
            if weight < 0:
                raise ValueError(f"the weight {weight} of {part!r} is negative; write 0 for no requests at all")
            if weight:
                total += weight
                self._parts.append(part)
                self._bounds.append(total)
        if not total:
            raise ValueError("a split needs at least one part with a weight above 0")
        self._total = total

    def pick(self, random_value: float) -> T:
        """The part for a random number in [0, 1)."""
        return self._at(int(random_value * self._total))

    def pick_hash(self, key: bytes, salt: bytes = b"") -> T:
        """The part for a key: always the same while the weights stay. Another salt gives an independent choice."""
        digest = blake2b(key, digest_size=8, key=blake2b(salt, digest_size=32).digest()).digest()
        return self._at(int.from_bytes(digest, "big") * self._total >> 64)

    def _at(self, place: int) -> T:
        return self._parts[bisect_right(self._bounds, place)]
