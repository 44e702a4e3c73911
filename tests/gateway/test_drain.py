"""The drain's schedule, and a whole drain over a driver, in virtual time: no second passes that the test does not make."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.core.door import Door
from gatekit.core.events import DrainBegan, DrainEnded, Event, Events
from gatekit.core.exchange import Exchange
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import FixedPlan
from gatekit.drivers.asgi import AsgiDriver
from gatekit.drivers.event_stream import COMMENT
from gatekit.errors import ResponseTruncated
from gatekit.gateway.drain import SETTLE, TICK, Drain, DrainReport, Schedule
from gatekit.gateway.system import SystemRandom
from gatekit.testing import FixedRandom, ManualClock, SeededRandom

STREAM = [(b"content-type", b"text/event-stream")]
times = st.floats(0.0, 100.0, allow_nan=False)
chances = st.floats(0.0, 1.0, exclude_max=True, allow_nan=False)


# -- the schedule


@pytest.mark.parametrize(
    ("now", "share"), [(100.0, 0.0), (101.0, 0.25), (102.0, 0.5), (103.5, 0.875), (104.0, 1.0), (999.0, 1.0)]
)
def test_the_share_of_closed_connections_rises_over_the_grace(now: float, share: float) -> None:
    assert Schedule(100.0, 4.0, 10.0).share(now) == share


def test_without_a_grace_every_response_closes() -> None:
    assert Schedule(100.0, 0.0, 10.0).share(100.0) == 1.0


@pytest.mark.parametrize(("grace", "timeout"), [(-1.0, 1.0), (1.0, -1.0), (math.nan, 1.0), (1.0, math.nan)])
def test_no_time_is_negative(grace: float, timeout: float) -> None:
    with pytest.raises(ValueError, match="negative"):
        Schedule(0.0, grace, timeout)


@pytest.mark.parametrize(
    ("now", "chance", "moment"),
    [
        (0.0, 0.0, 5.0),
        (0.0, 0.5, 12.5),
        (6.0, 0.0, 6.0),
        (10.0, 0.5, 15.0),
        (20.0, 0.0, 20.0),
        (25.0, 0.5, 30.0),
        (35.0, 0.5, 35.0),
        (40.0, 0.9, 40.0),
    ],
    ids=["at the end of the grace", "until half of the timeout", "there is no earlier", "half of what is left",
         "late ones have until the end", "half of that", "at the end", "after it"],
)  # fmt: skip
def test_the_moment_of_a_stream(now: float, chance: float, moment: float) -> None:
    assert Schedule(0.0, 5.0, 30.0).moment(now, chance) == moment


@given(began=times, grace=times, timeout=times, later=times, chance=chances)
def test_a_moment_is_neither_past_nor_in_the_grace_nor_after_the_end(
    began: float, grace: float, timeout: float, later: float, chance: float
) -> None:
    schedule = Schedule(began, grace, timeout)
    now = began + later
    moment = schedule.moment(now, chance)
    assert moment >= max(now, schedule.grace)
    assert moment <= max(now, schedule.end)
    if now < schedule.spread:
        assert moment <= schedule.spread


@given(times, times, times, times, times)
def test_a_second_schedule_only_shortens(
    grace: float, timeout: float, later: float, grace2: float, timeout2: float
) -> None:
    one, before = Schedule(0.0, grace, timeout), Schedule(0.0, grace, timeout)
    other = Schedule(later, grace2, timeout2)
    one.shorten(other)
    assert one.grace == min(before.grace, other.grace)
    assert one.end == min(before.end, other.end)
    assert one.grace <= one.spread <= one.end


# -- a drain


class VirtualTime:
    """A clock that is moved by whoever pauses. `at` has something done once so many seconds have passed."""

    def __init__(self) -> None:
        self.clock = ManualClock(monotonic=0.0)
        self.now = self.clock.monotonic
        self._due: list[tuple[float, Callable[[], object]]] = []

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        self._due.append((seconds, act))

    async def pause(self, seconds: float) -> None:
        await turns(10)
        self.clock.advance(seconds)
        for one in [one for one in self._due if one[0] <= self.now() + 1e-9]:
            self._due.remove(one)
            one[1]()
        await turns(10)


async def turns(count: int) -> None:
    for _ in range(count):
        turned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turned.set_result, None)
        await turned


class Slow:
    """A destination whose answer comes when the test says so, or never; events are one part and then nothing."""

    name = "slow"
    status = 200

    def __init__(self) -> None:
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = 0
        self.trailers: list[tuple[bytes, bytes]] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.first = b"data: 1\n\n"

    async def open(self, exchange: Exchange) -> Any:
        if exchange.path != "/events":
            await self.gate
            return _Whole()
        self.headers = list(STREAM)
        return self

    async def websocket(self, exchange: Exchange, session: Any) -> None:
        await session.accept(None, [])
        while await session.receive() is not None:
            pass

    def take(self) -> tuple[bytes, bool]:
        first, self.first = self.first, b""
        return first, False

    async def read(self) -> bytes:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    def close(self) -> None:
        self.closed += 1


class _Whole:
    status = 200

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []

    def take(self) -> tuple[bytes, bool]:
        return b"whole", True

    async def read(self) -> bytes:
        return b""

    def close(self) -> None:
        """Nothing is held."""


class Client:
    """One exchange with the driver, and when it ended."""

    def __init__(self, world: World, path: str, kind: str) -> None:
        self.world = world
        self.sent: list[dict[str, Any]] = []
        self.ended_at: float | None = None
        self.failed: BaseException | None = None
        self._first = True
        self._gone = asyncio.Event()
        scope = {
            "type": kind, "method": "GET", "scheme": "http", "http_version": "1.1", "path": path,
            "raw_path": path.encode(), "query_string": b"", "headers": [(b"host", b"h")], "client": None,
        }  # fmt: skip
        self.kind = kind
        self.task = asyncio.ensure_future(self._run(scope))

    async def _run(self, scope: Any) -> None:
        try:
            await self.world.driver(scope, self._receive, self._send)
        finally:
            self.ended_at = self.world.time.now()

    async def _receive(self) -> Any:
        if self._first:
            self._first = False
            return {"type": "websocket.connect" if self.kind == "websocket" else "http.request", "body": b""}
        await self._gone.wait()
        return {"type": f"{self.kind}.disconnect", "code": 1000}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self._gone.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


class World:
    """A driver before a slow destination or an app, and its drain in virtual time."""

    def __init__(self, random: Any = None, app: Any = None) -> None:
        self.time = VirtualTime()
        self.slow = Slow()
        self.events: list[Event] = []
        bus = Events()
        bus.subscribe(Event, self.events.append)
        pipeline = Pipeline([], events=bus, destination=None if app is not None else self.slow)
        self.plan = FixedPlan(Door(SystemRandom()), pipeline)
        self.driver = AsgiDriver(self, now=self.time.now, app=app)
        random = random or FixedRandom(0.5)
        self.drain = Drain(
            self.driver.flights, now=self.time.now, random=random.random, events=bus, pause=self.time.pause
        )

    def begin(self, path: str, kind: str = "http") -> Client:
        return Client(self, path, kind)

    async def drained(self, grace: float = 5.0, timeout: float = 30.0) -> DrainReport:
        async with asyncio.timeout(20):
            return await self.drain.join(grace=grace, timeout=timeout)


def near(seconds: float) -> Any:
    return pytest.approx(seconds, abs=TICK + 1e-6)


async def test_with_nothing_under_way_it_takes_the_grace() -> None:
    world = World()
    assert not world.drain.begun
    report = await world.drained(grace=5.0)
    assert (report.seconds, report.cut, report.ended) == (near(5.0), 0, 0)
    assert world.drain.begun
    assert world.events == [DrainBegan(5.0, 30.0, 0), DrainEnded(report.seconds, 0, 0)]


async def test_without_a_grace_and_with_nothing_under_way_it_is_over_at_once() -> None:
    assert await World().drained(grace=0.0) == DrainReport(0.0, 0, 0)


async def test_readiness_is_false_at_once() -> None:
    world = World()
    began: list[bool] = []
    world.time.at(0.0, lambda: began.append(world.drain.begun))
    await world.drained()
    assert began == [True]


async def test_it_waits_for_a_request_that_ends() -> None:
    world = World()
    client = world.begin("/slow")
    await turns(5)
    world.time.at(12.0, lambda: world.slow.gate.set_result(None))
    report = await world.drained()
    assert (report.seconds, report.cut) == (near(12.0), 0)
    assert world.events[0] == DrainBegan(5.0, 30.0, 1)
    assert client.body == b"whole"
    assert (b"connection", b"close") in client.sent[0]["headers"]


async def test_a_request_that_begins_after_the_grace_is_served() -> None:
    world = World()
    held = world.begin("/slow")
    late: list[Client] = []
    await turns(5)
    world.time.at(20.0, lambda: late.append(world.begin("/slow")))
    world.time.at(21.0, lambda: world.slow.gate.set_result(None))
    report = await world.drained()
    assert (report.seconds, report.cut) == (near(21.0), 0)
    assert [one.body for one in (held, *late)] == [b"whole"] * 2


async def test_what_does_not_end_is_cut_at_the_end() -> None:
    world = World()
    client = world.begin("/slow")
    await turns(5)
    report = await world.drained(grace=5.0, timeout=30.0)
    assert (report.seconds, report.cut, report.ended) == (near(35.0), 1, 0)
    assert client.sent[0]["status"] == 503
    assert client.ended_at == near(35.0)
    assert world.driver.active == 0


async def test_an_app_that_will_not_be_cancelled_holds_it_up_for_a_moment_only() -> None:
    over = asyncio.Event()

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue

    world = World(app=stubborn)
    client = world.begin("/slow")
    await turns(5)
    try:
        report = await world.drained()
        assert world.driver.active == 1
    finally:
        over.set()
        await client.task
    assert report.cut == 1
    assert report.seconds == pytest.approx(35.0 + 2 * SETTLE, abs=4 * TICK)


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_streams_are_ended_one_after_the_other(kind: str) -> None:
    world = World(SeededRandom(7))
    clients = [world.begin("/events", kind) for _ in range(40)]
    await turns(5)
    report = await world.drained(grace=5.0, timeout=30.0)
    assert (report.cut, report.ended) == (0, 40)
    ends = sorted(client.ended_at or 0.0 for client in clients)
    assert ends[0] >= 5.0
    assert ends[-1] <= 20.0 + 2 * TICK
    assert len(set(ends)) > 25
    assert max(b - a for a, b in pairwise(ends)) < 3.0
    assert report.seconds == near(ends[-1])
    for client in clients:
        if kind == "http":
            assert client.body == b"data: 1\n\n" + COMMENT or client.body == COMMENT
            assert client.sent[-1]["more_body"] is False
        else:
            assert client.sent[-1]["code"] == 1012


async def test_a_stream_that_begins_late_is_given_a_moment() -> None:
    world = World(FixedRandom(0.5))
    held = world.begin("/slow")
    late: list[Client] = []
    await turns(5)
    world.time.at(25.0, lambda: late.append(world.begin("/events", "websocket")))
    world.time.at(34.0, lambda: world.slow.gate.set_result(None))
    report = await world.drained()
    assert late[0].ended_at == pytest.approx(30.0, abs=3 * TICK)
    assert (report.cut, report.ended, held.body) == (0, 1, b"whole")


async def test_a_stream_that_is_there_at_the_very_end_is_ended_not_cut() -> None:
    world = World(FixedRandom(0.999999))
    late: list[Client] = []
    held = world.begin("/slow")
    await turns(5)
    world.time.at(34.97, lambda: late.append(world.begin("/events", "websocket")))
    report = await world.drained()
    assert (report.cut, report.ended) == (1, 1)
    assert late[0].sent[-1]["code"] == 1012
    assert held.sent[0]["status"] == 503


async def test_an_app_keeps_nobody_after_its_websocket_was_ended() -> None:
    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.get_running_loop().create_future()

    world = World(app=deaf)
    client = world.begin("/", "websocket")
    await turns(5)
    report = await world.drained()
    assert client.sent[-1]["code"] == 1012
    # Its client was told in time: the cut cost nobody anything.
    assert (report.cut, report.ended, report.seconds) == (0, 1, near(35.0))


async def test_an_embedded_stream_runs_on_and_is_cut() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.get_running_loop().create_future()

    world = World(app=app)
    client = world.begin("/")
    await turns(5)
    report = await world.drained()
    assert (report.cut, report.ended) == (1, 0)
    assert client.sent[-1]["more_body"] is True
    assert client.task.exception() is not None


# -- Connection: close, by probability


async def test_more_and_more_responses_close_until_all_do() -> None:
    seconds: dict[int, list[bool]] = {}

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    world = World(SeededRandom(3), app=inner)

    def crowd(second: int) -> None:
        clients = [world.begin("/") for _ in range(200)]

        async def look() -> None:
            await asyncio.wait([client.task for client in clients])
            seconds[second] = [bool(client.sent[0]["headers"]) for client in clients]

        looking.append(asyncio.ensure_future(look()))

    looking: list[asyncio.Future[None]] = []
    for second in range(9):
        world.time.at(second, lambda second=second: crowd(second))  # type: ignore[misc]
    await world.drained(grace=8.0, timeout=2.0)
    await asyncio.gather(*looking)
    shares = [sum(seconds[second]) / 200 for second in range(9)]
    assert shares[0] <= 0.05
    assert shares[8] == 1.0
    for second, share in enumerate(shares):
        assert share == pytest.approx(second / 8, abs=0.12)


# -- a second call


async def test_a_second_call_joins_the_first() -> None:
    world = World()
    client = world.begin("/slow")
    await turns(5)
    first = asyncio.ensure_future(world.drained())
    await turns(2)
    second = asyncio.ensure_future(world.drained(grace=500.0, timeout=500.0))
    assert await first == await second
    assert (await first).seconds == near(35.0)
    assert await world.drained() == await first
    assert [type(event) for event in world.events] == [DrainBegan, DrainEnded]
    assert client.sent[0]["status"] == 503


async def test_a_second_call_shortens_the_first() -> None:
    world = World(FixedRandom(0.9))
    client, stream = world.begin("/slow"), world.begin("/events", "websocket")
    await turns(5)
    second: list[asyncio.Future[DrainReport]] = []
    world.time.at(2.0, lambda: second.append(asyncio.ensure_future(world.drained(grace=1.0, timeout=4.0))))
    report = await world.drained()
    assert report == await second[0]
    assert (report.seconds, report.cut, report.ended) == (near(7.0), 1, 1)
    assert client.sent[0]["status"] == 503
    assert stream.ended_at == pytest.approx(4.8, abs=3 * TICK)


async def test_who_stops_waiting_does_not_stop_the_drain() -> None:
    world = World()
    first = asyncio.ensure_future(world.drained(grace=1.0))
    await turns(2)
    first.cancel()
    await asyncio.wait((first,))
    assert (await world.drained()).seconds == near(1.0)


async def test_a_wrong_call_begins_nothing() -> None:
    world = World()
    with pytest.raises(ValueError, match="negative"):
        await world.drained(grace=-1.0)
    assert not world.drain.begun


async def test_an_exchange_that_asks_for_the_drain_is_not_waited_for() -> None:
    reports: list[DrainReport] = []

    async def admin(scope: Any, receive: Any, send: Any) -> None:
        reports.append(await world.drained())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"drained"})

    world = World(app=admin)
    client = world.begin("/drain")
    await client.task
    assert [(one.seconds, one.cut) for one in reports] == [(near(5.0), 0)]
    assert client.body == b"drained"


async def test_what_goes_wrong_is_told_to_who_waits() -> None:
    def broken() -> float:
        raise ZeroDivisionError

    world = World()
    world.drain = Drain(
        world.driver.flights, now=world.time.now, random=broken, events=Events(), pause=world.time.pause
    )
    client = world.begin("/events", "websocket")
    await turns(5)
    with pytest.raises(ZeroDivisionError):
        await world.drained()
    client.leave()
    await client.task


async def test_a_drain_whose_loop_ends_is_over() -> None:
    world = World()
    client = world.begin("/slow")
    await turns(5)
    waiting = asyncio.ensure_future(world.drained())
    await turns(2)
    for task in asyncio.all_tasks():
        if task.get_name() == "gatekit drain":
            task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    world.slow.gate.set_result(None)
    await client.task


async def test_a_real_pause_takes_its_time() -> None:
    """One short drain on the loop's own clock."""
    world = World()
    loop = asyncio.get_running_loop()
    drain = Drain(world.driver.flights, now=loop.time, random=lambda: 0.5, events=Events())
    began = loop.time()
    async with asyncio.timeout(10):
        report = await drain.join(grace=0.02, timeout=1.0)
    assert 0.02 <= report.seconds <= loop.time() - began + 0.001


# -- several loops


class Thread:
    """A loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


async def test_other_loops_are_counted_and_cut() -> None:
    world = World()
    begun = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        begun.set()
        await asyncio.get_running_loop().create_future()

    world = World(FixedRandom(0.5), app=app)
    thread = Thread()
    clients: list[Client] = []

    async def serve(kind: str) -> None:
        client = world.begin("/", kind)
        clients.append(client)
        await asyncio.wait((client.task,))
        client.failed = client.task.exception()

    try:
        served = [asyncio.run_coroutine_threadsafe(serve(kind), thread.loop) for kind in ("http", "websocket")]
        assert await asyncio.to_thread(begun.wait, 10)
        async with asyncio.timeout(10):
            while world.driver.active < 2:
                await turns(1)
        drain = Drain(world.driver.flights, now=asyncio.get_running_loop().time, random=lambda: 0.5, events=Events())
        async with asyncio.timeout(20):
            report = await drain.join(grace=0.0, timeout=0.3)
            for one in served:
                await asyncio.wrap_future(one)
    finally:
        thread.stop()
    assert (report.cut, report.ended) == (1, 1)
    by_kind = {client.kind: client for client in clients}
    assert by_kind["websocket"].sent[-1]["code"] == 1012
    assert isinstance(by_kind["http"].failed, ResponseTruncated)
    assert world.driver.active == 0


async def test_two_loops_may_wait_for_the_same_drain() -> None:
    world = World()
    thread = Thread()
    drain = Drain(world.driver.flights, now=asyncio.get_running_loop().time, random=lambda: 0.5, events=Events())
    try:
        other = asyncio.run_coroutine_threadsafe(drain.join(grace=0.1, timeout=1.0), thread.loop)
        async with asyncio.timeout(10):
            mine = await drain.join(grace=0.1, timeout=1.0)
            assert mine == await asyncio.wrap_future(other)
    finally:
        thread.stop()


class Left:
    """An exchange of that loop, seen from outside."""

    status = 200
    stream = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.task = self
        self.get_loop = lambda: loop


async def test_what_a_closed_loop_left_behind_is_forgotten() -> None:
    """A server's loop that was closed under its exchanges: nobody will ever end them."""
    world = World()
    loop = asyncio.new_event_loop()
    loop.close()
    left: Any = Left(loop)
    world.driver.flights.under_way.add(left)
    report = await world.drained(grace=0.0, timeout=1.0)
    assert (world.driver.active, report.cut) == (0, 0)
