"""Slow clients beside a load: what of it is left while a thousand connections hold on to one worker.

Neither pytest nor gatekit is imported here: the bench runs these drills too.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.processes import Process, cpu_seconds

from .load import Load, Tally, pause, until
from .single import HERE, Single, single

Kind = Literal["drip", "silent"]
LATE = 1.0
"""Seconds after which an answer does not count any more."""
AGAIN = 0.3
"""Seconds for a worker to be done with connections that have all gone at once."""


class Attack(Process):
    """The slow clients. `seen` is what they say of themselves."""

    def __init__(self, scene: Single, count: int, kind: Kind) -> None:
        place = scene.instance.place
        super().__init__(
            f"{kind} clients",
            [sys.executable, HERE / "slowloris.py", place.host, str(place.port), str(count), kind],
            scene.folder / f"{kind}.log",
            cwd=HERE,
            env=dict(os.environ),
        )

    def seen(self) -> dict[str, Any]:
        """The last that they said; nothing as long as not all of them have connected."""
        lines = self.log.read_text().rpartition("\n")[0].splitlines()
        found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return found


@dataclass
class Beside:
    """Requests a second that were answered well, window by window, and what became of the slow clients.

    The load is open, at a steady rate; `full` is what one worker carries when every client asks again at once. `busy` is
    the share of a processor that the worker used under the steady load: other people's processes change the rates, not that.
    """

    kind: Kind
    quiet: list[float] = field(default_factory=list)
    attacked: list[float] = field(default_factory=list)
    busy_quiet: list[float] = field(default_factory=list)
    busy_attacked: list[float] = field(default_factory=list)
    full_quiet: list[float] = field(default_factory=list)
    full_attacked: list[float] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    held: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The goodput of the attacked windows as a share of the quiet ones, by medians."""
        return statistics.median(self.attacked) / statistics.median(self.quiet)

    @property
    def cost(self) -> float:
        """What the slow clients cost the worker, as a share of a processor."""
        return statistics.median(self.busy_attacked) - statistics.median(self.busy_quiet)

    @property
    def full_share(self) -> float:
        """The same, of what one worker can carry."""
        return statistics.median(self.full_attacked) / statistics.median(self.full_quiet)


async def beside(
    server: str,
    folder: Path,
    *,
    kind: Kind = "drip",
    count: int = 1000,
    rate: float = 400.0,
    seconds: float = 1.5,
    rounds: int = 1,
    full: bool = False,
    options: Sequence[str] = (),
) -> Beside:
    """Quiet, attacked, quiet: so many rounds against one worker. `full` also measures what it can carry each time."""
    found = Beside(kind)
    async with single(server, folder, "--workers", "1", *options) as scene:
        await scene.load(rate).run(0.5)

        async def window(fixed: list[float], busy: list[float], most: list[float]) -> None:
            await _fixed(scene, found, fixed, busy, rate, seconds)
            if full:
                await _full(scene.load(0), found, most, seconds)

        for _ in range(rounds):
            await window(found.quiet, found.busy_quiet, found.full_quiet)
            attack = Attack(scene, count, kind)
            try:
                assert await until(30, attack.seen), attack.tail()
                await window(found.attacked, found.busy_attacked, found.full_attacked)
                found.held = attack.seen()
            finally:
                attack.stop()
            await pause(AGAIN)
            await window(found.quiet, found.busy_quiet, found.full_quiet)
    return found


async def _fixed(
    scene: Single, found: Beside, rates: list[float], busy: list[float], rate: float, seconds: float
) -> None:
    (worker,) = scene.instance.workers()
    used = cpu_seconds(worker)
    tally = await scene.load(rate).run(seconds)
    busy.append((cpu_seconds(worker) - used) / seconds)
    found.tallies.append(tally)
    assert tally.good, f"nothing was answered well: {tally.told()}; {scene.instance.tail()}"
    # What came late is no goodput.
    late = sum(took >= LATE for took in tally.delays)
    rates.append(max(0, tally.good - late) / seconds)


async def _full(load: Load, found: Beside, rates: list[float], seconds: float) -> None:
    tally = await load.run(seconds)
    found.tallies.append(tally)
    rates.append(tally.good / seconds)


@dataclass
class Lives:
    """How long a server lets slow clients live: what they saw, and a load beside them, from the first to the last look."""

    seen: dict[str, Any]
    tally: Tally
    took: float


async def lives(
    server: str,
    folder: Path,
    *,
    kind: Kind = "drip",
    count: int = 100,
    seconds: float = 20.0,
    options: Sequence[str] = (),
) -> Lives:
    """Hold on until all were closed, or for so long."""
    loop = asyncio.get_running_loop()
    async with single(server, folder, "--workers", "1", *options) as scene:
        attack = Attack(scene, count, kind)
        try:
            assert await until(30, attack.seen), attack.tail()
            began = loop.time()
            load = scene.load(20, connections=0).start()
            await until(seconds, lambda: attack.seen()["open"] == 0)
            return Lives(attack.seen(), await load.stop(patience=5), loop.time() - began)
        finally:
            attack.stop()
