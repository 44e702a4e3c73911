"""One instance without a balancer: what its clients notice of reloads, of new workers, and of workers and supervisors that
are killed or hang.

Neither pytest nor gatekit is imported here: the bench runs these drills too.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.processes import ExitedEarly, Instance, Place, alive, client_ports

from .backend import BODY, LONG, backend
from .load import Load, Lost, Tally, pause, until

HERE = Path(__file__).parent
CONFIG = """\
routes:
  - match: /*
    to: up
    policies: [{{response_headers: {{set: {{x-generation: "{mark}"}}}}}}]
clusters:
  up: {{urls: ["{url}"]}}
"""
GOING = 0.2
"""Seconds that a killed process may take to be gone: until then its connections are open."""
REFUSED = "routes: [{match: /*, to: nowhere}]\n"


@dataclass
class Single:
    """An instance that serves, its folder, and the backend behind it. `config` is None for a gateway in Python."""

    instance: Instance
    folder: Path
    url: str
    config: Path | None

    def write(self, text: str) -> None:
        """Replace the configuration, in one step."""
        assert self.config is not None
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.config)

    def load(self, rate: float, **given: Any) -> Load:
        """A load straight to the instance, over keep-alive connections."""
        given = {"expected": BODY, "connections": 16, **given}
        return Load(self.instance.place.host, self.instance.place.port, rate, **given)

    def at(self, generation: int) -> bool:
        """Whether this generation is in force. Blocks."""
        code, found = self.instance.asked("GET", "/status")
        return code == 200 and bool(found["generation"] == generation)

    async def status(self) -> dict[str, Any]:
        """What `/status` says."""
        code, found = await asyncio.to_thread(self.instance.asked, "GET", "/status")
        assert code == 200, self.instance.tail()
        assert isinstance(found, dict)
        return found

    async def workers_are(self, count: int, *, without: set[int], seconds: float) -> float:
        """Wait until so many workers serve and none of them is one of `without`; the seconds that it took."""
        loop = asyncio.get_running_loop()
        began = loop.time()

        def there() -> bool:
            code, found = self.instance.asked("GET", "/status")
            serving = {one["pid"] for one in found["workers"] if one["ready"]} if code == 200 else set()
            return len(serving) == count and not serving & without

        assert await until(seconds, there), self.instance.tail()
        return loop.time() - began


@asynccontextmanager
async def single(server: str, folder: Path, *options: str, python: bool = False) -> AsyncIterator[Single]:
    """An instance that is ready, before a backend of its own. One whose port was taken in between is started again."""
    async with backend() as url:
        config = None if python else folder / "gateway.yaml"
        if config is not None:
            config.write_text(CONFIG.format(mark="a", url=url))
        for attempt in range(3):
            instance = Instance(
                "target:gateway" if config is None else str(config), folder, Place.free(), *options,
                server=server, cwd=HERE, env={"DRILL_BACKEND": url},
            )  # fmt: skip
            try:
                await asyncio.to_thread(instance.until_ready)
                break
            except ExitedEarly:
                if attempt == 2:
                    raise
        try:
            yield Single(instance, folder, url, config)
        finally:
            instance.stop()


@dataclass
class Reloads:
    """What clients saw of reloads: `took` are the seconds of each, `refused` what a refused one left in `/status`."""

    tally: Tally
    took: list[float] = field(default_factory=list)
    generation: int = 1
    refused: dict[str, Any] | None = None
    last: Tally | None = None


async def reloads(server: str, folder: Path, *, rate: float = 400.0, times: int = 10, workers: int = 2) -> Reloads:
    """SIGHUP under load, so many times, with two configurations in turn; then one with a configuration that is refused."""
    loop = asyncio.get_running_loop()
    async with single(server, folder, "--workers", str(workers)) as scene:
        load = scene.load(rate, mark="x-generation").start()
        found = Reloads(load.tally)
        await pause(0.3)
        for number in range(times):
            scene.write(CONFIG.format(mark="ba"[number % 2], url=scene.url))
            began, wanted = loop.time(), number + 2
            scene.instance.tell(signal.SIGHUP)
            assert await until(20, partial(scene.at, wanted))
            found.took.append(loop.time() - began)
            await pause(0.15)
        scene.write(REFUSED)
        scene.instance.tell(signal.SIGHUP)
        assert await until(20, lambda: scene.instance.asked("GET", "/status")[1]["refused"])
        await pause(0.3)
        await load.stop()
        after = scene.load(200, mark="x-generation")
        found.last = await after.run(0.5)
        status = await scene.status()
        found.generation, found.refused = status["generation"], status["refused"]
        assert {one["generation"] for one in status["workers"]} == {found.generation}
    return found


@dataclass
class Rolled:
    """What clients saw while every worker was replaced."""

    short: Tally
    long: Tally
    took: float = 0.0
    before: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)


async def rolled(
    server: str, folder: Path, *, rate: float = 400.0, grace: float = 1.5, workers: int = 2, steady: bool = False
) -> Rolled:
    """SIGHUP of a gateway in Python under load: each worker is replaced, and the old ones drain.

    Long requests are under way when it comes; with `steady` more of them come all the while.
    """
    given = ("--workers", str(workers), "--grace", f"{grace:g}", "--timeout", "10")
    async with single(server, folder, *given, python=True) as scene:
        loop = asyncio.get_running_loop()
        short = scene.load(rate, mark="x-worker").start()
        long = scene.load(10, path="/long", expected=LONG).start()
        found = Rolled(short.tally, long.tally)
        await pause(1.0)
        if not steady:
            long.hold()
        found.before = scene.instance.workers()
        began = loop.time()
        scene.instance.tell(signal.SIGHUP)
        await scene.workers_are(workers, without=set(found.before), seconds=30)
        assert await until(30, lambda: not any(alive(pid) for pid in found.before)), scene.instance.tail()
        found.took = loop.time() - began
        await pause(0.5)
        await asyncio.gather(short.stop(), long.stop())
        found.after = scene.instance.workers()
    return found


@dataclass
class Crash:
    """What clients saw of a worker that was lost, and of the worker in its place.

    `steady` kept its connections, `slow` waited for late answers, `fresh` made a connection for each request. `held` is
    how many connections the worker had, `bound` how many requests were on them just then. `strangers` are requests that
    were lost and were on none of them, `late` those that were sent when it was gone already.
    """

    steady: Tally
    slow: Tally
    fresh: Tally
    held: int = 0
    bound: int = 0
    replaced: float = 0.0
    strangers: list[Lost] = field(default_factory=list)
    late: list[Lost] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def lost(self) -> list[Lost]:
        return [*self.steady.lost, *self.slow.lost, *self.fresh.lost]


class Clients:
    """The clients of a crash: some that stay, some that wait, some that come anew each time."""

    def __init__(self, scene: Single, rate: float) -> None:
        self._scene = scene
        self.steady = scene.load(rate, mark="x-worker").start()
        self.slow = scene.load(20, path="/late").start()
        self.fresh = scene.load(50, connections=0).start()
        self.found = Crash(self.steady.tally, self.slow.tally, self.fresh.tally)
        self._loads = (self.steady, self.slow, self.fresh)
        self._before: list[Lost] = []
        self.at = 0.0

    def aim(self, victim: int) -> None:
        """Note what is on this worker now. Nothing of the loads runs between this and what the caller does next."""
        self._ports = client_ports(victim, self._scene.instance.place.port)
        self.found.bound += sum(one.port in self._ports for load in self._loads for one in load.busy())
        self._before = self._lost()
        self.at = self.steady.now()

    def look(self, victim: int) -> bool:
        """Note what has come to this worker since, as long as it is there. True once it is gone."""
        try:
            self._ports |= client_ports(victim, self._scene.instance.place.port)
        except OSError:
            pass
        return not alive(victim)

    def judge(self) -> None:
        """Whose requests were lost since then."""
        lost = [one for one in self._lost() if one not in self._before]
        self.found.held += len(self._ports)
        self.found.strangers += [one for one in lost if one.port not in self._ports]
        self.found.late += [one for one in lost if one.at > self.at + GOING]

    def _lost(self) -> list[Lost]:
        return [one for load in self._loads for one in load.tally.lost]

    async def end(self) -> Crash:
        await asyncio.gather(*(load.stop() for load in self._loads))
        self.found.status = await self._scene.status()
        return self.found


async def killed(server: str, folder: Path, *, rate: float = 400.0, times: int = 1) -> Crash:
    """kill -9 of one of two workers under load."""
    async with single(server, folder, "--workers", "2", python=True) as scene:
        clients = Clients(scene, rate)
        await pause(1.5)
        for _ in range(times):
            victim = scene.instance.workers()[0]
            clients.aim(victim)
            os.kill(victim, signal.SIGKILL)
            clients.found.replaced = await scene.workers_are(2, without={victim}, seconds=30)
            clients.judge()
            await pause(0.5)
        return await clients.end()


@dataclass
class Orphans:
    """What became of workers whose supervisor was killed: the seconds until the last had ended, and what clients saw."""

    short: Tally
    long: Tally
    ended: float = 0.0
    left: list[int] = field(default_factory=list)


async def orphaned(server: str, folder: Path, *, rate: float = 200.0) -> Orphans:
    """kill -9 of the supervisor while short and long requests are under way."""
    loop = asyncio.get_running_loop()
    async with single(server, folder, "--workers", "2", "--timeout", "10", python=True) as scene:
        short = scene.load(rate).start()
        long = scene.load(5, path="/long", expected=LONG).start()
        found = Orphans(short.tally, long.tally)
        await pause(1.0)
        workers = scene.instance.workers()
        long.hold()
        began = loop.time()
        scene.instance.tell(signal.SIGKILL)
        await pause(0.2)
        await short.stop()
        await long.stop()
        assert await until(20, lambda: not any(alive(pid) for pid in workers)), scene.instance.tail()
        found.ended = loop.time() - began
        found.left = [pid for pid in workers if alive(pid)]
    return found


async def hung(server: str, folder: Path, *, hang: float = 1.0, stop: bool = False, rate: float = 200.0) -> Crash:
    """One of two workers no longer gives its loop back: by SIGSTOP, or by an app that blocks."""
    async with single(server, folder, "--workers", "2", "--hang", f"{hang:g}", python=True) as scene:
        clients = Clients(scene, rate)
        await pause(0.5)
        workers = scene.instance.workers()
        blocking: Load | None = None
        victim = workers[0]
        if not stop:
            blocking = scene.load(1, path="/blocked", expected=None).ask_once()
            await pause(0.05)
            (port,) = blocking.ports()
            (victim,) = [pid for pid in workers if port in client_ports(pid, scene.instance.place.port)]
        clients.aim(victim)
        if stop:
            os.kill(victim, signal.SIGSTOP)
        assert await until(hang * 2 + 20, lambda: clients.look(victim)), scene.instance.tail()
        clients.found.replaced = await scene.workers_are(2, without={victim}, seconds=30)
        clients.judge()
        if blocking is not None:
            await blocking.stop()
        await pause(0.5)
        return await clients.end()
