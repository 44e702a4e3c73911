"""What is known of one remote key set, and when it may be asked for again. No port is known here.

It lies in a cell that several policies, generations, loops and threads share: what is read without a lock are single
references to things that do not change; what several steps belong to is done under the lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from math import inf
from typing import Final, NamedTuple

from gatekit.mechanisms.backoff import delay
from gatekit.mechanisms.recent import RecentCache
from gatekit.policies.authn.jose_keys import KeySet

MAX_UNKNOWN: Final = 1_024
"""How many key ids are remembered that the issuer was found not to have."""
UNKNOWN_TTL: Final = 300.0
"""For how long each of them is, in seconds."""
MAX_WAITING: Final = 1_024
"""How many requests may wait for one key set; of more, the rest is told at once that it cannot be told now."""
TTL_BOUNDS: Final = (60.0, 3_600.0)
"""Between these an answer's own `max-age` counts, in seconds."""

_REFRESH_AT: Final = 0.8
_JITTER: Final = 0.1
# The least and the longest wait after a failure, in seconds: without keys nobody is served, so it is shorter then.
_WITH_KEYS: Final = (5.0, 60.0)
_WITHOUT_KEYS: Final = (1.0, 30.0)


class Held(NamedTuple):
    """A good key set. `at` is when it came, by the monotonic clock, `fetched_at` the same in seconds since the Unix
    epoch; `lifetime` is after how many seconds it is stale."""

    keys: KeySet
    digest: bytes
    at: float
    fetched_at: float
    lifetime: float
    from_disk: bool = False


class Flight:
    """One attempt at the key set; they are counted from 1. Whoever joins it from another loop makes it there as well,
    and what comes first counts."""

    __slots__ = ("landed", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.landed = False


class KeyState:
    """What is known of one key set."""

    __slots__ = (
        "_asked", "_began", "_lock", "_newest", "begun", "discovered", "due", "failures", "flight", "held", "last_error",
        "loaded", "saved", "told", "unknown", "waiting",
    )  # fmt: skip

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self.begun = 0
        """How many flights there were."""
        # The number of the flight that brought what is held; when the last one began, and the last one for a request
        # that had an unknown key id.
        self._newest = 0
        self._began = self._asked = -inf
        self.held: Held | None = None
        self.flight: Flight | None = None
        self.due = -inf
        """When it is to be refreshed, by the monotonic clock."""
        self.failures = 0
        """How many attempts failed since the last one that did not."""
        self.last_error: str | None = None
        self.told = False
        """Whether somebody was told of this outage."""
        self.loaded = False
        """Whether the disk was looked at."""
        self.saved: tuple[bytes, float] = (b"", -inf)
        """The digest of what is on disk, and when it was fetched, by the wall clock."""
        self.discovered: tuple[str, float] | None = None
        """The URL that discovery found, and when, by the monotonic clock."""
        self.unknown: RecentCache[tuple[str | None, str], bool] = RecentCache(MAX_UNKNOWN)
        self.waiting = 0

    def usable(self, now: float, stale: float) -> KeySet | None:
        """The keys, unless none ever came or the last ones are more than `stale` seconds old."""
        held = self.held
        return held.keys if held is not None and now - held.at <= stale else None

    def may_ask(self, now: float, cooldown: float) -> bool:
        """Whether a request with an unknown key id may have the key set fetched.

        While fetching fails, whoever tried last counts, and the cooldown is the same without any keys: else whoever
        makes up key ids could hammer an issuer that is down already.
        """
        return now - (self._began if self.failures else self._asked) >= cooldown

    def take_off(self, now: float) -> Flight:
        """The flight for a refresh: the one under way, or a new one."""
        with self._lock:
            return self.flight or self._new(now)

    def take_off_for_request(self, now: float, cooldown: float, stale: float) -> Flight | None:
        """The flight for a request whose key id is unknown: the one under way, or a new one if that may be."""
        with self._lock:
            if self.flight is not None:
                return self.flight
            if not self.may_ask(now, cooldown):
                return None
            if self.usable(now, stale) is not None:
                self._asked = now
            return self._new(now)

    def _new(self, now: float) -> Flight:
        self.begun += 1
        self._began = now
        self.flight = found = Flight(self.begun)
        return found

    def land(self, flight: Flight) -> None:
        """The flight has ended, however it did. Another may begin."""
        with self._lock:
            flight.landed = True
            if self.flight is flight:
                self.flight = None

    def keep(self, held: Held, flight: Flight | None, random: float) -> bool:
        """Put what was fetched (or read from the disk, without a flight) in force; whether that was done.

        What a later flight brought stays, and what was fetched is never replaced from the disk.
        """
        with self._lock:
            number = 0 if flight is None else flight.number
            if number < self._newest:
                return False
            self.held, self._newest = held, number
            if flight is None:
                return True
            self.failures, self.last_error, self.told = 0, None, False
            self.due = held.at + held.lifetime * _REFRESH_AT * (1.0 + _JITTER * (2.0 * random - 1.0))
            return True

    def fail(self, flight: Flight, why: str, now: float, random: float, stale: float) -> bool:
        """The flight brought nothing; whether somebody has to be told of the outage, which is once for each.

        Keys that are good stay. A refresh that was due is due again after a pause.
        """
        with self._lock:
            if flight.landed:
                # The same flight, from another loop, went well.
                return False
            self.failures += 1
            self.last_error = why
            if self.due <= now:
                least, most = _WITHOUT_KEYS if self.usable(now, stale) is None else _WITH_KEYS
                self.due = now + least + delay(self.failures, random, base=least, cap=most - least)
            held = self.held
            tell = not self.told and (held is None or now - held.at >= held.lifetime)
            self.told = self.told or tell
            return tell

    def forget_unknown(self, kids: Iterable[str], algorithms: Iterable[str]) -> None:
        """A key set has these key ids: they are unknown no longer, nor are tokens that name none."""
        for algorithm in algorithms:
            self.unknown.discard((None, algorithm))
            for kid in kids:
                self.unknown.discard((kid, algorithm))

    def enter(self) -> bool:
        """One more request waits; False where too many do already."""
        with self._lock:
            if self.waiting >= MAX_WAITING:
                return False
            self.waiting += 1
            return True

    def leave(self) -> None:
        """One request fewer waits."""
        with self._lock:
            self.waiting -= 1


def lifetime(headers: Mapping[str, str], default: float) -> float:
    """For how many seconds an answer is fresh: its `max-age` less its `Age` (RFC 9111 section 4.2), within bounds.

    `default` where it says nothing of the kind, or that it must not be kept.
    """
    found: str | None = None
    for part in headers.get("cache-control", "").split(","):
        name, _, value = part.strip().partition("=")
        name = name.lower()
        if name in ("no-store", "no-cache"):
            return default
        if name == "max-age" and found is None:
            found = value.strip('"')
    seconds = _seconds(found)
    if seconds is None:
        return default
    least, most = TTL_BOUNDS
    return min(most, max(least, seconds - (_seconds(headers.get("age")) or 0.0)))


def _seconds(text: str | None) -> float | None:
    """Delta-seconds (RFC 9111 section 1.2.2). What has more digits than any that is meant is a very long time."""
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    return float(text) if len(text) <= 10 else 1e10
