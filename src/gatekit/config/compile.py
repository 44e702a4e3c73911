"""From what was asked for to what runs. `compile_route` is the whole pipeline of a route.

Compiling has no effect outside: a configuration that cannot be compiled leaves everything as it was. Every finding is
collected.
"""

from __future__ import annotations

from collections.abc import Sequence

from gatekit.config.cluster import Cluster
from gatekit.config.findings import findings
from gatekit.config.model import GatewayConfig, Route, limit, marks
from gatekit.config.printed import digest
from gatekit.config.snapshot import Snapshot
from gatekit.config.standing import Standing, standing
from gatekit.core.destination import Destination, DestinationFactory
from gatekit.core.door import Door
from gatekit.core.peers import Trust
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import ClusterPlan, RoutePlan, SplitPlan, TlsPlan
from gatekit.core.policy import Hooks, Job, Spec, bound, jobs_of
from gatekit.core.ports import Ports
from gatekit.core.verdict import ErrorShape, Reply
from gatekit.errors import ConfigRefused, GatekitError, Problem
from gatekit.routing.matcher import Matcher, Rule
from gatekit.routing.pause import Pause, no_pause


def compile_config(
    config: GatewayConfig,
    *,
    ports: Ports,
    generation: int,
    destination: DestinationFactory,
    shape: ErrorShape | None = None,
    fallback: bool = False,
    pause: Pause = no_pause,
) -> Snapshot:
    """The snapshot of `config`, bound to `ports`. Raises ConfigRefused with every finding.

    `destination` makes what answers from the plan of a cluster or a split. With `fallback` what no route matches
    is for the app behind the gateway, and is not answered with 404 or 405. `pause` is called between routes.
    """
    warnings = _examined(config, pause)
    site = Site(config, ports, destination, shape)
    shared = site.bound(config.policies, "gateway", "policies")
    site.make_clusters(config)
    routes: list[RoutePlan] = []
    rules: list[Rule[RoutePlan]] = []
    for place, route in enumerate(config.routes):
        routes.append(compile_route(route, place, shared, site))
        rules.append(route.rule(routes[-1]))
        pause()
    no_route = Pipeline(_in_order(shared), events=ports.events, shape=shape, proven=True)
    matcher = Matcher(rules, pause)
    site.refuse_if_broken(warnings)
    door = Door(
        ports.random,
        trust=Trust(config.trusted_proxies, config.client_ip_header, config.client_cert_header),
        max_headers=config.max_headers,
        max_header_bytes=config.max_header_bytes,
        max_target=config.max_target,
        merge_slashes=config.merge_slashes,
        allowed_marks=marks(config.allow),
        max_body=limit(config.max_body),
        min_body_rate=config.min_body_rate,
    )
    return Snapshot(
        config=config, generation=generation, door=door, matcher=matcher, routes=routes, clusters=site.clusters,
        cluster_plans=site.plans, no_route=no_route, jobs=site.jobs(pause), ports=ports, warnings=warnings,
        fallback=fallback, digest=digest(config, pause),
        parts=[*config.places.parts(), *config.routes, *routes, *matcher.parts(pause)],
        policies=site.policies,
    )  # fmt: skip


def compile_route(route: Route, place: int, shared: Sequence[Hooks], site: Site) -> RoutePlan:
    """Everything that happens to a request of this route, in order: the policies of the gateway and its own by stage
    (within a stage the gateway's first), then the destination. A route without one answers what no policy did."""
    stands = site.standing(route, f"routes[{place}].policies")
    shared = [one for one in shared if one.kind not in stands.taken]
    own = site.bound(stands.own, f"route:{route.id}", f"routes[{place}].policies")
    destination = site.destination(route, f"routes[{place}].to")
    pipeline = Pipeline(
        _in_order([*shared, *own]), events=site.events, destination=destination, shape=site.shape, proven=True
    )
    refusal = Reply(500, "router.no_destination") if destination is None else None
    max_body = site.max_body if route.max_body is None else limit(route.max_body)
    return RoutePlan(
        route.id, route.path, pipeline, allowed_marks=marks(route.allow), refusal=refusal, max_body=max_body
    )


def cluster_plan(name: str, cluster: Cluster) -> ClusterPlan:
    """The plan of a cluster: what was asked for, in the words of the upstream side."""
    return ClusterPlan(
        name=name,
        endpoints=cluster.endpoints,
        app=cluster.app,
        app_interface=cluster.app_interface,
        transport=cluster.transport,
        balance=cluster.balance,
        host_header=cluster.host_header,
        connect_timeout=cluster.connect_timeout,
        timeout=cluster.timeout,
        idle_timeout=cluster.idle_timeout,
        total_timeout=cluster.total_timeout,
        keepalive=cluster.keepalive,
        max_connection_age=cluster.max_connection_age,
        max_connections=cluster.max_connections,
        max_waiting=cluster.max_waiting,
        max_wait=cluster.max_wait,
        websocket_idle_timeout=cluster.websocket_idle_timeout,
        max_websockets=cluster.max_websockets,
        tls=None if cluster.tls is None else TlsPlan(**cluster.tls.model_dump()),
        tls_context=cluster.tls_context,
    )


class Site:
    """What the routes of one compilation share: ports, destinations, and the list of what went wrong."""

    def __init__(
        self, config: GatewayConfig, ports: Ports, factory: DestinationFactory, shape: ErrorShape | None
    ) -> None:
        self.events = ports.events
        self.shape = shape
        self.max_body = limit(config.max_body)
        self.clusters: dict[str, Destination] = {}
        self.plans: list[ClusterPlan] = []
        self.workers: list[object] = []
        self.policies: list[tuple[str, str, object]] = []
        self._shared = config.policies
        self._ports = ports
        self._factory = factory
        self._places = config.places
        self._problems: list[Problem] = []

    def bound(self, specs: Sequence[Spec], owner: str, path: str) -> list[Hooks]:
        """The hooks of these specs, bound under `owner`: the identity that their state is kept by."""
        found: list[Hooks] = []
        for place, spec in enumerate(specs):
            # The same policy twice is two policies, each with a state of its own.
            again = list(specs[:place]).count(spec)
            try:
                hooks = bound(spec, self._ports.owned_by(f"{owner}#{again + 1}" if again else owner))
            except (GatekitError, ValueError, ImportError) as error:
                self._problem(f"{path}[{place}]", f"{spec.kind or type(spec).__name__} cannot be set up: {error}")
            else:
                found.append(hooks)
                self.workers.append(hooks.policy)
                self.policies.append((owner, hooks.kind, hooks.policy))
        return found

    def standing(self, route: Route, path: str) -> Standing:
        """Which policies stand on the route."""
        try:
            return standing(self._shared, route.policies)
        except ValueError as error:
            self._problem(path, str(error))
            return Standing((), frozenset())

    def make_clusters(self, config: GatewayConfig) -> None:
        """One destination for each cluster, whatever number of routes lead to it."""
        for name, cluster in config.clusters.items():
            plan = cluster_plan(name, cluster)
            made = self._made(plan, f"cluster:{name}", f"clusters.{name}")
            if made is not None:
                self.plans.append(plan)
                self.clusters[name] = made

    def destination(self, route: Route, path: str) -> Destination | None:
        """What answers the route: a cluster, or several by weight. Weight 0 is none, and all of it is none at all."""
        parts = [(self.clusters[name], weight) for name, weight in route.to if weight and name in self.clusters]
        if len(parts) < 2:
            return parts[0][0] if parts else None
        return self._made(SplitPlan(route.id, tuple(parts)), f"route:{route.id}", path)

    def jobs(self, pause: Pause) -> list[Job]:
        """The background work of all that was bound."""
        found: list[Job] = []
        for worker in self.workers:
            found += jobs_of(worker)
            pause()
        return found

    def _made(self, plan: ClusterPlan | SplitPlan, owner: str, path: str) -> Destination | None:
        try:
            made = self._factory(plan, self._ports.owned_by(owner))
        except (GatekitError, ValueError, ImportError) as error:
            self._problem(path, str(error))
            return None
        self.workers.append(made)
        return made

    def _problem(self, path: str, message: str) -> None:
        self._problems.append(self._places.locate(Problem(path, message)))

    def refuse_if_broken(self, warnings: Sequence[Problem]) -> None:
        if self._problems:
            raise ConfigRefused([*self._problems, *warnings])


def _in_order(hooks: Sequence[Hooks]) -> list[Hooks]:
    return sorted(hooks, key=lambda one: one.placement.stage)


def _examined(config: GatewayConfig, pause: Pause) -> tuple[Problem, ...]:
    """The warnings; documents were examined when they were read, a model made by hand is examined now."""
    if config.warnings is not None:
        return config.warnings
    found = tuple(config.places.locate(problem) for problem in findings(config, pause=pause))
    if any(problem.severity == "error" for problem in found):
        raise ConfigRefused(found)
    return found


__all__ = ["cluster_plan", "compile_config", "compile_route"]
