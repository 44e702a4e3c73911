"""What a gateway says of itself: plain data for the admin endpoints, without secrets and without a request's content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gatekit.core.events import ConfigApplied, ConfigRejected, EndpointFailed, Events
from gatekit.upstream import Cluster, Pools
from gatekit.upstream.dial import target_key

if TYPE_CHECKING:
    from gatekit.config.snapshot import Snapshot
    from gatekit.core.destination import Destination
    from gatekit.core.plan import ClusterPlan

MOST_FAILING = 1000
"""The most endpoints whose failures are remembered, so that ones that come and go cannot fill the memory."""


class History:
    """What happened so far, heard from the events: when a configuration came into force, the last that was refused,
    what failed at each endpoint. `now` is wall-clock time, seconds since the Unix epoch."""

    def __init__(self, events: Events, now: Callable[[], float]) -> None:
        self._now = now
        self.applied_at = now()
        self.refused: dict[str, Any] | None = None
        self._failures: dict[tuple[str, str], dict[str, Any]] = {}
        events.subscribe(ConfigApplied, self._applied)
        events.subscribe(ConfigRejected, self._rejected)
        events.subscribe(EndpointFailed, self._failed)

    def failures(self, cluster: str, endpoint: str) -> dict[str, Any]:
        """How often attempts on that endpoint failed since this process began, and how and when last."""
        return dict(self._failures.get((cluster, endpoint), {"count": 0}))

    def keep_failures(self, clusters: Mapping[str, ClusterPlan]) -> None:
        """Forget endpoints that the configuration in force does not have."""
        alive = {(name, endpoint.key) for name, plan in clusters.items() for endpoint in plan.endpoints}
        for gone in [key for key in self._failures if key not in alive]:
            del self._failures[gone]

    def _applied(self, event: ConfigApplied) -> None:
        self.applied_at = self._now()

    def _rejected(self, event: ConfigRejected) -> None:
        self.refused = {"at": round(self._now(), 3), "problems": list(event.problems)}

    def _failed(self, event: EndpointFailed) -> None:
        key = (event.cluster, event.endpoint)
        found = self._failures.get(key)
        if found is None:
            if len(self._failures) >= MOST_FAILING:
                return
            found = self._failures[key] = {"count": 0}
        found["count"] += 1
        found["last_reason"] = event.reason
        found["last_at"] = round(self._now(), 3)


def status_of(plan: Snapshot, history: History, pools: Pools) -> dict[str, Any]:
    """The configuration in force and what stands behind it."""
    plans = {one.name: one for one in plan.cluster_plans}
    history.keep_failures(plans)
    return {
        "generation": plan.generation,
        "digest": plan.digest,
        "applied_at": round(history.applied_at, 3),
        "warnings": [str(warning) for warning in plan.warnings],
        "refused": history.refused,
        "routes": [{"name": route.id, "path": route.template} for route in plan.routes],
        "clusters": {
            name: _cluster(plans[name], destination, history, pools) for name, destination in plan.clusters.items()
        },
        "policies": plan.figures(),
    }


def saturation_of(plan: Snapshot) -> float:
    """The greatest `saturation` that a policy tells, 0 where none does."""
    return max((float(figures.get("saturation", 0.0)) for figures in plan.figures()), default=0.0)


def pressure_of(plan: Snapshot) -> dict[str, Any]:
    """What presses on this process, as its overload policies tell: `saturation` is the greatest of all, `lag` how many
    seconds the event loop is late, `scopes` has each limiter by its name. Empty without such a policy."""
    told = [figures for figures in plan.figures() if "saturation" in figures]
    if not told:
        return {}
    scopes: dict[str, float] = {}
    for figures in told:
        for name, scope in figures["scopes"].items():
            scopes[name] = max(scopes.get(name, 0.0), scope["saturation"])
    return {
        "saturation": max(figures["saturation"] for figures in told),
        "lag": max(figures["lag"] for figures in told),
        "scopes": scopes,
    }


def mean_pressure(processes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """That of an instance: the mean of its `workers`, since requests go to any of them; the lag is that of the latest.

    Those that have nothing to tell are left out. When all have nothing there is an `error` and no number."""
    told = [one for one in processes if "saturation" in one]
    if not told:
        return {"error": "no worker tells: a policy `overload` is needed, and a worker that serves"}
    names = dict.fromkeys(name for one in told for name in one["scopes"])
    count = len(told)
    return {
        "saturation": round(sum(one["saturation"] for one in told) / count, 3),
        "lag": max(one["lag"] for one in told),
        "scopes": {name: round(sum(one["scopes"].get(name, 0.0) for one in told) / count, 3) for name in names},
        "workers": count,
    }


def _cluster(plan: ClusterPlan, destination: Destination, history: History, pools: Pools) -> dict[str, Any]:
    if not isinstance(destination, Cluster):
        kind = "transport" if plan.transport is not None else plan.app_interface
        return {"kind": kind}
    return {
        "kind": "endpoints",
        "balance": plan.balance,
        "endpoints": {
            endpoint.key: {
                # Nobody asks endpoints how they are yet: what is told is what requests met.
                "health": "not checked",
                "connections": pools.figures(target_key(plan, endpoint)),
                "failures": history.failures(plan.name, endpoint.key),
            }
            for endpoint in plan.endpoints
        },
    }


__all__ = ["History", "mean_pressure", "pressure_of", "saturation_of", "status_of"]
