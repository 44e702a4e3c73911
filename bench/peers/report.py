"""What a run found, as Markdown: the figures of each case, ratios, goals, versions, commands. Pure but for versions."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from bench.peers import figures
from bench.peers.figures import Case, Figure, Results
from bench.peers.programs import PROGRAMS
from bench.peers.targets import DIRECT, SHOWN, TARGETS, UPSTREAM

PEERS = ("nginx", "envoy", "caddy", "asgiproxy", "httpx2", "httpx")
PACKAGES = (
    "gatekit-asgi", "uvicorn", "granian", "uvloop", "httptools", "asgiproxy", "aiohttp", "starlette", "httpx2", "httpcore2",
    "httpx", "httpcore", "h11", "sniffio",
)  # fmt: skip


Problems = dict[tuple[str, Case | None], list[str]]
"""Target and case → what went wrong; no case where it concerns the target as a whole."""


class Run(NamedTuple):
    """One run, with what it found."""

    names: Sequence[str]
    cases: Sequence[Case]
    results: Results
    problems: Problems
    rounds: int
    seconds: float
    warm_up: float
    seed: int
    cores: tuple[int, int]
    wrk: str
    wrk_command: Sequence[str]


def markdown(run: Run) -> str:
    parts = [_head(run)]
    parts += [_case(run, case) for case in run.cases]
    parts += [_ratios(run, case) for case in run.cases]
    parts += [_delays(run, case) for case in run.cases if case.connections == 1]
    parts += [_goals(run), _versions(run), _commands(run)]
    return "\n".join(part for part in parts if part)


def _head(run: Run) -> str:
    gateway, load = run.cores
    return f"""## Beside other gateways: `python bench/gateways.py`

Rounds: {run.rounds}, each measurement {run.seconds:g} s after {run.warm_up:g} s of warm-up; medians. The targets take turns,
shuffled anew for each round (seed {run.seed}), and each is started anew. Everything is on loopback: the gateway alone on
core {gateway}; wrk and the nginx that is the upstream on core {load}. All get the same requests, with the same API key.
Ratios within one run are what can be compared; the figures themselves belong to the machine.
{_siblings(run.cores)}{_disturbed(run.results)}
A round is void when wrk and upstream took {figures.LOAD_IS_BUSY:.0%} of their core or more while the gateway took less than
{figures.GATEWAY_IS_BUSY:.0%} of its own (then they were the limit), or when processes that are no part of the benchmark took
{figures.DISTURBED:.0%} of a core or more. Figures in brackets are compared with nothing: all their rounds are void, or there
were errors. CPU for each request stands where only load generator or upstream was the limit.
`direct` is wrk at the upstream with no gateway between: what load generator and upstream can do on their one core.
"""


def _disturbed(results: Results) -> str:
    disturbed = sum(found.disturbed > 0 for found in results.values())
    text = f"**Not a quiet machine**: {disturbed} of {len(results)} figures have void rounds for it.\n"
    return text if disturbed else ""


def _siblings(cores: tuple[int, int]) -> str:
    try:
        threads = Path(f"/sys/devices/system/cpu/cpu{cores[0]}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return ""
    shared = str(cores[1]) in threads.replace("-", ",").split(",")
    return "The two are threads of one physical core.\n" if shared else ""


def _case(run: Run, case: Case) -> str:
    rows = []
    for name in run.names:
        found = run.results.get((name, case))
        lines = [*run.problems.get((name, None), ()), *run.problems.get((name, case), ())]
        rows.append((name, *(_cells(found, lines) if found else (*("–",) * 8, "; ".join(lines)))))
    columns = (
        "target", "requests/s", "p50 µs", "p99 µs", "gateway CPU %", "wrk + upstream CPU %", "others CPU %",
        "CPU µs/request", "RSS MiB", "notes",
    )  # fmt: skip
    return _titled(_name(case), _table(columns, rows))


def _name(case: Case) -> str:
    body = "90 bytes" if case.body == "small" else "64 KiB"
    return f"{body}, {case.connections} connection{'' if case.connections == 1 else 's'}"


def _cells(found: Figure, problems: Sequence[str]) -> tuple[str, ...]:
    notes = list(problems)
    if found.limited:
        notes.append(f"void: {found.limited} of {found.rounds} rounds, wrk or upstream was the limit")
    if found.disturbed:
        notes.append(f"void: {found.disturbed} of {found.rounds} rounds, disturbed")
    if found.errors:
        notes.append(f"{found.errors:,} errors")
    busy = None if found.gateway_busy is None else 100 * found.gateway_busy
    return (
        *(_bracketed(_number(one), found.rate_counts) for one in (found.rate, found.p50, found.p99)),
        _number(busy),
        _number(100 * found.load_busy),
        _number(100 * found.other_busy),
        _bracketed(_number(found.cpu, digits=1), found.cpu_counts or found.cpu is None),
        _number(found.rss),
        "; ".join(notes),
    )


def _bracketed(text: str, counts: bool) -> str:
    return text if counts else f"({text})"


def _ratios(run: Run, case: Case) -> str:
    rows = []
    for name in run.names:
        if name.startswith("gatekit"):
            peers = (f"hello/{name.partition('/')[2]}", *PEERS)
            rows.append((name, *(_pair(run.results, name, peer, case) for peer in peers)))
    if not rows:
        return ""
    text = "Requests per second of gatekit over those of the peer / CPU for each request of the peer over that of gatekit. More is better."
    return _titled(f"Ratios: {_name(case)}", text, "", _table(("", "bare app, same server", *PEERS), rows))


def _pair(results: Results, name: str, peer: str, case: Case) -> str:
    rates = figures.rates(results, name, peer, case)
    savings = figures.savings(results, name, peer, case)
    return f"{_number(rates, digits=2)} / {_number(savings, digits=2)}"


def _delays(run: Run, case: Case) -> str:
    rows = []
    for name in run.names:
        p50 = figures.value(run.results, name, case, "p50")
        more = figures.added(run.results, name, DIRECT, case, "p50")
        rows.append((name, _number(p50), "" if name == DIRECT else _number(more)))
    return _titled(f"Delay: {_name(case)}", _table(("target", "p50 µs", "over direct µs"), rows))


def _goals(run: Run) -> str:
    rows = []
    for goal in figures.GOALS:
        found, verdict = figures.verdict(goal, run.results)
        sign = "≤" if goal.most else "≥"
        rows.append((goal.text, f"{sign} {goal.limit:g} {goal.unit}", _number(found, digits=3), verdict))
    text = "At 32 connections and the small body unless another is named."
    return _titled("Goals", text, "", _table(("goal", "wanted", "value", ""), rows))


def _versions(run: Run) -> str:
    lines = [
        f"- {platform.system()} {platform.release()}, {_processor()}, {os.cpu_count()} cores, {platform.python_implementation()} {platform.python_version()}"
    ]
    lines += [f"- {name} {program.version()}" for name, program in PROGRAMS.items()]
    lines.append(f"- wrk {run.wrk}")
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"{package} not installed")
    return _titled("Versions", *lines, "- " + ", ".join(found))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commands(run: Run) -> str:
    named = [("upstream", UPSTREAM.words(SHOWN)), ("load", run.wrk_command)]
    named += [(target.name, target.words(SHOWN)) for target in TARGETS if target.name in run.names]
    lines = [f"{name:21}{shlex.join(words)}" for name, words in named]
    text = "Configurations and apps are in `bench/peers`. DIR, PORT, N and URL differ from start to start and from case to case."
    return _titled("Commands", text, "", "```text", *lines, "```")


def _titled(title: str, *lines: str) -> str:
    return "\n".join([f"### {title}", "", *lines, ""])


def _table(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = list(columns)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows])


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
