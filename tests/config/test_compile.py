"""Compiling: pipelines in order, bound once, destinations, jobs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import pytest

from gatekit.config.cluster import Cluster
from gatekit.config.compile import compile_config
from gatekit.config.entries import read_policy
from gatekit.config.model import GatewayConfig, Route
from gatekit.config.snapshot import Snapshot
from gatekit.core.plan import ClusterPlan, SplitPlan, TlsPlan
from gatekit.core.policy import IDENTITY, Job, Placement, Spec, Stage
from gatekit.core.ports import Ports
from gatekit.errors import ConfigRefused
from gatekit.policies.telemetry import Telemetry
from gatekit.policies.transform import Respond
from gatekit.routing.reachability import Finding
from gatekit.testing.fakes import test_ports

Compiled = Callable[..., Snapshot]


def limit(text: str) -> Spec:
    return read_policy({"rate_limit": text})


class Marked(Spec):
    """A policy that says where it was bound, and what its place needs."""

    kind: ClassVar[str] = "marked"
    stage: int = Stage.TRANSFORM
    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()
    fails: str = ""

    def placement(self) -> Placement:
        return Placement(Stage(self.stage), requires=self.needs, provides=self.gives)

    def bind_to(self, ports: Ports) -> Bound:
        if self.fails:
            raise ValueError(self.fails)
        return Bound(ports.owner, ports.cell(("marked", self.stage), list))


class Bound:
    def __init__(self, owner: str, state: list[Any]) -> None:
        self.owner = owner
        self.state = state

    def decide(self, exchange: Any) -> None: ...

    def jobs(self) -> Iterable[Job]:
        async def run() -> None: ...

        yield Job(key=("marked", self.owner), run=run, interval=lambda: 1.0)


def two_clusters() -> dict[str, Cluster]:
    return {"a": Cluster("http://127.0.0.1:1"), "b": Cluster("http://127.0.0.1:2")}


def owners(snapshot: Snapshot, route: int = 0) -> list[str]:
    return [step.call.__self__.owner for step in snapshot.routes[route].pipeline.decides]  # type: ignore[union-attr]


def test_a_route_runs_the_policies_of_the_gateway_and_its_own_by_stage(compiled: Compiled) -> None:
    config = {
        "policies": [Marked(stage=Stage.TRANSFORM), Marked(stage=Stage.OBSERVE)],
        "routes": [Route("/a", to="a", policies=[Marked(stage=Stage.SHED), Marked(stage=Stage.TRANSFORM)], name="r")],
        "clusters": two_clusters(),
    }
    snapshot = compiled(config)
    assert owners(snapshot) == ["gateway", "route:r", "gateway", "route:r"]
    assert snapshot.no_route.kinds == ("marked", "marked")
    assert [job.key for job in snapshot.jobs] == [
        ("marked", owner) for owner in ("gateway", "gateway", "route:r", "route:r")
    ]


def test_a_policy_of_the_gateway_is_bound_once_for_all_routes(compiled: Compiled) -> None:
    config = {
        "policies": [Marked()],
        "routes": [Route("/a", to="a"), Route("/b", to="b")],
        "clusters": two_clusters(),
    }
    snapshot = compiled(config)
    bound = [route.pipeline.decides[0].call.__self__ for route in snapshot.routes]  # type: ignore[union-attr]
    assert bound[0] is bound[1] is snapshot.no_route.decides[0].call.__self__  # type: ignore[union-attr]
    assert snapshot.used == {("gateway", ("marked", Stage.TRANSFORM))}


def test_a_cluster_is_made_once_and_a_split_from_those_with_weight(compiled: Compiled) -> None:
    config = {
        "routes": [
            Route("/one", to="a"), Route("/split", to={"a": 70, "b": 30}), Route("/rest", to={"a": 0, "b": 5}),
            Route("/none", to={"a": 0, "b": 0}),
        ],
        "clusters": two_clusters(),
    }  # fmt: skip
    snapshot = compiled(config)
    one, split, rest, none = (route.pipeline.destination for route in snapshot.routes)
    made: Any = split
    assert isinstance(made.plan, SplitPlan)
    assert made.plan.parts == ((one, 70), (snapshot.clusters["b"], 30))
    assert (made.owner, made.name) == ("route:/split", "/split")
    assert rest is snapshot.clusters["b"]
    assert none is None
    assert [None if route.refusal is None else route.refusal.status for route in snapshot.routes] == [
        None,
        None,
        None,
        500,
    ]
    assert [str(warning) for warning in snapshot.warnings] == [
        "routes[3].to: warning: every weight is 0: requests are answered with 500"
    ]


def test_the_plan_of_a_cluster_has_every_setting(compiled: Compiled) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        return []

    async def served(scope: Any, receive: Any, send: Any) -> None: ...

    def context() -> Any: ...

    clusters = {
        "net": Cluster(
            "https://a:1", balance="random", host_header="client", connect_timeout=1, timeout=2, idle_timeout=3, keepalive=4,
            max_connections=5, max_connection_age=6, max_waiting=7, max_wait=8, websocket_idle_timeout=9, max_websockets=10,
            tls_context=context,
        ),
        "mutual": Cluster("https://a:1", tls={"ca": "a", "cert": "b", "key": "c", "server_name": "d", "verify": False}),
        "app": Cluster(app=app),
        "served": Cluster(app=served),
        "carried": Cluster("http://b:1", transport="a transport"),
    }  # fmt: skip
    snapshot = compiled({"routes": [Route("/", to=dict.fromkeys(clusters, 1))], "clusters": clusters})
    net, mutual, wsgi, asgi, carried = snapshot.cluster_plans
    assert net == ClusterPlan(
        "net", clusters["net"].endpoints, balance="random", host_header="client", connect_timeout=1, timeout=2,
        idle_timeout=3, keepalive=4, max_connections=5, max_connection_age=6, max_waiting=7, max_wait=8,
        websocket_idle_timeout=9, max_websockets=10, tls_context=context,
    )  # fmt: skip
    assert mutual.tls == TlsPlan("a", "b", "c", "d", verify=False)
    assert (wsgi.app, wsgi.app_interface) == (app, "wsgi")
    assert (asgi.app_interface, carried.transport) == ("asgi", "a transport")
    assert snapshot.apps == (served,)
    assert snapshot.clusters["net"].owner == "cluster:net"  # type: ignore[attr-defined]


def test_a_destination_with_background_work_is_asked_for_it(compiled: Compiled) -> None:
    class Working(Bound):
        name = "w"

        def __init__(self, plan: ClusterPlan | SplitPlan, ports: Ports) -> None:
            super().__init__(ports.owner, [])

    snapshot = compiled({"routes": [Route("/", to="a")], "clusters": {"a": Cluster("http://a")}}, destination=Working)
    assert [job.key for job in snapshot.jobs] == [("marked", "cluster:a")]


def test_a_route_may_answer_by_a_policy(compiled: Compiled) -> None:
    snapshot = compiled({"routes": [Route("/", policies=[Respond()])]})
    assert snapshot.routes[0].pipeline.destination is None
    assert snapshot.routes[0].refusal is not None
    assert snapshot.routes[0].refusal.reason == "router.no_destination"


def test_a_class_of_policies_says_itself_that_it_answers(compiled: Compiled) -> None:
    class Answers(Marked):
        answers: ClassVar[bool] = True

    assert compiled({"routes": [Route("/", policies=[Answers()])]}).routes[0].refusal is not None


def test_order_is_checked_for_each_route_and_for_requests_without_one(compiled: Compiled) -> None:
    needing = Marked(needs=frozenset({IDENTITY}))
    giving = Marked(stage=Stage.IDENTIFY, gives=frozenset({IDENTITY}))
    clusters = {"a": Cluster("http://a")}
    with pytest.raises(ConfigRefused) as caught:
        compiled({"routes": [Route("/a", to="a", policies=[needing])], "clusters": clusters})
    assert [problem.path for problem in caught.value.problems] == ["routes[0].policies"]
    with pytest.raises(ConfigRefused) as caught:
        compiled({"policies": [needing], "routes": [Route("/a", to="a", policies=[Telemetry()])], "clusters": clusters})
    assert [problem.path for problem in caught.value.problems] == ["policies"]
    assert "no policy here provides it" in str(caught.value)
    compiled({"policies": [giving], "routes": [Route("/a", to="a", policies=[needing])], "clusters": clusters})


def test_a_route_that_can_never_match_is_refused_and_an_ambiguous_pair_is_told(compiled: Compiled) -> None:
    clusters = {"a": Cluster("http://a")}
    with pytest.raises(ConfigRefused) as caught:
        compiled({"routes": [Route("/a", to="a"), Route("/a", to="a", name="again")], "clusters": clusters})
    assert [problem.path for problem in caught.value.problems] == ["routes[1]"]
    assert "can never win" in str(caught.value)
    snapshot = compiled(
        {
            "routes": [Route("/a", to="a", headers={"x": "1"}), Route("/a", to="a", headers={"y": "1"}, name="y")],
            "clusters": clusters,
        }
    )
    assert [(warning.path, warning.severity) for warning in snapshot.warnings] == [("routes[1]", "warning")]


def test_the_example_of_a_pair_holds_no_secret_that_its_routes_look_for(compiled: Compiled) -> None:
    routes = [
        Route("/a", to="a", headers={"x-api-key": "hunter2", "z": {"present": True}}, name="key"),
        Route("/a", to="a", headers={"x-token": "hunter3", "z": {"present": True}}, name="token"),
    ]
    (warning,) = compiled({"routes": routes, "clusters": {"a": Cluster("http://a")}}).warnings
    assert "x-api-key: <secret>" in warning.message
    assert "hunter" not in warning.message


def test_a_table_too_large_to_examine_whole_is_said_of_the_routes(
    compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = Finding("warning", "", None, "the search stopped", None)
    monkeypatch.setattr("gatekit.config.findings.examine", lambda rules, pause: [stopped])
    snapshot = compiled({"routes": [Route("/a", to="a")], "clusters": {"a": Cluster("http://a")}})
    assert [str(warning) for warning in snapshot.warnings] == ["routes: warning: the search stopped"]


def test_what_cannot_be_bound_or_made_is_collected(compiled: Compiled) -> None:
    def make(plan: ClusterPlan | SplitPlan, ports: Ports) -> Any:
        raise ValueError(f"no {plan.name} today")

    text = "routes:\n  - {match: /a, to: x}\nclusters:\n  x: {urls: 'http://127.0.0.1:1'}\npolicies:\n  - {rate_limit: 1/second}"
    with pytest.raises(ConfigRefused) as caught:
        compiled(text, destination=make, ports=Ports(random=None))
    assert [str(problem) for problem in caught.value.problems][1:] == ["gw.yaml:4: clusters.x: no x today"]
    assert "gw.yaml:6: policies[0]: rate_limit cannot be set up" in str(caught.value)
    with pytest.raises(ConfigRefused, match=r"routes\[0\].policies\[0\]: marked cannot be set up: no"):
        compiled(
            {"routes": [Route("/a", to="a", policies=[Marked(fails="no")])], "clusters": {"a": Cluster("http://a")}}
        )


def test_a_policy_without_a_kind_is_called_by_its_class(compiled: Compiled) -> None:
    class Nameless(Marked):
        kind: ClassVar[str] = ""

    with pytest.raises(ConfigRefused, match="Nameless cannot be set up: no"):
        compiled({"policies": [Nameless(fails="no")]})


def test_a_split_that_cannot_be_made_is_said_of_its_route(compiled: Compiled) -> None:
    def make(plan: ClusterPlan | SplitPlan, ports: Ports) -> Any:
        if isinstance(plan, SplitPlan):
            raise ValueError("no split")
        return Bound("", [])

    with pytest.raises(ConfigRefused, match=r"routes\[0\].to: no split"):
        compiled({"routes": [Route("/a", to={"a": 1, "b": 1})], "clusters": two_clusters()}, destination=make)


def test_a_model_made_by_hand_is_examined_when_it_is_compiled() -> None:
    def make(plan: ClusterPlan | SplitPlan, ports: Ports) -> Any: ...

    config = GatewayConfig(routes=[Route("/a", to="nowhere")])
    with pytest.raises(ConfigRefused, match="there is no cluster 'nowhere': there is none at all"):
        compile_config(config, ports=test_ports(), generation=1, destination=make)
    config = GatewayConfig(policies=[limit("1/second")])
    assert compile_config(config, ports=test_ports(), generation=7, destination=make).generation == 7
