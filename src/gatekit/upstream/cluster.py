"""`Cluster`: a set of endpoints reached over our own connections.

One call of `open` is one attempt on one endpoint: borrow a connection, send the request, wait for the head. The only
thing tried twice is a kept connection that turned out to be closed: once more, on another connection, and only where
the first try cannot have had an effect. Retries as a policy stand above this.
"""

from __future__ import annotations

import asyncio

from gatekit.core.destination import WebSocketSession
from gatekit.core.events import EndpointFailed
from gatekit.core.exchange import Exchange
from gatekit.core.headers import RawHeaders
from gatekit.core.plan import ClusterPlan
from gatekit.core.ports import Ports
from gatekit.errors import UpstreamError
from gatekit.upstream.balance import make_balancer
from gatekit.upstream.connection import Connection
from gatekit.upstream.dial import Target
from gatekit.upstream.forward import relocated, request_head, response_headers, response_trailers
from gatekit.upstream.pool import Pool, Pools
from gatekit.upstream.upload import IDEMPOTENT, Upload, head_timeout
from gatekit.upstream.websocket import Tunnel


class TotalEnd:
    """The end of the whole time that a request may take: watched while its response is under way."""

    __slots__ = ("_connection", "deadline")

    def __init__(self, connection: Connection, deadline: float) -> None:
        self._connection = connection
        self.deadline = deadline

    def expire(self) -> None:
        self._connection.stop("upstream.total_timeout", "the response took too long")


class ClusterResponse:
    """An upstream's answer, read straight from its connection."""

    __slots__ = ("_cluster", "_connection", "_end", "_place", "_pool", "_trailers", "headers", "status")

    def __init__(
        self, cluster: Cluster, place: int, pool: Pool, connection: Connection, end: TotalEnd | None = None
    ) -> None:
        self.status = connection.status
        self.headers: RawHeaders = response_headers(connection.status, connection.headers)
        self._trailers = connection.trailers
        self._cluster = cluster
        self._place = place
        self._pool = pool
        self._connection: Connection | None = connection
        self._end = end
        if end is not None:
            connection.sweeper.watch(end)

    @property
    def trailers(self) -> RawHeaders:
        """Complete once the body has ended."""
        return response_trailers(self._trailers) if self._trailers else []

    @trailers.setter
    def trailers(self, trailers: RawHeaders) -> None:
        self._trailers = trailers

    def take(self) -> tuple[bytes, bool]:
        connection = self._connection
        if connection is None:
            raise RuntimeError("the response was closed")
        return connection.take()

    async def read(self) -> bytes:
        connection = self._connection
        if connection is None:
            raise RuntimeError("the response was closed")
        try:
            return await connection.read(self._cluster.plan.idle_timeout)
        except UpstreamError as error:
            self._cluster.failed(self._place, error)
            raise

    def close(self) -> None:
        connection = self._connection
        if connection is not None:
            self._connection = None
            if self._end is not None:
                connection.sweeper.forget(self._end)
            self._pool.release(connection)
            self._cluster.balancer.done(self._place)


class Cluster:
    """The destination over a ClusterPlan with endpoints. Serves any number of loops."""

    __slots__ = (
        "_events",
        "_head_timeout",
        "_local",
        "_lock",
        "_own_host",
        "_pools",
        "_sessions",
        "_targets",
        "balancer",
        "name",
        "plan",
    )

    def __init__(self, plan: ClusterPlan, ports: Ports, pools: Pools) -> None:
        self.name = plan.name
        self.plan = plan
        self.balancer = make_balancer(plan.balance, plan.name, plan.endpoints, ports)
        self._events = ports.events
        self._pools = pools
        self._targets = tuple(Target(plan, endpoint) for endpoint in plan.endpoints)
        self._head_timeout = head_timeout(plan)
        self._own_host = plan.host_header == "endpoint"
        self._lock = ports.lock()
        self._sessions = [0] * len(plan.endpoints)
        self._local: tuple[asyncio.AbstractEventLoop | None, list[Pool | None]] = (None, [])

    async def open(self, exchange: Exchange) -> ClusterResponse:
        place = self._pick(exchange)
        connection: Connection | None = None
        total = self.plan.total_timeout
        began = 0.0 if total is None else self._pools.now()
        try:
            target = self._targets[place]
            pool = self._pool(place, target)
            host = target.authority if self._own_host else exchange.authority.encode("latin-1")
            head, length = request_head(exchange, host)
            connection = pool.borrow()
            if length:
                connection = await self._upload(exchange, pool, connection, head, length)
            else:
                connection = connection or await pool.connect()
                try:
                    await self._bodiless(connection, head, exchange.method)
                except UpstreamError as error:
                    if exchange.method not in IDEMPOTENT or not _is_stale(connection, error):
                        raise
                    connection.abort()
                    connection = await pool.connect()
                    await self._bodiless(connection, head, exchange.method)
            end: TotalEnd | None = None
            if total is not None:
                end = TotalEnd(connection, began + total)
            response = ClusterResponse(self, place, pool, connection, end)
            if response.status > 200:
                relocated(response.status, response.headers, host, exchange)
            return response
        except BaseException as error:
            if connection is not None:
                connection.abort()
            self.balancer.done(place)
            if isinstance(error, UpstreamError):
                self.failed(place, error)
            raise

    async def websocket(self, exchange: Exchange, session: WebSocketSession) -> None:
        place = self._pick(exchange)
        target = self._targets[place]
        sweeper = self._pools.on(asyncio.get_running_loop()).sweeper
        with self._lock:
            self._sessions[place] += 1
            full = self._sessions[place] > self.plan.max_websockets
        try:
            if full:
                raise UpstreamError("upstream.overloaded", "too many WebSockets", status=503)
            host = target.authority if self._own_host else exchange.authority.encode("latin-1")
            tunnel = Tunnel(target, host, self.plan, sweeper)
            await tunnel.carry(exchange, session)
        except UpstreamError as error:
            self.failed(place, error)
            raise
        finally:
            with self._lock:
                self._sessions[place] -= 1
            self.balancer.done(place)

    def failed(self, place: int, error: UpstreamError) -> None:
        """Tell who listens, unless the endpoint had no part in it."""
        if self._events.wants(EndpointFailed) and error.reason.startswith("upstream."):
            self._events.emit(EndpointFailed(self.name, self._targets[place].name, error.reason))

    def _pick(self, exchange: Exchange) -> int:
        place = self.balancer.pick()
        if place < 0:
            raise UpstreamError("upstream.no_endpoint", self.name, status=503)
        exchange.backend = self._targets[place].name
        exchange.attempts += 1
        return place

    def _pool(self, place: int, target: Target) -> Pool:
        """The pool of the running loop. The last loop's are at hand, as long as no reload has retired them."""
        loop = asyncio.get_running_loop()
        known, pools = self._local
        if known is not loop:
            pools = [None] * len(self._targets)
            self._local = (loop, pools)
        pool = pools[place]
        if pool is None or pool.retired:
            pool = pools[place] = self._pools.pool(loop, target)
        return pool

    async def _bodiless(self, connection: Connection, head: bytes, method: str) -> None:
        """Send a request without a body and return once the head of the answer is there."""
        connection.begin(head_only=method == "HEAD")
        connection.write(head)
        connection.request_sent = True
        await connection.wait_for_head(self._head_timeout)

    async def _upload(
        self, exchange: Exchange, pool: Pool, connection: Connection | None, head: bytes, length: int
    ) -> Connection:
        """A connection on which the request has been sent, body and all, and the head of the answer has arrived."""
        connection = connection or await pool.connect()
        upload = Upload(exchange, self.plan, length)
        try:
            await upload.exchange(connection, head)
            return connection
        except UpstreamError as error:
            connection.abort()
            if not upload.repeatable or not _is_stale(connection, error):
                raise
        except BaseException:
            connection.abort()
            raise
        connection = await pool.connect()
        try:
            await upload.exchange(connection, head)
            return connection
        except BaseException:
            connection.abort()
            raise


def _is_stale(connection: Connection, error: UpstreamError) -> bool:
    """Whether a kept connection was closed before it answered anything: the upstream may never have seen the request."""
    return connection.reused and not connection.received and error.reason == "upstream.closed"
