"""How much somebody may: limits of his own, those of his plan, or those of the rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gatekit.core.claims import parse_claim_path
from gatekit.core.counters import Plans
from gatekit.core.exchange import Exchange
from gatekit.core.ports import Ports, store_url
from gatekit.policies.rate_limit.keys import Caller, claim_text
from gatekit.policies.rate_limit.lately import Lately
from gatekit.policies.rate_limit.meters import MeterMaker, Meters
from gatekit.policies.rate_limit.overrides import NAMES, Overrides
from gatekit.policies.rate_limit.rules import Terms

TEXTS_KEPT: Final = 1024
"""How many texts of a store of plans are kept as what they mean."""


class Allowance(NamedTuple):
    """What somebody may, and by whose word: `override`, `plan` (and which), or `limit`."""

    meters: Meters
    by: str
    plan: str | None = None
    unknown: bool = False


class Allowances:
    """How much each caller may. With `fixed`, everybody has `own`. `store` says who has which plan, where there is one."""

    __slots__ = ("_make", "_name", "_overrides", "_plans", "_read_last", "_taken_at_word", "fixed", "own", "store")

    def __init__(self, terms: Terms, make: MeterMaker, ports: Ports) -> None:
        self._make = make
        own = make(terms.limit)
        self.own = Allowance(own, "limit")
        self._overrides: Overrides[Allowance] | None = None
        if terms.overrides:
            self._overrides = Overrides(
                {name: Allowance(make(texts), "override") for name, texts in terms.overrides.items()}
            )
        self._plans = {name: Allowance(make(texts), "plan", name) for name, texts in terms.plans.items()}
        self._name = None if terms.plan is None else _name_of(terms.plan)
        # What is looked up in a store is nobody's word; a claim or a function may give the name of a plan itself.
        self._taken_at_word = not isinstance(terms.plan, str) or terms.plan.startswith("claim:")
        self.store = _store(terms, ports)
        self._read_last: Lately[Allowance] = Lately(TEXTS_KEPT)
        self.fixed = self._overrides is None and self._name is None

    def of_plan(self, name: str) -> Allowance:
        """What a plan allows, or limits as a store has them."""
        return self._plans.get(name) or self._read(name)

    def possible(self, caller: Caller) -> tuple[Allowance, ...]:
        """All that somebody of whom not everything is known may have: first what he has by what is known."""
        return (self.find(caller), *(() if self.fixed else (self.own, *self._plans.values())))

    def find(self, caller: Caller) -> Allowance:
        """A plan that there is not counts as none, and says so."""
        if self._overrides is not None:
            found = self._overrides.find(caller)
            if found is not None:
                return found
        name = None if self._name is None else self._name(caller)
        if name is None:
            return self.own
        if self.store is not None:
            kept = self.store.find(name)
            if kept is not None:
                return self.of_plan(kept)
        if not self._taken_at_word:
            return self.own
        return self._plans.get(name) or self.own._replace(unknown=True)

    def _read(self, text: str) -> Allowance:
        """What a store has in place of the name of a plan: limits."""
        found = self._read_last.get(text)
        if found is None:
            try:
                found = Allowance(self._make((text,)), "plan")
            except ValueError:
                found = self.own._replace(unknown=True)
            self._read_last.put(text, found)
        return found

    @property
    def all(self) -> Meters:
        """Every meter there is by now, for whoever looks for a counter by its key."""
        given = () if self._overrides is None else self._overrides.values
        allowances = (self.own, *given, *self._plans.values(), *self._read_last.values())
        return tuple({meter.key(""): meter for one in allowances for meter in one.meters}.values())


def _name_of(plan: str | Callable[..., Any]) -> Callable[[Any], str | None]:
    if not isinstance(plan, str):
        # Nobody but an exchange can be asked; an operator says the plan.
        return lambda caller: plan(caller) if isinstance(caller, Exchange) else None
    if not plan.startswith("claim:"):
        return NAMES[plan]
    path = parse_claim_path(plan[6:])
    return lambda caller: claim_text(caller.identity, path)


def _store(terms: Terms, ports: Ports) -> Plans | None:
    url = terms.plans_from
    if url is None:
        return None
    shared = ports.owned_by("stores")
    return shared.cell(("plans", url), lambda: shared.stores.plans(store_url(url, ports), shared))
