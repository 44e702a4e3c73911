"""Ports: how a policy reaches what is outside it. Time, randomness, shared state and I/O come through here only.

A port that does I/O has one implementation, an asynchronous one; one that works in memory never suspends. Under WSGI
the driver's `blocking` wrapper makes the first kind non-suspending too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol, TypeVar

from gatekit.core.events import Events
from gatekit.errors import MissingPort

T = TypeVar("T")


class Clock(Protocol):
    """Two readings: `monotonic` for durations and deadlines, `wall` (seconds since the Unix epoch) for dates."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...


class Random(Protocol):
    """Randomness: `random` in [0, 1) for spreading load, `token` for what nobody may guess."""

    def random(self) -> float: ...

    def token(self, size: int) -> bytes: ...


class Ask(NamedTuple):
    """One question to `Counters`: may `key` spend `cost` out of `amount` per `period` seconds?"""

    key: str
    amount: int
    period: float
    cost: int = 1


class Taken(NamedTuple):
    """The answer: whether it fits, what is left now, and in how many seconds the whole amount is back (`reset_after`)
    or this cost would fit again (`retry_after`, 0 where it fits)."""

    allowed: bool
    remaining: int
    reset_after: float
    retry_after: float


class Counters(Protocol):
    """Shared counters for rate limits. All or nothing: when one ask does not fit, none is charged."""

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        """One answer for each ask. Raises StoreUnavailable when the store does not answer in time."""
        ...


class Fetched(NamedTuple):
    """What a `Fetch` brought: status, headers in lower case (last value of a name), and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fetch(Protocol):
    """Small HTTP calls on the gateway's own behalf: key sets, introspection, discovery. Never for proxied traffic."""

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 5.0,
    ) -> Fetched:
        """Raises StoreUnavailable when no answer came within `timeout` seconds."""
        ...


class Revocations(Protocol):
    """Exact list of what is no longer valid, asked after every cache."""

    def revoked(self, claims: Mapping[str, Any]) -> str | None:
        """Why a token with these claims is revoked, or None."""
        ...


class Cells:
    """State that outlives a reload: small mutable objects under the identity of what they belong to.

    A cell is made on first request and handed out again to whoever asks with the same key. No cell may hold an object
    of an event loop.
    """

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The cell of that key, made by `make` if there is none yet."""
        try:
            found: T = self._cells[key]
        except KeyError:
            found = self._cells[key] = make()
        return found

    def retain(self, keys: Iterable[Hashable]) -> None:
        """Forget every cell but these: after a reload, those of the generations that are still in use."""
        kept = set(keys)
        for key in [key for key in self._cells if key not in kept]:
            del self._cells[key]

    def __len__(self) -> int:
        return len(self._cells)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._cells


Lock = Callable[[], AbstractContextManager[object]]
"""Makes a guard for state that threads of a WSGI server or several loops may touch; held for a few operations, never
across an await."""


class Ports:
    """The ports a spec is bound with. Asking for one that was not given raises MissingPort with what to do.

    `owner` names whom the bound policy belongs to (`gateway`, `route:orders`); with the kind and settings of the spec
    it makes the identity under which `cell` keeps state across reloads.
    """

    __slots__ = ("_clock", "_fetch", "_random", "_used", "cells", "counters", "events", "lock", "owner", "revocations")

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        counters: Counters | None = None,
        fetch: Fetch | None = None,
        revocations: Revocations | None = None,
        events: Events | None = None,
        cells: Cells | None = None,
        lock: Lock = nullcontext,
        owner: str = "",
        used: set[Hashable] | None = None,
    ) -> None:
        self._clock = clock
        self._random = random
        self._fetch = fetch
        self.counters = counters
        self.revocations = revocations
        self.events = Events() if events is None else events
        self.cells = Cells() if cells is None else cells
        self.lock = lock
        self.owner = owner
        self._used: set[Hashable] = set() if used is None else used

    @property
    def clock(self) -> Clock:
        if self._clock is None:
            raise MissingPort("clock")
        return self._clock

    @property
    def random(self) -> Random:
        if self._random is None:
            raise MissingPort("random")
        return self._random

    @property
    def fetch(self) -> Fetch:
        if self._fetch is None:
            raise MissingPort("fetch")
        return self._fetch

    def afresh(self) -> Ports:
        """The same ports with an account of used cells of their own: one generation's."""
        return self._derived(self.owner, set())

    def _derived(self, owner: str, used: set[Hashable]) -> Ports:
        return Ports(
            clock=self._clock,
            random=self._random,
            counters=self.counters,
            fetch=self._fetch,
            revocations=self.revocations,
            events=self.events,
            cells=self.cells,
            lock=self.lock,
            owner=owner,
            used=used,
        )

    @property
    def used(self) -> frozenset[Hashable]:
        """The keys of every cell that was asked for through these ports or ones derived from them."""
        return frozenset(self._used)

    def cell(self, key: Hashable, make: Callable[[], T]) -> T:
        """The cell of this owner under `key`; a later generation that asks the same finds it as it was left."""
        full = (self.owner, key)
        self._used.add(full)
        return self.cells.get(full, make)

    def owned_by(self, owner: str) -> Ports:
        """The same ports for another owner; cells used through either are accounted together."""
        return self._derived(owner, self._used)
