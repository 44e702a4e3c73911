"""What load shedding does for those who are let in: drills of the bars OV1 to OV4 and OV6, each against real processes.

Neither pytest nor gatekit is imported here: the bench runs these drills too, for longer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.processes import ExitedEarly, Instance, Place

from .arrivals import Arrivals, Phase, Stream
from .holding import Told, go
from .load import pause as wait
from .overloaded import HERE, Overloaded, overloaded
from .uploads import SIZE

STATIC = "{concurrency: 24, queue: 24, max_wait: 100ms}"
"""A fifth more places than the backend has workers: what is on its way to it and back takes places too."""
ADAPTIVE = "{concurrency: adaptive, queue: 24, max_wait: 100ms}"
NONE = ""
ORDER = ("critical", "default", "sheddable", "bulk")
SETTLING = 0.5
"""Seconds at the begin of a phase that are not counted."""


def config(overload: str, *more: str) -> str:
    """A gateway before the backend, with that policy or without one. Routes are named after levels."""
    policies = [f"  - overload: {overload}"] if overload else []
    routes = [f"  - {{name: {level}, match: /{level}/*, to: up, policies: [{{priority: {level}}}]}}" for level in ORDER]
    return "\n".join(
        [
            *(["policies:", *policies, *(f"  - {one}" for one in more)] if policies or more else []),
            "routes:", *routes, "  - {match: /*, to: up}",
            # As many connections as anybody asks for: what bounds it is the policy, or nothing does.
            'clusters: {up: {urls: ["URL"], max_connections: 10000, max_waiting: 0}}', "",
        ]
    )  # fmt: skip


@dataclass
class Plateau:
    """The same gateway at several loads. `peak` is the most that it answered well a second at any of them."""

    capacity: float
    phases: dict[float, list[Phase]] = field(default_factory=dict)

    def goodput(self, times: float) -> float:
        return median([phase.goodput for phase in self.phases[times]])

    def p99(self, times: float) -> float:
        return median([phase.took(0.99) for phase in self.phases[times]])

    def p50(self, times: float) -> float:
        return median([phase.took(0.5) for phase in self.phases[times]])

    def shed(self, times: float) -> float:
        return median([phase.shed for phase in self.phases[times]])

    @property
    def peak(self) -> float:
        return max(self.goodput(times) for times in self.phases)

    def late(self) -> float:
        """How late requests were sent in the worst phase."""
        return max(phase.late() for phases in self.phases.values() for phase in phases)

    def told(self) -> str:
        lines = [f"{times:g} x: {phase.told()}" for times, phases in self.phases.items() for phase in phases]
        return "\n".join(lines)


async def plateau(
    server: str,
    folder: Path,
    overload: str,
    loads: Mapping[float, float],
    *,
    rounds: int = 1,
    warm: float = 0.0,
    pause: float = 0.0,
) -> Plateau:
    """OV1. Each load, in multiples of the capacity, for so many seconds; all of them in turn, `rounds` times.

    First `warm` seconds of three times the capacity, in which a limit may be found. After a load that leaves the backend
    with a line of its own, `pause` seconds pass without any.
    """
    async with overloaded(config(overload), folder, server=server) as scene:
        found = Plateau(scene.capacity)
        await scene.phase(warm, 3.0)
        await scene.phase(1.0, 0.5)
        for _ in range(rounds):
            for times, seconds in loads.items():
                found.phases.setdefault(times, []).append(await scene.phase(seconds, times, settle=SETTLING))
                if pause and times > 1:
                    await scene.phase(pause, 0.0)
        return found


async def ranks(
    server: str, folder: Path, overload: str = STATIC, *, seconds: float = 4.0, shares: Sequence[float] = (0.5,) * 4
) -> Phase:
    """OV3. Every level at once, each with its share of the capacity."""
    async with overloaded(config(overload), folder, server=server) as scene:
        return await scene.mixed(seconds, dict(zip(ORDER, shares, strict=True)), settle=1.0)


def inversions(phase: Phase, width: float = 1.0) -> list[tuple[int, str, str]]:
    """Windows in which somebody less important fared better: the window, who did and than whom."""
    found = []
    for number, window in enumerate(phase.windows(width)):
        rates = [window.of(level).success for level in ORDER]
        found += [
            (number, ORDER[lower], ORDER[upper])
            for upper in range(len(ORDER))
            for lower in range(upper + 1, len(ORDER))
            if rates[lower] > rates[upper]
        ]
    return found


@dataclass
class Changes:
    """An adaptive limit while the capacity changes. Each step: how many workers the backend had, the phase in windows of a
    second, and the limit at the end of each."""

    steps: list[tuple[int, list[Phase], list[float]]] = field(default_factory=list)
    calm: Phase = field(default_factory=lambda: Phase(0.0))
    """Before: 80 % of the capacity."""
    calm_limits: list[float] = field(default_factory=list)


async def changes(
    server: str,
    folder: Path,
    *,
    overload: str = ADAPTIVE,
    calm: float = 10.0,
    seconds: float = 30.0,
    times: float = 1.5,
) -> Changes:
    """OV2. 80 % of the capacity for a while; then more than it, with the capacity doubled and halved again."""
    found = Changes()
    async with overloaded(config(overload), folder, server=server) as scene:
        at_first = scene.backend.workers
        await scene.phase(5.0, 0.8)
        phases = []
        for _ in range(int(calm)):
            phases.append(await scene.phase(1.0, 0.8))
            found.calm_limits.append(await limit(scene))
        found.calm = joined(phases)
        for workers in (at_first, 2 * at_first, at_first):
            await scene.told("workers", str(workers))
            rate = times * workers / at_first
            windows, limits = [], []
            for _ in range(int(seconds)):
                windows.append(await scene.phase(1.0, rate))
                limits.append(await limit(scene))
            found.steps.append((workers, windows, limits))
    return found


async def limit(scene: Overloaded) -> float:
    """What the limit is now."""
    (scope,) = (await scene.figures())["scopes"].values()
    return float(scope["limit"] or 0)


def joined(phases: Sequence[Phase]) -> Phase:
    """One phase after the other as one."""
    found, begin = Phase(sum(phase.seconds for phase in phases)), 0.0
    for phase in phases:
        found.fates += [fate._replace(due=fate.due + begin) for fate in phase.fates]
        begin += phase.seconds
    return found


@dataclass
class Lagging:
    """An app whose loop stands still now and then. `health` is what became of health checks."""

    calm: Phase
    calm_health: Phase
    busy: Phase
    health: Phase
    stops: int
    figures: dict[str, Any]


async def lagging(
    folder: Path, *, seconds: float = 5.0, stop: float = 0.3, every: float = 1.0, lag: bool = True
) -> Lagging:
    """OV4. 100 requests a second to an app in the gateway's own process, first undisturbed; then one request in each
    `every` seconds blocks the loop for `stop` seconds."""
    async with _embedded(folder, {"DRILL_STOP": f"{stop:g}", "DRILL_LAG": "1" if lag else ""}) as (instance, clients):
        calm = {"all": Stream("/work", 100.0), "health": Stream("/healthz", 10.0)}
        before = (await clients.run(seconds / 2 + SETTLING, calm)).since(SETTLING)
        after = await clients.run(seconds, {**calm, "stop": Stream("/stop", 1 / every)})
        code, status = await asyncio.to_thread(instance.asked, "GET", "/status")
        assert code == 200, instance.tail()
        (found,) = [one for one in status["workers"][0]["policies"] if one["policy"] == "overload"]
        return Lagging(
            before.of("all"), before.of("health"), after.of("all"), after.of("health"),
            sum(fate.good for fate in after.of("stop").fates), found,
        )  # fmt: skip


@asynccontextmanager
async def _embedded(folder: Path, env: dict[str, str]) -> AsyncIterator[tuple[Instance, Arrivals]]:
    for attempt in range(3):
        instance = Instance(
            "stopping:gateway", folder, Place.free(), "--workers", "1", "--hang", "10",
            server="uvicorn", cwd=HERE, env={**os.environ, **env},
        )  # fmt: skip
        try:
            await asyncio.to_thread(instance.until_ready)
            break
        except ExitedEarly:
            if attempt == 2:
                raise
    clients = Arrivals(instance.place.host, instance.place.port, patience=2.0)
    try:
        yield instance, clients
    finally:
        await clients.close()
        instance.stop()


@dataclass
class Failing:
    """An upstream that fails altogether, and then works again. `reached` is the share of what came that it got, window by
    window while it failed; `recovered` after how many seconds nobody was turned away any more."""

    failing: Phase
    reached: list[float]
    recovered: float
    after: Phase


async def failing(
    server: str, folder: Path, *, window: float = 3.0, seconds: float = 8.0, most: float = 20.0, times: float = 0.5
) -> Failing:
    """OV6. Half of the capacity is asked for; every answer of the upstream is a 503, until it is well again."""
    overload = f"{{per: upstream, admission: {{window: {window:g}s}}}}"
    async with overloaded(config(overload), folder, server=server) as scene:
        await scene.phase(1.0, times)
        await scene.told("failing", "1")
        await scene.phase(2 * window, times)
        phases, reached = [], []
        for _ in range(int(seconds)):
            before = (await scene.told())["asked"].get("default", 0)
            phases.append(await scene.phase(1.0, times))
            reached.append(((await scene.told())["asked"]["default"] - before) / len(phases[-1].fates))
        await scene.told("failing", "0")
        took, after = 0.0, Phase(0.0)
        while took < most:
            after = await scene.phase(0.5, times)
            took += 0.5
            if after.success == 1.0:
                break
        return Failing(joined(phases), reached, took, after)


async def slow_bodies(server: str, folder: Path, *, guard: str = "", count: int = 60, seconds: float = 4.0) -> Phase:
    """80 % of the capacity while so many clients send bodies byte by byte, each anew when it is let go. `guard` is a
    policy of the route that they ask for."""
    upstream = Told(folder, "upstream")
    try:
        await asyncio.to_thread(go, upstream.port())
        slow = f"{{match: /uploads, to: slow, policies: [{guard}]}}"
        text = config(STATIC).replace("routes:", f"routes:\n  - {slow}")
        text = text.replace("clusters: {", f'clusters: {{slow: {{urls: ["http://127.0.0.1:{upstream.port()}"]}}, ')
        async with overloaded(text, folder, server=server) as scene:
            place = scene.instance.place
            dripping = [asyncio.ensure_future(_drip(place.host, place.port)) for _ in range(count)]
            try:
                return await scene.phase(seconds, 0.8, settle=2.0)
            finally:
                for one in dripping:
                    one.cancel()
                await asyncio.gather(*dripping, return_exceptions=True)
    finally:
        upstream.stop()


async def _drip(host: str, port: int) -> None:
    """One slow client, until it is cancelled."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError:
            await wait(0.1)
            continue
        try:
            writer.write(b"POST /uploads HTTP/1.1\r\nhost: shop.test\r\ncontent-length: %d\r\n\r\n" % SIZE)
            while not reader.at_eof():
                writer.write(b"x")
                try:
                    async with asyncio.timeout(1.0):
                        await reader.read(1000)
                except TimeoutError:
                    continue
                break
        except OSError:
            pass
        finally:
            writer.close()
        # Whoever is turned away comes back: not at once, or this would be a flood and nothing slow.
        await wait(0.5)


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
