"""What a gateway says of itself, and its admin endpoints where somebody else runs the server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gatekit import ApiKey, Authn, Cluster, ConfigRefused, Gateway, Route, api_keys
from gatekit.core.events import ConfigApplied, ConfigRejected, EndpointFailed, Events
from gatekit.gateway import status as status_module
from gatekit.gateway.status import History
from gatekit.testing import ManualClock, Upstream, call, test_ports

NOW = 1_700_000_000.0
KEY = "a-very-secret-api-key"
SECRETS = api_keys({"ann": ApiKey(secret=KEY)})


@pytest.fixture
async def up() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall=NOW)


def made(clock: ManualClock, url: str, **more: Any) -> Gateway:
    return Gateway(
        routes=[Route("/orders/{id}", to="orders", name="order")],
        clusters={"orders": Cluster(url)},
        ports=test_ports(clock=clock),
        **more,
    )


# -- status


async def test_what_is_in_force_and_what_stands_behind_it(up: Upstream, clock: ManualClock) -> None:
    gateway = made(clock, up.url)
    said = gateway.status()
    assert json.loads(json.dumps(said)) == said, "plain data"
    assert said == {
        "draining": False,
        "active": 0,
        "generation": 1,
        "digest": gateway.plan.digest,
        "applied_at": NOW,
        "warnings": [],
        "refused": None,
        "routes": [{"name": "order", "path": "/orders/{id}"}],
        "clusters": {
            "orders": {
                "kind": "endpoints",
                "balance": gateway.plan.cluster_plans[0].balance,
                "endpoints": {
                    up.url: {
                        "health": "not checked",
                        "connections": {"open": 0, "idle": 0, "waiting": 0},
                        "failures": {"count": 0},
                    }
                },
            }
        },
        "policies": [],
    }
    assert (await call(gateway, target="/orders/1")).status == 200
    endpoint = gateway.status()["clusters"]["orders"]["endpoints"][up.url]
    assert endpoint["connections"] == {"open": 1, "idle": 1, "waiting": 0}
    await gateway.aclose()


async def test_failures_are_counted_with_the_last_reason_and_time(clock: ManualClock) -> None:
    gateway = made(clock, "http://127.0.0.1:1")
    for seconds in (1.0, 2.5):
        clock.advance(seconds)
        assert (await call(gateway, target="/orders/1")).status in (502, 503)
    failures = gateway.status()["clusters"]["orders"]["endpoints"]["http://127.0.0.1:1"]["failures"]
    assert failures["count"] >= 2
    assert failures["last_at"] == NOW + 3.5
    assert failures["last_reason"]
    await gateway.aclose()


async def test_a_reload_moves_the_time_and_a_refused_one_is_told_with_its_findings(clock: ManualClock) -> None:
    gateway = made(clock, "http://127.0.0.1:1")
    clock.advance(10.0)
    gateway.apply({"clusters": {"b": {"urls": ["http://127.0.0.1:2"]}}, "routes": [{"match": "/b", "to": "b"}]})
    said = gateway.status()
    assert (said["generation"], said["applied_at"], said["refused"]) == (2, NOW + 10, None)
    assert list(said["clusters"]) == ["b"]
    clock.advance(5.0)
    with pytest.raises(ConfigRefused):
        gateway.apply({"routes": [{"match": "/b", "to": "nobody"}]})
    said = gateway.status()
    assert (said["generation"], said["applied_at"]) == (2, NOW + 10)
    assert said["refused"]["at"] == NOW + 15
    assert "nobody" in said["refused"]["problems"][0]


async def test_other_kinds_of_clusters_say_what_they_are(clock: ManualClock) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("not reached")

    gateway = Gateway(routes=[Route("/*", to="app")], clusters={"app": Cluster(app=app)}, ports=test_ports(clock=clock))
    assert gateway.status()["clusters"] == {"app": {"kind": "asgi"}}


async def test_no_secret_is_told(up: Upstream, clock: ManualClock) -> None:
    gateway = made(clock, up.url, policies=[Authn(SECRETS)])
    assert (await call(gateway, target="/orders/1?token=also-secret", headers={"x-api-key": KEY})).status == 200
    text = json.dumps(gateway.status())
    assert KEY not in text
    assert "secret" not in text
    await gateway.aclose()


# -- what it remembers


class Plan:
    """As much of a cluster's plan as the history looks at."""

    def __init__(self, *keys: str) -> None:
        self.endpoints = [type("Endpoint", (), {"key": key})() for key in keys]


def test_endpoints_that_are_gone_are_forgotten() -> None:
    events = Events()
    history = History(events, lambda: NOW)
    for name in ("http://a", "http://b"):
        events.emit(EndpointFailed("one", name, "upstream.refused"))
    plans: Any = {"one": Plan("http://a")}
    history.keep_failures(plans)
    assert history.failures("one", "http://a") == {"count": 1, "last_reason": "upstream.refused", "last_at": NOW}
    assert history.failures("one", "http://b") == {"count": 0}
    assert history.failures("two", "http://a") == {"count": 0}


def test_what_is_given_out_is_a_copy() -> None:
    events = Events()
    history = History(events, lambda: NOW)
    events.emit(EndpointFailed("one", "http://a", "upstream.refused"))
    history.failures("one", "http://a")["count"] = 99
    assert history.failures("one", "http://a")["count"] == 1


def test_endpoints_that_come_and_go_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "MOST_FAILING", 2)
    events = Events()
    history = History(events, lambda: NOW)
    for number in range(5):
        events.emit(EndpointFailed("one", f"http://{number}", "x"))
        events.emit(EndpointFailed("one", "http://0", "y"))
    assert [history.failures("one", f"http://{number}")["count"] for number in range(5)] == [6, 1, 0, 0, 0]


def test_the_events_set_the_times() -> None:
    events = Events()
    times = iter([1.0, 2.0, 3.00049])
    history = History(events, lambda: next(times))
    assert (history.applied_at, history.refused) == (1.0, None)
    events.emit(ConfigApplied(2, "d"))
    assert history.applied_at == 2.0
    events.emit(ConfigRejected(2, ("a", "b")))
    assert history.refused == {"at": 3.0, "problems": ["a", "b"]}


# -- its own admin endpoints


LOCAL = {"host": "localhost"}


async def test_a_gateway_has_admin_endpoints_of_its_own(up: Upstream, clock: ManualClock) -> None:
    gateway = made(clock, up.url)
    admin = gateway.admin()
    assert (await call(admin, target="/ready", headers=LOCAL)).json() == {"ready": True}
    answer = await call(admin, target="/status", headers=LOCAL, client="127.0.0.1")
    assert answer.json() == gateway.status()
    refused = await call(admin, "POST", "/reload", headers=LOCAL, client="127.0.0.1")
    assert refused.status == 409
    assert "made in Python" in refused.json()["refused"][0]
    assert (await call(gateway.admin(token="0123456789abcdef"), target="/status", headers=LOCAL)).status == 401


async def test_its_drain_is_the_gateways(clock: ManualClock) -> None:
    gateway = made(clock, "http://127.0.0.1:1")
    await gateway.drain(grace=0, timeout=0)
    admin = gateway.admin()
    answer = await call(admin, "POST", "/drain", headers=LOCAL, client="127.0.0.1")
    assert (answer.status, answer.json()) == (200, {"drained": True, "seconds": 0.0, "cut": 0, "ended": 0})
    ready = await call(admin, target="/ready", headers=LOCAL)
    assert (ready.status, ready.json()["reason"]) == (503, "draining")


async def test_its_reload_reads_the_source_again(tmp_path: Path, clock: ManualClock) -> None:
    file = tmp_path / "gateway.yaml"
    gateway = made(clock, "http://127.0.0.1:1")
    admin = gateway.admin(source=str(file))

    async def reload() -> tuple[int | None, Any]:
        answer = await call(admin, "POST", "/reload", headers=LOCAL, client="127.0.0.1")
        return answer.status, answer.json()

    assert (await reload())[0] == 409, "there is no file"
    file.write_text("routes:\n  - {match: /b, to: b}\nclusters:\n  b: {urls: ['http://127.0.0.1:2']}\n")
    status, said = await reload()
    assert (status, said) == (200, {"generation": gateway.generation, "digest": gateway.plan.digest})
    file.write_text("routes:\n  - {match: /b, to: nobody}\n")
    status, said = await reload()
    assert (status, said["generation"]) == (409, gateway.generation)
    assert "nobody" in said["refused"][0]
    assert list(gateway.status()["clusters"]) == ["b"]
