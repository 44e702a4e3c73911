"""What operators hear of a rate limit: figures, events, and one line in the log when a store is lost."""

from __future__ import annotations

import logging
from typing import Final

from gatekit.core.counters import Taken
from gatekit.core.exchange import Exchange
from gatekit.core.ports import Ports
from gatekit.errors import StoreUnavailable
from gatekit.mechanisms.recent import RecentCache
from gatekit.policies.rate_limit.answers import Reading
from gatekit.policies.rate_limit.events import LimitExceeded, LimitNear, StoreBack, StoreLost
from gatekit.policies.rate_limit.keys import digest
from gatekit.policies.rate_limit.lately import Lately
from gatekit.policies.rate_limit.meters import Meter

_log = logging.getLogger("gatekit.rate_limit")

MAX_NEAR: Final = 4096
"""Of how many callers it is remembered that they were told of as near a limit."""
LONGEST_NEAR: Final = 86400.0
"""After so many seconds it is told again."""
MAX_REFUSED: Final = 1024
"""Of how many callers it is remembered how often they were refused."""

_DOING: Final = {
    "allow": "letting everything pass",
    "deny": "refusing every request",
    "local": "counting in this process",
}


Refused = tuple[str, Meter, str, int]
"""Rule, limit and caller, and how often that one was refused."""


class Telling:
    """Tells what happened, to whoever listens, and remembers who was refused."""

    __slots__ = ("_clock", "_doing", "_events", "_lost_at", "_name", "_near", "_refusals", "store_errors")

    def __init__(self, name: str, doing: frozenset[str], ports: Ports) -> None:
        self._name = name
        self._doing = ", or ".join(_DOING[one] for one in sorted(doing))
        self._events = ports.events
        self._clock = ports.clock
        self._lost_at: float | None = None
        self._near: RecentCache[str, bool] = RecentCache(MAX_NEAR)
        # Key of the counter → rule, meter, caller, and how often.
        self._refusals: Lately[Refused] = Lately(MAX_REFUSED)
        self.store_errors = 0

    def refused(self, exchange: Exchange, rule: str, meter: Meter, caller: str, taken: Taken, *, shadow: bool) -> None:
        """A limit did not allow it, or would not have."""
        refusals = self._refusals
        key = meter.key(caller)
        before = refusals.get(key)
        refusals.put(key, (rule, meter, caller, 1 if before is None else before[3] + 1))
        if self._events.wants(LimitExceeded):
            wait = Reading(meter, taken).wait
            self._events.emit(LimitExceeded(rule, meter.name, digest(caller), _route(exchange), wait, shadow))

    def near(self, exchange: Exchange, rule: str, meter: Meter, caller: str, remaining: int) -> None:
        """A caller has nearly used up a limit; told once in a period."""
        if not self._events.wants(LimitNear):
            return
        now, key = self._clock.monotonic(), meter.key(caller)
        if self._near.get(key, now) is None:
            self._near.put(key, True, now, min(meter.limit.period, LONGEST_NEAR))
            self._events.emit(LimitNear(rule, meter.name, digest(caller), _route(exchange), remaining))

    def lost(self, error: StoreUnavailable) -> None:
        """The store does not answer. Said once for each outage, not once for each request."""
        self.store_errors += 1
        if self._lost_at is None:
            self._lost_at = self._clock.monotonic()
            _log.warning(
                "rate limit %r: the shared store does not answer, %s until it does: %s", self._name, self._doing, error
            )
            if self._events.wants(StoreLost):
                self._events.emit(StoreLost(self._name, self._doing, str(error)))

    def back(self) -> None:
        """The store answers."""
        if self._lost_at is not None:
            seconds, self._lost_at = self._clock.monotonic() - self._lost_at, None
            if self._events.wants(StoreBack):
                self._events.emit(StoreBack(self._name, seconds))

    def refused_callers(self) -> list[Refused]:
        """Who was refused of late."""
        return self._refusals.values()

    @property
    def is_lost(self) -> bool:
        return self._lost_at is not None


def _route(exchange: Exchange) -> str | None:
    return None if exchange.route is None else exchange.route.id
