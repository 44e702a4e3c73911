"""What a policy works with, put together once: its rules, the counters they are counted in, and the store behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from gatekit.core.counters import Counters, Limit
from gatekit.core.policy import Job
from gatekit.core.ports import Ports, store_url
from gatekit.policies.rate_limit.charge import Charges
from gatekit.policies.rate_limit.counting import Counting, Figures
from gatekit.policies.rate_limit.keys import plain
from gatekit.policies.rate_limit.local import LocalCounters
from gatekit.policies.rate_limit.meters import MeterMaker, Naming, local_naming, shared_naming
from gatekit.policies.rate_limit.plans import Allowances

if TYPE_CHECKING:
    from gatekit.policies.rate_limit.config import RateLimit

_MARK_BYTES: Final = 7
_MARK: Final = 2**52 - 1
"""The bits of them that are a mark: what a double holds exactly."""


@runtime_checkable
class Loading(Protocol):
    """What a store may have that is read before it is asked."""

    def loaded(self) -> Awaitable[None] | None:
        """None once it was read, or cannot be; before that what waits for it."""
        ...


@runtime_checkable
class Choosy(Protocol):
    """What a store may have that cannot count in every way."""

    def check(self, limit: Limit) -> None:
        """Raises ValueError on a limit that it cannot keep."""
        ...


class Setting:
    """Either `local` counters, or a shared `store`, with what has to be told to it later in `charges`, and `fallback` for
    rules that count in this process while it does not answer."""

    __slots__ = (
        "_once", "_parts", "_random", "_waits", "charges", "countings", "fallback", "loaded", "local", "settles", "store",
    )  # fmt: skip

    def __init__(self, spec: RateLimit, ports: Ports) -> None:
        """Raises ValueError where a store or a time zone cannot be had, MissingPort where a port is."""
        store, tagged = _store(spec, ports)
        self.store = store
        kept = _kept(spec, ports, here=store is None or any(one == "local" for _, _, one in spec.named_rules()))
        self.countings = _countings(spec, ports, kept.figures, shared=store is not None)
        if isinstance(store, Choosy):
            for limit in {meter.limit for one in self.countings for meter in one.allowances.all}:
                store.check(limit)
        self.settles = any(one.settles for one in self.countings)
        self._random = ports.random if self.settles else None
        self._once = ports.once
        self.local = kept.counters if store is None else None
        self.fallback = None if store is None else kept.counters
        self.charges: Charges | None = None
        if store is not None:
            clock, lock = ports.clock, ports.lock
            self.charges = ports.owned_by("stores").cell(
                ("charges", spec.store), lambda: Charges(store, clock, lock, tagged=tagged)
            )
        plans = [one.allowances.store for one in self.countings if one.allowances.store is not None]
        self._parts: tuple[object, ...] = (*(() if store is None else (store,)), *plans)
        self._waits: list[Callable[[], Awaitable[None] | None]] = [
            one.loaded for one in self._parts if isinstance(one, Loading)
        ]
        self.loaded = not self._waits

    async def load(self) -> None:
        """Wait, once, until the plans have been read or can be had in no time."""
        # Once for all who wait, and where there is an event loop.
        await self._once(("plans of a rate limit", self), self._load)
        self.loaded = True

    async def _load(self) -> None:
        for wait in self._waits:
            pending = wait()
            if pending is not None:
                await pending

    def mark(self) -> int:
        """52 random bits, and never 0: under it the store knows what is under way."""
        assert self._random is not None
        return int.from_bytes(self._random.token(_MARK_BYTES), "big") & _MARK or 1

    @property
    def here(self) -> LocalCounters | None:
        """The counters of this process, where there are any."""
        return self.fallback if self.local is None else self.local

    def jobs(self) -> list[Job]:
        """The background work of the stores, and that of telling them."""
        found = [] if self.charges is None or not self.settles else [self.charges.job(self.charges)]
        for part in self._parts:
            found += getattr(part, "jobs", tuple)()
        return found

    def status(self) -> dict[str, Any]:
        """Figures about counters and stores, where there are any."""
        told: dict[str, Any] = {}
        here = self.here
        if here is not None:
            told["keys"] = len(here)
        if self.charges is not None and self.settles:
            told["charges"] = self.charges.status()
        store: Mapping[str, Any] = getattr(self.store, "status", dict)()
        if store:
            told["store"] = dict(store)
        plans: dict[str, Any] = {one.name: getattr(one.allowances.store, "status", dict)() for one in self.countings}
        if any(plans.values()):
            told["plans"] = plans
        return told


def _store(spec: RateLimit, ports: Ports) -> tuple[Counters | None, bool]:
    """The shared store, and whether it wants one hash tag in a call."""
    if spec.store is None:
        return ports.counters, True
    url = store_url(spec.store, ports)
    shared = ports.owned_by("stores")
    counters = shared.cell(("counters", spec.store), lambda: shared.stores.counters(url, shared))
    return counters, "cluster" in url.partition(":")[0]


def _countings(spec: RateLimit, ports: Ports, figures: Mapping[str, Figures], *, shared: bool) -> tuple[Counting, ...]:
    """The rules at work. In a store of its own a limit goes by its name alone, wherever it stands."""
    rules = spec.named_rules()
    naming: Naming = local_naming
    if shared:
        place = spec.name if spec.store is not None else plain(f"{ports.owner}|{spec.name}")
        naming = shared_naming(place, spread=len({terms.by for _, terms, _ in rules}) == 1)
    sharers = ports.processes * spec.instances
    found = []
    for name, terms, on_error in rules:
        make = MeterMaker(
            terms, name, ports, naming, near=spec.near, sharers=sharers, divided=spec.divide and not shared
        )
        found.append(Counting(terms, name, on_error, Allowances(terms, make, ports), figures[name], shared=shared))
    return tuple(found)


def _kept(spec: RateLimit, ports: Ports, *, here: bool) -> _Kept:
    """What this process keeps, which a reload does not touch that leaves limits and keys as they are. What has the same name
    beside it and limits something else keeps its own."""
    clock, lock, most = ports.clock, ports.lock, spec.max_keys
    rules = tuple((name, terms.limit, terms.by, terms.shadow) for name, terms, _ in spec.named_rules())
    return ports.cell(
        (spec.kind, spec.name, rules, most, here),
        lambda: _Kept(LocalCounters(clock, lock, max_keys=most) if here else None, [name for name, *_ in rules]),
    )


class _Kept:
    """Counters of this process, where it counts, and how often each rule did what."""

    __slots__ = ("counters", "figures")

    def __init__(self, counters: LocalCounters | None, rules: Iterable[str]) -> None:
        self.counters = counters
        self.figures = {name: Figures() for name in rules}
