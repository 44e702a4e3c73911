"""gatekit beside other gateways, in one run on loopback: requests per second, latency, CPU for each request, memory.

The gateway under test has one core to itself; the load generator wrk and the nginx that all proxies forward to share
another. Targets take turns in a shuffled order, each started anew in each round. What comes out is ratios within the
run, and whether the stated goals are met. Needs Linux, two cores, wrk, and the packages of the extra `bench`:

    apt-get install -y wrk
    pip install -e '.[bench]'
    python bench/gateways.py --markdown gateways.md

Takes about ten minutes; `--only 'gatekit/*' 'hello/*' --rounds 1` takes less. Exit status 2: something needed is missing.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.peers import report, wrk
from bench.peers.answers import BODIES, KEY, KEY_HEADER, PATHS
from bench.peers.figures import Case, Figure, Sample, cases, figure
from bench.peers.processes import NotStarted, Running, core_seconds, free_port, load
from bench.peers.programs import resolved
from bench.peers.targets import DIRECT, TARGETS, UPSTREAM, Place, Target

ATTEMPTS = 3
"""Starts of a server before it is given up: between the look for a free port and its use, another may take it."""
HEADERS = {KEY_HEADER: KEY}
READY = {PATHS[body]: BODIES[body] for body in BODIES}


class Bench:
    """One run: on which cores, in which cases, for how long; and what has been found so far."""

    def __init__(self, cores: tuple[int, int], cases: Sequence[Case], seconds: float, warm_up: float) -> None:
        self.cores = cores
        self.cases = cases
        self.seconds = seconds
        self.warm_up = warm_up
        self.samples: dict[tuple[str, Case], list[Sample]] = defaultdict(list)
        self.problems: report.Problems = defaultdict(list)
        self.given_up: set[str] = set()

    def run(self, targets: Sequence[Target | None], rounds: int, order: random.Random, folder: Path) -> None:
        """Every target in every round. None stands for the upstream itself, asked without a gateway."""
        with started(UPSTREAM, self.cores[1], folder, "0") as (upstream, port):
            for number in range(rounds):
                turns = list(targets)
                order.shuffle(turns)
                for target in turns:
                    if target is None or target.name not in self.given_up:
                        say(f"round {number + 1} of {rounds}: {target.name if target else DIRECT}")
                        self.take(target, upstream, port, folder)

    def take(self, target: Target | None, upstream: Running, upstream_port: int, folder: Path) -> None:
        """One turn: started, measured in every case, ended. A target that cannot be started has no further turn."""
        if target is None:
            self.measure(DIRECT, None, upstream, upstream_port)
            return
        problem = target.missing()
        if problem is None:
            try:
                with started(target, self.cores[0], folder, str(upstream_port)) as (running, port):
                    self.measure(target.name, running, upstream, port)
            except NotStarted as error:
                problem = f"did not start: {error}"
        if problem is not None:
            self.problems[target.name, None].append(problem)
            self.given_up.add(target.name)
            say(f"  {problem}")

    def measure(self, name: str, gateway: Running | None, upstream: Running, port: int) -> None:
        for case in self.cases:
            url = f"http://127.0.0.1:{port}{PATHS[case.body]}"
            try:
                if self.warm_up:
                    load(wrk.command(url, case.connections, self.warm_up, HEADERS), self.warm_up, self.cores[1])
                command = wrk.command(url, case.connections, self.seconds, HEADERS)
                self.samples[name, case].append(self.sample(command, gateway, upstream))
            except (ValueError, subprocess.TimeoutExpired) as error:
                self.problems[name, case].append(str(error))
            if gateway is not None and not gateway.alive:
                self.problems[name, case].append(f"ended while it was measured: {gateway.tail()}")
                return

    def sample(self, command: Sequence[str], gateway: Running | None, upstream: Running) -> Sample:
        """One measurement. All CPU is read right before and right after the whole life of wrk."""
        cores, own = core_seconds(self.cores), time.process_time()
        before, upstream_before = gateway.cpu_seconds() if gateway else 0.0, upstream.cpu_seconds()
        loaded = load(command, self.seconds, self.cores[1])
        used = gateway.cpu_seconds() - before if gateway else 0.0
        behind = upstream.cpu_seconds() - upstream_before + loaded.cpu
        own = time.process_time() - own
        front, back = (after - earlier for after, earlier in zip(core_seconds(self.cores), cores, strict=True))
        found = wrk.parse(loaded.output)
        return Sample(
            rate=found.rate,
            p50=found.p50,
            p99=found.p99,
            cpu=1e6 * used / found.requests if gateway else None,
            gateway_busy=used / loaded.wall if gateway else None,
            load_busy=behind / loaded.wall,
            other_busy=max(front - used if gateway else 0.0, back - behind - own, 0.0) / loaded.wall,
            rss=gateway.rss_mib() if gateway else None,
            errors=found.errors,
        )

    def results(self) -> dict[tuple[str, Case], Figure]:
        return {key: figure(samples) for key, samples in self.samples.items() if samples}


@contextmanager
def started(target: Target, core: int, folder: Path, upstream: str) -> Iterator[tuple[Running, int]]:
    """The target, running and answering as it should, and its port. Raises NotStarted."""
    for attempt in range(1, ATTEMPTS + 1):
        port = free_port()
        place = Place(Path(tempfile.mkdtemp(dir=folder)), str(port), upstream)
        target.write(place)
        with Running(resolved(target.words(place)), target.variables(place), core, place.folder) as running:
            try:
                running.wait(port, READY)
            except NotStarted:
                if running.alive or attempt == ATTEMPTS:
                    raise
                continue
            yield running, port
            return


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join([DIRECT, *(target.name for target in TARGETS)])
    parser.add_argument("--only", nargs="+", metavar="PATTERN", default=["*"], help=f"targets, among {names}")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement; default: 2")
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds before each measurement; default: 0.5")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32, 128], help="default: 1 32 128")
    parser.add_argument("--bodies", nargs="+", choices=list(BODIES), default=list(BODIES), help="default: both")
    parser.add_argument("--full", action="store_true", help="the large body at every number of connections too")
    parser.add_argument("--seed", type=int, default=None, help="of the order; default: a random one, which is printed")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the report to this file as well")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.seconds <= 0 or options.warm_up < 0 or min(options.connections) < 1:
        parser.error("rounds, seconds and connections are above zero")
    if options.seed is None:
        options.seed = random.randrange(2**32)  # noqa: S311
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = options_of(arguments)
    targets = [target for target in TARGETS if _chosen(target.name, options.only)]
    names = [DIRECT] * _chosen(DIRECT, options.only) + [target.name for target in targets]
    problem = _impossible(names)
    if problem:
        say(problem)
        return 2
    gateway, behind, *_ = sorted(os.sched_getaffinity(0))
    chosen = cases(options.bodies, options.connections, options.full)
    bench = Bench((gateway, behind), chosen, options.seconds, options.warm_up)
    each = sum((options.seconds + options.warm_up + 0.1) for _ in chosen) + 1.5
    say(f"seed {options.seed}; about {each * len(names) * options.rounds / 60:.0f} minutes")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.sched_setaffinity(0, {behind})
    turns = [*targets, *([None] if DIRECT in names else [])]
    try:
        with tempfile.TemporaryDirectory(prefix="gatekit-bench-") as folder:
            bench.run(turns, options.rounds, random.Random(options.seed), Path(folder))  # noqa: S311
    except KeyboardInterrupt:
        say("interrupted: everything that was started has been ended")
        return 128 + signal.SIGINT
    except NotStarted as error:
        say(f"the upstream did not start: {error}")
        return 2
    run = report.Run(
        names=names,
        cases=chosen,
        results=bench.results(),
        problems=bench.problems,
        rounds=options.rounds,
        seconds=options.seconds,
        warm_up=options.warm_up,
        seed=options.seed,
        cores=bench.cores,
        wrk=_wrk_version(),
        wrk_command=wrk.command("URL", "N", options.seconds, HEADERS),
    )
    text = report.markdown(run)
    print(text)  # noqa: T201
    if options.markdown:
        options.markdown.write_text(text)
    return 0


def _chosen(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _impossible(names: Sequence[str]) -> str | None:
    """Why nothing can be measured here."""
    if not names:
        return "no target matches --only"
    if shutil.which("wrk") is None:
        return "the load generator wrk is not installed: apt-get install -y wrk"
    if len(os.sched_getaffinity(0)) < 2:
        return "two cores are needed: one for the gateway, one for load generator and upstream"
    missing = UPSTREAM.missing()
    return f"the upstream is nginx, which is {missing}" if missing else None


def _wrk_version() -> str:
    told = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)  # noqa: S607
    found = re.search(r"\d+\.\d+(\.\d+)?", told.stdout + told.stderr)
    return found[0] if found else "unknown"


def say(text: str) -> None:
    """Progress, beside the report."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
