"""Counters for high rates: what is used often is taken from the server in leases, and counted in the process.

Most requests are answered without I/O, those that are denied too: the server said when it has something again. A request
waits for the server when nothing is known yet, or when everything was used up faster than expected. When the server is
lost, each process uses up the lease that it has, then StoreUnavailable is raised.

What a lease may be, when it is renewed and what it can cost says `mechanisms.leases`.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import Any, Final

from gatekit.core.counters import Ask, Taken
from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.errors import StoreUnavailable
from gatekit.mechanisms.leases import IDLE, SHARE, Lease, Stand, answers, is_leasable
from gatekit.stores.counters_redis import RedisCounters
from gatekit.stores.counters_script import Granted
from gatekit.stores.kept import wait

MOST: Final = 10_000
"""Counters that are leased, or may soon be; those beyond are counted on the server."""
SWEEP_EVERY: Final = 0.1
"""Seconds after which what has become too old is given back."""


class LeasedCounters:
    """The counters of one server, leased. One for the process: its loops and threads share what it holds."""

    def __init__(self, counters: RedisCounters, ports: Ports, share: float = SHARE) -> None:
        self._counters = counters
        self._ports = ports
        self._share = share
        self._clock = ports.clock
        self._answered = 0
        self._look_again = 0.0
        self.forget()
        _ALL.add(self)

    def __repr__(self) -> str:
        return f"<LeasedCounters {self._counters!r}>"

    # -- what policies call

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        with self._lock:
            now = self._clock.monotonic()
            leases = self._of(asks, now)
            if leases is not None:
                costs = [ask.cost for ask in asks]
                for lease, cost in zip(leases, costs, strict=True):
                    lease.use.add(cost, now)
                found = answers(leases, costs, now)
                due = [lease for lease in leases if lease.is_due(now)]
        if leases is None:
            return await self._counters.take(asks)
        if found is Stand.LACKS:
            await self._renewed(leases, asks)
            with self._lock:
                found = answers(leases, costs, self._clock.monotonic())
        elif due:
            self._renew_soon(leases, asks)
        if isinstance(found, list):
            self._answered += 1
            return found
        return await self._exactly(asks, leases)

    async def charge(self, asks: Sequence[Ask]) -> None:
        """What is held covers what it can; what it cannot, and what is given back, goes to the server."""
        left = []
        with self._lock:
            now = self._clock.monotonic()
            for ask in asks:
                known = self._leases.get(ask.key)
                if known is not None and ask.cost > 0 and known[0].stand(ask.cost, now) is Stand.FITS:
                    known[0].use.add(ask.cost, now)
                    known[0].spend(ask.cost)
                else:
                    left.append(ask)
        if left:
            await self._counters.charge(left)

    async def reset(self, asks: Sequence[Ask]) -> None:
        """What other processes hold of them is used up, or ends with its life."""
        with self._lock:
            for ask in asks:
                self._leases.pop(ask.key, None)
        # What is on its way may be taken from the old counter or from the new one: nobody could tell.
        await self._all_renewed()
        await self._counters.reset(asks)

    def jobs(self) -> list[Job]:
        return [Job(("counters", self), self._stay, lambda: SWEEP_EVERY)]

    def status(self) -> Mapping[str, Any]:
        return {
            **self._counters.status(),
            "answered": self._answered,
            "leases": len(self._leases),
            "held": sum(lease.left for lease, _ in list(self._leases.values())),
        }

    async def aclose(self) -> None:
        """Give back what is held, as far as the server can be asked, and close what is open in the running loop."""
        await self._all_renewed()
        await self._give_back(everything=True)
        await self._counters.aclose()

    def forget(self) -> None:
        """In a forked child: what the parent holds is the parent's, and a thread that has its lock is not there."""
        self._lock = self._ports.lock()
        self._leases: dict[str, tuple[Lease, Ask]] = {}
        self._home: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # -- leases

    def _of(self, asks: Sequence[Ask], now: float) -> list[Lease] | None:
        """The leases that these are counted with; None where all of them are to be counted on the server."""
        found = []
        for ask in asks:
            known = self._leases.get(ask.key)
            if known is None:
                if not is_leasable(ask.limit, self._share) or not self._has_room(now):
                    return None
                known = self._leases[ask.key] = (Lease(ask.limit, now, self._share), ask)
            found.append(known[0])
        return found

    def _has_room(self, now: float) -> bool:
        if len(self._leases) < MOST:
            return True
        if now >= self._look_again:
            self._forget_idle(now)
            self._look_again = now + SWEEP_EVERY
        return len(self._leases) < MOST

    def _forget_idle(self, now: float) -> None:
        for key in [key for key, (lease, _) in self._leases.items() if lease.use.at + IDLE < now]:
            del self._leases[key]

    async def _exactly(self, asks: Sequence[Ask], leases: Sequence[Lease] | None) -> Sequence[Taken]:
        found = await self._counters.take(asks)
        if leases is not None:
            with self._lock:
                now = self._clock.monotonic()
                for lease, ask, taken in zip(leases, asks, found, strict=True):
                    lease.exactly(taken, ask.cost, now)
        return found

    # -- renewal

    async def _renewed(self, leases: Sequence[Lease], asks: Sequence[Ask]) -> None:
        """Renew what of these it is worth to renew, once for all who want it. Raises StoreUnavailable."""
        await self._ports.once(("lease", self, *[ask.key for ask in asks]), lambda: self._renew(leases, asks))

    async def _renew(self, leases: Sequence[Lease], asks: Sequence[Ask]) -> None:
        with self._lock:
            sent = self._clock.monotonic()
            wanted = [
                (lease, ask._replace(cost=amount))
                for lease, ask in zip(leases, asks, strict=True)
                if self._holds(lease, ask) and (amount := lease.asking(sent))
            ]
        if not wanted:
            return
        found: Sequence[Granted] = ()
        try:
            found = await self._counters.lease([ask for _, ask in wanted])
        finally:
            with self._lock:
                now = self._clock.monotonic()
                for at, (lease, ask) in enumerate(wanted):
                    if found:
                        amount, remaining, reset, wait = found[at]
                        lease.granted(ask.cost, amount, remaining, reset, wait, sent, now)
                    else:
                        lease.failed(ask.cost, now)

    def _holds(self, lease: Lease, ask: Ask) -> bool:
        """Whether that is the lease of this counter still."""
        known = self._leases.get(ask.key)
        return known is not None and known[0] is lease

    def _renew_soon(self, leases: Sequence[Lease], asks: Sequence[Ask]) -> None:
        """Renew these, so that nobody waits for it."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            home = self._home
            if home is not None and not home.is_closed():
                home.call_soon_threadsafe(self._begin, home, leases, asks)
            return
        self._begin(loop, leases, asks)

    def _begin(self, loop: asyncio.AbstractEventLoop, leases: Sequence[Lease], asks: Sequence[Ask]) -> None:
        task = loop.create_task(self._quietly(leases, asks), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _all_renewed(self) -> None:
        """Wait until no renewal is under way in this loop that nobody waits for."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        await asyncio.gather(*(task for task in self._tasks if task.get_loop() is loop), return_exceptions=True)

    async def _quietly(self, leases: Sequence[Lease], asks: Sequence[Ask]) -> None:
        try:
            await self._renewed(leases, asks)
        except StoreUnavailable:
            # Whoever lacks something is told.
            pass

    # -- what is left over

    async def _stay(self) -> None:
        """Give back what has become too old, forget what nobody uses, and try the server while it is down."""
        tending = asyncio.create_task(self._counters.tend())
        self._home = asyncio.get_running_loop()
        try:
            while True:
                await wait(SWEEP_EVERY)
                await self._give_back()
        finally:
            self._home = None
            tending.cancel()
            await self.aclose()

    async def _give_back(self, everything: bool = False) -> None:
        with self._lock:
            now = self._clock.monotonic()
            owed = [
                ask._replace(cost=-amount)
                for lease, ask in self._leases.values()
                if (amount := lease.give_back(now, everything))
            ]
            self._forget_idle(now)
        for ask in owed:
            try:
                await self._counters.charge([ask])
            except StoreUnavailable:
                return


_ALL: weakref.WeakSet[LeasedCounters] = weakref.WeakSet()


def _forget_after_fork() -> None:
    for counters in list(_ALL):
        counters.forget()


os.register_at_fork(after_in_child=_forget_after_fork)
