"""The suspension detector: shows that a policy never waits for an event loop, also where there is one.

A policy that waits for anything but a port runs under ASGI, and fails closed under WSGI. Wrapped by `never_suspends`,
it fails under ASGI too.
"""

from __future__ import annotations

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, ClassVar

from pydantic import SkipValidation

from gatekit.core.exchange import Exchange
from gatekit.core.policy import Placement, Spec
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.errors import PolicySuspended
from gatekit.testing.policies import step

_HOOKS = (
    "decide", "on_response", "body_filter", "on_trailers", "observe", "needs_body", "filters_event_streams",
    "shares_state", "jobs", "explain", "status",
)  # fmt: skip


class _Watched(Spec):
    """A spec whose policy is bound as ever, and whose `decide` is driven without a loop."""

    kind: ClassVar[str] = "watched"
    inner: SkipValidation[Spec]
    suspended: SkipValidation[list[str]]

    def placement(self) -> Placement:
        return self.inner.placement()

    def rewrites(self) -> bool:
        return self.inner.rewrites()

    def bind_to(self, ports: Ports) -> object:
        policy = self.inner.bind_to(ports)
        hooks: dict[str, Any] = {name: getattr(policy, name) for name in _HOOKS if hasattr(policy, name)}
        decide = hooks.get("decide")
        if decide is not None:
            name, suspended = type(self.inner).__name__, self.suspended

            def stepped(exchange: Exchange) -> Reply | None:
                answer = decide(exchange)
                try:
                    found: Reply | None = step(answer, f"{name}.decide") if isinstance(answer, Coroutine) else answer
                except PolicySuspended as error:
                    suspended.append(f"{name}: {error}")
                    raise
                return found

            hooks["decide"] = stepped
        return SimpleNamespace(**hooks)


class Suspensions:
    """Wraps specs with `watch`; `found` names every one whose `decide` waited. As a context manager it fails on exit
    when there is any."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def watch(self, *specs: Spec) -> tuple[Spec, ...]:
        """The same policies, in which a `decide` that waits raises PolicySuspended and is noted."""
        return tuple(_Watched(inner=spec, suspended=self.found) for spec in specs)

    def __enter__(self) -> Suspensions:
        return self

    def __exit__(self, *_: object) -> None:
        if self.found:
            raise AssertionError("policies waited for the event loop: " + "; ".join(self.found))


def never_suspends(*specs: Spec) -> tuple[Spec, ...]:
    """The same policies, in which a `decide` that waits raises PolicySuspended: the request is then refused."""
    return Suspensions().watch(*specs)
