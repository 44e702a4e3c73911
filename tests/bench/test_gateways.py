"""What the side-by-side benchmark makes of its measurements. Nothing here measures anything."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

PEERS = Path(__file__).parents[2] / "bench" / "peers"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_peers_{name}", PEERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


wrk = module("wrk")
figures = module("figures")

REPORT = """\
Running 2s test @ http://127.0.0.1:20001/v1/service-500/items/42
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.25ms  212.03us   6.40ms   91.02%
    Req/Sec    25.62k     1.03k   26.90k    80.00%
  Latency Distribution
     50%  {p50}
     75%    1.29ms
     90%    1.38ms
     99%  {p99}
  {requests} requests in {took}, 12.11MB read
{errors}Requests/sec:  25516.44
Transfer/sec:      6.05MB
"""


def report(**changed: str) -> str:
    return REPORT.format(
        **({"p50": "1.22ms", "p99": "1.52ms", "requests": "51234", "took": "2.00s", "errors": ""} | changed)
    )


SOCKETS = "  Socket errors: connect 1, read 20, write 300, timeout 4000\n"
STATUSES = "  Non-2xx or 3xx responses: 50000\n"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, (51234, 2.0, 1220.0, 1520.0, 0), id="milliseconds"),
        pytest.param({"p50": "53.00us", "p99": "1.10s"}, (51234, 2.0, 53.0, 1.1e6, 0), id="micro and whole seconds"),
        pytest.param({"p99": "1.50m", "took": "1.50m"}, (51234, 90.0, 1220.0, 90e6, 0), id="minutes"),
        pytest.param({"took": "507.61ms"}, (51234, 0.50761, 1220.0, 1520.0, 0), id="interrupted"),
        pytest.param({"errors": SOCKETS}, (51234, 2.0, 1220.0, 1520.0, 4321), id="socket errors"),
        pytest.param({"errors": STATUSES}, (51234, 2.0, 1220.0, 1520.0, 50000), id="statuses"),
        pytest.param({"errors": SOCKETS + STATUSES}, (51234, 2.0, 1220.0, 1520.0, 54321), id="both"),
    ],
)
def test_a_report_of_wrk_is_read(changed: dict[str, str], expected: tuple[float, ...]) -> None:
    assert tuple(wrk.parse(report(**changed))) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("unable to connect to 127.0.0.1:20001 Connection refused\n", id="refused"),
        pytest.param(report(requests="0"), id="no answer"),
        pytest.param(report(took="0.00us"), id="no time"),
        pytest.param(report().replace("     50%", "     51%"), id="no median"),
        pytest.param(report(p99="1.5x"), id="unknown unit"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"wrk|answered"):
        wrk.parse(text)


@given(st.integers(1, 10**9), st.integers(1, 10**6), st.sampled_from(["us", "ms", "s"]), st.integers(0, 10**6))
def test_every_number_comes_back(requests: int, hundredths: int, unit: str, errors: int) -> None:
    time = f"{hundredths / 100:.2f}{unit}"
    errors_line = f"  Non-2xx or 3xx responses: {errors}\n" if errors else ""
    found = wrk.parse(report(p50=time, p99=time, requests=str(requests), errors=errors_line))
    scale = {"us": 1, "ms": 10**3, "s": 10**6}[unit]
    assert found.p50 == found.p99 == pytest.approx(hundredths * scale / 100)
    assert (found.requests, found.errors) == (requests, errors)
    assert found.rate == pytest.approx(requests / 2.0)


def test_wrk_is_told_whole_seconds_and_every_header() -> None:
    assert wrk.command("http://a.test/", 32, 0.5, {"x-api-key": "k"}) == [
        "wrk", "-t1", "-c32", "-d1s", f"--timeout={wrk.TIMEOUT}s", "--latency", "-H", "x-api-key: k", "http://a.test/",
    ]  # fmt: skip


def sample(**changed: Any) -> Any:
    given = {
        "rate": 1000.0, "p50": 10.0, "p99": 20.0, "cpu": 50.0, "gateway_busy": 0.99, "load_busy": 0.5, "other_busy": 0.0,
        "rss": 30.0, "errors": 0,
    }  # fmt: skip
    return figures.Sample(**(given | changed))


@pytest.mark.parametrize(
    ("gateway", "load", "limited"),
    [
        pytest.param(0.99, 0.50, False, id="the gateway is the limit"),
        pytest.param(0.90, 0.99, False, id="both are busy"),
        pytest.param(0.89, 0.95, True, id="the load generator is the limit"),
        pytest.param(0.89, 0.94, False, id="nobody is the limit"),
        pytest.param(None, 1.00, False, id="no gateway to be slower"),
    ],
)
def test_a_round_is_limited_when_wrk_or_upstream_was_the_limit(
    gateway: float | None, load: float, limited: bool
) -> None:
    assert sample(gateway_busy=gateway, load_busy=load).limited is limited


LIMITED = {"gateway_busy": 0.5, "load_busy": 1.0}
DISTURBED = {"other_busy": 0.1}


@pytest.mark.parametrize(("others", "disturbed"), [(0.0, False), (0.099, False), (0.1, True), (1.0, True)])
def test_a_round_is_disturbed_when_others_took_a_tenth_of_a_core(others: float, disturbed: bool) -> None:
    assert sample(other_busy=others).disturbed is disturbed


def test_a_figure_is_the_median_of_the_rounds_that_count() -> None:
    void = [sample(rate=9.0, cpu=1.0, errors=2, **LIMITED), sample(rate=0.1, cpu=900.0, **DISTURBED)]
    found = figures.figure([sample(rate=1.0, cpu=30.0), *void, sample(rate=5.0, cpu=70.0, errors=1)])
    assert (found.rate, found.cpu, found.errors) == (3.0, 50.0, 3)
    assert (found.rounds, found.limited, found.disturbed) == (4, 1, 1)


@pytest.mark.parametrize(
    ("rounds", "rate", "cpu"),
    [
        pytest.param([{}], True, True, id="good"),
        pytest.param([{}, LIMITED, DISTURBED], True, True, id="one good among void"),
        pytest.param([LIMITED], False, True, id="limited: CPU stands"),
        pytest.param([LIMITED, DISTURBED], False, True, id="limited or disturbed"),
        pytest.param([DISTURBED, LIMITED | DISTURBED], False, False, id="disturbed"),
        pytest.param([{}, {"errors": 1}], False, False, id="errors"),
    ],
)
def test_what_counts_of_a_figure(rounds: list[dict[str, float]], rate: bool, cpu: bool) -> None:
    found = figures.figure([sample(**one) for one in rounds])
    assert (found.rate_counts, found.cpu_counts) == (rate, cpu)


def test_a_figure_of_limited_rounds_takes_no_disturbed_one_in() -> None:
    found = figures.figure([sample(cpu=10.0, **LIMITED), sample(cpu=90.0, **DISTURBED), sample(cpu=12.0, **LIMITED)])
    assert found.cpu == 11.0


def results(**samples: Any) -> Any:
    """Figures at 32 connections and at one, by the target's name with / and - as __ and _."""
    found = {}
    for name, one in samples.items():
        for case in (figures.AT_32, figures.AT_1):
            found[name.replace("__", "/").replace("_", "-"), case] = figures.figure([one])
    return found


def test_ratios_are_more_when_the_target_is_better() -> None:
    found = results(gatekit=sample(rate=3000.0, cpu=20.0, p50=90.0), peer=sample(rate=1000.0, cpu=50.0, p50=40.0))
    assert figures.rates(found, "gatekit", "peer", figures.AT_32) == 3.0
    assert figures.savings(found, "gatekit", "peer", figures.AT_32) == 2.5
    assert figures.added(found, "gatekit", "peer", figures.AT_32, "p50") == 50.0


@pytest.mark.parametrize(
    "peer",
    [
        pytest.param({}, id="not measured"),
        pytest.param({"peer": sample(errors=1)}, id="errors"),
        pytest.param({"peer": sample(**LIMITED)}, id="limited"),
        pytest.param({"peer": sample(**DISTURBED)}, id="disturbed"),
    ],
)
def test_what_does_not_count_is_compared_with_nothing(peer: dict[str, Any]) -> None:
    found = results(gatekit=sample(), **peer)
    assert figures.rates(found, "gatekit", "peer", figures.AT_32) is None
    assert figures.rates(found, "peer", "gatekit", figures.AT_32) is None
    assert figures.added(found, "gatekit", "peer", figures.AT_32, "p50") is None


def test_the_cpu_of_a_peer_that_the_load_generator_limited_is_compared() -> None:
    found = results(gatekit=sample(cpu=20.0), peer=sample(cpu=10.0, **LIMITED))
    assert figures.savings(found, "gatekit", "peer", figures.AT_32) == 0.5


LIMIT = {
    "hello/uvicorn": {"rate": 1000.0}, "hello/granian": {"rate": 2000.0},
    "gatekit/uvicorn": {"rate": 600.0, "cpu": 50.0, "p50": 120.0}, "gatekit/granian": {"rate": 1300.0, "cpu": 40.0, "p50": 150.0},
    "gatekit-1000/uvicorn": {"cpu": 60.0}, "gatekit-1000/granian": {"cpu": 50.0},
    "envoy": {"rate": 1000.0}, "caddy": {"rate": 1300 / 1.8}, "asgiproxy": {"rate": 200.0}, "httpx2": {"rate": 50.0},
    "direct": {"p50": 40.0},
}  # fmt: skip
"""Figures with which every goal is met, most of them just so."""


def at_limit(**changed: dict[str, float]) -> Any:
    return {
        (name, case): figures.figure([sample(**(values | changed.get(name, {})))])
        for name, values in LIMIT.items()
        for case in (figures.AT_32, figures.AT_1)
    }


def verdicts(found: Any) -> list[str]:
    return [figures.verdict(goal, found)[1] for goal in figures.GOALS]


def test_every_goal_is_met_at_its_limit() -> None:
    found = at_limit()
    assert verdicts(found) == ["met"] * len(figures.GOALS)
    values = [figures.verdict(goal, found)[0] for goal in figures.GOALS]
    assert values == pytest.approx([0.6, 0.65, 1.3, 1.8, 3.0, 12.0, 10.0, 10.0, 80.0, 110.0])


@pytest.mark.parametrize(
    ("name", "worse", "missed"),
    [
        pytest.param("hello/uvicorn", {"rate": 1100.0}, [0], id="bare app on uvicorn"),
        pytest.param("hello/granian", {"rate": 2001.0}, [1], id="bare app on granian"),
        pytest.param("envoy", {"rate": 1001.0}, [2], id="envoy"),
        pytest.param("caddy", {"rate": 723.0}, [3], id="caddy"),
        pytest.param("asgiproxy", {"rate": 201.0}, [4], id="asgiproxy"),
        pytest.param("httpx2", {"rate": 51.0}, [5], id="httpx2"),
        pytest.param("gatekit-1000/uvicorn", {"cpu": 60.1}, [6], id="policies on uvicorn"),
        pytest.param("gatekit-1000/granian", {"cpu": 50.1}, [7], id="policies on granian"),
        pytest.param("direct", {"p50": 9.9}, [8, 9], id="delay"),
    ],
)
def test_a_goal_is_missed_just_beyond_its_limit(name: str, worse: dict[str, float], missed: list[int]) -> None:
    found = verdicts(at_limit(**{name: worse}))
    assert [place for place, verdict in enumerate(found) if verdict != "met"] == missed
    assert {found[place] for place in missed} == {"not met"}


def test_a_goal_without_its_figures_is_neither_met_nor_missed() -> None:
    assert verdicts({}) == ["not measured"] * len(figures.GOALS)
    assert verdicts(at_limit(envoy={"errors": 1}))[2] == "not measured"
    assert verdicts(at_limit(**{"hello/uvicorn": DISTURBED}))[0] == "not measured"


@pytest.mark.parametrize(
    ("connections", "full", "expected"),
    [
        pytest.param([1, 32, 128], False, [("small", 1), ("small", 32), ("small", 128), ("64k", 32)], id="default"),
        pytest.param([1, 32], True, [("small", 1), ("small", 32), ("64k", 1), ("64k", 32)], id="full"),
        pytest.param([1, 16], False, [("small", 1), ("small", 16), ("64k", 16)], id="nearest to 32"),
    ],
)
def test_the_large_body_is_measured_at_32_connections(
    connections: list[int], full: bool, expected: list[tuple[str, int]]
) -> None:
    assert figures.cases(["small", "64k"], connections, full) == expected
