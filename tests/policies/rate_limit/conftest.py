"""A clock that is a number, exchanges, and one step of a coroutine: all a rate limit needs to be tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from gatekit.core.door import Door
from gatekit.core.exchange import Exchange
from gatekit.core.headers import Headers
from gatekit.core.identity import Identity
from gatekit.core.peers import Trust
from gatekit.core.plan import RoutePlan
from gatekit.core.ports import Ask, Ports, Taken
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable


class Clock:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        raise AssertionError("a rate limit has no use for dates")


class NoRandom:
    def random(self) -> float:
        raise AssertionError("a rate limit throws no dice")

    def token(self, size: int) -> bytes:
        return bytes(size)


class NoBody:
    data: bytes | None = None
    length = 0
    limit: int | None = None

    async def buffer(self, cap: int) -> bytes | None:
        raise AssertionError("a rate limit does not read bodies")

    def abandon(self) -> None:
        pass

    async def read(self) -> bytes:
        raise AssertionError("a rate limit does not read bodies")


class Store:
    """A shared store that remembers what it was asked and can be down."""

    def __init__(self, *answers: Taken) -> None:
        self.asked: list[Sequence[Ask]] = []
        self.answers = answers
        self.down = False

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        self.asked.append(list(asks))
        if self.down:
            raise StoreUnavailable("connection refused")
        return self.answers or [Taken(True, 9, 1.0, 0.0) for _ in asks]


Make = Callable[..., Exchange]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ports(clock: Clock) -> Ports:
    return Ports(clock=clock, owner="test")


@pytest.fixture
def make_store() -> type[Store]:
    return Store


@pytest.fixture
def exchange() -> Make:
    """Makes an exchange as it comes from the door."""

    def make(
        peer: str | None = "203.0.113.9",
        *,
        headers: Mapping[str, str] | None = None,
        trusted: Sequence[str] = (),
        identity: Identity | None = None,
        route: RoutePlan | None = None,
    ) -> Exchange:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        door = Door(NoRandom(), trust=Trust(trusted))
        made = Exchange("http", "GET", "http", Headers(raw), peer, "1.1", {}, door, NoBody(), 0.0)
        made.identity, made.route = identity, route
        return made

    return make


@pytest.fixture
def ask() -> Callable[[Any, Exchange], Reply | None]:
    """What a bound policy says; fails when it suspends."""

    def once(policy: Any, exchange: Exchange) -> Reply | None:
        coroutine = policy.decide(exchange)
        if coroutine is None or isinstance(coroutine, Reply):
            return coroutine
        try:
            coroutine.send(None)
        except StopIteration as end:
            found: Reply | None = end.value
            return found
        coroutine.close()
        raise AssertionError("it waited for an event loop")

    return once
