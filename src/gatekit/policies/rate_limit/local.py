"""Counters in this process: what each key has spent, bounded in number, nothing forgotten that matters.

They never suspend, so that a policy that uses them runs under WSGI without an event loop.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from heapq import heapify, heappop, heappush, heapreplace, nlargest
from itertools import islice
from math import inf
from typing import Final, NamedTuple

from gatekit.core.counters import Ask, Limit, Taken
from gatekit.core.ports import Clock, Lock
from gatekit.mechanisms.windows import State, Window, window_of

MAX_KEYS: Final = 100_000

_MAX_LIMITS: Final = 4_096
"""How many limits are kept compiled."""

_LAPSED_AT_ONCE: Final = 8
"""How many keys that are no longer limited are found out each time that room is needed: more than become limited meanwhile."""

_OLDEST_AT_ONCE: Final = 64
"""How many keys that go next are found together, at least."""


class Spender(NamedTuple):
    """One key, its limit, and what a look at it says."""

    key: str
    limit: Limit
    taken: Taken


class LocalCounters:
    """`Counters` in memory, for at most `max_keys` keys.

    Where room is needed, the key whose count was changed least recently goes; one that is limited goes only when all are, the
    first that would be free again first. Otherwise whoever is limited would only have to send many other keys to be
    forgotten. Nothing is kept of a key that has spent nothing. Limits by calendar count on the wall clock, all others on the
    monotonic one.
    """

    __slots__ = (
        "_guard", "_kept", "_lapses", "_max", "_monotonic", "_oldest", "_open", "_until", "_wall", "_windows",
    )  # fmt: skip

    def __init__(self, clock: Clock, lock: Lock = nullcontext, *, max_keys: int = MAX_KEYS) -> None:
        """Raises ValueError unless there is room for at least one key."""
        if max_keys < 1:
            raise ValueError("counters need room for at least one key: max_keys is 1 or more")
        self._monotonic = clock.monotonic
        self._wall = clock.wall
        self._guard = lock()
        self._max = max_keys
        # By the identity of a limit, which is quicker than its value. The limit is held, so that it keeps its identity.
        self._windows: dict[int, tuple[Limit, Window]] = {}
        # Keys that are not limited, in order of use, least recent first; and keys that are, or were a moment ago.
        self._open: dict[str, State] = {}
        self._kept: dict[str, State] = {}
        # Until when a key is limited, on the monotonic clock; of all kept keys, and of some that are open again. The same,
        # soonest first, where it may be out of date: `_until` is what counts.
        self._until: dict[str, float] = {}
        self._lapses: list[tuple[float, str]] = []
        # The open keys that go next, the first one last, each with the state by which one knows that nobody changed it
        # meanwhile. Found many at a time: the first entry of a dict is far from its begin when many were deleted there.
        self._oldest: list[tuple[str, State]] = []

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        return self.take_now(asks)

    async def charge(self, asks: Sequence[Ask]) -> None:
        self.charge_now(asks)

    async def reset(self, asks: Sequence[Ask]) -> None:
        self.reset_now(asks)

    def take_one(self, ask: Ask) -> Taken:
        """`take` of one ask."""
        key, limit, cost, mark = ask
        found = self._windows.get(id(limit))
        window = self._window(limit) if found is None else found[1]
        keys = self._open
        # The time is read inside, so that it does not go back between threads.
        with self._guard:
            now = self._monotonic() if limit.calendar is None else self._wall()
            state = keys.pop(key, None)
            if state is not None:
                after, taken = window.take(state, now, cost, mark)
                if taken.remaining >= cost and taken.allowed:
                    # The usual case: it was not limited and is not now.
                    keys[key] = after
                    return taken
            else:
                after, taken = window.take(self._kept.pop(key, ()), now, cost, mark)
            self._put(ask, window, now, after, taken)
            return taken

    def take_now(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        """`take`, which has nothing to wait for."""
        if len(asks) == 1:
            return (self.take_one(asks[0]),)
        # Before anything is taken out: a limit that nothing can count must leave all as it was.
        windows = [self._window(ask.limit) for ask in asks]
        keys, kept = self._open, self._kept
        steps: list[tuple[Window, float, State, State]] = []
        answers: list[Taken] = []
        fits = usual = True
        with self._guard:
            now = self._monotonic()
            for (key, limit, cost, mark), window in zip(asks, windows, strict=True):
                at = now if limit.calendar is None else self._wall()
                state = keys.pop(key, None)
                if state is None:
                    usual = False
                    state = kept.pop(key, ())
                after, taken = window.take(state, at, cost, mark)
                if not taken.allowed:
                    fits = False
                elif not taken.remaining >= cost > 0:
                    usual = False
                steps.append((window, at, state, after))
                answers.append(taken)
            if fits and usual:
                # None was limited and none is now, so all stay where they were.
                for ask, step in zip(asks, steps, strict=True):
                    keys[ask.key] = step[3]
                return answers
            if not fits:
                # Nothing is spent. What would have fitted says what is left as it is.
                answers = [
                    window.take(state, at, 0)[1] if taken.allowed else taken
                    for (window, at, state, _), taken in zip(steps, answers, strict=True)
                ]
            for ask, (window, at, state, after), taken in zip(asks, steps, answers, strict=True):
                self._put(ask, window, at, after if fits else state, taken)
        return answers

    def charge_now(self, asks: Sequence[Ask]) -> None:
        """`charge`, which has nothing to wait for."""
        windows = [self._window(ask.limit) for ask in asks]
        with self._guard:
            for ask, window, now in zip(asks, windows, self._times(asks), strict=True):
                state = window.charge(self._taken_out(ask.key), now, ask.cost, ask.mark)
                self._put(Ask(ask.key, ask.limit), window, now, state, window.take(state, now, 1)[1])

    def reset_now(self, asks: Sequence[Ask]) -> None:
        """`reset`, which has nothing to wait for."""
        with self._guard:
            for ask in asks:
                self._taken_out(ask.key)
                self._until.pop(ask.key, None)

    def top(self, prefix: str, n: int) -> list[Spender]:
        """The `n` keys under `prefix` of which most is spent, most first. It takes as long as there are keys.

        Which limit a key is counted against is told by the `Limit.id` in it; keys without one, or with that of a limit which
        nobody has asked about for very long, are left out.
        """
        with self._guard:
            limits = {limit.id: (limit, window) for limit, window in self._windows.values()}
            states = [
                entry for keys in (self._open, self._kept) for entry in keys.items() if entry[0].startswith(prefix)
            ]
            now, wall = self._monotonic(), self._wall()
        ids = re.compile(f"({'|'.join(map(re.escape, sorted(limits, key=len, reverse=True)))})(?![\\w.:+/-])")
        found = []
        for key, state in states:
            named = ids.search(key)
            if named is not None:
                limit, window = limits[named[0]]
                taken = window.take(state, now if limit.calendar is None else wall, 0)[1]
                found.append(Spender(key, limit, taken))
        return nlargest(n, found, key=_spent)

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._open) + len(self._kept)

    def _window(self, limit: Limit) -> Window:
        """The limit, compiled. Raises ValueError on one that nothing can count."""
        found = self._windows.get(id(limit))
        if found is None:
            if len(self._windows) >= _MAX_LIMITS:
                self._windows.clear()
            found = self._windows[id(limit)] = limit, window_of(limit)
        return found[1]

    def _times(self, asks: Sequence[Ask]) -> list[float]:
        """What time it is for each ask."""
        now = self._monotonic()
        return [now if ask.limit.calendar is None else self._wall() for ask in asks]

    def _taken_out(self, key: str) -> State:
        state = self._open.pop(key, None)
        return self._kept.pop(key, ()) if state is None else state

    def _put(self, ask: Ask, window: Window, now: float, state: State, taken: Taken) -> None:
        """Keep the state of a key that was taken out, among those that are limited or among the others."""
        key, limit, cost, _ = ask
        if not state:
            self._until.pop(key, None)
            return
        if len(self._open) + len(self._kept) >= self._max:
            self._evict()
        cost = max(1, cost)
        wait = taken.retry_after
        if taken.allowed and taken.remaining < cost:
            # Whoever may not do the same again counts as limited though something may be left.
            wait = window.take(state, now, cost)[1].retry_after
        if wait == inf:
            # What will never fit is no reason to remember a key for ever.
            wait = window.take(state, now, 1)[1].retry_after
        if wait <= 0.0:
            self._open[key] = state
            return
        self._kept[key] = state
        until = wait + (now if limit.calendar is None else self._monotonic())
        if key not in self._until:
            heappush(self._lapses, (until, key))
        self._until[key] = until
        if len(self._lapses) > 2 * len(self._until) + _LAPSED_AT_ONCE:
            self._lapses = [(until, key) for key, until in self._until.items()]
            heapify(self._lapses)

    def _evict(self) -> None:
        """Make room for one more key."""
        keys, kept, now = self._open, self._kept, self._monotonic()
        for _ in range(_LAPSED_AT_ONCE):
            lapse = self._next_lapse()
            if lapse > now:
                break
            key = self._lapsed()
            if key in kept:
                keys[key] = kept.pop(key)
        if not keys:
            self._next_lapse()
            del kept[self._lapsed()]
            return
        oldest = self._oldest
        while True:
            if not oldest:
                oldest += islice(keys.items(), max(_OLDEST_AT_ONCE, len(keys) // 64))
                oldest.reverse()
            key, state = oldest.pop()
            if keys.get(key) is state:
                del keys[key]
                self._until.pop(key, None)
                return

    def _next_lapse(self) -> float:
        """When the next key is no longer limited, infinity where none is. It is then the first of `_lapses`."""
        lapses, until = self._lapses, self._until
        while lapses:
            when, key = lapses[0]
            true = until.get(key)
            if true == when:
                return when
            if true is None:
                heappop(lapses)
            else:
                heapreplace(lapses, (true, key))
        return inf

    def _lapsed(self) -> str:
        """Take the first of `_lapses` off."""
        key = heappop(self._lapses)[1]
        del self._until[key]
        return key


def _spent(spender: Spender) -> tuple[float, float]:
    """How much of its limit is spent, and for how long."""
    taken = spender.taken
    return 1.0 - taken.remaining / spender.limit.amount, taken.reset_after
