"""Autoscaling: what KEDA may be told, and that the number it then asks for is there and means what the guide says.

No cluster is started, and no KEDA. The schemas of KEDA's own kinds come from the package cloudcoil-models-keda, made from
its definitions; what its scaler does with a manifest is done here as its documentation says.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from tests.drills.arrivals import Stream
from tests.drills.overloaded import SERVICE, WORKERS, Overloaded, overloaded
from tests.processes import missing

from .conftest import DEPLOY, TOKEN, ask
from .test_kubernetes import VERSIONS, of_kind

FOLDER = DEPLOY / "kubernetes/keda"
FILES = sorted(FOLDER.glob("*.yaml"))
CONFIG = """\
policies: [{overload: {concurrency: PLACES, queue: 8, max_wait: 100ms}}]
routes: [{match: /*, to: up}]
clusters: {up: {urls: ["URL"], max_connections: 1000}}
""".replace("PLACES", str(WORKERS + WORKERS // 5))


def documents() -> Iterator[Any]:
    for path in FILES:
        yield from yaml.safe_load_all(path.read_text())


def the(kind: str) -> Any:
    (found,) = [one for one in documents() if one["kind"] == kind]
    return found


def trigger() -> Any:
    (found,) = [one for one in the("ScaledObject")["spec"]["triggers"] if one["type"] == "metrics-api"]
    return found


def target() -> float:
    return float(trigger()["metadata"]["targetValue"])


def located(body: bytes, location: str) -> float:
    """What `valueLocation` finds, for paths without anything special to GJSON. KEDA takes a number, or a quantity in text."""
    found: Any = json.loads(body)
    for word in location.split("."):
        found = found[word]
    assert isinstance(found, (int, float))
    assert not isinstance(found, bool)
    return float(found)


def pods_wanted(now: int, value: float) -> int:
    """The horizontal autoscaler's own formula, with its tolerance of a tenth."""
    ratio = value / target()
    return now if abs(ratio - 1.0) <= 0.1 else math.ceil(now * ratio)


# -- what is written there


@pytest.mark.parametrize("version", VERSIONS)
def test_the_api_takes_what_is_its_own(version: str) -> None:
    if importlib.util.find_spec("kubernetes_validate") is None:
        missing("Kubernetes' schemas", "kubernetes-validate")
    schemas: Any = importlib.import_module("kubernetes_validate")
    own = [one for one in documents() if not one["apiVersion"].startswith("keda.sh/")]
    assert [one["kind"] for one in own] == ["Service", "NetworkPolicy"]
    for document in own:
        assert schemas.validate(document, version, strict=True) == version


@pytest.mark.parametrize("kind", ["ScaledObject", "TriggerAuthentication"])
def test_keda_takes_what_is_its_own(kind: str) -> None:
    if importlib.util.find_spec("cloudcoil") is None:
        missing("KEDA's schemas", "cloudcoil-models-keda")
    models: Any = importlib.import_module("cloudcoil.models.keda.v1alpha1")
    document = the(kind)
    read = getattr(models, kind).model_validate(document)
    # What the schema does not know is left out of what was read.
    assert json.loads(read.model_dump_json(by_alias=True, exclude_unset=True)) == document


def test_it_scales_the_deployment_and_the_one_autoscaler_of_it() -> None:
    spec, other = the("ScaledObject")["spec"], of_kind("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"]["name"] == of_kind("Deployment")["metadata"]["name"]
    # `kubectl apply -f deploy/kubernetes/` takes no folders within: nobody gets both by accident.
    assert FOLDER.parent == DEPLOY / "kubernetes"
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (other["minReplicas"], other["maxReplicas"])
    assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == other["behavior"]
    (cpu,) = [one for one in spec["triggers"] if one["type"] == "cpu"]
    (before,) = other["metrics"]
    assert (cpu["metricType"], cpu["metadata"]["value"]) == (
        before["resource"]["target"]["type"],
        str(before["resource"]["target"]["averageUtilization"]),
    )


def test_its_address_is_that_of_the_pods_admin_port() -> None:
    address, service = urlsplit(trigger()["metadata"]["url"]), the("Service")
    name, namespace, *rest = str(address.hostname).split(".")
    assert (name, rest) == (service["metadata"]["name"], ["svc", "cluster", "local"])
    assert namespace
    (container,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    (port,) = service["spec"]["ports"]
    assert (address.port, port["port"], port["targetPort"]) == (ports["admin"], ports["admin"], "admin")
    # Endpoint by endpoint: a Service that balances would tell of one pod alone.
    assert trigger()["metadata"]["aggregateFromKubeServiceEndpoints"] == "true"
    assert service["spec"]["clusterIP"] == "None"
    labels = of_kind("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels
    policy = the("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["admin"]
    assert all("from" in rule for rule in policy["ingress"])


def test_its_token_is_the_admin_token() -> None:
    authentication = the("TriggerAuthentication")
    assert trigger()["authenticationRef"]["name"] == authentication["metadata"]["name"]
    assert trigger()["metadata"]["authMode"] == "bearer"
    (given,) = authentication["spec"]["secretTargetRef"]
    secret = of_kind("Secret")
    # `token` is the parameter that the scaler sends as `Authorization: Bearer`.
    assert (given["parameter"], given["name"]) == ("token", secret["metadata"]["name"])
    assert given["key"] in secret["stringData"]


def test_a_mean_is_compared_and_not_divided_by_the_pods_again() -> None:
    assert trigger()["metricType"] == "Value"
    assert trigger()["metadata"]["aggregationType"] == "average"


@pytest.mark.parametrize(
    ("value", "pods"),
    [(0.0, 0), (0.35, 5), (0.65, 10), (0.7, 10), (0.75, 10), (1.0, 15), (1.4, 20), (3.0, 43)],
)
def test_what_the_guide_says_of_ten_pods(value: float, pods: int) -> None:
    assert pods_wanted(10, value) == pods


# -- what is there


@pytest.mark.servers
async def test_the_endpoint_answers_keda_and_nobody_without_the_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    options = ("--admin-token-file", str(token))
    async with overloaded(CONFIG, tmp_path, *options, server="granian") as scene:
        path, admin = urlsplit(trigger()["metadata"]["url"]).path, scene.instance.place.admin
        # By the pod's address, as it comes from the endpoints of a headless Service.
        host = {"Host": f"10.1.2.3:{admin}"}
        assert (await asyncio.to_thread(ask, admin, path, host)).status == 401
        answer = await asyncio.to_thread(ask, admin, path, {**host, "Authorization": f"Bearer {TOKEN}"})
        assert answer.status == 200
        assert located(answer.body, trigger()["metadata"]["valueLocation"]) == 0.0
        assert json.loads(answer.body)["workers"] == 1


@pytest.mark.servers
async def test_without_the_policy_there_is_an_error_and_no_number(tmp_path: Path) -> None:
    async with overloaded(CONFIG.partition("\n")[2], tmp_path, server="granian") as scene:
        code, found = await asyncio.to_thread(scene.instance.asked, "GET", "/saturation")
    assert (code, list(found)) == (503, ["error"])


@pytest.mark.servers
async def test_it_passes_the_target_under_load_and_falls_again(tmp_path: Path) -> None:
    async with overloaded(CONFIG, tmp_path, server="granian") as scene:
        idle = await told(scene)
        calm = await while_asked(scene, 0.3)
        full = await while_asked(scene, 0.9)
        twice = await while_asked(scene, 2.0)
        after = await fallen(scene)
    figures = (idle, calm, full, twice, after)
    assert idle == 0.0, figures
    assert calm < target() - 0.1, figures
    # Where the backend is nearly full, another pod is wanted before anybody is turned away.
    assert full > target(), figures
    # At twice the capacity as many pods are wanted as would carry it: not one more at a time.
    assert 1.5 < twice < 3.0, figures
    assert pods_wanted(3, twice) >= 6, figures
    assert after < target() - 0.1, figures


async def told(scene: Overloaded) -> float:
    found = await scene.admin("/saturation")
    return located(json.dumps(found).encode(), trigger()["metadata"]["valueLocation"])


async def fallen(scene: Overloaded) -> float:
    """What it says once it has fallen, or after so long that an autoscaler would have asked several times."""
    said = math.inf
    for _ in range(12):
        if (said := await while_asked(scene, 0.3)) < target() - 0.1:
            break
    return said


async def while_asked(scene: Overloaded, times: float) -> float:
    """The mean of what it says in the second half of two seconds of that load."""
    said: list[float] = []
    stream = {"all": Stream("/", times * WORKERS / SERVICE)}
    asked = asyncio.ensure_future(scene.clients.run(2.0, stream))
    try:
        begun = asyncio.get_running_loop().time()
        while not asked.done():
            if asyncio.get_running_loop().time() - begun > 1.0:
                said.append(await told(scene))
            await asyncio.wait([asked], timeout=0.04)
    finally:
        await asked
    return sum(said) / len(said)
