"""A policy with rules, plans, prices and things that end in any order, against a model that adds up what was let through."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from tests.policies.rate_limit.limit_scene import Clock, Store, ask, end, exchange, flush, ports_for, step

from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.policies.rate_limit import LimitRule, RateLimit

TENANTS = ("a", "b", "c")
PERIOD = 60
RATES = {None: 6, "pro": 12, "internal": None}
"""How many a minute each plan allows; None is any number."""
BYTES = 1_000
OPEN = 3


def priced(made: Exchange) -> int:
    return int(made.header("x-cost") or "1")


class Limits(RuleBasedStateMachine):
    """Three rules: requests a minute by tenant and plan, in fixed windows and at a price; bytes a minute by tenant,
    settled at the end; so many at once for all together."""

    under_way = Bundle("under_way")
    shared = False

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.clock.now = 60_000.0
        self.store = Store(self.clock)
        rules = [
            LimitRule("6/minute", name="rate", by="tenant", algorithm="fixed_window", cost=priced, plan="tenant",
                      plans={"pro": "12/minute", "internal": "unlimited"}, plans_from="file:///plans.yaml"),
            LimitRule(f"{BYTES}/minute", name="bytes", by="tenant", algorithm="fixed_window", charge="response_bytes", cost=0),
            LimitRule(f"{OPEN} concurrent", name="open", by="global", hold="1d"),
        ]  # fmt: skip
        more: dict[str, Any] = {"store": "redis://s", "name": "api", "on_error": "deny"} if self.shared else {}
        ports = ports_for(self.clock, self.store, plans={"b": "pro", "c": "internal"})
        self.spec = RateLimit(rules=rules, **more)
        self.ports = ports
        self.policy = self.spec.bind(ports)
        self.plans: dict[str, str | None] = {"a": None, "b": "pro", "c": "internal"}
        # What each plan's counter of a tenant has in this window, and its bytes: a plan that changes counts anew.
        self.spent: dict[tuple[str, str | None], int] = {}
        self.sent: dict[str, int] = {}
        self.open = 0

    def tell(self) -> None:
        if self.shared:
            flush(self.policy)

    @rule(target=under_way, tenant=st.sampled_from(TENANTS), cost=st.integers(0, 4))
    def come(self, tenant: str, cost: int) -> Any:
        self.tell()
        plan = self.plans[tenant]
        amount, spent = RATES[plan], self.spent.get((tenant, plan), 0)
        fits = (amount is None or spent + cost <= amount) and self.sent.get(tenant, 0) <= BYTES and self.open < OPEN
        policy = self.policy
        made = exchange(identity=Identity("ann", tenant=tenant, scheme="jwt"), headers={"x-cost": str(cost)})
        reply = ask(policy, made)
        assert (reply is None) is fits, reply and reply.members
        if not fits:
            end(policy, made, 500)
            return multiple()
        if amount is not None:
            self.spent[tenant, plan] = spent + cost
        self.open += 1
        return policy, made, tenant

    @rule(one=consumes(under_way), sent=st.sampled_from([0, 1, 400, 5_000]), again=st.booleans())
    def go(self, one: tuple[Any, Exchange, str], sent: int, again: bool) -> None:
        policy, made, tenant = one
        for _ in range(1 + again):
            end(policy, made, sent)
        self.open -= 1
        self.sent[tenant] = self.sent.get(tenant, 0) + sent

    @rule(tenant=st.sampled_from(TENANTS), plan=st.sampled_from(list(RATES)))
    def move(self, tenant: str, plan: str | None) -> None:
        self.plans[tenant] = plan
        kept = self.ports.stores.planned.plans  # type: ignore[attr-defined]
        kept.pop(tenant, None)
        if plan is not None:
            kept[tenant] = plan

    @rule(tenant=st.sampled_from(TENANTS))
    def free(self, tenant: str) -> None:
        self.tell()
        step(self.policy.admin().reset(tenant=tenant))
        self.sent.pop(tenant, None)
        for plan in RATES:
            self.spent.pop((tenant, plan), None)

    @rule()
    def reload(self) -> None:
        """What is counted stays; what is under way ends with the policy that let it in."""
        self.policy = self.spec.bind(self.ports)

    @rule(windows=st.integers(1, 3))
    def wait(self, windows: int) -> None:
        self.tell()
        self.clock.now += windows * PERIOD
        self.spent.clear()
        self.sent.clear()

    @invariant()
    def what_is_left_is_told(self) -> None:
        if not hasattr(self, "policy"):
            return
        self.tell()
        (bytes_,) = step(self.policy.admin().peek("bytes", tenant="a"))
        assert bytes_["remaining"] == max(0, BYTES - self.sent.get("a", 0))


class SharedLimits(Limits):
    """The same in a store, which hears of what ended a moment later."""

    shared = True


@pytest.mark.parametrize("machine", [Limits, SharedLimits])
def test_rules_plans_and_what_is_given_back_are_what_they_add_up_to(machine: Any) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))
