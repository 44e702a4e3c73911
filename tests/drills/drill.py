"""One drill: a gateway, the fault proxy and an upstream; one exchange with a fault in it; then one without.

Time stands still but for what the drill lets pass: only when nothing moves any more do deadlines come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache

from gatekit import Cluster, Gateway, Route
from gatekit.core.headers import RawHeaders
from gatekit.testing import ManualClock, TestResponse, Upstream, call, test_ports
from gatekit.testing.faults import (
    Close,
    Drip,
    Fault,
    FaultProxy,
    Garble,
    HalfClose,
    Refuse,
    Reset,
    Script,
    Stall,
    Truncate,
)
from gatekit.testing.leaks import tasks_of_ours
from gatekit.upstream import Cluster as Destination
from gatekit.upstream.balance import LeastRequests

from .shapes import BODY_COMES_LAST, NEXT, NEXT_BODY, SHAPES, WARM, Hasty, Shape

LONGEST = 61.0
"""Longer than any timeout of a cluster."""
DEADLINES = 10
"""How often that may pass before an exchange counts as one that hangs."""
STILL = 40
"""Turns of the loop without a byte after which nothing moves any more: loopback delivers at once."""
LATE = 0.003
"""Seconds the last of these turns takes: a busy kernel delivers a little later."""
FINS = (Close, HalfClose, Truncate)
CUTS = (Refuse, Reset, *FINS)


@dataclass(frozen=True)
class Case:
    """`fault` in the exchange called `shape`, its point counted from the exchange's first byte.

    `warm`: over a connection that has served a request already; then the point of a fault in the request is 1 or more,
    since 0 comes before the answer to the one that was served. `drip`: in small pieces besides.
    """

    shape: str
    fault: Fault | Refuse
    warm: bool = False
    drip: Drip | None = None

    def faults(self, base: Reference | None) -> list[Fault | Refuse]:
        """What the connection gets; `base` is the exchange that came before on it."""
        given = [self.fault] if self.drip is None else [self.fault, self.drip]
        if base is None:
            return given
        return [replace(one, after=one.after + getattr(base, one.direction)) for one in given if isinstance(one, Fault)]


@dataclass(frozen=True)
class Reference:
    """The exchange without a fault, and how many bytes it took each way."""

    status: int
    headers: RawHeaders
    body: bytes
    trailers: RawHeaders
    request: int
    response: int


class Scene:
    """A gateway with one route, over the proxy, to the upstream. One connection at most: a lost one would be missed."""

    def __init__(self, shape: Shape, proxy: FaultProxy, up: Upstream) -> None:
        self.shape = shape
        self.proxy = proxy
        self.up = up
        self.clock = ManualClock()
        self.gateway = Gateway(
            routes=[Route("/case", to="up", policies=shape.policies), Route("/*", to="up")],
            clusters={"up": Cluster(proxy.url, balance="least_requests", max_connections=1)},
            ports=test_ports(clock=self.clock),
            max_body="unlimited",
        )
        self._pools = self.gateway._pools.on(asyncio.get_running_loop())
        self._pools.sweeper.now = self.clock.monotonic

    async def get(self, path: str) -> TestResponse:
        return await call(self.gateway, "GET", path)

    async def exchange(self, *, patient: bool) -> TestResponse:
        """The exchange of this shape to its end. Unless `patient`, deadlines come once nothing moves."""
        task = asyncio.ensure_future(self.shape.send(self.gateway))
        try:
            for _ in range(DEADLINES):
                if patient or await self.still(task.done):
                    return await task
                self.clock.advance(LONGEST)
                self._pools.sweeper.sweep()
            raise AssertionError("it hangs: every deadline has passed and nothing came of it")
        finally:
            task.cancel()

    async def still(self, over: Callable[[], bool] = lambda: False, *, late: float = LATE) -> bool:
        """Wait until nothing moves. True as soon as it is over."""
        loop = asyncio.get_running_loop()
        turns, before = 0, self._moved()
        while turns < STILL and not over():
            turned = loop.create_future()
            loop.call_later(late if turns == STILL - 1 else 0, turned.set_result, None)
            await turned
            now = self._moved()
            turns, before = (turns + 1, before) if now == before else (0, now)
        return over()

    def _moved(self) -> tuple[object, ...]:
        proxy, up = self.proxy, self.up
        carried = tuple((one.request, one.response, one.faults_done) for one in proxy.carried)
        return carried, proxy.open_connections, up.open_connections, len(up.requests), up.aborted

    async def nothing_left(self) -> None:
        """No request is in flight and no connection in use; nobody waits and nothing of ours runs."""
        await self.still(late=0)
        cluster = self.gateway.plan.clusters["up"]
        assert isinstance(cluster, Destination)
        assert isinstance(cluster.balancer, LeastRequests)
        assert cluster.balancer._state.in_flight == {}
        for pool in self._pools.pools.values():
            assert (pool.open, pool.waiting) == (pool.idle, 0)
        assert self._pools.sweeper.watched == 0
        assert not tasks_of_ours(asyncio.get_running_loop())

    async def next_one(self) -> None:
        """A request without a fault gets its own answer, whole."""
        response = await self.get(NEXT)
        assert (response.status, response.body, response.complete) == (200, NEXT_BODY, True)


@asynccontextmanager
async def scene(shape: Shape, *faults: Script) -> AsyncIterator[Scene]:
    """Everything for one drill; at its end nothing may be left in the loop."""
    async with (Hasty if shape.early else Upstream)(shape.script) as up, FaultProxy(up.url, *faults) as proxy:
        made = Scene(shape, proxy, up)
        try:
            yield made
        finally:
            await made.gateway.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def run(case: Case) -> TestResponse:
    """Drill it, in a loop of its own, and give what the client got. Raises AssertionError."""
    return asyncio.run(_drill(case, reference_of(case.shape), reference_of("warm") if case.warm else None))


async def _drill(case: Case, reference: Reference, base: Reference | None) -> TestResponse:
    async with scene(SHAPES[case.shape], case.faults(base), ()) as set_up:
        proxy = set_up.proxy
        if base is not None:
            assert (await set_up.get(WARM)).body == b"warm"
        # A cut tells the gateway all there is to know: no deadline may be needed.
        response = await set_up.exchange(patient=isinstance(case.fault, CUTS) or harmless(case, reference))
        judge(case, reference, response)
        await set_up.nothing_left()
        repeated(case, set_up, 0 if base is None else base.request)
        proxy.release()
        first = proxy.carried[0]
        if first.faults_done and isinstance(case.fault, CUTS) and case.drip is None:
            # The gateway has seen it, and closes its end: nothing can follow on this connection.
            await proxy.wait_for(lambda proxy: first.ended)
        await set_up.still(late=LATE if isinstance(case.fault, Garble) else 0)
        await set_up.next_one()
        await set_up.nothing_left()
    return response


def run_queued(case: Case) -> None:
    """The same with another request in the queue for the one connection there may be."""
    asyncio.run(_queued(case, reference_of(case.shape)))


async def _queued(case: Case, reference: Reference) -> None:
    async with scene(SHAPES[case.shape], case.faults(None), ()) as set_up:
        first = asyncio.ensure_future(set_up.exchange(patient=True))
        await set_up.proxy.wait_for(lambda proxy: proxy.connections == 1)
        await set_up.next_one()
        judge(case, reference, await first)
        await set_up.nothing_left()


def run_without_a_port(name: str) -> TestResponse:
    """The same where nothing listens at first."""
    return asyncio.run(_without_a_port(SHAPES[name]))


async def _without_a_port(shape: Shape) -> TestResponse:
    async with scene(shape) as set_up:
        set_up.proxy.stop_listening()
        response = await set_up.exchange(patient=True)
        await set_up.nothing_left()
        assert set_up.proxy.connections == 0
        set_up.proxy.listen()
        await set_up.next_one()
        await set_up.nothing_left()
    return response


@cache
def reference_of(name: str) -> Reference:
    """The exchange of that shape without a fault; `warm` is the one that warms a connection."""
    return asyncio.run(_reference(name))


async def _reference(name: str) -> Reference:
    shape = Shape() if name == "warm" else SHAPES[name]
    async with scene(shape) as set_up:
        response = await (set_up.get(WARM) if name == "warm" else set_up.exchange(patient=True))
        assert response.complete
        assert response.status is not None
        await set_up.still()
        carried = set_up.proxy.carried[0]
    return Reference(
        response.status, _own(response), response.body, response.trailers, carried.request, carried.response
    )


def _own(response: TestResponse) -> RawHeaders:
    return [pair for pair in response.headers.raw if pair[0] != b"x-request-id"]


# -- what must be true


def harmless(case: Case, reference: Reference) -> bool:
    """Whether the whole answer must come all the same, without any deadline."""
    fault, shape = case.fault, SHAPES[case.shape]
    if isinstance(fault, Drip) or only_body(case, reference):
        return True
    if isinstance(fault, Stall):
        # What is held back is nothing, unless it is the FIN that ends the body or the answer that is on its way.
        if fault.direction == "response":
            return fault.after >= reference.response and not shape.ends_with_connection
        return fault.after >= reference.request and not fault.both
    return isinstance(fault, FINS) and fault.direction == "response" and fault.after >= reference.response


def only_body(case: Case, reference: Reference) -> bool:
    """Whether nothing but bytes of the answer's body is changed."""
    fault = case.fault
    return (
        isinstance(fault, Garble)
        and fault.direction == "response"
        and case.shape in BODY_COMES_LAST
        and fault.after >= reference.response - len(reference.body)
    )


def judge(case: Case, reference: Reference, response: TestResponse) -> None:
    """A whole answer, a clear refusal, or a cut: never a part that passes for the whole."""
    fault, shape = case.fault, SHAPES[case.shape]
    same = (response.status, _own(response)) == (reference.status, reference.headers)
    if isinstance(fault, Garble):
        if only_body(case, reference):
            begin = reference.response - len(reference.body)
            assert (same, response.body) == (True, fault.altered(reference.body, begin)), response
        if response.header("content-type") != "application/problem+json":
            # Anything may stand there; `call` sees to it that its framing is kept.
            assert response.complete or type(response.error).__name__ == "ResponseTruncated", response
            return
    if not response.complete:
        assert type(response.error).__name__ == "ResponseTruncated", response
        assert same, response
        assert reference.body.startswith(response.body), response
        assert not harmless(case, reference), response
        return
    assert response.error is None, response
    if same and (response.body, response.trailers) == (reference.body, reference.trailers):
        if shape.ends_with_connection:
            # Over a connection that was kept, the whole may have come at the second try.
            assert case.warm or not isinstance(fault, Reset), "a reset ends nothing"
        return
    assert not harmless(case, reference), response
    if same and shape.ends_with_connection and isinstance(fault, FINS):
        # A FIN is how such a body ends; that it came too early cannot be seen.
        assert reference.body.startswith(response.body), response
        return
    assert response.header("content-type") == "application/problem+json", response
    if shape.method == "HEAD":
        assert response.status in (502, 503, 504), response
        return
    problem = response.json()
    assert problem["status"] == response.status
    if problem["code"] == "body.too_slow":
        # The client was waiting for the answer in its upload, and to the gateway it looks as if it had stopped.
        assert (shape.early, response.status) == (True, 408), response
        return
    assert response.status in (502, 503, 504), response
    assert problem["code"].startswith("upstream."), response


def repeated(case: Case, set_up: Scene, before: int) -> None:
    """What may not be done twice was sent once at most."""
    at_most = 2 if SHAPES[case.shape].repeatable else 1
    if not (isinstance(case.fault, Garble) and case.fault.direction == "request"):
        # Else what is left of a request that was changed may read as another one.
        seen = [one for one in set_up.up.requests if one.path != WARM]
        assert len(seen) <= at_most, seen
    sent = [one.request - (before if number == 0 else 0) for number, one in enumerate(set_up.proxy.carried)]
    assert sum(one > 0 for one in sent) <= at_most, sent
