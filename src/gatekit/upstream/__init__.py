"""Destinations: our own HTTP/1.1 connection pool, apps in this process, httpx transports, WebSockets, splits."""

from __future__ import annotations

from gatekit.core.destination import Destination
from gatekit.core.plan import ClusterPlan, SplitPlan
from gatekit.core.ports import Ports
from gatekit.upstream.apps import AsgiApp
from gatekit.upstream.cluster import Cluster
from gatekit.upstream.pool import Pools, pool_keys
from gatekit.upstream.split import Split
from gatekit.upstream.transport import HttpxTransport
from gatekit.upstream.wsgi_app import WsgiApp

__all__ = ["AsgiApp", "Cluster", "HttpxTransport", "Pools", "Split", "WsgiApp", "make_destination", "pool_keys"]


def make_destination(plan: ClusterPlan | SplitPlan, ports: Ports, *, pools: Pools) -> Destination:
    """The destination of a compiled cluster or split. `pools` outlives it: connections survive reloads there."""
    if isinstance(plan, SplitPlan):
        return Split(plan, ports)
    if plan.app is not None:
        return AsgiApp(plan, pools) if plan.app_interface == "asgi" else WsgiApp(plan, pools)
    if plan.transport is not None:
        return HttpxTransport(plan, pools)
    return Cluster(plan, ports, pools)
