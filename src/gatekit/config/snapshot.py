"""`Snapshot`: one whole configuration, compiled. Immutable; a request reads it once at the door and keeps it.

`admit` runs for every request: it allocates nothing for one that is accepted.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gatekit.config.printed import settings, shown
from gatekit.core.events import PolicyFailed
from gatekit.core.outcome import Fault
from gatekit.core.policy import status_of
from gatekit.core.verdict import Reply
from gatekit.errors import RouteFailed
from gatekit.routing.explain import explain

if TYPE_CHECKING:
    from gatekit.config.model import GatewayConfig
    from gatekit.core.destination import Destination
    from gatekit.core.door import Door
    from gatekit.core.exchange import Exchange
    from gatekit.core.pipeline import Pipeline
    from gatekit.core.plan import ClusterPlan, RoutePlan
    from gatekit.core.policy import Job
    from gatekit.core.ports import Ports
    from gatekit.errors import Problem
    from gatekit.routing.explain import Explanation
    from gatekit.routing.matcher import Matcher

_log = logging.getLogger("gatekit")


class Snapshot:
    """A `core.plan.Plan` for a gateway. Made by `compile_config` only.

    `clusters` are the destinations by name, `cluster_plans` what they were made from; `jobs` is the background work
    that this configuration asks for. `parts` is all that there are thousands of: who holds the list when the snapshot
    goes can free them piece by piece (`let_go`). `policies` are the bound ones, each with whom it belongs to and its
    kind. With `fallback` a request that no route matches goes to the app behind.
    """

    __slots__ = (
        "__weakref__", "_ports", "cluster_plans", "clusters", "config", "digest", "door", "fallback", "generation", "jobs",
        "matcher", "no_route", "parts", "policies", "routes", "warnings",
    )  # fmt: skip

    def __init__(
        self,
        *,
        config: GatewayConfig,
        generation: int,
        door: Door,
        matcher: Matcher[RoutePlan],
        routes: Sequence[RoutePlan],
        clusters: Mapping[str, Destination],
        cluster_plans: Sequence[ClusterPlan],
        no_route: Pipeline,
        jobs: Sequence[Job],
        ports: Ports,
        warnings: Sequence[Problem],
        fallback: bool,
        digest: str,
        parts: list[object],
        policies: Sequence[tuple[str, str, object]] = (),
    ) -> None:
        self.config = config
        self.generation = generation
        self.digest = digest
        self.door = door
        self.matcher = matcher
        self.routes = tuple(routes)
        self.clusters = dict(clusters)
        self.cluster_plans = tuple(cluster_plans)
        self.no_route = no_route
        self.jobs = tuple(jobs)
        self.warnings = tuple(warnings)
        self.fallback = fallback
        self.parts = parts
        self.policies = tuple(policies)
        self._ports = ports

    def __repr__(self) -> str:
        return f"<Snapshot {self.generation} {self.digest}: {len(self.routes)} routes, {len(self.clusters)} clusters>"

    @property
    def used(self) -> frozenset[Hashable]:
        """The keys of the state that this generation has asked for so far."""
        return self._ports.used

    @property
    def apps(self) -> tuple[Any, ...]:
        """The ASGI applications behind it, each once: what has a lifespan."""
        apps = (plan.app for plan in self.cluster_plans if plan.app is not None and plan.app_interface == "asgi")
        return tuple({id(app): app for app in apps}.values())

    def admit(self, exchange: Exchange, raw_path: bytes, query: bytes) -> Pipeline:
        """Through the door and the router. What is refused runs the policies of the gateway, and is then answered."""
        exchange.generation = self.generation
        door = self.door
        refusal = door.admit(exchange, raw_path, query)
        if refusal is None:
            try:
                route = self.matcher.match(exchange)
            except RouteFailed as failed:
                refusal = self._failed(exchange, failed)
            else:
                if route is None:
                    refusal = self._unmatched(exchange)
                else:
                    exchange.route = route
                    if not exchange.path_marks or (refusal := door.odd_path(exchange, route.allowed_marks)) is None:
                        refusal = None
                        if exchange.body.length != 0:
                            refusal = door.limit_body(exchange, route.max_body)
                        exchange.refusal = refusal or route.refusal
                        return route.pipeline
        exchange.refusal = refusal
        return self.no_route

    def _failed(self, exchange: Exchange, failed: RouteFailed) -> Reply:
        """A predicate raised: the request is refused, never offered to another route."""
        _log.error("a predicate of route %s raised: the request is refused", failed.route, exc_info=failed.error)
        self._ports.events.emit(PolicyFailed("router", "match", failed.error))
        exchange.fault = Fault.GATEWAY
        return Reply(500, "router.predicate_failed")

    def _unmatched(self, exchange: Exchange) -> Reply | None:
        refusal = self.door.odd_path(exchange)
        if refusal is not None:
            return refusal
        if self.fallback:
            return self.door.limit_body(exchange, self.door.max_body) if exchange.body.length != 0 else None
        try:
            allowed = self.matcher.allowed_methods(exchange)
        except RouteFailed as failed:
            return self._failed(exchange, failed)
        if allowed:
            headers = [("allow", ", ".join(sorted(allowed)))]
            return Reply(405, "router.method_not_allowed", "No route here takes this method.", headers=headers)
        return Reply(404, "router.no_route", "There is nothing here.")

    def explain(self, exchange: Exchange) -> Explanation[RoutePlan]:
        """Which route takes this request, why each other one does not, and what the policies of the route would say to
        it. The exchange has been through the door."""
        explanation = explain(self.matcher, exchange)
        if explanation.winner is not None:
            pipeline = explanation.winner.value.pipeline
            explanation.policies = tuple((kind, tuple(hook(exchange))) for kind, hook in pipeline.explains)
        return explanation

    def figures(self) -> list[dict[str, Any]]:
        """What the policies tell about themselves, each with where it stands."""
        hooks = [(owner, kind, status_of(policy)) for owner, kind, policy in self.policies]
        told = [(owner, kind, status()) for owner, kind, status in hooks if status is not None]
        return [{"owner": owner, "policy": kind, **figures} for owner, kind, figures in told if figures]

    def describe(self) -> str:
        """The snapshot as text: the same for the same configuration, without secrets."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> list[str]:
        config = self.config
        lines = [f"generation {self.generation}"]
        entries = ("policies", "routes", "clusters")
        lines += [f"{name} {value}" for name, value in settings(config) if name not in entries]
        for spec in config.policies:
            lines.append(f"policy {spec.placement().stage.name.lower()} {shown(spec)}")
        for asked, plan in zip(config.routes, self.routes, strict=True):
            lines += ["", f"route {plan.id}"]
            lines += [f"  {name} {value}" for name, value in settings(asked) if name not in ("name", "to", "policies")]
            lines += [f"  policy {spec.placement().stage.name.lower()} {shown(spec)}" for spec in asked.policies]
            lines.append(f"  runs {_steps(plan.pipeline)}")
            lines.append(f"  to {_split(asked.to)}" if plan.refusal is None else "  answers 500 where no policy did")
        for name, cluster in config.clusters.items():
            lines += ["", f"cluster {name}"]
            lines += [f"  {field} {value}" for field, value in settings(cluster)]
        lines += ["", "otherwise", f"  runs {_steps(self.no_route)}"]
        lines += [f"  {'passes to the app' if self.fallback else 'answers 404 or 405'}"]
        lines += ["", *(str(warning) for warning in self.warnings)] if self.warnings else []
        return lines


def _steps(pipeline: Pipeline) -> str:
    return " > ".join(pipeline.kinds) or "no policy"


def _split(parts: Sequence[tuple[str, int]]) -> str:
    return parts[0][0] if len(parts) == 1 else ", ".join(f"{name} {weight}" for name, weight in parts)


__all__ = ["Snapshot"]
