"""One limit of one rule at work: what counters are asked, under which key, and how headers call it.

A key names one counter in full. In counters of this process it is `rule|limit|caller`. In a shared store it begins with the
hash tag that keeps the keys of one call in one slot of a Redis Cluster, in braces: the caller where all rules count by the same, so
that callers spread over the nodes, else the name of the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gatekit.core.counters import Limit
from gatekit.core.ports import Ports, Zone
from gatekit.mechanisms.calendar import CalendarWindow
from gatekit.policies.rate_limit.rules import CONCURRENCY, Quota, Terms
from gatekit.policies.rate_limit.texts import LONGEST

Naming = Callable[[str, str], tuple[str, str]]
"""What stands before and behind the caller in the key of a counter, given the rule's name and the limit's id."""


def local_naming(rule: str, limit: str) -> tuple[str, str]:
    return f"{rule}|{limit}|", ""


def shared_naming(policy: str, spread: bool) -> Naming:
    """For a shared store; `spread` puts the caller into the hash tag."""

    def naming(rule: str, limit: str) -> tuple[str, str]:
        if spread:
            return "{", f"}}{policy}|{rule}|{limit}"
        return f"{{{policy}}}{rule}|{limit}|", ""

    return naming


class Meter:
    """`limit` is what the counters are asked, `share` what this process asks of its own while they cannot be. `policy`
    and `left` are what header fields say of it; `near` is how little is left when it is nearly used up."""

    __slots__ = ("after", "before", "concurrent", "left", "limit", "name", "near", "policy", "share")

    def __init__(self, name: str, quota: Quota, limit: Limit, share: Limit, near: float, key: tuple[str, str]) -> None:
        self.name = name
        self.limit = limit
        self.share = share
        self.before, self.after = key
        self.concurrent = quota.algorithm == CONCURRENCY
        self.near = int(limit.amount * (1 - near) + 1e-9)
        self.left = f'"{name}";r='
        self.policy = f'"{name}";q={limit.amount}'
        if self.concurrent:
            self.policy += ';qu="concurrent-requests"'
        else:
            if quota.sized:
                self.policy += ';qu="content-bytes"'
            # A month is no number of seconds.
            if limit.calendar is None:
                self.policy += f";w={quota.period:.0f}"

    def key(self, caller: str) -> str:
        return f"{self.before}{caller}{self.after}"


Meters = tuple[Meter, ...]

_ONE: Final = 1


class MeterMaker:
    """Makes the meters of one rule from texts. `sharers` is how many processes count what one may not know of another;
    with `divided` each has its part of the amounts."""

    __slots__ = ("_divided", "_local", "_name", "_naming", "_near", "_sharers", "_terms", "_zone")

    def __init__(
        self, terms: Terms, name: str, ports: Ports, naming: Naming, *, near: float, sharers: int, divided: bool
    ) -> None:
        """Raises ValueError where the zone of a calendar cannot be looked up."""
        self._terms = terms
        self._name = name
        self._naming = naming
        self._local = naming is local_naming
        self._near = near
        self._sharers = sharers
        self._divided = divided
        self._zone: Zone | None = None
        if terms.calendar:
            self._zone = _utc if terms.zone == "UTC" else ports.zones(terms.zone)

    def __call__(self, texts: Sequence[str]) -> Meters:
        """Raises ValueError on text that is no limit on the terms of this rule."""
        quotas = self._terms.read(texts)
        many = len(quotas) > 1
        return tuple(self._meter(f"{self._name}-{one.name}" if many else self._name, one) for one in quotas)

    def _meter(self, name: str, quota: Quota) -> Meter:
        cost = self._terms.cost
        floor = cost if isinstance(cost, int) and quota.algorithm != CONCURRENCY else _ONE
        part = max(_ONE, floor, quota.amount // self._sharers)
        share = self._limit(quota, part, local=True)
        limit = share if self._divided else self._limit(quota, quota.amount, local=self._local)
        return Meter(name, quota, limit, share, self._near, self._naming(self._name, limit.id))

    def _limit(self, quota: Quota, amount: int, *, local: bool) -> Limit:
        # What is under way here ends with the process, so it need not be given up before.
        period = LONGEST if local and quota.algorithm == CONCURRENCY else quota.period
        follows = None
        if quota.calendar is not None and self._zone is not None:
            follows = CalendarWindow(quota.calendar, self._terms.zone, self._zone)
        return Limit(amount, float(period), quota.algorithm, follows)


def _utc(moment: float) -> float:
    return 0.0
