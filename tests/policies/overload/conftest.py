"""A policy on the virtual clock, exchanges, and the ways they end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gatekit.core.events import Events
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Outcome
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import RoutePlan
from gatekit.core.policy import Spec
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.testing import ManualClock, SeededRandom, request, test_ports
from gatekit.testing.signals import FakeSignals, Waiting

GOOD = Outcome(200)


class Scene:
    """Ports of a test, and what can be done to a policy with them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.signals = FakeSignals(self.clock)
        self.ports: Ports = test_ports(clock=self.clock, signals=self.signals, random=SeededRandom(7))

    def bind(self, spec: Spec, ports: Ports | None = None) -> Any:
        return spec.bind_to(self.ports if ports is None else ports)

    def come(self, policy: Any, level: str | None = None, target: str = "/", **settings: Any) -> Waiting:
        """A request comes, and is decided about as far as can be."""
        facts = None if level is None else {"priority": level}
        return self.signals.start(policy, request("GET", target, facts=facts, **settings))

    def finish(self, policy: Any, one: Waiting, outcome: Outcome = GOOD, head: int | None = None) -> None:
        """It comes to its end; who got its place goes on."""
        assert one.exchange is not None
        if head is not None:
            policy.on_response(one.exchange, ResponseHead(head))
        policy.observe(one.exchange, outcome)
        self.signals.settle()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def reason(one: Waiting) -> str | None:
    """Why it was turned away, None where it was not. It must not wait."""
    assert not one.waiting, "it waits"
    return one.reply.reason if isinstance(one.reply, Reply) else None


def figures(policy: Any, scope: str = "gateway") -> dict[str, Any]:
    """What the policy tells of one scope."""
    found: dict[str, Any] = policy.status()["scopes"][scope]
    return found


def plan(name: str, destination: str | None = None) -> Any:
    """A route of that name, that leads there."""
    stands: Any = None if destination is None else SimpleNamespace(name=destination)
    return RoutePlan(name, "/", Pipeline([], events=Events(), destination=stands))
