"""API keys that are kept outside of the configuration: what was found lately, and what follows when nothing can be.

A key that was found is believed for half a minute without asking again, one that is not there for ten seconds; several
requests with one key ask once. While the store is down, keys that were found go on, and of the others nobody knows
whether they are good: 503, not 401.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from math import inf
from typing import Any, Final, NamedTuple, Protocol, cast

from gatekit.core.policy import Job
from gatekit.core.ports import ApiKeyRecords, Ports, store_url
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.mechanisms.recent import RecentCache
from gatekit.policies.authn.key_hash import KeyHash
from gatekit.policies.authn.method import Verified, jobs_within, unavailable

_log = logging.getLogger("gatekit.authn")

FRESH: Final = 30.0
"""For how many seconds a key that was found is believed without asking again."""
ABSENT: Final = 10.0
"""For how many seconds it is believed that there is no such key."""
RETRY: Final = 1.0
"""For how many seconds a store that did not answer is left alone."""
MAX_ASKING: Final = 50
"""How many keys are asked about at a time."""
MAX_KEPT: Final = 10_000


class Known(NamedTuple):
    """A key and whose it is: what it is compared with (None where it was found by its digest), and what is answered."""

    hash: KeyHash | None
    verified: Verified
    disabled: bool


class AtOnce(Protocol):
    """Records that are in memory can be had without waiting, and then nothing is remembered of them here."""

    def known(self, prefix: str) -> Mapping[str, Any] | None:
        """What `find` would give. Raises StoreUnavailable where nothing has been read yet."""
        ...


Found = Known | Reply | None
"""A key, that nobody can tell now, or that there is none."""


class _Seen:
    """What was asked lately, through every reload and for all that ask the same store."""

    __slots__ = ("absent", "down_until", "found", "lock", "under_way")

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self.lock = lock
        # Prefix → the record, and until when it is believed without asking again.
        self.found: RecentCache[str, tuple[Mapping[str, Any], float]] = RecentCache(MAX_KEPT)
        # Apart, so that whoever invents keys pushes out no good one.
        self.absent: RecentCache[str, bool] = RecentCache(MAX_KEPT)
        self.under_way: dict[str, int] = {}
        self.down_until = -inf


class StoredKeys:
    """The keys of one store, as one policy sees them: `read` makes of a record what this policy answers, and raises
    ValueError on one that cannot be used."""

    __slots__ = (
        "_at_once", "_clock", "_once", "_read", "_records", "_seen", "_stale", "_taken", "_url",
    )  # fmt: skip

    def __init__(self, url: str, ports: Ports, read: Callable[[Mapping[str, Any]], Known], stale: float) -> None:
        shared = ports.owned_by("stores")
        self._records: ApiKeyRecords = shared.cell(
            ("api_keys", url), lambda: shared.stores.api_keys(store_url(url, ports), shared)
        )
        self._at_once = cast("Callable[[str], Mapping[str, Any] | None] | None", getattr(self._records, "known", None))
        self._seen: _Seen = shared.cell(("api_keys seen", url), lambda: _Seen(ports.lock()))
        self._url = url
        self._clock = ports.clock
        self._once = ports.once
        self._read = read
        self._stale = max(FRESH, stale)
        # What `read` made of a record, as long as the record is the same object.
        self._taken: RecentCache[str, tuple[Mapping[str, Any], Known | None]] = RecentCache(MAX_KEPT)

    def find(self, prefix: str) -> Found | Awaitable[Found]:
        """The key that begins with that prefix; told at once where it is known."""
        seen, now = self._seen, self._clock.monotonic()
        if self._at_once is not None:
            try:
                return self._known(prefix, self._at_once(prefix))
            except StoreUnavailable:
                # It may be read now, and then once for all who wait.
                return self._unknown() if now < seen.down_until else self._ask(prefix, None)
        record, fresh = seen.found.get(prefix, now) or (None, -inf)
        if now < fresh:
            return self._known(prefix, record)
        if record is None and seen.absent.get(prefix, now):
            return None
        if now < seen.down_until or (len(seen.under_way) >= MAX_ASKING and prefix not in seen.under_way):
            return self._without_store(prefix, record)
        return self._ask(prefix, record)

    def jobs(self) -> list[Job]:
        return jobs_within((self._records,))

    def status(self) -> Mapping[str, Any]:
        seen = self._seen
        store: Mapping[str, Any] = getattr(self._records, "status", dict)()
        return {**store, "asking": len(seen.under_way), "down": self._clock.monotonic() < seen.down_until}

    async def _ask(self, prefix: str, record: Mapping[str, Any] | None) -> Found:
        """Ask the store; `record` is what it said last, where that is not too long ago."""
        seen = self._seen
        self._count(prefix, 1)
        try:
            found = await self._once(("api_keys", self._url, prefix), lambda: self._records.find(prefix))
        except StoreUnavailable:
            seen.down_until = self._clock.monotonic() + RETRY
            return self._without_store(prefix, record)
        finally:
            self._count(prefix, -1)
        now = self._clock.monotonic()
        if found is None:
            seen.found.discard(prefix)
            seen.absent.put(prefix, True, now, ABSENT)
        else:
            seen.found.put(prefix, (found, now + FRESH), now, self._stale)
        return self._known(prefix, found)

    def _without_store(self, prefix: str, record: Mapping[str, Any] | None) -> Found:
        return self._unknown() if record is None else self._known(prefix, record)

    def _unknown(self) -> Reply:
        detail = "Whether the API key is good cannot be told now."
        return unavailable("authn.keys_unavailable", detail, RETRY)

    def _count(self, prefix: str, change: int) -> None:
        """How many requests wait for that key."""
        under_way = self._seen.under_way
        with self._seen.lock:
            waiting = under_way.get(prefix, 0) + change
            if waiting:
                under_way[prefix] = waiting
            else:
                del under_way[prefix]

    def _known(self, prefix: str, record: Mapping[str, Any] | None) -> Known | None:
        """What this policy makes of a record; None also for one that cannot be used."""
        if record is None:
            return None
        taken = self._taken.get(prefix, 0.0)
        if taken is not None and taken[0] is record:
            return taken[1]
        known: Known | None = None
        try:
            known = self._read(record)
            if known.hash is None or known.hash.prefix != prefix:
                known = None
                raise ValueError("its hash is that of another key")
        except ValueError as error:
            # A ValidationError of pydantic names fields and shows no input; the prefix is no secret.
            _log.warning("the record of the API key gk_%s cannot be used: %s", prefix, error)
        self._taken.put(prefix, (record, known), 0.0, inf)
        return known
