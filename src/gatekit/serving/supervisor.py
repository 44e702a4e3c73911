"""The supervisor: it holds the listening socket, keeps the workers alive, and carries changes to all of them or none.

It serves no request of the gateway's. What changes several workers (start, reload, replacement, drain) is done by one
task at a time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from gatekit.errors import ConfigRefused, GatekitError, Problem
from gatekit.gateway.status import mean_pressure
from gatekit.serving.certificates import Certificates
from gatekit.serving.channel import PeerGone
from gatekit.serving.process import WorkerProcess
from gatekit.serving.settings import Settings
from gatekit.serving.source import Source, read_source

_log = logging.getLogger("gatekit.supervisor")

STARTING = 60.0
"""Seconds a worker has to begin to serve."""
ENDING = 10.0
"""Seconds a drained worker has to end."""
PREPARING = 300.0
"""Seconds a worker has to compile a configuration."""
HEALTHY = 10.0
"""A worker that lived this long, in seconds, is replaced at once when it dies; one that did not waits longer each time."""
LONGEST_PAUSE = 30.0


class NotStarted(GatekitError):
    """The gateway could not be started. The message is for a person."""


class Supervisor:
    """An instance of the gateway: what was asked for, the socket, the workers, the configuration they have.

    `read` gives the configuration, None where the gateway is made in Python; `now` is wall-clock time. It is a
    `gatekit.gateway.admin.Subject`.
    """

    def __init__(
        self,
        settings: Settings,
        listening: socket.socket,
        *,
        read: Callable[[str], Source] = read_source,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.source: Source | None = None
        self.generation = 1
        self.workers: dict[int, WorkerProcess] = {}
        self.restarts = 0
        self.draining = False
        self._complete = False
        self._listening = listening
        self._read = read
        self._now = now
        self._started_at = now()
        self._certificates = None if settings.tls is None else Certificates(settings.tls)
        self._refused: dict[str, Any] | None = None
        self._pending: dict[str, Any] | None = None
        self._changing = asyncio.Lock()
        # Every process there is: those that are starting and those that are retiring, too.
        self._alive: set[WorkerProcess] = set()
        self._watchers: set[asyncio.Task[None]] = set()
        self._fast_deaths = 0
        self._drained: asyncio.Task[Mapping[str, Any]] | None = None
        self._hurry = asyncio.Event()

    # -- life

    async def start(self) -> None:
        """Start every worker. Raises ConfigRefused or NotStarted, and then none is left."""
        if self.settings.module is None:
            self.source = await asyncio.to_thread(self._read, self.settings.target)
        async with self._changing:
            try:
                # One first: what is wrong is then said once.
                await self._add(1)
                await asyncio.gather(*(self._add(number) for number in range(2, self.settings.workers + 1)))
            except BaseException:
                self.draining = True
                await self._end_all(0.0)
                raise
            self._complete = True
        self._watch(self._ping())

    async def stop(self) -> None:
        """Drain what is not drained, then end every worker."""
        await self.drain()
        await self._end_all(ENDING)
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    def hurry(self) -> None:
        """End a drain that is going on: whoever asks twice means it."""
        self._hurry.set()

    # -- gatekit.gateway.admin.Subject

    def ready(self) -> str | None:
        if self.draining:
            return "draining"
        if not self._complete:
            return "starting"
        if not any(worker.ready is not None and not worker.leaving for worker in self.workers.values()):
            return "no worker serves"
        return None

    async def status(self) -> Mapping[str, Any]:
        asked = await asyncio.gather(*(self._status_of(worker) for worker in list(self.workers.values())))
        return {
            "target": self.settings.target,
            "server": self.settings.server,
            "generation": self.generation,
            "revision": None if self.source is None else self.source.revision,
            "draining": self.draining,
            "ready": self.ready() is None,
            "uptime": round(self._now() - self._started_at, 3),
            "restarts": self.restarts,
            "pending": self._pending,
            "refused": self._refused,
            "workers": asked,
        }

    async def saturation(self) -> Mapping[str, Any]:
        serving = [one for one in self.workers.values() if one.ready is not None and not one.leaving]
        return mean_pressure(await asyncio.gather(*(worker.pressure() for worker in serving)))

    async def drain(self) -> Mapping[str, Any]:
        if self._drained is None:
            self.draining = True
            _log.info(
                "draining: %g s as before, then %g s for what is under way", self.settings.grace, self.settings.timeout
            )
            self._drained = asyncio.create_task(self._drain(), name="gatekit drain")
        return await asyncio.shield(self._drained)

    async def reload(self) -> Mapping[str, Any]:
        """Read the configuration and the certificates again, and bring both to every worker, or change nothing."""
        async with self._changing:
            if self.draining:
                return {"refused": ["draining: nothing is changed any more"]}
            try:
                self._check_certificates()
                changed = await (self._roll() if self.source is None else self._exchange())
                try:
                    await self._renew()
                except (GatekitError, OSError) as error:
                    kept = f"the renewed certificate is not in use, what else is new is: {error}"
                    return self._refuse([kept])
            except ConfigRefused as refused:
                return self._refuse([str(problem) for problem in refused.problems])
            except (GatekitError, OSError) as error:
                return self._refuse([str(error)])
            except Exception as error:
                # A provider of somebody else's, most likely: what it raises must not decide what becomes of us.
                _log.exception("the configuration could not be read")
                return self._refuse([f"{type(error).__name__}: {error}"])
            finally:
                self._pending = None
        self._refused = None
        return changed

    # -- workers

    async def _add(self, number: int) -> None:
        """Start a worker, and look after it once it serves. Raises ConfigRefused or NotStarted."""
        self._take_in(await self._started(number))

    async def _started(self, number: int) -> WorkerProcess:
        """A worker that serves. Raises ConfigRefused or NotStarted."""
        worker = WorkerProcess(number)
        fields = None if self.source is None else self.source.fields
        self._alive.add(worker)
        try:
            await worker.start(self.settings, self._listening, self.generation, fields)
            if not await worker.until_ready(STARTING) or self.draining:
                await worker.end(0.0)
                if worker.refused is not None:
                    raise ConfigRefused(_located(self.source, worker.refused))
                raise NotStarted(worker.failed or f"worker {number} did not start; its log says why")
        except BaseException:
            worker.kill()
            self._alive.discard(worker)
            raise
        return worker

    def _take_in(self, worker: WorkerProcess) -> None:
        self.workers[worker.number] = worker
        self._watch(self._replace_when_dead(worker))

    async def _end_all(self, timeout: float) -> None:
        """End every process, those that drain or start too."""
        await asyncio.gather(*(worker.end(timeout) for worker in self._alive))

    async def _replace_when_dead(self, worker: WorkerProcess) -> None:
        """Wait for the end of a worker; if nobody asked for it, start another in its place."""
        code = await worker.wait()
        self._alive.discard(worker)
        if worker.leaving or self.draining:
            return
        lived = asyncio.get_running_loop().time() - worker.started_at
        _log.error("worker %d (pid %d) ended with code %d after %.1f s", worker.number, worker.pid, code, lived)
        self._fast_deaths = 0 if lived >= HEALTHY else self._fast_deaths + 1
        worker.leaving = True
        while not self.draining:
            if self._fast_deaths > 1:
                pause = min(LONGEST_PAUSE, 0.5 * 2 ** min(self._fast_deaths, 10))
                _log.warning("worker %d is started again in %g s", worker.number, pause)
                await self._pause(pause)
            async with self._changing:
                if self.draining:
                    return
                if self.workers.get(worker.number) is not worker:
                    # Meanwhile all of them were replaced.
                    return
                try:
                    await self._add(worker.number)
                except (GatekitError, OSError) as error:
                    _log.error("worker %d cannot be started again: %s", worker.number, error)
                    self._fast_deaths += 1
                else:
                    self.restarts += 1
                    return

    async def _ping(self) -> None:
        """End workers whose loop has not turned for too long: their requests are lost already."""
        every = max(0.05, self.settings.hang / 3)
        while not self.draining:
            await self._pause(every)
            await asyncio.gather(*(self._ping_one(worker) for worker in list(self.workers.values())))

    async def _ping_one(self, worker: WorkerProcess) -> None:
        try:
            await worker.ask("ping", timeout=self.settings.hang)
        except PeerGone:
            if not (worker.leaving or self.draining):
                _log.error("worker %d (pid %d) does not answer: it is ended", worker.number, worker.pid)
                worker.kill()

    async def _status_of(self, worker: WorkerProcess) -> Mapping[str, Any]:
        about = {"worker": worker.number, "pid": worker.pid, "ready": worker.ready is not None and not worker.leaving}
        try:
            return {**about, **await worker.ask("status", timeout=2.0)}
        except PeerGone as gone:
            return {**about, "ready": False, "error": str(gone)}

    def _watch(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until a drain hurries."""
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass

    # -- changes

    async def _drain(self) -> Mapping[str, Any]:
        settings = self.settings
        asked = [self._drain_one(worker, settings.grace, settings.timeout) for worker in self._alive]
        everybody = asyncio.ensure_future(asyncio.gather(*asked))
        hurried = asyncio.create_task(self._hurry.wait())
        await asyncio.wait([everybody, hurried], timeout=settings.grace, return_when=asyncio.FIRST_COMPLETED)
        # The workers take no connection any more: who comes now is to be refused, not to wait for nobody.
        self._listening.close()
        await asyncio.wait([everybody, hurried], return_when=asyncio.FIRST_COMPLETED)
        if not everybody.done():
            _log.warning("told again to stop: what is under way is cut")
            await asyncio.gather(*(self._drain_one(worker, 0.0, 0.0) for worker in self._alive))
        hurried.cancel()
        reports = await everybody
        total = {name: sum(report.get(name, 0) for report in reports) for name in ("cut", "ended")}
        _log.info("drained: %d requests were cut, %d streams ended", total["cut"], total["ended"])
        return {"drained": True, **total}

    async def _drain_one(self, worker: WorkerProcess, grace: float, timeout: float, **how: bool) -> Mapping[str, Any]:
        try:
            return await worker.ask("drain", timeout=grace + timeout + ENDING, grace=grace, limit=timeout, **how)
        except PeerGone:
            return {}

    async def _exchange(self) -> Mapping[str, Any]:
        """A new configuration for every worker: each compiles it; only when all could, all put it in force."""
        source = await asyncio.to_thread(self._read, self.settings.target)
        generation = self.generation + 1
        self._pending = {"generation": generation, "revision": source.revision}
        workers = [worker for worker in self.workers.values() if not worker.leaving]
        answers = await asyncio.gather(*(self._prepare(worker, source, generation) for worker in workers))
        refusal = next((answer for answer in answers if "problems" in answer or "error" in answer), None)
        if refusal is not None or all("gone" in answer for answer in answers):
            await asyncio.gather(*(self._told(worker, "discard") for worker in workers))
            if refusal is not None and "problems" in refusal:
                raise ConfigRefused(_located(source, refusal["problems"]))
            raise NotStarted("no worker could try it" if refusal is None else str(refusal["error"]))
        self.source, self.generation = source, generation
        for worker, answer in zip(
            workers, await asyncio.gather(*(self._told(one, "activate") for one in workers)), strict=True
        ):
            if "error" in answer or "gone" in answer:
                # It is behind the others, so it goes: the one in its place begins with what is in force.
                _log.error("worker %d did not take generation %d: %s", worker.number, generation, dict(answer))
                worker.kill()
        for warning in source.warnings:
            _log.warning("%s", warning)
        _log.info("generation %d is in force on %d workers (%s)", generation, len(workers), source.revision)
        return {"generation": generation, "revision": source.revision, "workers": len(workers)}

    async def _prepare(self, worker: WorkerProcess, source: Source, generation: int) -> Mapping[str, Any]:
        try:
            return await worker.ask("prepare", timeout=PREPARING, document=source.fields, generation=generation)
        except PeerGone as gone:
            # Whoever is gone is replaced, and its successor starts with what is then in force.
            worker.kill()
            return {"gone": str(gone)}

    async def _told(self, worker: WorkerProcess, what: str) -> Mapping[str, Any]:
        try:
            return await worker.ask(what)
        except PeerGone as gone:
            return {"gone": str(gone)}

    async def _roll(self) -> Mapping[str, Any]:
        """Replace the workers: when as many new ones serve, the old ones take no more connections and drain. Raises when
        a new one does not start; then the old ones stay."""
        before = [worker for worker in self.workers.values() if not worker.leaving]
        started: list[WorkerProcess] = []
        try:
            for old in before:
                started.append(await self._started(old.number))  # noqa: PERF401 - what has started must be known
        except BaseException:
            await asyncio.gather(*(worker.end(ENDING) for worker in started))
            self._alive.difference_update(started)
            raise
        for old, new in zip(before, started, strict=True):
            old.leaving = True
            self._take_in(new)
            self._watch(self._retire(old))
        _log.info("%d workers were replaced", len(self.workers))
        return {"replaced": len(self.workers), "workers": len(self.workers)}

    async def _retire(self, old: WorkerProcess) -> None:
        await self._drain_one(old, self.settings.grace, self.settings.timeout, succeeded=True)
        if not self.draining:
            await old.end(ENDING)

    # -- certificates

    def _check_certificates(self) -> None:
        """Raises OSError when the files on disk cannot be used; those in use stay."""
        if self._certificates is not None:
            try:
                self._certificates.check()
            except (OSError, ssl.SSLError) as error:
                raise OSError(f"the certificate files cannot be used, those in use stay: {error}") from None

    async def _renew(self) -> None:
        """Bring renewed certificate files to the workers, in place where their server can, else by replacing them."""
        if self._certificates is None or self.source is None:
            return
        change = self._certificates.change()
        if change is None:
            return
        workers = [worker for worker in self.workers.values() if not worker.leaving]
        if change == "authorities":
            # Whom the old ones would still let in must not get in any more.
            await self._roll()
        elif any("error" in one for one in await asyncio.gather(*(self._told(worker, "renew") for worker in workers))):
            await self._roll()
        self._certificates.taken()
        _log.info("the renewed certificate is in use")

    def _refuse(self, problems: Sequence[str]) -> Mapping[str, Any]:
        self._refused = {"at": round(self._now(), 3), "problems": list(problems)}
        for problem in problems:
            _log.error("refused: %s", problem)
        _log.error("generation %d is in force", self.generation)
        return {"refused": list(problems), "generation": self.generation}


def _located(source: Source | None, problems: Sequence[Mapping[str, Any]]) -> list[Problem]:
    if source is None:
        return [Problem(one["path"], one["message"], severity=one["severity"]) for one in problems]
    return source.located(problems)
