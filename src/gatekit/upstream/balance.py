"""Which endpoint gets the next request: pure algorithms over weights and what is in flight. No I/O, no clock.

State lives in cells, so a reload that leaves an endpoint in place leaves its share in place. A new algorithm is one
class and one line in `BALANCERS`; other distributions add theirs under the entry point group `gatekit.balancers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Protocol

from gatekit.core.plan import Endpoint
from gatekit.core.ports import Ports
from gatekit.errors import GatekitError

GROUP = "gatekit.balancers"
NONE = -1


class Balancer(Protocol):
    """Picks by place in the list of endpoints it was made with."""

    def pick(self) -> int:
        """The place of an endpoint, NONE when no endpoint may get a request (no endpoints, or all of weight 0)."""
        ...

    def done(self, place: int) -> None:
        """The exchange that was sent to that place is over, well or not. Called once for every pick."""
        ...


class BalancerFactory(Protocol):
    """Makes a balancer for a cluster. `name` is the cluster's, for the keys of cells."""

    def __call__(self, name: str, endpoints: Sequence[Endpoint], ports: Ports) -> Balancer: ...


class UnknownBalancer(GatekitError):
    """A cluster asks for a balancing rule that nobody provides."""


class Turns:
    """State of `round_robin`: whose turn it is. `credit` is that of smooth weighted round robin, by endpoint key."""

    __slots__ = ("credit", "turn")

    def __init__(self) -> None:
        self.turn = 0
        self.credit: dict[str, int] = {}


class RoundRobin:
    """Each in turn; with unequal weights interleaved smoothly (nginx's smooth weighted round robin).

    Over any run of as many picks as the weights add up to, each endpoint gets exactly its weight.
    """

    __slots__ = ("_equal", "_keys", "_lock", "_places", "_state", "_total", "_weights")

    def __init__(self, name: str, endpoints: Sequence[Endpoint], ports: Ports) -> None:
        self._places = _eligible(endpoints)
        self._weights = [endpoints[place].weight for place in self._places]
        self._keys = [endpoints[place].key for place in self._places]
        self._equal = len(set(self._weights)) < 2
        self._total = sum(self._weights)
        self._lock = ports.lock()
        self._state = ports.cell(("balance.round_robin", name), Turns)
        for gone in [key for key in self._state.credit if key not in self._keys]:
            del self._state.credit[gone]

    def pick(self) -> int:
        places = self._places
        if not places:
            return NONE
        if len(places) == 1:
            return places[0]
        state = self._state
        with self._lock:
            if self._equal:
                turn = state.turn = (state.turn + 1) % len(places)
                return places[turn]
            credit = state.credit
            best, most = 0, -self._total
            for index, key in enumerate(self._keys):
                has = credit[key] = credit.get(key, 0) + self._weights[index]
                if has > most:
                    best, most = index, has
            credit[self._keys[best]] -= self._total
            return places[best]

    def done(self, place: int) -> None:
        pass


class RandomChoice:
    """At random, in proportion to the weights."""

    __slots__ = ("_bounds", "_places", "_random", "_total")

    def __init__(self, name: str, endpoints: Sequence[Endpoint], ports: Ports) -> None:
        self._places = _eligible(endpoints)
        self._random = ports.random
        self._total = 0
        self._bounds: list[int] = []
        for place in self._places:
            self._total += endpoints[place].weight
            self._bounds.append(self._total)

    def pick(self) -> int:
        if not self._places:
            return NONE
        at = self._random.random() * self._total
        low, high = 0, len(self._bounds) - 1
        while low < high:
            middle = (low + high) // 2
            if at < self._bounds[middle]:
                high = middle
            else:
                low = middle + 1
        return self._places[low]

    def done(self, place: int) -> None:
        pass


class Load:
    """State of `least_requests`: how many exchanges each endpoint has, by its key; where to start looking."""

    __slots__ = ("in_flight", "start")

    def __init__(self) -> None:
        self.in_flight: dict[str, int] = {}
        self.start = 0


class LeastRequests:
    """The endpoint with the fewest exchanges for its weight; those that are equal in turn.

    It counts what this process sends, over all loops and generations.
    """

    __slots__ = ("_keys", "_lock", "_places", "_state", "_weights")

    def __init__(self, name: str, endpoints: Sequence[Endpoint], ports: Ports) -> None:
        self._places = _eligible(endpoints)
        self._weights = [endpoint.weight for endpoint in endpoints]
        self._keys = [endpoint.key for endpoint in endpoints]
        self._lock = ports.lock()
        self._state = ports.cell(("balance.least_requests", name), Load)

    def pick(self) -> int:
        places = self._places
        if not places:
            return NONE
        state, keys, weights = self._state, self._keys, self._weights
        with self._lock:
            in_flight = state.in_flight
            count = len(places)
            start = state.start = (state.start + 1) % count
            best, least = places[start], (in_flight.get(keys[places[start]], 0) + 1) / weights[places[start]]
            for step in range(1, count):
                place = places[(start + step) % count]
                load = (in_flight.get(keys[place], 0) + 1) / weights[place]
                if load < least:
                    best, least = place, load
            in_flight[keys[best]] = in_flight.get(keys[best], 0) + 1
            return best

    def done(self, place: int) -> None:
        key = self._keys[place]
        with self._lock:
            in_flight = self._state.in_flight
            if in_flight.get(key, 0) > 1:
                in_flight[key] -= 1
            else:
                # Nothing is kept of an endpoint that is idle, so one that left the cluster leaves no trace.
                in_flight.pop(key, None)


BALANCERS: dict[str, BalancerFactory] = {
    "least_requests": LeastRequests,
    "random": RandomChoice,
    "round_robin": RoundRobin,
}


def make_balancer(rule: str, name: str, endpoints: Sequence[Endpoint], ports: Ports) -> Balancer:
    """The balancer of that rule for a cluster. Raises UnknownBalancer with the rules there are."""
    factory = BALANCERS.get(rule) or _from_entry_points(rule)
    if factory is None:
        known = ", ".join(sorted(BALANCERS))
        raise UnknownBalancer(
            f"cluster {name!r} asks for the balancing rule {rule!r}: there are {known}, and what packages add under "
            f"the entry point group {GROUP!r}"
        )
    return factory(name, endpoints, ports)


def _from_entry_points(rule: str) -> BalancerFactory | None:
    for found in entry_points(group=GROUP, name=rule):
        factory: BalancerFactory = found.load()
        return factory
    return None


def _eligible(endpoints: Sequence[Endpoint]) -> list[int]:
    return [place for place, endpoint in enumerate(endpoints) if endpoint.weight > 0]
