"""The same decisions by gatekit: its counters alone, and the whole policy, which finds the key in the request and writes
what header fields say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bench.peers.limits_ways import Asked, Rate, in_turn

from gatekit import Exchange, Ports, RateLimit, Reply
from gatekit.core.counters import Ask, Counters, Limit
from gatekit.core.ports import Cells
from gatekit.gateway.system import system_ports
from gatekit.policies.rate_limit import LocalCounters
from gatekit.testing import request

PATIENT = "?timeout=1"
"""What is measured is an answer of the server: on a busy machine a policy would go on without it after 25 ms, as it should,
and counters would raise. The peers wait for as long as their clients do."""
COUNTERS, POLICY, LEASED = "gatekit, counters", "gatekit, policy", "gatekit, policy with leases, one caller"


def limits_of(algorithm: str, rates: Sequence[Rate]) -> list[Limit]:
    return [Limit(rate.amount, float(rate.seconds), algorithm) for rate in rates]


def asks_of(limits: Sequence[Limit]) -> Callable[[str], list[Ask]]:
    """What is asked for a caller, as a policy would: the names of its counters are put together for each request."""
    parts = [(f"|{limit.id}", limit) for limit in limits]

    def asks(caller: str) -> list[Ask]:
        key = "bench|" + caller
        return [Ask(key + more, limit) for more, limit in parts]

    return asks


def all_allowed(taken: Sequence[Any]) -> bool:
    return all(one.allowed for one in taken)


def local_counters(max_keys: int = 100_000) -> LocalCounters:
    return LocalCounters(system_ports().clock, max_keys=max_keys)


def shared_counters(url: str) -> Counters:
    ports = process_ports()
    return ports.stores.counters(url, ports)


def counters(algorithm: str, rates: Sequence[Rate], url: str | None, callers: int) -> Asked | None:
    limits = limits_of(algorithm, rates)
    asks = asks_of(limits)
    if url is not None:
        shared = shared_counters(url)
        return Asked(
            lambda caller: shared.take(asks(caller)), in_turn(callers), True, all_allowed, close=closing(shared)
        )
    local = local_counters(max(100_000, 4 * callers * len(rates)))
    if len(limits) > 1:
        return Asked(lambda caller: local.take_now(asks(caller)), in_turn(callers), False, all_allowed)
    (limit,) = limits
    more = f"|{limit.id}"
    return Asked(
        lambda caller: local.take_one(Ask("bench|" + caller + more, limit)), in_turn(callers), False, is_allowed
    )


def is_allowed(taken: Any) -> bool:
    return bool(taken.allowed)


def process_ports() -> Ports:
    """The process's own clock and stores, so that what they cost is counted; cells of their own."""
    return system_ports(cells=Cells())


def spec(algorithm: str, rates: Sequence[Rate], url: str | None, **more: Any) -> RateLimit:
    """The policy as somebody would write it."""
    if url is not None:
        more = {"store": url, **more}
    settings: dict[str, Any] = {"by": "client_ip", "name": "bench", "algorithm": algorithm, **more}
    return RateLimit([rate.text for rate in rates], **settings)


def policy(algorithm: str, rates: Sequence[Rate], url: str | None, callers: int) -> Asked | None:
    ports = process_ports()
    bound: Any = spec(algorithm, rates, url, max_keys=max(100_000, 4 * callers * len(rates))).bind(ports)
    close = closing(opened(ports, url)) if url is not None else closing(None)
    return Asked(bound.decide, in_turn(callers, _arrived), url is not None, _passes, close=close)


def leased(algorithm: str, rates: Sequence[Rate], url: str | None, callers: int) -> Asked | None:
    """The policy, whose process takes more from the server than one request needs. It is for who asks very often, so there
    is one caller."""
    return None if url is None else policy(algorithm, rates, f"{url}{'&' if '?' in url else '?'}leases=on", 1)


def opened(ports: Ports, url: str) -> Any:
    """The counters that a policy with these ports has opened."""
    return ports.owned_by("stores").cell(("counters", url), lambda: ports.stores.counters(url, ports))


def _arrived(caller: str) -> Exchange:
    return request("GET", "/v1/orders/42", client=caller)


def _passes(reply: Reply | None) -> bool:
    return reply is None


def closing(counters: Any) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        if hasattr(counters, "aclose"):
            await counters.aclose()

    return close


OURS = {COUNTERS: counters, POLICY: policy, LEASED: leased}
