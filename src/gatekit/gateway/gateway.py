"""`Gateway`: a whole gateway as one ASGI application, and the configuration in force.

A reload is one assignment. A configuration that is refused changes nothing; requests that are under way finish on the
generation they began with; the state of what did not change lives on.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gatekit import providers
from gatekit.config.carry import still_used
from gatekit.config.cluster import Cluster
from gatekit.config.compile import compile_config
from gatekit.config.documents import config_from
from gatekit.config.model import GatewayConfig, Route
from gatekit.config.snapshot import Snapshot
from gatekit.core.destination import Closable, Destination
from gatekit.core.events import ConfigApplied, ConfigRejected, Events, GatewayStarted
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.plan import ClusterPlan, Document, SplitPlan
from gatekit.core.policy import Spec
from gatekit.core.ports import Ports
from gatekit.core.verdict import ErrorShape
from gatekit.drivers.asgi import AsgiDriver
from gatekit.drivers.wsgi import WsgiDriver
from gatekit.errors import ConfigRefused, Problem
from gatekit.gateway.admin import Admin, OneGateway
from gatekit.gateway.beside import Breather
from gatekit.gateway.drain import Drain, DrainReport
from gatekit.gateway.imagined import imagined
from gatekit.gateway.lifespan import Lifespan
from gatekit.gateway.limits import Limits
from gatekit.gateway.loop_thread import SHARED
from gatekit.gateway.retire import Retired
from gatekit.gateway.runtime import Runtime, end_flights
from gatekit.gateway.status import History, pressure_of, saturation_of, status_of
from gatekit.gateway.system import FETCH, system_ports
from gatekit.routing.explain import Explanation
from gatekit.routing.pause import Pause, no_pause
from gatekit.upstream import Pools, make_destination, pool_keys

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Source = GatewayConfig | Mapping[str, Any] | Document | str | os.PathLike[str]
"""What a configuration can be given as: the model, a mapping, a document, the path of a YAML or JSON file, or the URL
of a provider."""


class Gateway(AsgiDriver):
    """A gateway: policies, routes and the clusters they lead to. An ASGI application: `uvicorn module:gateway`.

    Raises ConfigRefused with every finding when the configuration cannot be. `app` serves what no route matches
    (without it that is 404). `error_shape` writes the bodies of error replies. `ports` are for tests. `generation` is the
    number that the configuration gets, for one of several processes that are to count alike.
    """

    def __init__(
        self,
        *,
        policies: Sequence[Spec] = (),
        routes: Sequence[Route] = (),
        clusters: Mapping[str, Cluster] | None = None,
        config: GatewayConfig | None = None,
        app: Callable[..., Awaitable[None]] | None = None,
        fallback: bool = False,
        error_shape: ErrorShape | None = None,
        ports: Ports | None = None,
        generation: int = 1,
        **settings: Any,
    ) -> None:
        if config is None:
            config = config_from(
                {"policies": list(policies), "routes": list(routes), "clusters": dict(clusters or {}), **settings}
            )
        elif policies or routes or clusters or settings:
            raise TypeError("Gateway takes either a whole config or policies, routes and clusters, not both")
        self._ports = system_ports() if ports is None else ports
        self._shape = error_shape
        self._fallback = fallback or app is not None
        self._pools = Pools()
        self._history = History(self._ports.events, self._ports.clock.wall)
        self._lock = threading.Lock()
        self._compiling = threading.Lock()
        self._issued = generation - 1
        self._stale = False
        self._retired = Retired()
        self._generations: weakref.WeakSet[Snapshot] = weakref.WeakSet()
        self.plan: Snapshot = self._compiled(config, generation)
        self.runtime = Runtime(lambda: self.plan.jobs, lost=self._pools.close_loop, forked=self._pools.reset_after_fork)
        super().__init__(self, now=self._ports.clock.monotonic, app=app, enter=self.runtime.enter)
        self._drain = Drain.of(self.flights, self._ports)

    @classmethod
    def from_config(cls, source: Source, **options: Any) -> Gateway:
        """A gateway from a mapping, a document or a file. Raises ConfigRefused."""
        return cls(config=read(source), **options)

    @property
    def events(self) -> Events:
        """Where to subscribe to what happens: `gateway.events.subscribe(RequestRefused, print)`."""
        return self._ports.events

    @property
    def generation(self) -> int:
        """The number of the configuration in force, from 1."""
        return self.plan.generation

    @property
    def config(self) -> GatewayConfig:
        """The configuration in force, as it was asked for."""
        return self.plan.config

    async def other(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await super().other(scope, receive, send)

    def wsgi(self, app: WSGIApplication | None = None) -> WsgiDriver:
        """The same gateway as a WSGI application, in front of `app` if there is one; it forwards on a loop thread."""
        enter = partial(self.runtime.enter_on, SHARED.call)
        return WsgiDriver(self, now=self._ports.clock.monotonic, app=app, enter=enter, loop_thread=lambda: SHARED)

    def prepare(self, source: Source, *, generation: int | None = None, beside: bool = False) -> Snapshot:
        """Compile a configuration that `activate` can put in force later. Raises ConfigRefused with every finding.

        Nothing changes for requests. It may be called from any thread; one configuration is compiled at a time.
        `beside` is for a thread beside a loop that serves: it then rests often, so that requests need not wait for it.
        """
        pause = Breather() if beside else no_pause
        with self._compiling:
            self._forget()
            number = self._issued + 1 if generation is None else generation
            try:
                return self._compiled(read(source, pause), number, pause)
            except ConfigRefused as refused:
                self.events.emit(ConfigRejected(self.plan.generation, tuple(map(str, refused.problems))))
                raise

    def activate(self, snapshot: Snapshot) -> None:
        """Put a prepared configuration in force: one assignment. Requests that are under way keep theirs.

        Raises ConfigRefused when one with the same number or a greater is in force already: an old configuration never
        comes back by itself.
        """
        with self._lock:
            if snapshot.generation <= self.plan.generation:
                late = f"generation {snapshot.generation} is not newer than {self.plan.generation}, which is in force"
                raise ConfigRefused([Problem("", late)])
            self._retired.add(self.plan)
            self.plan = snapshot
            self._stale = True
        self._pools.retain(key for one in self._alive() for plan in one.cluster_plans for key in pool_keys(plan))
        self.runtime.refresh()
        self.events.emit(ConfigApplied(snapshot.generation, snapshot.digest))

    def apply(self, source: Source) -> Snapshot:
        """Put a new configuration in force and give its snapshot. Raises ConfigRefused, and then nothing has changed.

        It compiles in the caller's thread; in an event loop that serves requests, use `reload`.
        """
        snapshot = self.prepare(source)
        self.activate(snapshot)
        self.tidy()
        return snapshot

    async def reload(self, source: Source) -> Snapshot:
        """`apply` for a loop that serves requests: it compiles in a thread, beside them."""
        snapshot = await asyncio.to_thread(self.prepare, source, beside=True)
        self.activate(snapshot)
        await asyncio.to_thread(self.tidy)
        return snapshot

    def tidy(self) -> None:
        """Forget the state of what the configurations that are gone asked for. `apply` and `reload` see to it; after
        `activate` it is done now, in any thread, or else when the next one is prepared."""
        with self._compiling:
            self._forget()

    def discard(self, snapshot: Snapshot) -> None:
        """Let go of a prepared configuration that is not to be activated, a little at a time."""
        self._retired.add(snapshot)
        self._stale = True

    @property
    def draining(self) -> bool:
        """Whether a drain has begun: readiness is then false, for good."""
        return self._drain.begun

    async def drain(self, *, grace: float = 5.0, timeout: float = 30.0) -> DrainReport:
        """Get everybody off this gateway without a loss, before its server is told to stop. Durations are seconds.

        For `grace` all goes on, while more and more HTTP/1 responses close their connections. Then requests have
        `timeout` to end and streams are ended one after the other; what is left is cut. No request is refused. A second
        call joins the first and can only make it shorter.
        """
        return await self._drain.join(grace=grace, timeout=timeout)

    def status(self) -> dict[str, Any]:
        """What is in force and what stands behind it, as plain data: configuration, routes, endpoints, what was refused."""
        return {
            "draining": self.draining,
            "active": self.active,
            **status_of(self.plan, self._history, self._pools),
        }

    @property
    def limits(self) -> Limits:
        """The rate limits in force, to look at and to free somebody from: `await gateway.limits.peek(tenant="acme")`."""
        return Limits([(owner, policy) for owner, _, policy in self.plan.policies])

    @property
    def saturation(self) -> float:
        """How close to its limit this process is, for autoscalers: 0 is idle, 1 full, above that it turns requests away.
        The greatest that any `Overload` tells; 0 where there is none."""
        return saturation_of(self.plan)

    def pressure(self) -> dict[str, Any]:
        """What that is made of: `saturation`, `lag` in seconds, and `scopes` by their names. Empty without an `Overload`."""
        return pressure_of(self.plan)

    def admin(
        self, *, token: str | None = None, source: Source | None = None, grace: float = 5.0, timeout: float = 30.0
    ) -> Admin:
        """The admin endpoints of this gateway, an ASGI application for a listener of its own: `/live`, `/ready`,
        `/status`, `/saturation`, `/drain`, `/reload`. Without a `token` they are for this machine alone. `/reload` reads `source`,
        `/drain` takes `grace` and `timeout`.
        """
        reading = None if source is None else lambda: source
        return Admin(OneGateway(self, reading, grace=grace, timeout=timeout), token=token)

    def explain(
        self,
        method: str,
        url: str,
        headers: Iterable[tuple[str, str]] = (),
        client: str | None = None,
        identity: Identity = ANONYMOUS,
    ) -> Explanation[Any]:
        """What would become of a request that nobody sent: the route that takes it, why others do not, and what the
        route's policies would say if `identity` were calling."""
        exchange, raw_path, query = imagined(self.plan.door, method, url, headers, client)
        exchange.identity = identity
        self.plan.admit(exchange, raw_path, query)
        return self.plan.explain(exchange)

    def _compiled(self, config: GatewayConfig, generation: int, pause: Pause = no_pause) -> Snapshot:
        """The snapshot, counted among those whose state is kept."""
        snapshot = compile_config(
            config, ports=self._ports.afresh(), generation=generation, destination=self._destination, shape=self._shape,
            fallback=self._fallback, pause=pause,
        )  # fmt: skip
        self._issued = max(self._issued, generation)
        with self._lock:
            self._generations.add(snapshot)
        return snapshot

    def _destination(self, plan: ClusterPlan | SplitPlan, ports: Ports) -> Destination:
        return make_destination(plan, ports, pools=self._pools)

    def _alive(self) -> list[Snapshot]:
        """The generations that somebody holds: the one in force, those that are being admitted, those prepared."""
        with self._lock:
            return list(self._generations)

    def _forget(self) -> None:
        """Forget the state that no generation asks for. Under the lock of compilation: what is being compiled asks."""
        if self._stale:
            self._stale = False
            self._ports.cells.retain(still_used(self._alive()))

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        apps = Lifespan(self.plan.apps if self.app is None else (self.app, *self.plan.apps))
        message = await receive()
        if message["type"] == "lifespan.startup":
            self.runtime.enter()
            failure = await apps.startup(scope.get("state"))
            if failure is not None:
                await send({"type": "lifespan.startup.failed", "message": failure})
                return
            await send({"type": "lifespan.startup.complete"})
            self.events.emit(GatewayStarted(self.generation))
            await receive()
        failure = await apps.shutdown()
        await self.aclose()
        if failure is not None:
            await send({"type": "lifespan.shutdown.failed", "message": failure})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def aclose(self) -> None:
        """End this loop's jobs and close its upstream connections. The gateway can be used again afterwards."""
        await self.runtime.close_here()
        await end_flights(self._ports)
        await FETCH.aclose()
        loop = asyncio.get_running_loop()
        self._pools.close_loop(loop)
        # The sockets are closed by callbacks that run in the loop's next turn.
        turned = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned
        if not self.runtime.serving:
            for destination in self.plan.clusters.values():
                if isinstance(destination, Closable):
                    destination.close()


def read(source: Source, pause: Pause = no_pause) -> GatewayConfig:
    """The configuration in `source`. Raises ConfigRefused with every finding. `pause` is called between routes."""
    if isinstance(source, GatewayConfig):
        return source
    if isinstance(source, (Document, Mapping)):
        return config_from(source, pause=pause)
    return config_from(providers.read(source), pause=pause)


__all__ = ["Gateway", "Source", "read"]
