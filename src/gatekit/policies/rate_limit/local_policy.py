"""The way most requests take: limits of one rule, the same for everybody, counted in this process. The same answers in
fewer steps."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from gatekit.core.counters import Ask
from gatekit.core.exchange import Exchange
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.policies.rate_limit.answers import Reading, exceeded
from gatekit.policies.rate_limit.counting import questions
from gatekit.policies.rate_limit.policy import RateLimitPolicy

if TYPE_CHECKING:
    from gatekit.policies.rate_limit.config import RateLimit


class LocalRateLimitPolicy(RateLimitPolicy):
    """Over counters in this process there is nothing to wait for, so `decide` is a plain function."""

    __slots__ = ("_before", "_cost", "_counting", "_key", "_limit", "_meter", "_near", "_take_one")

    def __init__(self, spec: RateLimit, ports: Ports) -> None:
        super().__init__(spec, ports)
        local = self._setting.local
        (self._counting,) = self._enforced
        (self._meter,) = self._counting.allowances.own.meters
        assert local is not None
        self._take_one = local.take_one
        self._key = self._counting.key
        self._before = self._meter.before
        self._limit = self._meter.limit
        self._near = self._meter.near
        assert isinstance(spec.cost, int)
        self._cost = spec.cost

    def decide(self, exchange: Exchange) -> Reply | None:
        caller = self._key(exchange)
        taken = self._take_one(Ask(self._before + caller, self._limit, self._cost))
        allowed, remaining, reset_after, _ = taken
        if not allowed:
            self._counting.figures.refused += 1
            self._telling.refused(exchange, self._counting.name, self._meter, caller, taken, shadow=False)
            return exceeded([Reading(self._meter, taken)], legacy=False, fields=self._fields)
        self._counting.figures.allowed += 1
        if remaining <= self._near:
            self._counting.figures.near += 1
            self._telling.near(exchange, self._counting.name, self._meter, caller, remaining)
        if self._fields:
            exchange.respond_put(b"ratelimit-policy", self._fixed or b"")
            # Text put together and encoded takes half the time that formatting bytes does.
            exchange.respond_put(b"ratelimit", f"{self._meter.left}{remaining};t={ceil(reset_after)}".encode("ascii"))
        return None


class LocalLimitsPolicy(RateLimitPolicy):
    """Several limits of one rule. Where one of them is used up or nearly so, the general way tells it."""

    __slots__ = ("_asks", "_cost", "_counting", "_key", "_take_now", "_tells")

    def __init__(self, spec: RateLimit, ports: Ports) -> None:
        super().__init__(spec, ports)
        assert self._here is not None
        assert isinstance(spec.cost, int)
        (self._counting,) = self._enforced
        meters = self._counting.allowances.own.meters
        self._take_now = self._here.take_now
        self._key = self._counting.key
        self._asks = [(meter.before, meter.limit) for meter in meters]
        self._tells = [(meter.near, meter.left) for meter in meters]
        self._cost = spec.cost

    def decide(self, exchange: Exchange) -> Reply | None:
        caller, cost = self._key(exchange), self._cost
        taken = self._take_now([Ask(before + caller, limit, cost) for before, limit in self._asks])
        left = ""
        for (near, name), (allowed, remaining, reset_after, _) in zip(self._tells, taken, strict=True):
            if not allowed or remaining <= near:
                assert self._here is not None
                asked = questions(self._enforced, exchange, self._setting.mark)
                return self._told(exchange, asked, taken, self._here)
            left += f", {name}{remaining};t={ceil(reset_after)}"
        self._counting.figures.allowed += 1
        if self._fields:
            exchange.respond_put(b"ratelimit-policy", self._fixed or b"")
            exchange.respond_put(b"ratelimit", left[2:].encode("ascii"))
        return None
