"""What every store of plans keeps in its process: name → plan, bounded, answered from memory by any thread.

A million names of a dozen letters take about 110 MB, and as much again while they are read anew. They are taken in, given
up and packed a piece at a time: what else the process does is held up by 60 ms at most.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

MAX_ENTRIES: Final = 1_000_000
MAX_BYTES: Final = 100_000_000
"""Of all names and plans together, in UTF-8; for a file, of the file."""
MAX_NAME: Final = 512
MAX_PLAN: Final = 1024
"""The longest name and the longest plan, in characters."""
PIECE: Final = 1_000
"""Entries that are handled at once: about a millisecond."""


def wrong_with(name: object, plan: object) -> str | None:
    """Why this is no entry, or None."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        return f"a name is a text of 1 to {MAX_NAME} characters"
    if not isinstance(plan, str) or not 0 < len(plan) <= MAX_PLAN or plan.isspace():
        return f"a plan is the name of one, or limits, as a text of 1 to {MAX_PLAN} characters"
    return None


class KeptPlans:
    """The entries of a store as they were read last."""

    __slots__ = ("_given_up", "_plans")

    def __init__(self) -> None:
        self._plans: dict[str, str] = {}
        self._given_up: list[dict[str, str]] = []

    def find(self, name: str) -> str | None:
        """The plan of that name."""
        return self._plans.get(name)

    def __len__(self) -> int:
        return len(self._plans)

    def replace(self, plans: dict[str, str]) -> None:
        """Have these, and no others."""
        before, self._plans = self._plans, plans
        if before:
            self._given_up.append(before)

    def change(self, name: str, plan: str | None) -> None:
        """Have this one, or none, under that name."""
        if plan is None:
            self._plans.pop(name, None)
        elif name in self._plans or len(self._plans) < MAX_ENTRIES:
            self._plans[name] = plan

    def tidy(self) -> Iterator[None]:
        """Free what was replaced, a piece at a time. Not before whoever was looking into it is done: call it at the next
        look at the store."""
        while self._given_up:
            gone = self._given_up[-1]
            while gone:
                for _ in range(min(PIECE, len(gone))):
                    gone.popitem()
                yield
            self._given_up.pop()

    def pieces(self) -> Iterator[bytes]:
        """The entries as lines of JSON, each an object."""
        plans = self._plans
        names = list(plans)
        for begin in range(0, len(names), PIECE):
            piece = {name: plans[name] for name in names[begin : begin + PIECE] if name in plans}
            yield json.dumps(piece, separators=(",", ":")).encode("ascii")


def unpacked(lines: Iterator[bytes]) -> Iterator[Mapping[str, str]]:
    """What was packed. Raises ValueError on what is not that."""
    for line in lines:
        piece = json.loads(line)
        if not isinstance(piece, dict) or any(wrong_with(name, plan) for name, plan in piece.items()):
            raise ValueError("these are no plans")
        yield piece
