"""Rate limiting at work: one question to the counters for all limits, then header fields or a 429.

The fields are those of draft-ietf-httpapi-ratelimit-headers-11, structured fields as of RFC 9651.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from gatekit.core.exchange import Exchange
from gatekit.core.outcome import Fault
from gatekit.core.ports import Ask, Counters, Ports, Taken
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.policies.rate_limit.keys import key_of
from gatekit.policies.rate_limit.local import LocalCounters

if TYPE_CHECKING:
    from gatekit.policies.rate_limit.config import RateLimit

_log = logging.getLogger("gatekit.rate_limit")

QUOTA_EXCEEDED: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class RateLimitPolicy:
    """Asks the counters and says what they said."""

    __slots__ = (
        "_allow", "_cost", "_counters", "_down", "_fallback", "_headers", "_key", "_name", "_names", "_policies", "_prefix",
        "_quotas",
    )  # fmt: skip

    def __init__(self, spec: RateLimit, ports: Ports) -> None:
        self._quotas = spec.quotas()
        self._cost = spec.cost
        self._key = key_of(spec.by)
        self._name = spec.name
        self._headers = spec.headers
        policies = ", ".join(f'"{quota.name}";q={quota.amount};w={quota.period}' for quota in self._quotas)
        self._policies = policies.encode("ascii")
        self._names = [f'"{quota.name}";r='.encode("ascii") for quota in self._quotas]
        by = "+".join(part if isinstance(part, str) else _named(part) for part in spec.by)
        self._prefix = f"{ports.owner}|{spec.name}|{by}|"
        self._allow = spec.on_error == "allow"
        self._fallback: LocalCounters | None = None
        self._down = False
        if ports.counters is not None:
            self._counters: Counters = ports.counters
            if spec.on_error == "local":
                self._fallback = _local(spec, ports)

    async def decide(self, exchange: Exchange) -> Reply | None:
        asks = self._asks(exchange)
        try:
            taken = await self._counters.take(asks)
            self._down = False
        except StoreUnavailable as error:
            self._warn(error)
            if self._fallback is None:
                return None if self._allow else _unavailable(exchange)
            taken = self._fallback.take_now(asks)
        return self._told(exchange, taken)

    def _asks(self, exchange: Exchange) -> list[Ask]:
        key, cost = self._prefix + self._key(exchange), self._cost
        return [Ask(key, quota.amount, quota.period, cost) for quota in self._quotas]

    def _told(self, exchange: Exchange, taken: Sequence[Taken]) -> Reply | None:
        """Header fields where it fits, the refusal where it does not."""
        for one in taken:
            if not one.allowed:
                return self._exceeded(taken)
        if self._headers:
            exchange.respond_put(b"ratelimit-policy", self._policies)
            exchange.respond_put(b"ratelimit", self._left(taken))
        return None

    def _left(self, taken: Sequence[Taken]) -> bytes:
        """What is left of each limit, and in how many seconds the whole of it is back."""
        parts = [
            b"%b%d;t=%d" % (name, one.remaining, ceil(one.reset_after))
            for name, one in zip(self._names, taken, strict=True)
        ]
        return parts[0] if len(parts) == 1 else b", ".join(parts)

    def _exceeded(self, taken: Sequence[Taken]) -> Reply:
        """A 429 that names the limits which do not allow it, and when all of them would.

        Only those are in `RateLimit`, so that Retry-After is at no time before one of the times given there.
        """
        violated = [(quota, one) for quota, one in zip(self._quotas, taken, strict=True) if not one.allowed]
        waits = [max(1, ceil(one.retry_after)) for _, one in violated]
        headers = [("retry-after", str(max(waits)))]
        if self._headers:
            left = ", ".join(
                f'"{quota.name}";r={one.remaining};t={wait}' for (quota, one), wait in zip(violated, waits, strict=True)
            )
            headers += [("ratelimit-policy", self._policies.decode("ascii")), ("ratelimit", left)]
        return Reply(
            429,
            "rate_limit.exceeded",
            "More requests than the limit allows.",
            headers=headers,
            members={"type": QUOTA_EXCEEDED, "violated-policies": [quota.name for quota, _ in violated]},
        )

    def _warn(self, error: StoreUnavailable) -> None:
        """Say so once for each outage, not once for each request."""
        if not self._down:
            self._down = True
            if self._fallback is not None:
                what = "counting in this process"
            else:
                what = "letting everything pass" if self._allow else "refusing every request"
            _log.warning(
                "rate limit %r: the shared store does not answer, %s until it does: %s", self._name, what, error
            )


class LocalRateLimitPolicy(RateLimitPolicy):
    """The same over counters in this process: there is nothing to wait for, so `decide` is a plain function."""

    __slots__ = ("_first", "_local")

    def __init__(self, spec: RateLimit, ports: Ports) -> None:
        super().__init__(spec, ports)
        self._local = _local(spec, ports)
        self._first = self._names[0].decode("ascii")

    def decide(self, exchange: Exchange) -> Reply | None:  # type: ignore[override]
        if len(self._quotas) > 1:
            return self._told(exchange, self._local.take_now(self._asks(exchange)))
        quota = self._quotas[0]
        key = self._prefix + self._key(exchange)
        taken = self._local.take_one(key, quota.amount, quota.period, self._cost)
        if not taken.allowed:
            return self._exceeded((taken,))
        if self._headers:
            exchange.respond_put(b"ratelimit-policy", self._policies)
            # Text put together and encoded takes half the time that formatting bytes does.
            left = f"{self._first}{taken.remaining};t={ceil(taken.reset_after)}"
            exchange.respond_put(b"ratelimit", left.encode("ascii"))
        return None


def _local(spec: RateLimit, ports: Ports) -> LocalCounters:
    """The counters of this process, which a reload that leaves the limit as it is does not touch."""
    clock = ports.clock
    return ports.cell(
        (spec.kind, spec.limit, spec.by, spec.name, spec.max_keys),
        lambda: LocalCounters(clock, ports.lock, max_keys=spec.max_keys),
    )


def _unavailable(exchange: Exchange) -> Reply:
    exchange.fault = Fault.GATEWAY
    return Reply(
        503, "rate_limit.unavailable", "Requests cannot be counted at the moment.", headers=[("retry-after", "1")]
    )


def _named(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)
