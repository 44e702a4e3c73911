"""The load generator: how wrk is called, and what its report says. Starts nothing."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6}
TIMEOUT = 15
"""Seconds after which wrk calls an answer missing. Its default of 2 would count slow answers as errors."""

_TIME = r"([\d.]+)(us|ms|s|m|h)"
_REQUESTS = re.compile(rf"^\s*(\d+) requests in {_TIME},", re.MULTILINE)
_STATUSES = re.compile(r"^\s*Non-2xx or 3xx responses: (\d+)$", re.MULTILINE)
_SOCKETS = re.compile(r"^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$", re.MULTILINE)


class Load(NamedTuple):
    """One report. Latencies are microseconds, `errors` what was not a 2xx or 3xx plus what failed on sockets."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int

    @property
    def rate(self) -> float:
        """Completed requests for each second."""
        return self.requests / self.seconds


def command(url: str, connections: int | str, seconds: float, headers: dict[str, str]) -> list[str]:
    """One thread, since it has half of one core. wrk counts whole seconds: whoever wants less interrupts it."""
    arguments = ["wrk", "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", f"--timeout={TIMEOUT}s", "--latency"]
    for name, value in headers.items():
        arguments += ["-H", f"{name}: {value}"]
    return [*arguments, url]


def parse(text: str) -> Load:
    """The report of `wrk --latency`. Raises ValueError for anything else and for a run without an answer."""
    total = _REQUESTS.search(text)
    if total is None:
        raise ValueError(f"this is not a report of wrk: {text.strip()[-200:]!r}")
    requests, seconds = int(total[1]), _microseconds(total[2], total[3]) / 1e6
    if requests == 0 or seconds == 0:
        raise ValueError("no request was answered")
    statuses, sockets = _STATUSES.search(text), _SOCKETS.search(text)
    errors = (int(statuses[1]) if statuses else 0) + (sum(map(int, sockets.groups())) if sockets else 0)
    return Load(requests, seconds, _percentile(text, 50), _percentile(text, 99), errors)


def _percentile(text: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+{_TIME}\s*$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no {percent}% in the report of wrk")
    return _microseconds(found[1], found[2])


def _microseconds(number: str, unit: str) -> float:
    return float(number) * MICROSECONDS[unit]
