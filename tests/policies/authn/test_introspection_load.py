"""Introspection under load: how many calls there are, and what everybody else is told.

With a real event loop and the single flight of a running process; only the server is the test's.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl

import pytest
from tests.policies.authn.introspection_scene import GOOD, NOW, URL, Scene

from gatekit.core.ports import Fetched
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.gateway.loop_thread import LoopThread
from gatekit.gateway.shared import Shared
from gatekit.policies.authn.method import Verified
from gatekit.testing import FakeFetch, ManualClock, request, test_ports
from gatekit.testing.policies import step

DOWN = StoreUnavailable("https://as.example: no answer within 2.0 s")


class Held:
    """A server that answers when the test lets it. `most` is how many calls it ever had at once."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, asyncio.Future[Any]]] = []
        self.calls = self.now = self.most = 0

    async def __call__(self, method: str, url: str, *, body: bytes | None = None, **_: Any) -> Fetched:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append((dict(parse_qsl((body or b"").decode()))["token"], future))
        try:
            answer = await future
        finally:
            self.now -= 1
        return Fetched(200, {}, json.dumps(answer).encode())

    def release(self, answer: Any) -> None:
        """Answer every call there is now."""
        waiting, self.waiting = self.waiting, []
        for _, future in waiting:
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def live(server: Any, **fields: Any) -> Scene:
    """A scene with the single flight of a running process."""
    clock = ManualClock(wall=NOW)
    scene = Scene(ports=test_ports(clock=clock, fetch=server, once=Shared(), lock=threading.Lock), **fields)
    scene.clock, scene.fetch = clock, server
    return scene


async def asked(scene: Scene, token: str) -> str:
    """What comes of one request, `passed` or the reason."""
    found: Any = scene.bearer.identify(request("GET", "/", headers={"Authorization": f"Bearer {token}"}))
    if isinstance(found, Awaitable):
        found = await found
    return found.reason if isinstance(found, Reply) else "passed"


async def until(condition: Any) -> None:
    """Let the loop run until that holds. What takes more than 10,000 turns never will."""
    for _ in range(10_000):
        if condition():
            return
        await turn()
    raise AssertionError("it never came to that")


async def turn() -> None:
    """One turn of the loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.call_soon(future.set_result, None)
    await future


# -- one call for each token


@pytest.mark.parametrize(("answer", "said"), [(GOOD, "passed"), ({"active": False}, "authn.inactive_token")])
async def test_an8_one_call_for_all_who_wait_for_one_token(answer: Any, said: str) -> None:
    server = Held()
    scene = live(server)
    waiting = [asyncio.ensure_future(asked(scene, "same")) for _ in range(200)]
    await until(lambda: server.waiting)
    assert scene.line.calls == 1
    server.release(answer)
    assert set(await asyncio.gather(*waiting)) == {said}
    assert await asked(scene, "same") == said
    assert server.calls == 1
    assert scene.line.calls == 0
    assert not scene.line.tokens


async def test_an8_who_gives_up_takes_nothing_from_the_others() -> None:
    server = Held()
    scene = live(server)
    first = asyncio.ensure_future(asked(scene, "same"))
    await until(lambda: server.waiting)
    second = asyncio.ensure_future(asked(scene, "same"))
    await turn()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.release(GOOD)
    assert await second == "passed"
    assert server.calls == 1


async def test_an8_the_flight_is_known_by_digest_and_never_by_token() -> None:
    keys: list[Any] = []
    once = Shared()

    async def watched(key: Any, work: Any) -> Any:
        keys.append(key)
        return await once(key, work)

    clock = ManualClock(wall=NOW)
    fetch = FakeFetch().answer(URL, json=GOOD)
    scene = Scene(ports=test_ports(clock=clock, fetch=fetch, once=watched))
    assert await asked(scene, "MARKER-token") == "passed"
    assert len(keys) == 1
    assert "MARKER" not in repr(keys)


# -- so many calls and no more


async def test_an9_5000_garbage_tokens_never_hold_more_than_50_calls() -> None:
    server = Held()
    scene = live(server)
    said: Counter[str] = Counter()
    flood = [asyncio.ensure_future(asked(scene, f"garbage-{number}")) for number in range(5_000)]
    await until(lambda: sum(one.done() for one in flood) == 4_950)
    assert server.now == 50, "the others were told at once, while nobody had an answer yet"
    server.release({"active": False})
    said.update(await asyncio.gather(*flood))
    assert said == {"authn.inactive_token": 50, "authn.introspection_busy": 4_950}
    assert server.most == 50
    assert server.calls == 50
    assert scene.line.calls == 0
    # And so on, wave upon wave, also with those who were told to come again.
    for _ in range(5):
        flood = [asyncio.ensure_future(asked(scene, f"garbage-{number}")) for number in range(5_000)]
        await until(lambda: server.waiting)
        server.release({"active": False})
        await asyncio.gather(*flood)
    assert server.most == 50
    assert server.calls == 50 * 6


async def test_an9_busy_is_told_with_retry_after_and_not_to_who_waits_for_a_call_under_way() -> None:
    server = Held()
    scene = live(server, max_in_flight=2, retry_after=2.2)
    first = [asyncio.ensure_future(asked(scene, token)) for token in ("a", "b")]
    await until(lambda: len(server.waiting) == 2)
    reply = scene.bearer.identify(request("GET", "/", headers={"Authorization": "Bearer c"}))
    assert isinstance(reply, Reply), "at once, without a coroutine"
    assert (reply.status, reply.reason) == (503, "authn.introspection_busy")
    assert reply.headers == [(b"retry-after", b"3")]
    joined = asyncio.ensure_future(asked(scene, "a"))
    await turn()
    assert not joined.done()
    server.release(GOOD)
    assert await asyncio.gather(*first, joined) == ["passed"] * 3
    assert figure(scene, "busy") == 1
    assert server.calls == 2


def figure(scene: Scene, name: str) -> Any:
    (figures,) = scene.method.status().values()
    return figures[name]


async def test_a_call_that_ends_with_its_loop_gives_its_place_back() -> None:
    server = Held()
    scene = live(server)
    waiting = asyncio.ensure_future(asked(scene, "a"))
    await until(lambda: server.waiting)
    server.waiting[0][1].cancel()
    assert await waiting == "authn.introspection_unavailable"
    assert scene.line.calls == 0
    assert scene.line.breaker.state == "closed"


async def test_a_place_that_another_thread_made_needless_is_given_back() -> None:
    async def joined(key: Any, work: Any) -> Any:
        assert scene.line.calls == 1
        return GOOD

    scene = Scene(ports=test_ports(clock=ManualClock(wall=NOW), once=joined))
    assert await asked(scene, "a") == "passed"
    assert scene.line.calls == 0
    assert not scene.line.tokens


async def test_who_waits_in_vain_is_told_so_and_holds_no_place() -> None:
    async def gone(key: Any, work: Any) -> Any:
        raise StoreUnavailable("the event loop was closed")

    scene = Scene(ports=test_ports(clock=ManualClock(wall=NOW), once=gone))
    assert await asked(scene, "a") == "authn.introspection_unavailable"
    assert scene.line.calls == 0
    assert scene.line.last_error == "the event loop was closed"


@pytest.mark.parametrize(("limit", "said"), [(1, "authn.introspection_busy"), (2, "passed")])
async def test_a_call_that_ended_meanwhile_is_made_again_if_there_is_a_place(limit: int, said: str) -> None:
    fetch = FakeFetch().answer(URL, json=GOOD)
    scene = Scene(ports=test_ports(clock=ManualClock(wall=NOW), fetch=fetch), max_in_flight=limit)
    # As another thread leaves it: this token is being asked about, and one call is under way.
    scene.line.tokens.add(sha256(b"a").digest())
    scene.line.calls = 1
    assert await asked(scene, "a") == said
    assert scene.line.calls == 1


async def test_failures_of_before_count_for_nothing_once_the_server_is_back() -> None:
    server = Held()
    scene = live(server)
    old = [asyncio.ensure_future(asked(scene, f"old-{number}")) for number in range(20)]
    await until(lambda: len(server.waiting) == 20)
    late, server.waiting = server.waiting[5:], server.waiting[:5]
    server.release(DOWN)
    await until(lambda: scene.line.breaker.state == "open")
    scene.clock.advance(3)
    probe = asyncio.ensure_future(asked(scene, "probe"))
    await until(lambda: server.waiting)
    assert await asked(scene, "not-a-second-one") == "authn.introspection_unavailable"
    server.release(GOOD)
    assert await probe == "passed"
    server.waiting = late
    server.release(DOWN)
    await asyncio.gather(*old)
    once = asyncio.ensure_future(asked(scene, "one-failure-of-today"))
    await until(lambda: server.waiting)
    server.release(DOWN)
    await once
    assert scene.line.in_row == 1
    assert scene.line.breaker.state == "closed"


# -- threads of a WSGI server


def test_threads_share_one_call_for_one_token() -> None:
    """No loop runs in these threads: each waits in its place, and the call is made once, on the loop thread."""
    arrived, go = threading.Event(), threading.Event()
    calls: list[str] = []

    async def fetch(method: str, url: str, **_: Any) -> Fetched:
        calls.append(url)
        arrived.set()
        await asyncio.to_thread(go.wait, 5)
        return Fetched(200, {}, json.dumps(GOOD).encode())

    loop_thread = LoopThread()
    ports = test_ports(fetch=fetch, once=Shared(loop_thread), lock=threading.Lock)
    scene = Scene(ports=ports, max_in_flight=1)
    said: list[Any] = []

    def one(token: str) -> None:
        found: Any = scene.bearer.identify(request("GET", "/", headers={"Authorization": f"Bearer {token}"}))
        said.append(found if isinstance(found, (Verified, Reply)) else step(found, "identify"))

    first = threading.Thread(target=one, args=("same",))
    first.start()
    assert arrived.wait(5)
    others = [threading.Thread(target=one, args=("same",)) for _ in range(8)]
    for thread in others:
        thread.start()
    one("another")
    assert [found.reason for found in said] == ["authn.introspection_busy"]
    go.set()
    for thread in (first, *others):
        thread.join(5)
    loop_thread.stop()
    assert len(calls) == 1
    assert sum(isinstance(found, Verified) for found in said) == 9
    assert scene.line.calls == 0
