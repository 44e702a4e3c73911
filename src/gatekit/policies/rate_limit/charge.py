"""What counters are told after the fact: costs that are known only at the end of an exchange, and what is no longer under
way. A shared store hears of it a moment later, in batches, so that no response waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Any, Final, Protocol

from gatekit.core.counters import Ask, Counters
from gatekit.core.policy import Job
from gatekit.core.ports import Clock, Lock
from gatekit.errors import StoreUnavailable
from gatekit.policies.rate_limit.local import LocalCounters

FLUSH: Final = 0.04
"""Every so many seconds the store is told what has come together: within 50 ms of the end of an exchange."""
RETRY: Final = 1.0
"""After how many seconds a store that did not answer is told again."""
MAX_WAITING: Final = 10_000
"""How many charges may wait, and how much that is given back."""
BATCH: Final = 200
"""How many counters the store is told of at a time."""
MARGIN: Final = 2.0
"""So many seconds before the store gives up what is still under way it is told anew, so that there is time to try again."""

Marked = tuple[str, int]
"""Key and mark of what is under way."""


class Settles(Protocol):
    """Where something was taken, and what is told there about it later."""

    def charge(self, ask: Ask) -> None:
        """This was used, or is given back where the cost is negative."""
        ...

    def hold(self, ask: Ask) -> None:
        """This is under way."""
        ...

    def release(self, ask: Ask) -> None:
        """This is no longer under way. Where it never was, giving it back changes nothing."""
        ...


class AtOnce:
    """Counters of this process, which are told at once, and need not be told what goes on."""

    __slots__ = ("_counters", "take_now")

    def __init__(self, counters: LocalCounters) -> None:
        self._counters = counters
        self.take_now = counters.take_now

    def charge(self, ask: Ask) -> None:
        self._counters.charge_now((ask,))

    def hold(self, ask: Ask) -> None:
        pass

    def release(self, ask: Ask) -> None:
        self._counters.charge_now((ask._replace(cost=-ask.cost),))


class Charges:
    """What a store has still to be told by all rate limits of this process that share it.

    Charges of one counter are added up. A batch that the store does not answer to is lost, to the advantage of callers:
    it may have been counted. What is given back is told until it was heard, or the store has given it up by itself. What
    is under way for long is told anew before the store gives it up.
    """

    __slots__ = ("_charges", "_clock", "_counters", "_guard", "_held", "_released", "_tagged", "lost", "pause", "told")

    def __init__(self, counters: Counters, clock: Clock, lock: Lock, *, tagged: bool) -> None:
        """`tagged`: the store wants one hash tag in a call, as a Cluster does."""
        self._counters = counters
        self._clock = clock
        self._tagged = tagged
        # Threads of a WSGI server add what the loop thread tells.
        self._guard = lock()
        self._charges: dict[str, Ask] = {}
        # What is given back or under way, and until when the store remembers it by itself.
        self._released: dict[Marked, tuple[Ask, float]] = {}
        self._held: dict[Marked, tuple[Ask, float]] = {}
        self.pause = FLUSH
        self.lost = 0
        self.told = 0

    def charge(self, ask: Ask) -> None:
        with self._guard:
            before = self._charges.get(ask.key)
            if before is not None:
                self._charges[ask.key] = ask._replace(cost=before.cost + ask.cost)
            elif len(self._charges) < MAX_WAITING:
                self._charges[ask.key] = ask
            else:
                self.lost += 1

    def hold(self, ask: Ask) -> None:
        with self._guard:
            self._held[ask.key, ask.mark] = (ask, self._clock.monotonic() + ask.limit.period)

    def release(self, ask: Ask) -> None:
        with self._guard:
            self._held.pop((ask.key, ask.mark), None)
            if len(self._released) < MAX_WAITING:
                given_back = ask._replace(cost=-ask.cost)
                self._released[ask.key, ask.mark] = (given_back, self._clock.monotonic() + ask.limit.period)
            else:
                self.lost += 1

    async def flush(self) -> None:
        """Tell the store all that waits. Never raises for the store."""
        with self._guard:
            now = self._clock.monotonic()
            charges, self._charges = self._charges, {}
            released, self._released = self._released, {}
            renewed = [
                self._renewed(one, now)
                for one in self._held.values()
                if one[1] - now < min(MARGIN, one[0].limit.period / 4)
            ]
        waiting = _batches([*charges.values(), *(ask for ask, _ in released.values()), *renewed], tagged=self._tagged)
        self.pause = FLUSH
        while waiting:
            batch = waiting.popleft()
            try:
                await self._counters.charge(batch)
            except StoreUnavailable:
                self.pause = RETRY
                self._keep(batch, waiting, released)
                return
            self.told += len(batch)

    def _renewed(self, held: tuple[Ask, float], now: float) -> Ask:
        ask, _ = held
        self._held[ask.key, ask.mark] = (ask, now + ask.limit.period)
        return ask

    def _keep(self, tried: list[Ask], untried: Iterable[list[Ask]], released: dict[Marked, tuple[Ask, float]]) -> None:
        """After a failure: what can be told again waits for the next time."""
        now = self._clock.monotonic()
        self.lost += sum(1 for ask in tried if not ask.mark)
        for ask in (ask for batch in untried for ask in batch if not ask.mark):
            self.charge(ask)
        with self._guard:
            for ask in (ask for batch in (tried, *untried) for ask in batch if ask.mark):
                mark = (ask.key, ask.mark)
                if ask.cost > 0:
                    # It is told anew as soon as the store answers.
                    if mark in self._held:
                        self._held[mark] = (self._held[mark][0], now)
                elif released[mark][1] > now:
                    self._released.setdefault(mark, released[mark])

    def job(self, key: Hashable) -> Job:
        """The work that tells the store."""
        return Job(("rate_limit charges", key), self.flush, lambda: self.pause, FLUSH)

    def status(self) -> dict[str, Any]:
        """Figures since the process began; `lost` was never told to the store."""
        waiting = len(self._charges) + len(self._released)
        return {"waiting": waiting, "told": self.told, "lost": self.lost, "under_way": len(self._held)}


def _batches(asks: Iterable[Ask], *, tagged: bool) -> deque[list[Ask]]:
    """In parts that have no key twice, and where keys are `tagged` one tag each."""
    by_tag: dict[str, dict[str, list[Ask]]] = {}
    for ask in asks:
        tag = ask.key.partition("}")[0] if tagged else ""
        by_tag.setdefault(tag, {}).setdefault(ask.key, []).append(ask)
    found: deque[list[Ask]] = deque()
    for by_key in by_tag.values():
        waiting = list(by_key.values())
        while waiting:
            together = [left.pop() for left in waiting]
            found.extend(together[start : start + BATCH] for start in range(0, len(together), BATCH))
            waiting = [left for left in waiting if left]
    return found
