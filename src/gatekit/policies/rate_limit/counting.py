"""One rule, bound: whom it counts, how much they may, what a request costs, and how often it did what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from gatekit.core.counters import Ask
from gatekit.core.exchange import Exchange
from gatekit.core.headers import encode_name
from gatekit.core.outcome import Outcome
from gatekit.policies.rate_limit.keys import Caller, key_of, named, plain
from gatekit.policies.rate_limit.meters import Meter
from gatekit.policies.rate_limit.plans import Allowances
from gatekit.policies.rate_limit.texts import LARGEST

if TYPE_CHECKING:
    from gatekit.policies.rate_limit.charge import Settles
    from gatekit.policies.rate_limit.rules import OnError, Terms


class Figures:
    """How often one rule did what, since it was set up. Several threads may miss one or the other: they are for people."""

    __slots__ = ("allowed", "near", "refused", "shadow_refused", "unknown_plans", "unreadable_charges")

    def __init__(self) -> None:
        self.allowed = 0
        self.refused = 0
        self.shadow_refused = 0
        self.near = 0
        self.unknown_plans = 0
        self.unreadable_charges = 0

    def count_refused(self, *, shadow: bool) -> None:
        if shadow:
            self.shadow_refused += 1
        else:
            self.refused += 1

    def told(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in sorted(self.__slots__)}


class Counting:
    """A rule at work. `charges`: what a request has cost is known at its end only."""

    __slots__ = (
        "_charge", "_cost", "_shared", "allowances", "by", "charges", "figures", "key", "name", "on_error", "parts", "report", "settles", "shadow",
    )  # fmt: skip

    def __init__(
        self, terms: Terms, name: str, on_error: OnError, allowances: Allowances, figures: Figures, *, shared: bool
    ) -> None:
        self.name = name
        self.on_error = on_error
        self.shadow = terms.shadow
        self.parts = terms.by
        self.by = " and ".join(named(part) for part in terms.by)
        self.allowances = allowances
        self.figures = figures
        self.key = key_of(terms.by)
        self._shared = shared
        self._cost = terms.cost
        self._charge = terms.charge
        self.charges = terms.charge is not None
        self.report = (
            encode_name(terms.charge[7:])
            if isinstance(terms.charge, str) and terms.charge.startswith("header:")
            else None
        )
        # Texts of a store may have anything in them, what is under way as well.
        concurrent = any(meter.concurrent for meter in allowances.all)
        self.settles = concurrent or terms.charge is not None or terms.plans_from is not None

    def caller(self, caller: Caller) -> str:
        """Under what somebody is counted."""
        key = self.key(caller)
        return plain(key) if self._shared else key

    def cost(self, exchange: Exchange) -> int:
        """What this request takes. Raises ValueError where a function gives no whole number from 0."""
        cost = self._cost
        return cost if isinstance(cost, int) else _checked("cost", cost(exchange))

    def charged(self, exchange: Exchange, outcome: Outcome, reports: Mapping[bytes, int]) -> int | None:
        """What the request has cost, now that it has ended; None where it cost what was taken. Raises ValueError as `cost`."""
        charge = self._charge
        if charge == "response_bytes":
            return min(exchange.sent, LARGEST)
        if isinstance(charge, str):
            return None if self.report is None else reports.get(self.report)
        return None if charge is None else _checked("charge", charge(exchange, outcome))


def _checked(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
        raise ValueError(f"a {what} is a whole number from 0 to {LARGEST}")
    return value


class Question(NamedTuple):
    """What is asked about one limit of one rule for one request, and who asks."""

    counting: Counting
    meter: Meter
    caller: str
    ask: Ask


def questions(countings: tuple[Counting, ...], exchange: Exchange, mark: Callable[[], int]) -> list[Question]:
    """All that is asked about a request, none where everything is unlimited. `mark` names what will be under way."""
    found: list[Question] = []
    for counting in countings:
        allowance = counting.allowances.find(exchange)
        if allowance.unknown:
            counting.figures.unknown_plans += 1
        if not allowance.meters:
            continue
        caller = counting.caller(exchange)
        cost = counting.cost(exchange)
        for meter in allowance.meters:
            key = f"{meter.before}{caller}{meter.after}"
            ask = Ask(key, meter.limit, 1, mark()) if meter.concurrent else Ask(key, meter.limit, cost)
            found.append(Question(counting, meter, caller, ask))
    return found


class Held:
    """What an exchange took and what is settled at its end.

    `taken` has what was asked, and where it was taken. `unsure`
    is what the store was asked for and has not answered: it may have been taken. `reports` is what the upstream said that
    rules have cost.
    """

    __slots__ = ("reports", "taken", "unsure")

    def __init__(self) -> None:
        self.taken: list[tuple[Question, Settles]] = []
        self.unsure: list[Question] = []
        self.reports: dict[bytes, int] = {}
