"""What limiters do beside being quick: whether they count exactly, whether a refusal costs anything, and what happens
when the store is gone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from bench.peers.identity_rounds import table
from bench.peers.limits_apps import APPS, App
from bench.peers.limits_ways import ALGORITHMS, FIXED, Asked, Make, Rate, scope
from tests.servers.valkey import Valkey

AT_ONCE, AMOUNT = 1000, 100
TIGHT, WIDE = Rate(5, 1), Rate(15, 86400)
"""What refuses, and what must not be consumed then."""
REFUSED = 10
PATIENCE = 2.0
"""Seconds after which somebody who waits for an answer gives up."""


# -- Exactness


async def admitted(asked: Asked, count: int = AT_ONCE) -> str:
    """How many of so many simultaneous requests of one caller pass, and how many end in an error: tasks for those who
    wait, 32 threads for the others."""
    given = asked.ready(count)
    if asked.waits:
        found = await asyncio.gather(*(asked.once(one) for one in given), return_exceptions=True)
    else:
        found = await asyncio.to_thread(_in_threads, asked, given)
    passed = sum(one for one in found if isinstance(one, bool))
    errors = Counter(type(one).__name__ for one in found if not isinstance(one, bool))
    return ", ".join([str(passed), *(f"{times} × {name}" for name, times in errors.items())])


def _in_threads(asked: Asked, given: Sequence[Any]) -> list[bool | BaseException]:
    def let_through(argument: Any) -> bool | BaseException:
        try:
            return asked.allowed(asked.call(argument))
        except asked.refusals:
            return False
        except Exception as error:
            return error

    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(let_through, given))


async def exact(makes: Mapping[str, Make], valkey: Valkey | None, count: int = AT_ONCE) -> dict[str, list[str]]:
    """How many pass, by algorithm."""
    found: dict[str, list[str]] = {}
    for name, make in makes.items():
        for algorithm in ALGORITHMS:
            if valkey is not None:
                valkey.ask("FLUSHALL")
            asked = make(algorithm, [Rate(AMOUNT, 86400)], None if valkey is None else valkey.url, 1)
            passed = "–"
            if asked is not None:
                passed = await _told(admitted(asked, count))
                await asked.close()
            found.setdefault(name, []).append(passed)
    return found


async def _told(work: Any) -> str:
    """What it found, or what it raised."""
    try:
        return str(await work)
    except Exception as error:
        return f"raises {type(error).__name__}"


# -- All or nothing


async def passed_in_all(make: Make, rates: Sequence[Rate], url: str | None, algorithm: str) -> str:
    """How many pass of what the wide limit allows, while the tight one refuses two of three: all of it is right.

    Each second as many are asked as the tight limit lets through, and ten more; until the wide one lets nobody through.
    """
    asked = make(algorithm, rates, url, 1)
    if asked is None:
        return "–"
    total = 0
    for _ in range(WIDE.amount // TIGHT.amount + 1):
        passed = 0
        for argument in asked.ready(TIGHT.amount + REFUSED):
            passed += await asked.once(argument)
        total += passed
        if not passed:
            break
        await _after(1.1 * TIGHT.seconds)
    await asked.close()
    return f"{total}"


async def _after(seconds: float) -> None:
    """Later. Everybody waits at the same time."""
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, over.set_result, None)
    await over


async def all_or_nothing(makes: Mapping[str, Make], valkey: Valkey | None) -> dict[str, list[str]]:
    """For each, the tight limit first and the wide one first; all limiters at the same time, each with a database."""
    found: dict[str, list[str]] = {}
    for order in ((TIGHT, WIDE), (WIDE, TIGHT)):
        urls: list[str | None] = [None] * len(makes)
        if valkey is not None:
            valkey.ask("FLUSHALL")
            urls = [f"{valkey.url[:-1]}{number}" for number in range(len(makes))]
        work = [passed_in_all(make, order, url, FIXED) for make, url in zip(makes.values(), urls, strict=True)]
        for name, told in zip(makes, await asyncio.gather(*(_told(one) for one in work)), strict=True):
            found.setdefault(name, []).append(told)
    return found


def exactness(
    names: Sequence[str],
    memory: Mapping[str, Sequence[str]],
    shared: Mapping[str, Sequence[str]],
    count: int = AT_ONCE,
) -> list[str]:
    places = [f"{one.replace('_', ' ')} {where}" for where in ("in memory", "on Valkey") for one in ALGORITHMS]
    return table(
        f"Of {count:,} simultaneous requests {AMOUNT} may pass: how many do",
        ", ".join(["limiter", *places]),
        [[name, *memory[name], *shared[name]] for name in names],
    )


def wholeness(
    names: Sequence[str], memory: Mapping[str, Sequence[str]], shared: Mapping[str, Sequence[str]]
) -> list[str]:
    return table(
        f"Of a limit of {WIDE.amount} this much passes while another refuses {REFUSED} for {TIGHT.amount} that pass",
        "limiter, in memory the other is asked first, in memory it is asked last, on Valkey first, on Valkey last",
        [[name, *memory[name], *shared[name]] for name in names],
    )


# -- Without the store


class Answer(NamedTuple):
    """What came, after how many milliseconds, and how long nothing else could happen in the process meanwhile."""

    what: str
    took: float
    stood_still: float


class Beat:
    """The longest time in which the event loop did nothing else, in milliseconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = time.perf_counter()
        self.longest = 0.0
        self._next = self._loop.call_later(0.002, self._tick)

    def _tick(self) -> None:
        self._look()
        self._next = self._loop.call_later(0.002, self._tick)

    def _look(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, (now - self._last - 0.002) * 1e3)
        self._last = now

    def end(self) -> float:
        self._next.cancel()
        self._look()
        return self.longest


async def answer(app: App, caller: str) -> Answer:
    """What one request gets. An exception that leaves the app is what a server answers 500 to."""
    told: list[str] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            told.append(str(message["status"]))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    beat, begun = Beat(), time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE):
            await app(scope(caller), receive, send)
        what = told[0] if told else "nothing"
    except TimeoutError:
        what = "no answer"
    except Exception as error:
        what = f"500 ({type(error).__name__})"
    took = (time.perf_counter() - begun) * 1e3
    return Answer(what, took, beat.end())


def told_of(answers: Sequence[Answer]) -> str:
    """The first five and the rest of them, as a cell."""
    codes = list(dict.fromkeys(one.what for one in answers))
    first = max(one.took for one in answers[:5])
    later = max((one.took for one in answers[5:]), default=0.0)
    still = max(one.stood_still for one in answers)
    return f"{' then '.join(codes)}; {first:,.0f} ms, later {later:,.0f}; loop stood still {still:,.0f} ms"


async def without(name: str, valkey: Valkey) -> tuple[list[str], Valkey]:
    """Killed, back again, and stopped in a way in which connections stand and nothing is answered."""
    app = APPS[name](FIXED, [Rate(1_000_000, 3600)], valkey.url)
    async with alive(app):
        for _ in range(20):
            good = await answer(app, "198.18.0.1")
        if good.what != "200":
            return [f"did not work before: {good.what}", "", ""], valkey
        valkey.kill()
        gone = [await answer(app, "198.18.0.1") for _ in range(12)]
        valkey = valkey.again()
        back = await until_counted(app, valkey)
        for _ in range(20):
            await answer(app, "198.18.0.1")
        valkey.pause()
        # Who waits without a bound waits until then.
        resume = threading.Timer(3 * PATIENCE, valkey.resume)
        resume.start()
        begun = time.perf_counter()
        silent: list[Answer] = []
        while len(silent) < 12 and time.perf_counter() - begun < 1.5 * PATIENCE:
            silent.append(await answer(app, "198.18.0.1"))
        resume.cancel()
        valkey.resume()
    return [told_of(gone), back, told_of(silent)], valkey


async def until_counted(app: App, valkey: Valkey, seconds: float = 4.0) -> str:
    """How long until requests are answered 200 and counted by the server again, which has come back with nothing; or what
    they are answered still, after so many seconds."""
    begun = time.perf_counter()
    while True:
        found = await answer(app, "198.18.0.1")
        passed = time.perf_counter() - begun
        counted = valkey.ask("DBSIZE") != b":0"
        if found.what == "200" and counted:
            return f"{passed * 1e3:,.0f} ms"
        if passed > seconds:
            return f"not in {seconds:g} s: {found.what}{'' if counted else ', not counted'}"
        await _after(0.02)


@contextlib.asynccontextmanager
async def alive(app: App) -> Any:
    """An app between its startup and its shutdown."""
    asked: asyncio.Queue[Any] = asyncio.Queue()
    told: asyncio.Queue[Any] = asyncio.Queue()
    await asked.put({"type": "lifespan.startup"})
    state: dict[str, Any] = {}
    running = asyncio.create_task(
        app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}, asked.get, told.put)
    )
    started = asyncio.create_task(told.get())
    await asyncio.wait((running, started), return_when=asyncio.FIRST_COMPLETED)
    if not started.done():
        started.cancel()
        # Raises what it failed with.
        await running
    try:
        yield
    finally:
        await asked.put({"type": "lifespan.shutdown"})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await running


async def lost(names: Sequence[str], valkey: Valkey) -> list[str]:
    """A row for each app, one after the other."""
    rows = []
    for name in names:
        told, valkey = await without(name, valkey)
        rows.append([name, *told])
    valkey.stop()
    return table(
        f"Without the store: what requests get, and after how long ({PATIENCE:g} s is where they give up)",
        "app, killed, counted again after it is back, it stands still",
        rows,
    )
