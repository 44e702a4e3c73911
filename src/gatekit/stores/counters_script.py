"""What is said to a Redis server about counters, and what it says back: one script for several calls at once.

The script is put together from the twins in Lua that lie beside the algorithms, and a frame of our own, `counters.lua`.
An algorithm is on the server by being listed in `ALGORITHMS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib.resources import files
from math import inf
from typing import Any, Final, NamedTuple

from gatekit.clients.redis import Script
from gatekit.core.counters import Ask, Limit, Taken
from gatekit.mechanisms.windows import ALGORITHMS, edges

TAKE: Final = 0
CHARGE: Final = 1
RESET: Final = 2
LEASE: Final = 3
"""What a call may be. A lease takes as much of its cost as there is."""

LONGEST_KEY: Final = 512
"""Characters. The name of a longer counter is made of digests, and so is one that is not ASCII."""


def _assembled() -> Script:
    windows = files("gatekit.mechanisms.windows")
    parts = ["local algorithms = {}"]
    for name in ALGORITHMS:
        text = (windows / f"{name}.lua").read_text("utf-8")
        parts.append(f'algorithms["{name}"] = (function()\n{text}\nend)()')
    parts.append((files("gatekit.stores") / "counters.lua").read_text("utf-8"))
    return Script("\n".join(parts))


SCRIPT: Final = _assembled()


class Call(NamedTuple):
    """One call, of one kind: a step of its own, all or nothing where it takes."""

    kind: int
    asks: Sequence[Ask]


class Granted(NamedTuple):
    """The answer to one ask of a lease: how much of the cost was taken, and what a look at a cost of 1 says after that."""

    amount: int
    remaining: int
    reset_after: float
    retry_after: float


class Answers(NamedTuple):
    """What the server said: of each call what its asks were told, in order (nothing where it did not take), and how many
    of the keys held no state."""

    found: list[Sequence[Any]]
    foreign: int


class Writer:
    """Says calls in the script's way. `wall` tells the edges of calendars, of which the server's clock picks its own."""

    __slots__ = ("_limits", "_prefix", "_wall")

    MOST: Final = 1024
    """Limits whose words are remembered: those with a calendar until its window ends."""

    def __init__(self, prefix: str, wall: Callable[[], float]) -> None:
        self._prefix = f"{prefix}:limits:"
        self._wall = wall
        self._limits: dict[Limit, tuple[float, float, str]] = {}

    def written(self, calls: Sequence[Call]) -> tuple[list[str], str]:
        """The keys and the argument for these calls."""
        keys: dict[str, int] = {}
        limits: dict[Limit, int] = {}
        texts = []
        for kind, asks in calls:
            words = [str(kind)]
            for key, limit, cost, mark in asks:
                at = keys.get(key)
                if at is None:
                    at = keys[key] = len(keys) + 1
                place = limits.get(limit)
                if place is None:
                    place = limits[limit] = len(limits) + 1
                words.append("%d,%d,%d,%d" % (at, place, cost, mark))  # noqa: UP031 - whole numbers and nothing else
            texts.append(f"[{','.join(words)}]")
        now = self._wall()
        said = ",".join([self._said(limit, now) for limit in limits])
        return [self._named(key) for key in keys], f"[[{said}],[{','.join(texts)}]]"

    def _said(self, limit: Limit, now: float) -> str:
        known = self._limits.get(limit)
        if known is not None and known[0] <= now < known[1]:
            return known[2]
        said = f"{json.dumps(limit.algorithm)},{limit.amount:d},{float(limit.period)!r}"
        begin, end = -inf, inf
        if limit.calendar is not None:
            found = edges(limit, now)
            begin, end = found[1], found[2]
            said = f"{said},{json.dumps(found)}"
        if len(self._limits) >= self.MOST:
            self._limits.clear()
        self._limits[limit] = (begin, end, f"[{said}]")
        return f"[{said}]"

    def _named(self, key: str) -> str:
        if len(key) > LONGEST_KEY or not key.isascii():
            tag = tag_of(key)
            key = f"{{{_digest(tag)}}}{_digest(key)}" if tag else _digest(key)
        return self._prefix + key


def read(text: bytes, calls: Sequence[Call]) -> Answers:
    """What the script's answer means for these calls. Raises ValueError, IndexError where it is none."""
    words = text.split()
    at = 1
    answers: list[Sequence[Any]] = []
    for kind, asks in calls:
        found: list[Any] = []
        if kind in (TAKE, LEASE):
            for _ in asks:
                first, left, reset, wait = words[at], int(words[at + 1]), float(words[at + 2]), float(words[at + 3])
                at += 4
                found.append(
                    Taken(first == b"1", left, reset, wait) if kind == TAKE else Granted(int(first), left, reset, wait)
                )
        answers.append(found)
    if at != len(words):
        raise ValueError("this is no answer of the script's")
    return Answers(answers, int(words[0]))


def tag_of(key: str) -> str:
    """What decides the slot of a key on a Cluster: what stands in its first braces, nothing where that is nothing."""
    begin = key.find("{")
    end = key.find("}", begin + 1)
    return key[begin + 1 : end] if 0 <= begin < end else ""


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
