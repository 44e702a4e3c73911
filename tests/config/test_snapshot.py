"""The snapshot at work: what a request gets, what is printed, and what a reload carries over."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar

import pytest
from pydantic import Field, SecretBytes, SecretStr

from gatekit.config.carry import still_used
from gatekit.config.cluster import Cluster
from gatekit.config.entries import read_policy
from gatekit.config.model import Route
from gatekit.config.printed import digest, settings, shown
from gatekit.config.snapshot import Snapshot
from gatekit.core.events import PolicyFailed
from gatekit.core.exchange import Exchange
from gatekit.core.outcome import Fault
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import Endpoint
from gatekit.core.policy import Spec
from gatekit.core.ports import Cells
from gatekit.policies.transform import RequestHeaders
from gatekit.testing.exchanges import request
from gatekit.testing.fakes import test_ports

Compiled = Callable[..., Snapshot]


def limit(text: str) -> Spec:
    return read_policy({"rate_limit": text})


def shop(**more: Any) -> dict[str, Any]:
    return {
        "policies": [limit("5/second")],
        "routes": [
            Route("GET /v1/{id}", to="x", name="one"),
            Route("PUT /v1/{id}", to="x", name="put"),
            Route("/files/{rest:path}", to="x", allow=["encoded_slash"], name="files"),
            Route("/none", to={"x": 0}, name="none"),
            Route("GET /broken", to="x", when=lambda exchange: 1 // 0, name="broken"),
        ],
        "clusters": {"x": Cluster("http://127.0.0.1:1")},
        **more,
    }


def admit(snapshot: Snapshot, method: str, target: str, **fields: Any) -> tuple[Exchange, Pipeline]:
    exchange = request(method, "/", door=snapshot.door, **fields)
    path, _, query = target.partition("?")
    exchange.params = {}
    return exchange, snapshot.admit(exchange, path.encode(), query.encode())


def test_a_request_gets_its_route_and_generation(compiled: Compiled) -> None:
    snapshot = compiled(shop(), generation=7)
    exchange, pipeline = admit(snapshot, "GET", "/v1/3")
    assert exchange.route is snapshot.routes[0]
    assert pipeline is snapshot.routes[0].pipeline
    assert (exchange.refusal, exchange.generation, exchange.params) == (None, 7, {"id": "3"})


@pytest.mark.parametrize(
    ("method", "target", "status", "reason"),
    [
        ("GET", "/other", 404, "router.no_route"),
        ("DELETE", "/v1/3", 405, "router.method_not_allowed"),
        ("GET", "/v1/%2f", 400, "door.odd_path"),
        ("GET", "/other/%2f", 400, "door.odd_path"),
        ("GET", "/%zz", 400, "door.bad_path"),
        ("GET", "/broken", 500, "router.predicate_failed"),
        ("PUT", "/broken", 500, "router.predicate_failed"),
    ],
)
def test_what_is_refused_runs_the_policies_of_the_gateway(
    compiled: Compiled, method: str, target: str, status: int, reason: str
) -> None:
    ports = test_ports()
    failures: list[PolicyFailed] = []
    ports.events.subscribe(PolicyFailed, failures.append)
    snapshot = compiled(shop(), ports=ports)
    exchange, pipeline = admit(snapshot, method, target)
    assert pipeline is snapshot.no_route
    assert pipeline.kinds == ("rate_limit",)
    assert exchange.refusal is not None
    assert (exchange.refusal.status, exchange.refusal.reason) == (status, reason)
    if status == 405:
        assert exchange.refusal.headers == [(b"allow", b"GET, HEAD, PUT")]
    assert (exchange.fault is Fault.GATEWAY) == (status == 500)
    assert [failure.policy for failure in failures] == (["router"] if status == 500 else [])


def test_a_route_lets_its_own_oddities_pass(compiled: Compiled) -> None:
    exchange, pipeline = admit(compiled(shop()), "GET", "/files/a%2fb")
    assert exchange.refusal is None
    assert pipeline.destination is not None
    everywhere = compiled(shop(allow=["encoded_slash"]))
    assert admit(everywhere, "GET", "/v1/a%2fb")[0].refusal is None


def test_a_route_without_a_destination_refuses_what_no_policy_answered(compiled: Compiled) -> None:
    exchange, pipeline = admit(compiled(shop()), "GET", "/none")
    assert exchange.refusal is not None
    assert exchange.refusal.reason == "router.no_destination"
    assert pipeline.destination is None


def test_with_an_app_behind_what_no_route_matches_is_let_through(compiled: Compiled) -> None:
    snapshot = compiled(shop(), fallback=True)
    for method, target in (("GET", "/other"), ("DELETE", "/v1/3")):
        exchange, pipeline = admit(snapshot, method, target)
        assert exchange.refusal is None
        assert exchange.route is None
        assert pipeline is snapshot.no_route
    assert admit(snapshot, "GET", "/other%2f")[0].refusal is not None
    assert "passes to the app" in snapshot.describe()


def test_the_door_has_the_limits_of_the_configuration(compiled: Compiled) -> None:
    door = compiled(
        shop(max_headers=7, max_header_bytes=999, max_target=99, merge_slashes=False, trusted_proxies=["10.0.0.0/8"])
    ).door
    assert (door.max_headers, door.max_header_bytes, door.max_target, door.merge_slashes) == (7, 999, 99, False)
    assert door.trust.trusts("10.1.2.3")
    assert door.trust.header is None
    told = compiled(shop(trusted_proxies=["10.0.0.0/8"], client_ip_header="True-Client-IP")).door
    assert told.trust.header == b"true-client-ip"


def test_it_explains_with_the_live_matcher(compiled: Compiled) -> None:
    snapshot = compiled(shop())
    explanation = snapshot.explain(request("GET", "/v1/3"))
    assert explanation.winner is not None
    assert explanation.winner.id == "one"


def test_the_digest_tells_contents_apart_and_nothing_else(compiled: Compiled) -> None:
    one, same, other = compiled(shop()), compiled(shop(), generation=2), compiled(shop(max_headers=7))
    assert one.digest == same.digest != other.digest
    assert repr(one) == f"<Snapshot 1 {one.digest}: 5 routes, 1 clusters>"


class Colour(Enum):
    RED = "red"


class Everything(Spec):
    kind: ClassVar[str] = "everything"
    plain: int = 1
    secret: SecretStr = SecretStr("")
    raw: SecretBytes = SecretBytes(b"")
    hidden: str = Field(default="", repr=False)
    values: Any = None


def test_values_are_printed_the_same_on_every_run_and_without_secrets() -> None:
    spec = Everything(
        secret=SecretStr("hunter2"), raw=SecretBytes(b"hunter2"), hidden="hunter2",
        values=[Colour.RED, {"b", "a"}, {"authorization": "hunter2", "n": None}, Endpoint("a", 1), admit, object(), 1.5, Endpoint],
    )  # fmt: skip
    text = shown(spec)
    assert "hunter" not in text
    assert text == (
        "Everything(secret=<secret>, raw=<secret>, hidden=<secret>, values=['red', {'a', 'b'}, "
        "{'authorization': <secret>, 'n': None}, Endpoint(host='a', port=1, tls=False, uds=None, weight=1), "
        f"<{__name__}.admit>, <builtins.object>, 1.5, <gatekit.core.plan.Endpoint>])"
    )
    assert dict(settings(spec))["hidden"] == "<secret>"


def test_a_secret_changes_the_digest() -> None:
    cases: list[tuple[str, Any, Any]] = [
        ("secret", SecretStr("a"), SecretStr("b")),
        ("raw", SecretBytes(b"a"), SecretBytes(b"b")),
        ("hidden", "a", "b"),
        ("values", {"token": "a"}, {"token": "b"}),
    ]
    for field, one, two in cases:
        assert digest(Everything(**{field: one})) != digest(Everything(**{field: two}))
        assert digest(Everything(**{field: one})) == digest(Everything(**{field: one}))


def test_the_description_holds_no_secret(compiled: Compiled) -> None:
    config = shop(policies=[RequestHeaders(set={"authorization": "Bearer hunter2"})])
    config["routes"] = [Route("/", to="x", headers={"x-api-key": "hunter2", "x-tier": "gold"})]
    text = compiled(config).describe()
    assert "hunter2" not in text
    assert "'x-tier': exact 'gold'" in text


def test_state_of_generations_in_use_survives_and_the_rest_is_forgotten(compiled: Compiled) -> None:
    cells = Cells()

    def generation(number: int, **more: Any) -> Snapshot:
        return compiled(shop(**more), ports=test_ports(cells=cells).afresh(), generation=number)

    one = generation(1)
    two = generation(2, policies=[limit("9/second")])
    assert still_used([one, two]) == one.used | two.used
    cells.retain(still_used([two]))
    assert all(key in cells for key in two.used)
    assert not any(key in cells for key in one.used)
