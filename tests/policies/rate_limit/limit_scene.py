"""A clock that is a number, exchanges, a store that remembers what it was asked, and one step of a coroutine: all that a
rate limit needs to be tested."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from gatekit.core.counters import Ask, Taken
from gatekit.core.door import Door
from gatekit.core.exchange import Exchange, NoBody
from gatekit.core.head import ResponseHead
from gatekit.core.headers import Headers
from gatekit.core.identity import Identity
from gatekit.core.outcome import Outcome
from gatekit.core.peers import Trust
from gatekit.core.plan import RoutePlan
from gatekit.core.ports import Cells, Ports
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.policies.rate_limit import LocalCounters
from gatekit.testing import FixedRandom

WALL = 1_773_000_000.0
"""How far the wall clock is ahead of the other one at first: it is March 2026."""


class Clock:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.ahead = WALL

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.ahead

    def set_wall(self, seconds: float) -> None:
        """Let time pass until it is that time."""
        self.now = seconds - self.ahead


class Store:
    """A shared store: it counts as counters do, remembers what it was asked, and can be down. With `answers` it gives those."""

    def __init__(self, clock: Clock, *answers: Taken) -> None:
        self.counters = LocalCounters(clock)
        self.answers = answers
        self.asked: list[list[Ask]] = []
        self.charged: list[list[Ask]] = []
        self.down = False
        self.deaf = False
        """Whether it does what it is told and says nothing."""

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        self.asked.append(list(asks))
        self._check(asks)
        taken = self.answers or self.counters.take_now(asks)
        if self.deaf:
            raise StoreUnavailable("timed out")
        return taken

    async def charge(self, asks: Sequence[Ask]) -> None:
        self._check(asks)
        self.charged.append(list(asks))
        self.counters.charge_now(asks)

    async def reset(self, asks: Sequence[Ask]) -> None:
        self._check(asks)
        self.counters.reset_now(asks)

    def status(self) -> dict[str, Any]:
        return {"up": not self.down}

    def _check(self, asks: Sequence[Ask]) -> None:
        assert asks
        assert len({ask.key for ask in asks}) == len(asks), "the asks of one call have different keys"
        if self.down:
            raise StoreUnavailable("connection refused")


class KnownPlans:
    """Who has which plan. Before it was read it knows nobody."""

    def __init__(self, plans: Mapping[str, str]) -> None:
        self.plans = dict(plans)
        self.is_read = False
        self.reads = 0

    def find(self, name: str) -> str | None:
        return self.plans.get(name) if self.is_read else None

    def loaded(self) -> Coroutine[Any, Any, None] | None:
        return None if self.is_read else self._read()

    async def _read(self) -> None:
        self.reads += 1
        self.is_read = True

    def status(self) -> dict[str, Any]:
        return {"entries": len(self.plans)}


class Stores:
    """Opens one store of counters and one of plans, whatever the URL."""

    def __init__(self, counters: Store, plans: Any = None) -> None:
        self.counted, self.planned = counters, plans
        self.opened: list[str] = []

    def counters(self, url: str, ports: Ports) -> Store:
        self.opened.append(url)
        return self.counted

    def plans(self, url: str, ports: Ports) -> Any:
        self.opened.append(url)
        return self.planned

    def revocations(self, url: str, ports: Ports) -> Any:
        raise AssertionError("a rate limit revokes nothing")

    def api_keys(self, url: str, ports: Ports) -> Any:
        raise AssertionError("a rate limit looks for no keys")


def step(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("it waited for an event loop")


def ports_for(clock: Clock, store: Store | None = None, plans: Mapping[str, str] | None = None, **given: Any) -> Ports:
    """Ports, with a store that is opened by URL where one is given."""
    known = None if plans is None else KnownPlans(plans)
    stores = Stores(Store(clock) if store is None else store, known)
    return Ports(
        **{"clock": clock, "random": FixedRandom(), "stores": stores, "owner": "test", "cells": Cells(), **given}
    )


def exchange(
    peer: str | None = "203.0.113.9",
    *,
    headers: Mapping[str, str] | None = None,
    trusted: Sequence[str] = (),
    identity: Identity | None = None,
    route: RoutePlan | None = None,
    method: str = "GET",
    params: Mapping[str, str] | None = None,
) -> Exchange:
    """An exchange as it comes from the door."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    door = Door(FixedRandom(), trust=Trust(trusted))
    made = Exchange("http", method, "http", Headers(raw), peer, "1.1", {}, door, NoBody(), 0.0)
    made.identity, made.route, made.params = identity, route, params or {}
    return made


def ask(policy: Any, made: Exchange) -> Reply | None:
    """What a bound policy says; fails when it suspends."""
    answer = policy.decide(made)
    if answer is None or isinstance(answer, Reply):
        return answer
    found: Reply | None = step(answer)
    return found


def passes(policy: Any, **given: Any) -> bool:
    """Whether a request that is not ended may pass."""
    return ask(policy, exchange(**given)) is None


def end(policy: Any, made: Exchange, sent: int = 0, headers: Mapping[str, str] | None = None) -> ResponseHead:
    """What the client sees of a response of so many bytes, and the end of it."""
    made.sent = sent
    head = ResponseHead(200, [(name.encode(), value.encode()) for name, value in (headers or {}).items()])
    if hasattr(policy, "on_response"):
        policy.on_response(made, head)
    if hasattr(policy, "observe"):
        policy.observe(made, Outcome(200))
    return head


def refused(reply: Reply | None) -> Reply:
    assert reply is not None
    return reply


def fields(told: Reply | Exchange) -> dict[str, str]:
    """The header fields of a reply, or those that wait for a response."""
    pairs = told.headers if isinstance(told, Reply) else [(name, value) for _, name, value in told.queue or []]
    return {name.decode(): value.decode() for name, value in pairs}


def flush(policy: Any) -> None:
    """Let the job run that tells a shared store what was used."""
    for job in policy.jobs():
        if job.key[0] == "rate_limit charges":
            step(job.run())
