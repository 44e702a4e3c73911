"""Goodput and latency over the load that is offered: without the policy, with a limit that is set, with one that is found."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.drills.arrivals import Phase
from tests.drills.overloaded import LATE, overloaded
from tests.drills.shedding import ADAPTIVE, NONE, SETTLING, STATIC, config, median

from .plot import Panel, drawn

LOADS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
WAYS: Mapping[str, str] = {"without": NONE, "concurrency: 24": STATIC, "concurrency: adaptive": ADAPTIVE}
FINDING = 8.0
"""Seconds at each load in which an adaptive limit is found before anything is counted."""


@dataclass
class Sweep:
    """Phases by way and load."""

    capacity: float = 0.0
    phases: dict[tuple[str, float], list[Phase]] = field(default_factory=dict)

    def goodput(self, way: str, load: float) -> float:
        return median([one.goodput for one in self.phases[way, load]])

    def took(self, way: str, load: float, part: float) -> float:
        return median([one.took(part) for one in self.phases[way, load]])

    def shed(self, way: str, load: float) -> float:
        return median([one.shed for one in self.phases[way, load]])

    def late(self, way: str, load: float) -> float:
        return median([one.late() for one in self.phases[way, load]])


async def sweep(
    server: str, *, loads: Sequence[float], rounds: int, seconds: float, seed: int, say: Callable[[str], None]
) -> Sweep:
    """Every way and load with a gateway and a backend of its own: a line that one left behind would be the next one's.
    The order is shuffled anew for each round."""
    found, order = Sweep(), Random(seed)  # noqa: S311
    for number in range(rounds):
        cases = [(way, load) for way in WAYS for load in loads]
        order.shuffle(cases)
        for way, load in cases:
            with tempfile.TemporaryDirectory(prefix="gatekit-overload-") as folder:
                async with overloaded(config(WAYS[way]), Path(folder), server=server, seed=seed + number) as scene:
                    found.capacity = scene.capacity
                    await scene.phase(0.5, min(load, 0.5))
                    if WAYS[way] == ADAPTIVE:
                        await scene.phase(FINDING, load)
                    phase = await scene.phase(seconds, load, settle=SETTLING)
            found.phases.setdefault((way, load), []).append(phase)
            say(f"round {number + 1}, {way}, {load:g} x: {phase.told()}")
    return found


def table(found: Sweep) -> list[str]:
    """Goodput in requests a second and in parts of the capacity, latencies of what was answered well or hung up on."""
    loads = sorted({load for _, load in found.phases})
    lines = [
        "| offered, x capacity | " + " | ".join(f"{way}: good/s | p50 ms | p99 ms | shed %" for way in WAYS) + " |",
        "|---" * (1 + 4 * len(WAYS)) + "|",
    ]
    for load in loads:
        cells = [f"{load:g}"]
        for way in WAYS:
            good = f"{found.goodput(way, load):.0f}"
            # A generator that could not keep up says little about the gateway.
            cells.append(f"({good})" if found.late(way, load) > LATE else good)
            cells += [f"{1e3 * found.took(way, load, part):.0f}" for part in (0.5, 0.99)]
            cells.append(f"{100 * found.shed(way, load):.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def plot(found: Sweep) -> str:
    """The picture of it."""
    loads = sorted({load for _, load in found.phases})
    top = found.capacity
    return drawn(
        [
            Panel(
                "Answered well and in time, requests a second", "requests/s",
                [0, 0.25 * top, 0.5 * top, 0.75 * top, top, 1.25 * top],
                {way: [(load, found.goodput(way, load)) for load in loads] for way in WAYS},
                marked=(top, "what the backend can do"),
            ),
            Panel(
                "99 % of them within, milliseconds", "ms", [20, 50, 100, 200, 500, 1000],
                {way: [(load, 1e3 * found.took(way, load, 0.99)) for load in loads] for way in WAYS},
                logarithmic=True,
                marked=(1000, "clients hang up"),
            ),
        ],
        "offered load, in multiples of what the backend can do",
        [0.25, 0.5, 1, 2, 4],
        "Goodput and 99th percentile of latency over the offered load, with and without load shedding",
    )  # fmt: skip
