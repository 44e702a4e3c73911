"""The table of servers, the source of a configuration, and what the banner says of both."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from gatekit.core.plan import Document
from gatekit.errors import ConfigRefused, Problem
from gatekit.serving import banner as banner_module
from gatekit.serving.banner import banner
from gatekit.serving.on_granian import OnGranian
from gatekit.serving.on_uvicorn import OnUvicorn
from gatekit.serving.servers import SERVERS, server_named
from gatekit.serving.settings import BadSettings, Settings, TlsFiles
from gatekit.serving.source import read_source

GOOD = "routes:\n  - {match: /a, to: up}\nclusters:\n  up: {urls: ['http://127.0.0.1:9']}\n"


def test_each_server_of_the_table_can_be_had() -> None:
    assert {name: server_named(name) for name in SERVERS} == {"granian": OnGranian, "uvicorn": OnUvicorn}


def test_one_that_there_is_not_is_said() -> None:
    with pytest.raises(BadSettings, match="there is no server 'nginx': it is one of granian, uvicorn"):
        server_named("nginx")


@pytest.mark.parametrize("name", SERVERS)
def test_one_that_is_not_installed_is_said_with_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, SERVERS[name].partition(":")[0], raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadSettings, match=rf"{name} cannot be used \(.+\): pip install 'gatekit-asgi\[server\]'"):
        server_named(name)


# -- the source


def test_a_configuration_is_read_and_examined(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(GOOD)
    source = read_source(str(file))
    assert source.fields["revision"] == source.revision
    assert set(source.fields) == {"origin", "data", "revision"}
    assert source.warnings == ()


def test_a_configuration_that_cannot_be_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(GOOD + "surplus: 1\n")
    with pytest.raises(ConfigRefused) as refused:
        read_source(str(file))
    assert f"{file}:5" in str(refused.value.problems[0])


def test_what_a_worker_found_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(GOOD)
    found = [{"path": "routes[0].to", "message": "no", "severity": "error"}]
    [problem] = read_source(str(file)).located(found)
    assert str(problem).startswith(f"{file}:2")


def test_what_is_no_data_cannot_be_handed_to_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(target: str) -> Document:
        raise TypeError("a function is no data")

    monkeypatch.setattr("gatekit.serving.source.providers.read", lambda target: Document(target, {}, "1"))
    monkeypatch.setattr("gatekit.serving.source.config_from", read)
    with pytest.raises(ConfigRefused) as refused:
        read_source("push://x")
    assert refused.value.problems == (
        Problem("", "cannot be handed to workers: a function is no data", source="push://x"),
    )


# -- the banner


class Instance:
    """As much of a supervisor as the banner looks at."""

    def __init__(self, settings: Settings, local: list[str], source: Any = None) -> None:
        ready = {"routes": 3, "clusters": 2, "server": "granian", "protocols": "HTTP/1.1", "local": local}
        self.settings = settings
        self.workers = {1: type("Worker", (), {"ready": ready})()}
        self.source = source
        self.generation = 1


def lines(settings: Settings, *, local: list[str] | None = None, source: Any = None, **more: Any) -> str:
    supervisor: Any = Instance(settings, local or [], source)
    said = {"where": "127.0.0.1:8000", "admin": "127.0.0.1:9901", "files": 1024, **more}
    return "\n".join(banner(supervisor, **said))


def test_the_banner_says_what_is_served_from_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banner_module, "processors", lambda: 4)
    source = type("Source", (), {"revision": "r7", "warnings": ("gateway.yaml:3: mind this",)})()
    said = lines(Settings("gateway.yaml", grace=2.5), source=source)
    for part in (
        "serves gateway.yaml",
        "generation 1, revision r7, routes: 3, clusters: 2",
        "listening  http://127.0.0.1:8000 (granian: HTTP/1.1)\n",
        "admin      http://127.0.0.1:9901: /live /ready /status /saturation /drain /reload\n",
        "workers    1 on 4 processors, each up to 16384 connections; open files: 1024",
        "  gateway.yaml:3: mind this",
        "SIGHUP reloads; SIGTERM drains: 2.5 s as before, then up to 30 s",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("fields", "more", "said"),
    [
        ({}, {"admin": None}, "admin      off"),
        ({}, {"admin": "unix:/run/a.sock"}, "admin      unix:/run/a.sock: /live"),
        ({}, {"where": "unix:/run/a.sock"}, "listening  unix:/run/a.sock (granian"),
        ({"admin_token": "0123456789abcdef"}, {}, "/reload (with the token)"),
        ({"tls": TlsFiles("c.pem", "k.pem")}, {}, "https://127.0.0.1:8000 (granian: HTTP/1.1), certificate c.pem"),
        ({"tls": TlsFiles("c.pem", "k.pem", "ca.pem")}, {}, "certificate c.pem, client certificates required"),
        ({"dev": True}, {}, "SIGHUP reloads, and so does a change of the file"),
        ({}, {"local": ["rate_limit: counters"]}, "of each worker's own (1):\n    rate_limit: counters"),
        (
            {"workers": 3}, {"local": ["rate_limit: counters"]},
            "of each worker's own (3, so limits let through up to that many times as much)",
        ),
    ],
)  # fmt: skip
def test_the_banner_says_what_is_special(fields: dict[str, Any], more: dict[str, Any], said: str) -> None:
    text = lines(Settings("gateway.yaml", **fields), **more)
    assert said in text
    assert "0123456789abcdef" not in text
