"""Connections kept between requests: one pool for each endpoint and loop, and the registry of all of them.

A pool hands out the connection that was used last, closes what was idle for longer than the plan's `keepalive`, never
has more than `max_connections`, and lets a bounded number of requests wait for one, first come first served. The
registry keys pools by what connections depend on, so that a cluster a reload did not change keeps its connections.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Hashable, Iterable
from functools import partial

from gatekit.core.plan import ClusterPlan, Endpoint
from gatekit.errors import UpstreamError
from gatekit.upstream.connection import Connection
from gatekit.upstream.dial import Target, dial, target_key
from gatekit.upstream.sweep import INTERVAL, Sweeper


class Waiter:
    """A request in the queue. Its future brings a connection, or None: a place to open one of its own."""

    __slots__ = ("deadline", "future")

    def __init__(self, future: asyncio.Future[Connection | None], deadline: float) -> None:
        self.future = future
        self.deadline = deadline

    def expire(self) -> None:
        if not self.future.done():
            self.future.set_exception(
                UpstreamError("upstream.overloaded", "waited too long for a connection", status=503)
            )


class Pool:
    """The connections of one loop to one target. Not for use from another thread."""

    __slots__ = (
        "_idle", "_keepalive", "_loop", "_max_age", "_max_connections", "_open", "_opening", "_sweeper", "_waiting", "retired", "target",
    )  # fmt: skip

    def __init__(self, target: Target, loop: asyncio.AbstractEventLoop, sweeper: Sweeper) -> None:
        self.target = target
        self._loop = loop
        self._sweeper = sweeper
        self._keepalive = target.plan.keepalive
        self._max_age = target.plan.max_connection_age
        self._max_connections = target.plan.max_connections
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening = 0
        self._waiting: dict[Waiter, None] = {}
        self.retired = False

    # -- borrowing

    def borrow(self) -> Connection | None:
        """The idle connection used last, None when there is none."""
        idle = self._idle
        if not idle:
            return None
        now = self._sweeper.now()
        connection = idle[-1]
        if connection.idle_since + self._keepalive <= now:
            # The one used last has expired, so all have.
            self.prune(now)
            return None
        idle.pop()
        connection.reused = True
        return connection

    async def connect(self) -> Connection:
        """A new connection; when there are as many as may be, the next that comes free. Raises UpstreamError.

        Whoever is cancelled in here gives back what it was about to get.
        """
        if len(self._open) + self._opening >= self._max_connections:
            given = await self._wait_in_queue()
            if given is not None:
                given.reused = True
                return given
        else:
            self._opening += 1
        try:
            connection = await dial(self.target, self._make, self._sweeper)
        except BaseException:
            self._opening -= 1
            self._grant_place()
            raise
        self._opening -= 1
        if connection.closed:
            self._grant_place()
            raise UpstreamError("upstream.connect_failed", "closed while it was opened")
        connection.opened_at = self._sweeper.now()
        self._open.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """Take a connection back: kept when another request may follow on it, closed otherwise."""
        now = self._sweeper.now()
        if not connection.reusable or self.retired or now - connection.opened_at >= self._max_age:
            connection.abort()
            return
        connection.finish()
        if self._waiting:
            waiter = self._next_waiter()
            if waiter is not None:
                waiter.future.set_result(connection)
                return
        connection.idle_since = now
        self._idle.append(connection)

    def discard(self, connection: Connection) -> None:
        """Never hand out this idle connection again."""
        if connection in self._idle:
            self._idle.remove(connection)

    def lost(self, connection: Connection) -> None:
        """The connection is closed; its place is free."""
        self.discard(connection)
        if connection in self._open:
            self._open.remove(connection)
            self._grant_place()

    # -- expiry

    def prune(self, now: float) -> float:
        """Close what has been idle for too long; when the next one will have been (infinity: none is idle)."""
        keepalive = self._keepalive
        idle = self._idle
        expired = 0
        for connection in idle:
            if connection.idle_since + keepalive > now:
                break
            expired += 1
        for connection in idle[:expired]:
            connection.abort()
        del idle[:expired]
        return idle[0].idle_since + keepalive if idle else float("inf")

    def retire(self) -> None:
        """Close what is idle, and what is in use as soon as it comes back."""
        self.retired = True
        while self._idle:
            self._idle.pop().abort()

    def close(self) -> None:
        """Close everything now, also what is in use, and refuse whoever waits."""
        self.retire()
        for connection in tuple(self._open):
            connection.shut("the pool was closed")
        while (waiter := self._next_waiter()) is not None:
            waiter.future.set_exception(UpstreamError("upstream.overloaded", "the pool was closed", status=503))

    def abandon(self) -> None:
        """In a forked child: let go of the parent's connections without touching them or their loop.

        The child's descriptors are pointed elsewhere, so that the parent's close still ends the connection; a number
        that is later closed again by the garbage collector is then harmless.
        """
        null = os.open(os.devnull, os.O_RDWR)
        try:
            for connection in self._open:
                sock = connection.transport.get_extra_info("socket")
                number = -1 if sock is None else sock.fileno()
                if number >= 0:
                    os.dup2(null, number)
        finally:
            os.close(null)

    # -- figures

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def open(self) -> int:
        return len(self._open)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    # -- the queue

    async def _wait_in_queue(self) -> Connection | None:
        plan = self.target.plan
        if len(self._waiting) >= plan.max_waiting:
            raise UpstreamError("upstream.overloaded", "too many wait for a connection", status=503)
        waiter = Waiter(self._loop.create_future(), self._sweeper.now() + plan.max_wait)
        self._waiting[waiter] = None
        self._sweeper.watch(waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            future = waiter.future
            if future.done() and not future.cancelled() and future.exception() is None:
                self._give_back(future.result())
            raise
        finally:
            self._sweeper.forget(waiter)
            self._waiting.pop(waiter, None)

    def _give_back(self, granted: Connection | None) -> None:
        if granted is None:
            self._opening -= 1
            self._grant_place()
        elif not granted.closed:
            self.release(granted)

    def _grant_place(self) -> None:
        """A place came free: the first in the queue may open a connection."""
        if len(self._open) + self._opening < self._max_connections:
            waiter = self._next_waiter()
            if waiter is not None:
                self._opening += 1
                waiter.future.set_result(None)

    def _next_waiter(self) -> Waiter | None:
        while self._waiting:
            waiter = next(iter(self._waiting))
            del self._waiting[waiter]
            if not waiter.future.done():
                return waiter
        return None

    def _make(self) -> Connection:
        return Connection(self, self._loop, self._sweeper)


class LoopPools:
    """The pools of one loop and the sweeper they share."""

    __slots__ = ("loop", "pools", "sweeper")

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float], interval: float) -> None:
        self.loop = loop
        self.pools: dict[Hashable, Pool] = {}
        self.sweeper = Sweeper(loop, now, self._prune, interval)

    def _prune(self, now: float) -> float:
        return min([pool.prune(now) for pool in self.pools.values()], default=float("inf"))

    def retain(self, keys: frozenset[Hashable]) -> None:
        for key in [key for key in self.pools if key not in keys]:
            self.pools.pop(key).retire()

    def close(self) -> None:
        for pool in self.pools.values():
            pool.close()
        self.pools.clear()
        self.sweeper.stop()


class Pools:
    """All pools of a process. `now` is a monotonic clock in seconds, `interval` how often deadlines are looked at."""

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.monotonic,
        interval: float = INTERVAL,
    ) -> None:
        self.now = now
        self._interval = interval
        self._loops: dict[asyncio.AbstractEventLoop, LoopPools] = {}

    def on(self, loop: asyncio.AbstractEventLoop) -> LoopPools:
        """What belongs to that loop, made on first use. Loops that were closed without a word are forgotten then."""
        found = self._loops.get(loop)
        if found is None:
            for other in [other for other in self._loops if other.is_closed()]:
                del self._loops[other]
            found = self._loops[loop] = LoopPools(loop, self.now, self._interval)
        return found

    def pool(self, loop: asyncio.AbstractEventLoop, target: Target) -> Pool:
        """The pool of that loop for this target."""
        local = self._loops.get(loop) or self.on(loop)
        pool = local.pools.get(target.key)
        if pool is None:
            pool = local.pools[target.key] = Pool(target, loop, local.sweeper)
        return pool

    def get(self, loop: asyncio.AbstractEventLoop, plan: ClusterPlan, endpoint: Endpoint) -> Pool:
        """The pool of that loop for one endpoint of a cluster."""
        return self.pool(loop, Target(plan, endpoint))

    def figures(self, key: Hashable) -> dict[str, int]:
        """The connections to one target over all loops: how many are open, how many of them idle, and how many requests
        wait for one."""
        pools = [pool for local in tuple(self._loops.values()) if (pool := local.pools.get(key)) is not None]
        return {
            "open": sum(pool.open for pool in pools),
            "idle": sum(pool.idle for pool in pools),
            "waiting": sum(pool.waiting for pool in pools),
        }

    def retain(self, keys: Iterable[Hashable]) -> None:
        """After a reload: of all but these keys, close what is idle now and what is in use when it comes back.

        May be called from any thread.
        """
        kept = frozenset(keys)
        for local in tuple(self._loops.values()):
            self._in_loop(local, partial(local.retain, kept))

    def close_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close everything of that loop, also what is in use. The sockets are gone one turn of the loop later."""
        local = self._loops.pop(loop, None)
        if local is not None:
            self._in_loop(local, local.close)

    def reset_after_fork(self) -> None:
        """In a forked child: start with nothing, and leave the parent's connections to the parent."""
        loops, self._loops = self._loops, {}
        for local in loops.values():
            for pool in local.pools.values():
                pool.abandon()

    def _in_loop(self, local: LoopPools, call: Callable[[], None]) -> None:
        if local.loop.is_closed():
            return
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is local.loop:
            call()
        else:
            local.loop.call_soon_threadsafe(call)


def pool_keys(plan: ClusterPlan) -> frozenset[Hashable]:
    """The keys under which connections of this cluster are kept: what `Pools.retain` takes."""
    return frozenset(target_key(plan, endpoint) for endpoint in plan.endpoints)
