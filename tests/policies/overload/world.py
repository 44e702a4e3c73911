"""A small world on the virtual clock: clients that come at random, a policy, and a backend of workers with a queue.

The backend is that of the books: so many workers, each with one request at a time, and a queue in front that nothing
bounds. Everything is drawn from one seed, so that a world always runs the same.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from random import Random
from types import coroutine
from typing import Any, NamedTuple, cast

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Outcome
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.policies.overload import Overload

GOOD = Outcome(200)
SHED = Outcome(503, reason="overload.concurrency")


class Visit(NamedTuple):
    """One request: when it came, how important it was, when it got its answer; `served` is None where it was shed."""

    came: float
    level: str
    served: float | None
    reason: str | None = None

    @property
    def latency(self) -> float:
        assert self.served is not None
        return self.served - self.came


class Visitor:
    """As much of an exchange as this policy looks at."""

    __slots__ = ("came", "fault", "generation", "level", "path", "reason", "route", "scope")

    def __init__(self, came: float, level: str) -> None:
        self.came = came
        self.level = level
        self.path = "/"
        self.route = None
        self.generation = 0
        self.scope: dict[str, Any] = {}
        self.reason: str | None = None
        self.fault: Any = None

    def fact(self, name: str) -> str:
        return self.level


class WorldSignal:
    """`Signal` whose waiter goes on at the moment that it is fired or its time is over."""

    __slots__ = ("_over", "_world", "fired", "resume")

    def __init__(self, world: World) -> None:
        self._world = world
        self._over = False
        self.fired = False
        self.resume: Callable[[], None] | None = None

    def fire(self) -> bool:
        if self._over:
            return False
        self._over = self.fired = True
        self._go_on()
        return True

    async def wait(self, seconds: float) -> bool:
        self._world.at(self._world.now + seconds, self._late)
        await _suspended(self)
        return self.fired

    def _late(self) -> None:
        if not self._over:
            self._over = True
            self._go_on()

    def _go_on(self) -> None:
        assert self.resume is not None
        self._world.at(self._world.now, self.resume)


@coroutine
def _suspended(signal: WorldSignal) -> Generator[WorldSignal, None, None]:
    yield signal


class Backend:
    """`workers` of them, and a queue. `service` draws how long one request takes."""

    def __init__(self, world: World, workers: int, service: Callable[[], float]) -> None:
        self._world = world
        self.workers = workers
        self.service = service
        self._busy = 0
        self._queue: deque[Callable[[], None]] = deque()

    def serve(self, done: Callable[[], None]) -> None:
        self._queue.append(done)
        self.look()

    def look(self) -> None:
        """Begin what can be begun: after somebody came, somebody was done, or there are more workers."""
        while self._queue and self._busy < self.workers:
            done = self._queue.popleft()
            self._busy += 1
            self._world.at(self._world.now + self.service(), self._ended(done))

    def _ended(self, done: Callable[[], None]) -> Callable[[], None]:
        def ended() -> None:
            self._busy -= 1
            done()
            self.look()

        return ended


class World:
    """The clock, what is to happen, and what has become of everybody. It is the policy's clock and randomness too."""

    def __init__(self, spec: Overload | None = None, *, workers: int = 20, mean: float = 0.05, seed: int = 1) -> None:
        self.now = 0.0
        self._seq = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._chance = Random(seed)
        self._policy = None if spec is None else spec.bind(self.ports())
        self.mean = mean
        self.backend = Backend(self, workers, self._exponential)
        self.visits: list[Visit] = []
        self.limits: list[tuple[float, int | None]] = []
        self.watch: Callable[[], None] | None = None

    def ports(self) -> Ports:
        return Ports(clock=self, random=self._chance_port(), signals=lambda: WorldSignal(self))

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        raise AssertionError("nobody here needs the date")

    def _chance_port(self) -> Any:
        return _Chance(self._chance)

    def _exponential(self) -> float:
        return self._chance.expovariate(1.0 / self.mean)

    @property
    def capacity(self) -> float:
        """Requests a second that the backend can do."""
        return self.backend.workers / self.mean

    @property
    def status(self) -> dict[str, Any]:
        assert self._policy is not None
        found: dict[str, Any] = self._policy.status()["scopes"]["gateway"]
        return found

    def at(self, moment: float, what: Callable[[], None]) -> None:
        self._seq += 1
        heapq.heappush(self._events, (moment, self._seq, what))

    def run(self, until: float) -> None:
        """Let happen what happens until then."""
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = until

    def come(self, rate: float, until: float, mix: Sequence[tuple[str, float]] = (("default", 1.0),)) -> None:
        """Clients come at random, `rate` a second on average, from now on: a Poisson process."""
        levels, weights = [level for level, _ in mix], [weight for _, weight in mix]

        def one() -> None:
            (level,) = self._chance.choices(levels, weights)
            self._arrive(level)
            following()

        def following() -> None:
            moment = self.now + self._chance.expovariate(rate)
            if moment < until:
                self.at(moment, one)

        following()

    def record(self, every: float, until: float) -> None:
        """Note the limit again and again."""

        def note() -> None:
            self.limits.append((self.now, self.status["limit"]))
            if self.now + every < until:
                self.at(self.now + every, note)

        note()

    def _arrive(self, level: str) -> None:
        visitor = Visitor(self.now, level)
        if self._policy is None:
            self.backend.serve(lambda: self._served(visitor))
            return
        found = self._policy.decide(cast("Exchange", visitor))
        if isinstance(found, Coroutine):
            self._step(visitor, found)
        else:
            self._decided(visitor, found)

    def _step(self, visitor: Visitor, work: Coroutine[Any, Any, Reply | None]) -> None:
        try:
            signal: WorldSignal = work.send(None)
        except StopIteration as end:
            self._decided(visitor, end.value)
        else:
            signal.resume = lambda: self._step(visitor, work)

    def _decided(self, visitor: Visitor, reply: Reply | None) -> None:
        if reply is None:
            self.backend.serve(lambda: self._served(visitor))
            return
        visitor.reason = reply.reason
        self.visits.append(Visit(visitor.came, visitor.level, None, reply.reason))
        self._policy.observe(visitor, SHED)  # type: ignore[union-attr]

    def _served(self, visitor: Visitor) -> None:
        self.visits.append(Visit(visitor.came, visitor.level, self.now))
        if self._policy is not None:
            exchange = cast("Exchange", visitor)
            self._policy.on_response(exchange, ResponseHead(200))
            self._policy.observe(exchange, GOOD)

    # -- what has become of them

    def between(self, begin: float, end: float, level: str | None = None) -> list[Visit]:
        """Who came then."""
        return [one for one in self.visits if begin <= one.came < end and level in (None, one.level)]

    def goodput(self, begin: float, end: float) -> float:
        """Answers a second, by when they were given."""
        return sum(1 for one in self.visits if one.served is not None and begin <= one.served < end) / (end - begin)

    def shed_share(self, begin: float, end: float, level: str | None = None) -> float:
        found = self.between(begin, end, level)
        return sum(1 for one in found if one.served is None) / len(found) if found else 0.0

    def percentile(self, share: float, begin: float, end: float, level: str | None = None) -> float:
        latencies = sorted(one.latency for one in self.between(begin, end, level) if one.served is not None)
        return latencies[min(len(latencies) - 1, math.ceil(share * len(latencies)) - 1)]


class _Chance:
    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def random(self) -> float:
        return self._chance.random()

    def token(self, size: int) -> bytes:
        raise AssertionError("nobody here needs a secret")
