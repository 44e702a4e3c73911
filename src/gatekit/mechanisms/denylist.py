"""An exact list of what is no longer valid, in memory, asked for every request.

There is one table. Its key is the kind of an entry and a digest of 128 bits of its value: exact for all that anybody
can bring about, of one size for short and long values, and no text of a subject lies about in memory. The table is cut
into parts, so that none of the moments in which a dict grows is long. It holds nothing that the garbage collector would
have to follow, which a list of a million keys would be: each full collection would stand still for it.

Entries end with the credentials they are about, `LEEWAY` later: so much longer a gateway may take one. What has ended
is found by going through the parts, one at a time: as `expire` is called, and as a part grows.

A mutation is a few steps; where threads may do so at once, the owner holds a lock. `revoked` needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final, NamedTuple

from gatekit.errors import GatekitError
from gatekit.mechanisms.revocation import KINDS, MAX_VALUE, Revocation, code_of, digest_of, within

LEEWAY: Final = 300
"""The longest that a credential is taken after its end, in seconds (the cap of the leeway for `exp`)."""
MAX_ENTRIES: Final = 2_000_000
PARTS: Final = 256

_MASK: Final = PARTS - 1
_SHARED: Final = 87_000
"""A few more than a day has seconds; as many as a dict holds before it grows to twice its size."""
_AT_ONCE: Final = 250
"""How many entries are taken out before somebody else has a turn."""
_GROWTH: Final = 16
"""A part is gone through once it has grown by an eighth, and by this many entries at least: so each that is added costs
a look at a few others, and a list that nobody tends shrinks all the same."""

Marks = complex | tuple[complex, ...]
"""What a key has: pairs of `before` and end, several in falling order of `before`. A revocation as a whole is one before
infinity. A pair is kept as a complex number, the smallest object of Python's that holds two."""


class DenylistFull(GatekitError):
    """There is no room for another revocation: it is not in force. Nothing that was revoked before is affected."""


class Entry(NamedTuple):
    """One entry, without its text: `before` and `until` are infinite where there is none."""

    key: int
    before: float
    until: float


class _Ask(NamedTuple):
    claim: str
    code: int
    scoped: bool


_ASKS: Final = {
    code_of(kind, scoped): _Ask(kind, code_of(kind, scoped), scoped) for kind in KINDS for scoped in (False, True)
}
_ALL: Final = code_of("all", False)


class Denylist:
    """The list. `wall` is the clock that entries end by, in seconds since the Unix epoch.

    When an entry had to be left out for want of room (`leave_out`), everything is revoked until that entry would have
    ended: whether a credential is the one that was meant cannot be told.
    """

    __slots__ = (
        "_asks", "_busy", "_counts", "_left_out", "_next", "_parts", "_shared", "_size", "_sweep_at", "_wall", "max_entries",
    )  # fmt: skip

    def __init__(self, wall: Callable[[], float], max_entries: int = MAX_ENTRIES) -> None:
        self._wall = wall
        self.max_entries = max_entries
        self._parts: list[dict[int, Marks]] = [{} for _ in range(PARTS)]
        self._sweep_at = [_GROWTH] * PARTS
        self._next = 0
        self._size = 0
        self._counts: dict[int, int] = {}
        self._asks: tuple[_Ask, ...] = ()
        self._shared: dict[complex, complex] = {}
        self._left_out = -inf
        self._busy = False

    def __len__(self) -> int:
        """How many entries there are, those included that have ended and were not taken out yet."""
        return self._size

    def revoked(self, claims: Mapping[str, Any]) -> str | None:
        """Why a credential with these claims is revoked: `issued_before`, `list_full`, or the claim by which it is."""
        return self._searched(claims) if self._busy else None

    def _searched(self, claims: Mapping[str, Any]) -> str | None:
        parts = self._parts
        for claim, code, scoped in self._asks:
            if code == _ALL:
                key = code
            else:
                value = claims.get(claim)
                if not isinstance(value, str) or len(value) > MAX_VALUE:
                    continue
                if scoped:
                    iss = claims.get("iss")
                    if not isinstance(iss, str) or len(iss) > MAX_VALUE:
                        continue
                    value = within(iss, value)
                key = code | int.from_bytes(digest_of(value))
            marks = parts[key & _MASK].get(key)
            if marks is not None:
                reason = self._reason(claim, marks, claims)
                if reason is not None:
                    return reason
        return "list_full" if self._left_out > -inf and self.full else None

    def _reason(self, claim: str, marks: Marks, claims: Mapping[str, Any]) -> str | None:
        now = self._wall()
        iat: Any = claims.get("iat")
        # What does not say when it was issued was issued before any time; NaN and infinity are no time.
        known = isinstance(iat, (int, float)) and not isinstance(iat, bool) and -inf < iat < inf
        issued = iat if known else -inf
        for mark in marks if isinstance(marks, tuple) else (marks,):
            if issued >= mark.real:
                return None
            if mark.imag > now:
                return claim if mark.real == inf else "issued_before"
        return None

    def add(self, record: Revocation) -> bool:
        """Have this revocation in force; whether anything is different now. Raises DenylistFull."""
        before = inf if record.before is None else float(record.before)
        return self.put(Entry(record.key, before, ends(record)))

    def put(self, entry: Entry) -> bool:
        """`add` for an entry."""
        key, before, until = entry
        mark = complex(before, until + LEEWAY)
        if mark.imag <= self._wall():
            return False
        number = key & _MASK
        marks = self._parts[number].get(key)
        if marks is None:
            if len(self._parts[number]) >= self._sweep_at[number]:
                self._sweep(number)
            self._make_room()
            self._parts[number][key] = self._one_object(mark)
            self._count(key, 1)
            return True
        merged = _merged(marks, mark)
        if merged is None:
            return False
        more = _length(merged) - _length(marks)
        if more:
            self._make_room()
            self._count(key, more)
        self._parts[number][key] = merged
        return True

    def remove(self, record: Revocation) -> bool:
        """Take a revocation back; whether it was there. Others of the same key stay in force."""
        before = inf if record.before is None else float(record.before)
        return self._keep(record.key, lambda mark: mark.real != before) > 0

    def leave_out(self, record: Revocation) -> None:
        """There is no room for this one: revoke everything for as long as it would have been in force."""
        self._left_out = max(self._left_out, ends(record) + LEEWAY)
        self._busy = True

    @property
    def full(self) -> bool:
        """Whether everything is revoked, because an entry had to be left out."""
        return self._wall() < self._left_out

    def expire(self, limit: int = 2000) -> bool:
        """Go through a few parts, as many as have `limit` entries, and take out what has ended. Whether that was not the
        end of the list yet: then another call goes on. Looking at 2000 takes a fifth of a millisecond, taking out the
        most that is taken out at once half a one."""
        while limit > 0:
            limit -= 1 + len(self._parts[self._next])
            if not self._sweep(self._next):
                return True
            self._next = (self._next + 1) % PARTS
            if not self._next:
                return False
        return True

    def part(self, number: int) -> list[Entry]:
        """The entries in one of the `PARTS`, some thousands at most."""
        return [
            Entry(key, mark.real, mark.imag - LEEWAY)
            for key, marks in self._parts[number].items()
            for mark in _several(marks)
        ]

    def _sweep(self, number: int) -> bool:
        """Take out of a part what has ended, or much of it; whether that was all."""
        now, part = self._wall(), self._parts[number]
        over = [key for key, marks in part.items() if _any_over(marks, now)]
        for key in over[:_AT_ONCE]:
            self._keep(key, lambda mark: mark.imag > now)
        left = len(part)
        self._sweep_at[number] = left + max(_GROWTH, left // 8)
        if over and not left:
            # A dict never gives back what it has grown to.
            self._parts[number] = {}
        return len(over) <= _AT_ONCE

    def _keep(self, key: int, wanted: Callable[[complex], bool]) -> int:
        """Keep of a key what is wanted; how many entries went."""
        part = self._parts[key & _MASK]
        marks = _several(part.get(key, ()))
        kept = tuple(mark for mark in marks if wanted(mark))
        gone = len(marks) - len(kept)
        if gone:
            if kept:
                part[key] = kept[0] if len(kept) == 1 else kept
            else:
                del part[key]
            self._count(key, -gone)
        return gone

    def _make_room(self) -> None:
        """Raises DenylistFull when there is none, and nothing that has ended is found soon. Whoever tries again goes on
        looking."""
        if self._size >= self.max_entries:
            self.expire()
            if self._size >= self.max_entries:
                raise DenylistFull(f"{self._size} things are revoked, which is all there is room for")

    def _count(self, key: int, change: int) -> None:
        """So many more entries of that kind; what is asked for follows."""
        self._size += change
        code = key >> 128 << 128
        before = self._counts.get(code, 0)
        self._counts[code] = before + change
        if not before or not self._counts[code]:
            self._asks = tuple(ask for code, ask in _ASKS.items() if self._counts.get(code))
            self._busy = bool(self._asks) or self.full

    def _one_object(self, mark: complex) -> complex:
        """The same object for equal marks, as far as it is cheap: most entries end in the same few thousand seconds."""
        if len(self._shared) >= _SHARED:
            self._shared.clear()
        return self._shared.setdefault(mark, mark)


def ends(record: Revocation) -> float:
    """When what it is about has ended, infinity where that is never."""
    return inf if record.until is None else float(record.until)


def is_over(record: Revocation, now: float) -> bool:
    """Whether nobody need remember it any more."""
    return ends(record) + LEEWAY <= now


def _several(marks: Marks | tuple[()]) -> tuple[complex, ...]:
    return marks if isinstance(marks, tuple) else (marks,)


def _any_over(marks: Marks, now: float) -> bool:
    if isinstance(marks, complex):
        return marks.imag <= now
    return any(mark.imag <= now for mark in marks)


def _length(marks: Marks) -> int:
    return len(marks) if isinstance(marks, tuple) else 1


def _merged(marks: Marks, mark: complex) -> Marks | None:
    """These marks and that one, the longer of two with the same `before`; None where that changes nothing."""
    several = _several(marks)
    same = [one for one in several if one.real == mark.real]
    if same and same[0].imag >= mark.imag:
        return None
    merged = sorted([one for one in several if one.real != mark.real] + [mark], key=lambda one: -one.real)
    return merged[0] if len(merged) == 1 else tuple(merged)
