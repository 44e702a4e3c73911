"""A supervisor in a test: its workers are no processes, its pauses end when the test says so, its configuration is no file."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from gatekit.errors import Problem
from gatekit.serving.channel import PeerGone
from gatekit.serving.settings import Settings
from gatekit.serving.supervisor import Supervisor

BOUND = 10.0
PING = 0.25
"""A third of `hang`."""
GONE = PeerGone("the other process is gone")


class Source:
    """A configuration that nobody looks into."""

    def __init__(self, revision: str = "r1", warnings: Sequence[str] = ()) -> None:
        self.revision = revision
        self.warnings = tuple(warnings)
        self.fields: Mapping[str, Any] = {"revision": revision}

    def located(self, problems: Sequence[Mapping[str, Any]]) -> list[Problem]:
        return [Problem(one["path"], one["message"], source="gateway.yaml") for one in problems]


class Staff:
    """Every worker that was made, in order. `plans` says how the next ones start and what they answer.

    `plans[n]` is for the nth worker made: `start` is `ready`, `refused`, `failed` or `silent`, any other name is what is
    answered to that question; an exception is raised instead.
    """

    def __init__(self) -> None:
        self.made: list[FakeWorker] = []
        self.plans: dict[int, dict[str, Any]] = {}
        self.log: list[str] = []
        """What happened to whom, in order: `1.activate` is the first worker that was made being told to."""

    def __call__(self, number: int) -> FakeWorker:
        order = len(self.made) + 1
        worker = FakeWorker(self, number, order, self.plans.get(order, {}))
        self.made.append(worker)
        return worker

    def told(self, what: str) -> list[int]:
        """Which workers were asked that, in order."""
        return [int(entry.partition(".")[0]) for entry in self.log if entry.partition(".")[2] == what]


class FakeWorker:
    """`gatekit.serving.process.WorkerProcess`, as far as a supervisor sees it."""

    def __init__(self, staff: Staff, number: int, order: int, plan: Mapping[str, Any]) -> None:
        self.number = number
        self.pid = 1000 + order
        self.ready: Mapping[str, Any] | None = None
        self.refused: list[Mapping[str, Any]] | None = None
        self.failed: str | None = None
        self.leaving = False
        self.started_at = 0.0
        self.lived = 0.0
        self.generation = 0
        self._staff = staff
        self._order = order
        self._plan = dict(plan)
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"worker {self._order}"

    @property
    def gone(self) -> bool:
        return self._code.done()

    def _note(self, what: str) -> None:
        self._staff.log.append(f"{self._order}.{what}")

    async def start(self, settings: Settings, listening: socket.socket, generation: int, document: Any) -> None:
        self._note("start")
        self.generation = generation
        self.started_at = asyncio.get_running_loop().time() - float(self._plan.get("lived", 0.0))
        if isinstance(self._plan.get("start"), BaseException):
            raise self._plan["start"]

    async def until_ready(self, timeout: float) -> bool:
        how = self._plan.get("start", "ready")
        if isinstance(how, asyncio.Event):
            await asyncio.wait_for(how.wait(), BOUND)
        elif how == "refused":
            self.refused = [{"path": "routes[0]", "message": "cannot be", "severity": "error"}]
            return False
        elif how == "failed":
            self.failed = "no module named shop"
            return False
        elif how == "silent":
            return False
        self.ready = {"generation": self.generation}
        return True

    async def ask(self, what: str, *, timeout: float = 10.0, **about: Any) -> Mapping[str, Any]:
        if self.gone:
            raise PeerGone("the other process is gone")
        self._note(what)
        answer = self._plan.get(what, {})
        if isinstance(answer, asyncio.Event):
            await asyncio.wait_for(answer.wait(), BOUND)
            answer = {}
        if isinstance(answer, BaseException):
            raise answer
        if self.gone:
            raise PeerGone("the other process is gone")
        found: Mapping[str, Any] = answer
        return found

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    async def end(self, timeout: float) -> None:
        self.leaving = True
        self._note("end")
        self.dies(0)

    def kill(self) -> None:
        if not self.gone:
            self._note("kill")
        self.dies(-9)

    def dies(self, code: int) -> None:
        if not self._code.done():
            self._code.set_result(code)


class Patient(Supervisor):
    """A supervisor whose pauses end when the test says so."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.pauses: list[float] = []
        self.go_on = asyncio.Semaphore(0)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.go_on.acquire()


class Scene:
    """A supervisor, its staff, and the configuration it reads next (an exception is raised)."""

    def __init__(self, staff: Staff) -> None:
        self.staff = staff
        self.next: Source | Exception = Source()
        self.supervisor: Patient

    def make(self, target: str = "gateway.yaml", **fields: Any) -> Patient:
        settings = Settings(target, grace=0.0, timeout=0.0, hang=0.75, **fields)
        read: Any = self._read
        nowhere: Any = SimpleNamespace(close=lambda: self.staff.log.append("0.closed"))
        self.supervisor = Patient(settings, nowhere, read=read, now=lambda: 1_700_000_000.0)
        return self.supervisor

    def _read(self, target: str) -> Source:
        if isinstance(self.next, Exception):
            raise self.next
        return self.next

    async def started(self, workers: int = 1, target: str = "gateway.yaml", **fields: Any) -> Patient:
        made = self.make(target, workers=workers, **fields)
        await asyncio.wait_for(made.start(), BOUND)
        await self.until(lambda: made.pauses == [PING], "the pings have begun")
        made.pauses.clear()
        self.staff.log.clear()
        return made

    async def reload(self) -> Any:
        return await asyncio.wait_for(self.supervisor.reload(), BOUND)

    async def until(self, found: Callable[[], object], what: str) -> None:
        try:
            async with asyncio.timeout(BOUND):
                while not found():
                    await turned()
        except TimeoutError:
            raise AssertionError(what) from None


async def turned() -> None:
    """One turn of the loop."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, None)
    await done


def at_work(supervisor: Supervisor) -> set[Any]:
    return set(supervisor.workers.values())


def pauses(supervisor: Patient) -> list[float]:
    """Those before a start; the pings pause for a third of `hang`."""
    return [pause for pause in supervisor.pauses if pause != PING]
