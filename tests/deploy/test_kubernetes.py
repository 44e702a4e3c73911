"""The manifests: what Kubernetes says they may contain, and what `gatekit run` says about everything they give it.

No cluster is started. The schemas are those of the API's own OpenAPI document, from the package kubernetes-validate.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.processes import free_ports, missing

from gatekit import Gateway
from gatekit.cli import main, parser
from gatekit.cli.run import settings_from
from gatekit.providers.file import parse_text
from gatekit.serving.settings import BadSettings, Settings

from .conftest import DEPLOY, GATEKIT, TOKEN, Backend, Run, ask, is_ready
from .edges import replaced

FOLDER = DEPLOY / "kubernetes"
FILES = [*sorted(FOLDER.glob("*.yaml")), DEPLOY / "own-server/pod.yaml"]
VERSIONS = ("1.27", "1.37")
LEAVING = 12.0
"""Seconds that the parts of a stop may take that are neither grace nor timeout."""


def documents(path: Path) -> Iterator[Any]:
    yield from yaml.safe_load_all(path.read_text())


def of_kind(kind: str) -> Any:
    (found,) = [one for path in FOLDER.glob("*.yaml") for one in documents(path) if one["kind"] == kind]
    return found


def pod() -> Any:
    return of_kind("Deployment")["spec"]["template"]["spec"]


def container() -> Any:
    (one,) = pod()["containers"]
    return one


def settings(token: Path) -> Settings:
    """What the container's arguments mean, with the token in that file."""
    text = replaced("\n".join(container()["args"]), {"/etc/gatekit-admin/token": str(token)})
    return settings_from(parser().parse_args(text.splitlines()))


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_api_takes_it(path: Path, version: str) -> None:
    if importlib.util.find_spec("kubernetes_validate") is None:
        missing("Kubernetes' schemas", "kubernetes-validate")
    schemas: Any = importlib.import_module("kubernetes_validate")
    for document in documents(path):
        assert schemas.validate(document, version, strict=True) == version


def test_ports_are_those_that_are_listened_on(token: Path) -> None:
    asked = settings(token)
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert asked.admin is not None
    assert ports == {"http": asked.port, "admin": int(asked.admin.rpartition(":")[2])}
    # 0.0.0.0: the kubelet and the Service come from outside the pod.
    assert (asked.host, asked.admin.rpartition(":")[0]) == ("0.0.0.0", "0.0.0.0")
    (public,) = of_kind("Service")["spec"]["ports"]
    assert public["targetPort"] == "http"
    policy = of_kind("NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for rule in policy for port in rule["ports"]} == set(ports)


def test_nobody_reaches_the_admin_port_by_the_service_or_without_a_label() -> None:
    assert [port["name"] for port in of_kind("Service")["spec"]["ports"]] == ["http"]
    open_to_all = [rule["ports"] for rule in of_kind("NetworkPolicy")["spec"]["ingress"] if "from" not in rule]
    assert open_to_all == [[{"protocol": "TCP", "port": "http"}]]


def test_what_is_selected_is_what_there_is() -> None:
    labels = of_kind("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert of_kind("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert of_kind("Service")["spec"]["selector"] == labels
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    target = of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", of_kind("Deployment")["metadata"]["name"])


def test_what_is_mounted_is_there_and_is_what_is_read(token: Path) -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert set(mounts) == set(volumes)
    assert volumes["config"]["configMap"]["name"] == of_kind("ConfigMap")["metadata"]["name"]
    assert volumes["admin-token"]["secret"]["secretName"] == of_kind("Secret")["metadata"]["name"]
    (file,) = of_kind("ConfigMap")["data"]
    assert settings(token).target == f"{mounts['config']}/{file}"
    (key,) = of_kind("Secret")["stringData"]
    assert f"--admin-token-file={mounts['admin-token']}/{key}" in container()["args"]
    assert not any("subPath" in mount for mount in container()["volumeMounts"])


def test_the_token_has_to_be_filled_in(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(of_kind("Secret")["stringData"]["token"])
    with pytest.raises(BadSettings, match="is empty"):
        settings(token)


def test_there_is_time_to_drain(token: Path) -> None:
    asked = settings(token)
    assert pod()["terminationGracePeriodSeconds"] >= asked.grace + asked.timeout + LEAVING


def test_as_many_processors_are_asked_for_as_there_are_workers(token: Path) -> None:
    assert container()["resources"]["requests"]["cpu"] == str(settings(token).workers)


def test_its_configuration_is_good(tmp_path: Path) -> None:
    ((name, text),) = of_kind("ConfigMap")["data"].items()
    (tmp_path / name).write_text(text)
    assert main(["check", str(tmp_path / name)]) == 0
    assert Gateway.from_config(parse_text(text, name)).explain("GET", "/v1/orders/1").winner is not None


@pytest.mark.servers
def test_it_runs_and_the_probes_find_what_they_ask_for(
    run: Callable[..., Run], backend: Backend, token: Path, tmp_path: Path
) -> None:
    text = of_kind("ConfigMap")["data"]["gateway.yaml"]
    config = tmp_path / "gateway.yaml"
    config.write_text(replaced(text, {"http://orders.shop.svc.cluster.local:8080": backend.url}))
    port, admin = free_ports(2)
    words = {
        "/etc/gatekit/gateway.yaml": str(config),
        "/etc/gatekit-admin/token": str(token),
        "0.0.0.0:9901": f"127.0.0.1:{admin}",
        "0.0.0.0": "127.0.0.1",
        "=8000": f"={port}",
        "--grace=5": "--grace=0",
    }
    process = run([*GATEKIT, *replaced("\n".join(container()["args"]), words).splitlines()], lambda: is_ready(admin))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container()[probe]["httpGet"]
        assert asked["port"] == "admin"
        # The kubelet names the pod's address.
        assert ask(admin, asked["path"], {"Host": "10.1.2.3:9901"}).status == 200
    assert ask(port, "/v1/orders/1").status == 200
    assert ask(admin, "/status", {"Host": "10.1.2.3:9901"}).status == 401
    process.process.terminate()
    assert process.process.wait(20) == 0
