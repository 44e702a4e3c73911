"""Load shedding where there are threads: a WSGI server's, and loops in several of them."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

from gatekit.core.outcome import Outcome
from gatekit.core.verdict import Reply
from gatekit.policies.overload import Overload
from gatekit.testing import call_wsgi, request
from gatekit.wsgi import Policies as WsgiPolicies

from .gateway_scene import ports, until


class Gated:
    """A WSGI app that answers when it is told to."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        self.entered.release()
        assert self.gate.wait(10)
        start_response("200 OK", [("content-length", "2")])
        return [b"ok"]


def in_threads(app: Any, count: int) -> tuple[list[threading.Thread], list[int | None]]:
    """So many requests at once, each in a thread; their statuses as they come."""
    got: list[int | None] = []
    threads = [threading.Thread(target=lambda: got.append(call_wsgi(app, "GET", "/").status)) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, got


def wsgi(app: Any, spec: Overload) -> Any:
    return WsgiPolicies(app, spec, ports=ports(lock=threading.Lock))


def test_under_wsgi_a_thread_waits_for_its_place() -> None:
    app = Gated()
    made = wsgi(app, Overload(1, queue=5, max_wait="30s", lag=False))
    threads, got = in_threads(made, 3)
    assert app.entered.acquire(timeout=10)
    assert not app.entered.acquire(blocking=False), "one at a time"
    app.gate.set()
    for thread in threads:
        thread.join(10)
    assert got == [200] * 3


def test_under_wsgi_who_waits_too_long_is_turned_away() -> None:
    app = Gated()
    made = wsgi(app, Overload(1, queue=5, max_wait="1ms", lag=False))
    threads, got = in_threads(made, 1)
    assert app.entered.acquire(timeout=10)
    late = call_wsgi(made, "GET", "/")
    assert (late.status, late.json()["code"]) == (503, "overload.queue_timeout")
    app.gate.set()
    threads[0].join(10)
    assert got == [200]


def test_under_wsgi_no_more_than_the_limit_are_ever_in_and_no_place_is_lost() -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        start_response("200 OK", [("content-length", "2")])
        with lock:
            inside -= 1
        return [b"ok"]

    made = wsgi(app, Overload(2, queue=50, max_wait="30s", lag=False))
    got: list[int | None] = []

    def many() -> None:
        got.extend(call_wsgi(made, "GET", "/").status for _ in range(30))

    threads = [threading.Thread(target=many) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert got == [200] * 180
    assert most <= 2


class Collecting:
    """A lock that is held by whoever has it while the garbage collector runs, and counts who asks for it meanwhile."""

    def __init__(self, asked: list[str]) -> None:
        self._asked = asked
        self._held = False

    def __enter__(self) -> None:
        if self._held:
            self._asked.append("again, by the thread that has it")
        self._held = True

    def __exit__(self, *_: object) -> None:
        gc.collect()
        self._held = False


def test_a_loop_that_is_closed_under_who_waits_takes_no_place_with_it_and_no_lock() -> None:
    """Its task goes when the place is offered to it: in the middle of handing it on."""
    spec = Overload(1, queue=5, max_wait="30s", lag=False)
    asked: list[str] = []
    policy: Any = spec.bind_to(ports(lock=lambda: Collecting(asked)))
    holder, lost, other = request(), request(), request()
    assert policy.decide(holder) is None

    async def waits() -> None:
        await policy.decide(lost)

    loop = asyncio.new_event_loop()
    waiting = loop.create_task(waits())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    del waiting

    async def served() -> Reply | None:
        wait = asyncio.ensure_future(policy.decide(other))
        await until(lambda: policy.status()["scopes"]["gateway"]["waiting"] == 2)
        policy.observe(holder, Outcome(200))
        reply: Reply | None = await wait
        return reply

    complaints: list[Any] = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        assert runner.run(served()) is None
    assert asked == []
    assert policy.status()["scopes"]["gateway"]["in_flight"] == 1


def test_loops_of_several_threads_share_places_and_lose_none() -> None:
    spec = Overload(2, queue=100, max_wait="30s", lag=False)
    policy: Any = spec.bind_to(ports(lock=threading.Lock))
    most = 0

    async def one() -> bool:
        nonlocal most
        exchange = request()
        found = policy.decide(exchange)
        reply = found if found is None or isinstance(found, Reply) else await found
        if reply is None:
            most = max(most, policy.status()["scopes"]["gateway"]["in_flight"])
            await until(lambda: True)
        policy.observe(exchange, Outcome(200))
        return reply is None

    got: list[bool] = []

    async def many() -> None:
        got.extend(await asyncio.gather(*(one() for _ in range(25))))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert got == [True] * 100
    assert most <= 2
    told = policy.status()["scopes"]["gateway"]
    assert (told["in_flight"], told["waiting"]) == (0, 0)
