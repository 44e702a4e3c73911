"""Ports that answer from memory: counters, fetches, stores and a disk whose answers a test decides.

None of them suspends, so a policy bound with them runs without an event loop.
"""

from __future__ import annotations

import json as _json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gatekit.core.counters import Ask, Taken
from gatekit.core.ports import PUBLIC, Clock, Fetched, Ports, Reach
from gatekit.errors import StoreUnavailable
from gatekit.mechanisms.windows import State, window_of
from gatekit.testing.clock import ManualClock, SeededRandom
from gatekit.testing.signals import FakeSignals


class FakeCounters:
    """`Counters` in memory, for every algorithm and any number of keys.

    `asked` has every question in order, `charged` what was charged or given back. Set `unavailable` and the store is down.
    """

    __slots__ = ("_clock", "_states", "asked", "charged", "unavailable")

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = ManualClock() if clock is None else clock
        self._states: dict[str, State] = {}
        self.asked: list[Ask] = []
        self.charged: list[Ask] = []
        self.unavailable = False

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        self.asked += asks
        self._fail_if_told_to()
        steps = [self._take(ask, ask.cost) for ask in asks]
        if all(taken.allowed for _, taken in steps):
            self._states.update({ask.key: state for ask, (state, _) in zip(asks, steps, strict=True)})
            return [taken for _, taken in steps]
        return [self._take(ask, 0)[1] if taken.allowed else taken for ask, (_, taken) in zip(asks, steps, strict=True)]

    async def charge(self, asks: Sequence[Ask]) -> None:
        self.charged += asks
        self._fail_if_told_to()
        for ask in asks:
            window, state = window_of(ask.limit), self._states.get(ask.key, ())
            self._states[ask.key] = window.charge(state, self._now(ask), ask.cost, ask.mark)

    async def reset(self, asks: Sequence[Ask]) -> None:
        self._fail_if_told_to()
        for ask in asks:
            self._states.pop(ask.key, None)

    def _take(self, ask: Ask, cost: int) -> tuple[State, Taken]:
        return window_of(ask.limit).take(self._states.get(ask.key, ()), self._now(ask), cost, ask.mark)

    def _now(self, ask: Ask) -> float:
        return self._clock.monotonic() if ask.limit.calendar is None else self._clock.wall()

    def _fail_if_told_to(self) -> None:
        if self.unavailable:
            raise StoreUnavailable("the counters were told to be unavailable")


class FetchCall(NamedTuple):
    """One call that a policy made through `FakeFetch`."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    timeout: float
    reach: Reach = PUBLIC


class FakeFetch:
    """A scripted `Fetch`. `calls` has what was asked; a URL that no answer was given for fails the test."""

    __slots__ = ("_answers", "calls")

    def __init__(self) -> None:
        self._answers: dict[str, deque[Fetched | Exception]] = {}
        self.calls: list[FetchCall] = []

    def answer(
        self,
        url: str,
        *,
        status: int = 200,
        json: Any = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        error: Exception | None = None,
    ) -> FakeFetch:
        """Add the next answer of `url`; the last one is given again and again. `error` is raised instead."""
        answer: Fetched | Exception
        if error is not None:
            answer = error
        elif json is not None:
            answer = Fetched(
                status, {"content-type": "application/json", **(headers or {})}, _json.dumps(json).encode()
            )
        else:
            answer = Fetched(status, dict(headers or {}), body)
        self._answers.setdefault(url, deque()).append(answer)
        return self

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 5.0,
        reach: Reach = PUBLIC,
    ) -> Fetched:
        self.calls.append(FetchCall(method, url, tuple(headers), body, timeout, reach))
        answers = self._answers.get(url)
        if answers is None:
            raise AssertionError(
                f"nothing was scripted for {method} {url}: give it with FakeFetch.answer({url!r}, ...)"
            )
        answer = answers.popleft() if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeRevocations:
    """A `Revocations` list in memory."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: list[tuple[dict[str, Any], str]] = []

    def revoke(self, reason: str = "revoked", /, **claims: Any) -> FakeRevocations:
        """Revoke every token that has all of these claims: `revoke(jti="1")`, `revoke("user left", sub="ann")`."""
        if not claims:
            raise ValueError("name at least one claim: an empty set would revoke every token")
        self._entries.append((claims, reason))
        return self

    def revoked(self, claims: Mapping[str, Any]) -> str | None:
        for wanted, reason in self._entries:
            if all(name in claims and claims[name] == value for name, value in wanted.items()):
                return reason
        return None


class FakePlans:
    """`Plans` in memory: `plans` has what is kept under each name, and may be changed at any time."""

    __slots__ = ("plans",)

    def __init__(self, plans: Mapping[str, str] | None = None) -> None:
        self.plans = dict(plans or {})

    def find(self, name: str) -> str | None:
        return self.plans.get(name)


class FakeStores:
    """`Stores` in memory. Whatever the URL, there is one list of revocations, one set of API key records, by prefix, one of
    plans, by name, and one of counters, on the clock of whoever opens them first.

    Set `unavailable` and what has to be asked is down; revocations and plans answer from memory all the same. Counters
    are down when they are told so: `stores.counted.unavailable = True`, once they are open.
    """

    __slots__ = ("asked", "counted", "plan_names", "records", "revoked", "unavailable")

    def __init__(
        self,
        revoked: FakeRevocations | None = None,
        records: Mapping[str, Mapping[str, Any]] | None = None,
        plans: Mapping[str, str] | None = None,
        counters: FakeCounters | None = None,
    ) -> None:
        self.revoked = FakeRevocations() if revoked is None else revoked
        self.records = dict(records or {})
        self.plan_names = FakePlans(plans)
        self.counted = counters
        self.asked: list[str] = []
        self.unavailable = False

    def revocations(self, url: str, ports: Ports) -> FakeRevocations:
        return self.revoked

    def api_keys(self, url: str, ports: Ports) -> FakeStores:
        return self

    def counters(self, url: str, ports: Ports) -> FakeCounters:
        if self.counted is None:
            self.counted = FakeCounters(ports.clock)
        return self.counted

    def plans(self, url: str, ports: Ports) -> FakePlans:
        return self.plan_names

    async def find(self, prefix: str) -> Mapping[str, Any] | None:
        self.asked.append(prefix)
        if self.unavailable:
            raise StoreUnavailable("the records were told to be unavailable")
        return self.records.get(prefix)


class FakeDisk:
    """A `Disk` in memory: `files` is what outlives the process. Hand the same one to the next ports for a restart."""

    __slots__ = ("files",)

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self.files: dict[str, bytes] = dict(files or {})

    async def load(self, name: str) -> bytes | None:
        return self.files.get(name)

    async def save(self, name: str, data: bytes) -> None:
        self.files[name] = data


def test_ports(**overrides: Any) -> Ports:
    """Ports that need nothing from outside: a manual clock, seeded randomness, a fetch with no answers yet.

    There is no shared store unless one is given (`counters=FakeCounters(clock)`): policies keep their own state.
    """
    clock = overrides.get("clock") or ManualClock()
    given: dict[str, Any] = {
        "clock": clock, "random": SeededRandom(), "fetch": FakeFetch(), "stores": FakeStores(), "signals": FakeSignals(clock),
        "owner": "test",
    }  # fmt: skip
    return Ports(**{**given, **overrides})


test_ports.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test
