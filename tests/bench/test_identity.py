"""The measurement of identity in small: every peer lets in whom it should and nobody else, and the arithmetic is right.
What anything costs is for the bench to tell."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import sys
from collections import Counter
from itertools import cycle, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.processes import need_module

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    # What is frozen here would be so for every test that follows.
    monkeypatch.setattr(gc, "freeze", lambda: None)
    spec = importlib.util.spec_from_file_location("bench_identity", ROOT / "bench" / "identity.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def issuer(bench: ModuleType) -> Any:
    return bench.Issuer()


def peers(name: str) -> ModuleType:
    return importlib.import_module(f"bench.peers.identity_{name}")


def rows(lines: list[str]) -> dict[str, list[str]]:
    """First cell → the others, of all rows of all tables."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {first: rest for first, *rest in cells}


def test_every_credential_and_rule_is_measured(bench: ModuleType, issuer: Any) -> None:
    found = rows([*bench.credentials(issuer, bench.QUICK), *bench.rules(bench.QUICK)])
    for algorithm in bench.ALGORITHMS:
        *_, remembered, verified = found[algorithm]
        assert int(remembered) < int(verified)
    for name in (
        "JWT, 100 revoked",
        "API key, salted",
        "mTLS, tls extension",
        "mTLS, XFCC of a proxy",
        "introspection, kept",
    ):
        assert float(found[name][0]) > 0
    assert float(found["scopes"][0]) > 0
    assert "20 rules, the last allows" in found


def test_a_refusal_is_no_figure(bench: ModuleType, issuer: Any) -> None:
    rounds, scene = peers("rounds"), peers("scene")
    policy = bench.Authn(scene.tokens_of(issuer.jwks)).bind(bench.ports())
    with pytest.raises(RuntimeError, match=r"authn\.unknown_token"):
        rounds.Case(policy, [scene.asked(scene.bearing("a.b.c"))]).took()


async def test_a_request_that_is_refused_is_no_figure(bench: ModuleType, issuer: Any) -> None:
    apps, rounds, ways = peers("apps"), peers("rounds"), peers("ways")
    bad = cycle(ways.scopes_of([issuer.token(0, "ES256")]))
    with pytest.raises(RuntimeError, match="401"):
        await rounds.Requests(apps.APPS["starlette, gatekit"](issuer.jwks), bad).took(1)


async def test_every_app_lets_in_whom_it_should_and_nobody_else(bench: ModuleType, issuer: Any) -> None:
    apps, rounds, ways = peers("apps"), peers("rounds"), peers("ways")
    good = issuer.token(1)
    head, claims, signature = good.split(".")
    other = peers("scene").Issuer().token(1)
    refused = [f"{head}.{claims}.{signature[:-8]}AAAAAAAA", other, issuer.token(1, "ES256"), "a.b.c"]
    for name, make in apps.APPS.items():
        if name in apps.missing():
            continue
        app = make(issuer.jwks)
        await rounds.Requests(app, cycle(ways.scopes_of([good]))).took(2)
        if name.endswith((", open", "without policies")):
            continue
        for scope in ways.scopes_of(refused):
            with pytest.raises(RuntimeError, match=r"\[40[01]\]"):
                await rounds.Requests(app, cycle([scope])).took(1)


def test_the_whole_way_is_measured_in_process(bench: ModuleType, issuer: Any) -> None:
    apps = peers("apps")
    texts = [issuer.token(number) for number in range(12)]
    lines = bench.ways(issuer, bench.QUICK, texts)
    assert rows(lines).keys() >= apps.APPS.keys() - apps.missing().keys()
    assert sum(line.startswith("### In process") for line in lines) == 3
    assert len([line for line in bench.shadowed(issuer, bench.QUICK) if line]) == 3


@pytest.mark.servers
async def test_the_whole_way_is_measured_behind_a_server(bench: ModuleType, issuer: Any) -> None:
    need_module("uvicorn")
    texts = [issuer.token(number) for number in range(10)]
    apps = ("starlette, open", "starlette, gatekit")
    found = rows(await asyncio.to_thread(bench.served, issuer, bench.QUICK, texts, apps))
    assert all(float(found[name][0]) > 0 for name in apps)


def test_an6_a_flood_of_key_ids_is_one_fetch(bench: ModuleType, issuer: Any) -> None:
    told, _ = bench.flood(issuer, bench.QUICK)
    assert "fetches of the key set: 1; answers: authn.unknown_key." in told


@pytest.mark.parametrize(
    ("size", "callers", "share"),
    [
        pytest.param(20, 10, 1.0, id="half of what there is room for"),
        pytest.param(20, 1000, 0.0, id="far more than there is room for"),
    ],
)
def test_what_is_found_again_of_callers_in_turn(bench: ModuleType, size: int, callers: int, share: float) -> None:
    assert peers("ways").found_share(cycle(range(callers)), size, 1000) == share


def test_each_takes_its_turn_once_in_each_round(bench: ModuleType) -> None:
    names = ("a", "b", "c")
    turns = peers("rounds").turns(names, 50)
    found = [tuple(islice(turns, 3)) for _ in range(50)]
    assert all(sorted(one) == list(names) for one in found)
    assert len(Counter(found)) == 6


def test_ratios_are_those_within_a_round(bench: ModuleType) -> None:
    rounds = peers("rounds")
    times = {"a": [2.0, 40.0, 6.0], "b": [1.0, 20.0, 2.0]}
    assert rounds.middle(times, "a") == 6.0
    assert rounds.ratio(times, "a", "b") == 2.0
    assert rounds.added(times, "a", "b") == 4.0
