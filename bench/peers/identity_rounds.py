"""Rounds in turn: what one call costs, in process, and what that is beside another in the same round."""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

from gatekit import Exchange
from gatekit.testing import decide

Times = Mapping[str, Sequence[float]]
"""Name → microseconds of CPU for one call, a median for each round."""


class Amount(NamedTuple):
    """How much is measured: entries of the list of what is revoked, rounds of single calls, rounds of requests and how
    many each, tokens, windows of load and their seconds, tokens of the flood."""

    revoked: int

    rounds: int
    ways: int
    requests: int
    tokens: int
    windows: int
    seconds: float
    floods: int


class Case:
    """A bound policy, or a function of an exchange, and the requests it is asked about: the same again and again, each
    put back before it is asked anew."""

    def __init__(self, asks: Any, requests: Sequence[Exchange]) -> None:
        self.policy = asks if hasattr(asks, "decide") else None
        self.call: Callable[[Exchange], object] = asks.decide if hasattr(asks, "decide") else asks
        self._requests = [(one, one.headers.raw, one.identity) for one in requests]

    def ready(self, count: int) -> list[Exchange]:
        """So many requests as they came. What the policy remembers of the callers, it remembers."""
        turn = cycle(self._requests)
        found: list[Exchange] = []
        for exchange, raw, identity in (next(turn) for _ in range(min(count, len(self._requests)))):
            exchange.headers.raw, exchange.identity = raw, identity
            refused = None if self.policy is None else decide(self.policy, exchange)
            if refused is not None:
                raise RuntimeError(f"{type(self.policy).__name__} refuses what it should let in: {refused.reason}")
            exchange.headers.raw, exchange.identity = raw, identity
            exchange.facts.clear()
            found.append(exchange)
        return found

    def took(self) -> float:
        """Microseconds of CPU for one call, over all the requests."""
        asked, call = self.ready(len(self._requests)), self.call
        begun = time.process_time_ns()
        for exchange in asked:
            call(exchange)
        return (time.process_time_ns() - begun) / len(asked) / 1e3

    def calls(self) -> int:
        """Python calls of one, the smaller of two."""
        found, call = [], self.call
        before = sys.getprofile()
        for exchange in self.ready(2):
            counter = Counter()
            sys.setprofile(counter)
            try:
                call(exchange)
            finally:
                sys.setprofile(before)
            found.append(counter.counted)
        return min(found)


class Counter:
    """Counts Python calls while it is the profiler."""

    def __init__(self) -> None:
        self.counted = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        self.counted += event == "call"


def turns(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Each name once in each round, in another order each time: what comes before leaves the caches of the processor
    as it likes, and a slow moment of the machine falls on all of them."""
    chance = random.Random(0)  # noqa: S311
    for _ in range(rounds):
        yield from chance.sample(names, len(names))


def measured(cases: Mapping[str, Case], rounds: int) -> dict[str, list[float]]:
    """What each case took, round by round."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        case.took()
    gc.collect()
    gc.freeze()
    for name in turns(list(cases), rounds):
        found[name].append(cases[name].took())
    return found


class Requests:
    """The same ASGI request with tokens in rotation, straight at an app. Every answer must be a 200."""

    def __init__(self, app: Callable[..., Awaitable[None]], scopes: Iterator[dict[str, Any]]) -> None:
        self._app = app
        self._scopes = scopes
        self._statuses: set[int] = set()

    async def took(self, count: int) -> float:
        """Microseconds of CPU for one request."""
        scopes = [dict(next(self._scopes)) for _ in range(count)]
        app, receive, send = self._app, _receive, self._send
        begun = time.process_time_ns()
        for scope in scopes:
            await app(scope, receive, send)
        took = (time.process_time_ns() - begun) / count / 1e3
        if self._statuses != {200}:
            raise RuntimeError(f"not every request was let in: {sorted(self._statuses)}")
        return took

    async def calls(self) -> int:
        """Python calls of one request."""
        scope = dict(next(self._scopes))
        counter, before = Counter(), sys.getprofile()
        sys.setprofile(counter)
        try:
            await self._app(scope, _receive, _send)
        finally:
            sys.setprofile(before)
        return counter.counted

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._statuses.add(message["status"])


async def _send(message: Any) -> None:
    """A server that takes everything."""


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def requested(
    requests: Mapping[str, Requests], rounds: int, count: int, warm: Mapping[str, int]
) -> dict[str, list[float]]:
    """What a request to each app took, round by round, after as many as `warm` says."""
    found: dict[str, list[float]] = {name: [] for name in requests}
    for name, one in requests.items():
        await one.took(warm[name])
    gc.collect()
    gc.freeze()
    for name in turns(list(requests), rounds):
        found[name].append(await requests[name].took(count))
    return found


def middle(times: Times, name: str) -> float:
    return statistics.median(times[name])


def ratio(times: Times, above: str, below: str) -> float:
    """The median of the ratios within each round, which a slow moment of the machine does not reach."""
    return statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))


def added(times: Times, name: str, bare: str) -> float:
    """The median of what one took more than the other, within each round, in microseconds."""
    return statistics.median(a - b for a, b in zip(times[name], times[bare], strict=True))


def table(title: str, columns: str, rows: Sequence[Sequence[object]]) -> list[str]:
    names = columns.split(", ")
    lines = [f"### {title}", "", f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows), ""]
