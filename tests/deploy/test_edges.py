"""nginx and a CDN before `gatekit run`: the client's address arrives, a made-up one does not, and everything passes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.processes import free_ports
from websockets.sync.client import connect

from gatekit.cli import parser
from gatekit.cli.run import settings_from

from .backend import PIECE
from .conftest import DEPLOY, GATEKIT, Answer, Backend, Run, accepts, ask, config, is_ready
from .edges import CDN, nginx, replaced

pytestmark = pytest.mark.servers

Start = Callable[..., Run]


class Front:
    """What clients connect to, and the gateways behind it."""

    def __init__(self, port: int, gateways: list[int], running: list[Run]) -> None:
        self.port = port
        self.gateways = gateways
        self.running = running

    def ask(self, client: str, headers: dict[str, str] | None = None, path: str = "/tell") -> Answer:
        return ask(self.port, path, headers, client=client)


def gateway(run: Start, settings: Path) -> tuple[int, Run]:
    port, admin = free_ports(2)
    command = [*GATEKIT, "run", str(settings), "--port", str(port), "--admin", f"127.0.0.1:{admin}", "--grace", "0"]
    return port, run(command, lambda: is_ready(admin))


def limited(settings: Path) -> Path:
    """Two a minute in place of fifty a second: a test can see who is counted with whom."""
    settings.write_text(replaced(settings.read_text(), {"50/second": "2/minute"}))
    return settings


@pytest.fixture
def behind_nginx(run: Start, backend: Backend, tmp_path: Path) -> Front:
    settings = config(DEPLOY / "nginx/gateway.yaml", backend, tmp_path)
    (first, one), (second, two) = (gateway(run, settings) for _ in range(2))
    (port,) = free_ports(1)
    words = {
        "worker_processes auto;": "",
        "127.0.0.1:8000": f"127.0.0.1:{first}",
        "127.0.0.1:8001": f"127.0.0.1:{second}",
        "listen 8080;": f"listen 127.0.0.1:{port};",
    }
    edge = run(nginx(replaced((DEPLOY / "nginx/nginx.conf").read_text(), words), tmp_path), lambda: accepts(port))
    return Front(port, [first, second], [one, two, edge])


@pytest.fixture
def one_behind_nginx(run: Start, backend: Backend, tmp_path: Path) -> Front:
    """With one gateway that counts strictly, and no other that would count for itself."""
    first, one = gateway(run, limited(config(DEPLOY / "nginx/gateway.yaml", backend, tmp_path)))
    (port,) = free_ports(1)
    words = {
        "worker_processes auto;": "",
        "127.0.0.1:8000": f"127.0.0.1:{first}",
        "        server 127.0.0.1:8001 max_fails=3 fail_timeout=5s;\n": "",
        "listen 8080;": f"listen 127.0.0.1:{port};",
    }
    edge = run(nginx(replaced((DEPLOY / "nginx/nginx.conf").read_text(), words), tmp_path), lambda: accepts(port))
    return Front(port, [first], [one, edge])


def test_nginx_tells_who_the_client_is(one_behind_nginx: Front) -> None:
    told = one_behind_nginx.ask("127.0.0.2").told
    assert told["x-forwarded-for"] == ["127.0.0.2, 127.0.0.1"]
    assert told["x-forwarded-proto"] == ["http"]
    assert told["x-forwarded-host"] == [f"127.0.0.1:{one_behind_nginx.port}"]


def test_each_client_has_its_own_limit_and_cannot_get_another(one_behind_nginx: Front) -> None:
    made_up = {"X-Forwarded-For": "198.51.100.7"}
    assert [one_behind_nginx.ask("127.0.0.2", headers).status for headers in ({}, made_up, {})] == [200, 200, 429]
    assert one_behind_nginx.ask("127.0.0.2", {"X-Forwarded-For": "198.51.100.8"}).status == 429
    assert one_behind_nginx.ask("127.0.0.3").status == 200


def test_around_nginx_nobody_is_believed(one_behind_nginx: Front) -> None:
    made_up = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Host": "evil.test"}
    told = ask(one_behind_nginx.gateways[0], "/tell", made_up, client="127.0.0.9").told
    assert told["x-forwarded-for"] == ["127.0.0.9"]
    assert told["x-forwarded-host"] == [f"127.0.0.1:{one_behind_nginx.gateways[0]}"]


def test_a_websocket_passes(behind_nginx: Front) -> None:
    with connect(f"ws://127.0.0.1:{behind_nginx.port}/chat", proxy=None, open_timeout=10) as socket:
        for text in ("one", "two" * 50_000):
            socket.send(text)
            assert socket.recv(timeout=10) == text


def test_much_passes_both_ways(behind_nginx: Front) -> None:
    body = PIECE * 512  # 32 MiB
    up = ask(behind_nginx.port, "/digest", method="POST", body=body)
    assert up.body.decode() == hashlib.sha256(body).hexdigest()
    assert ask(behind_nginx.port, "/pieces/512").body == body


def test_a_gateway_that_is_gone_is_gone_round(behind_nginx: Front) -> None:
    assert [behind_nginx.ask("127.0.0.2").status for _ in range(4)] == [200] * 4
    behind_nginx.running[0].stop()
    assert [behind_nginx.ask("127.0.0.2").status for _ in range(8)] == [200] * 8


def test_nginx_closes_idle_connections_before_the_gateway_does() -> None:
    keepalive = settings_from(parser().parse_args(["run", "gateway.yaml"])).keepalive
    assert "keepalive_timeout 60s;" in (DEPLOY / "nginx/nginx.conf").read_text()
    assert keepalive > 60


@pytest.fixture
def behind_a_cdn(run: Start, backend: Backend, tmp_path: Path) -> Front:
    settings = limited(config(DEPLOY / "cdn/gateway.yaml", backend, tmp_path))
    settings.write_text(replaced(settings.read_text(), {"192.0.2.0/24": "127.0.0.77"}))
    inner, one = gateway(run, settings)
    (port,) = free_ports(1)
    words = {"PORT": str(port), "GATEWAY": str(inner)}
    edge = run(nginx(replaced(CDN, words), tmp_path), lambda: accepts(port))
    return Front(port, [inner], [one, edge])


def test_the_cdn_tells_who_the_client_is(behind_a_cdn: Front) -> None:
    told = behind_a_cdn.ask("127.0.0.2", {"CF-Connecting-IP": "198.51.100.7"}).told
    assert told["cf-connecting-ip"] == ["127.0.0.2"]
    assert told["x-forwarded-for"] == ["127.0.0.2, 127.0.0.77"]


def test_limits_count_the_client_behind_the_cdn(behind_a_cdn: Front) -> None:
    made_up = {"CF-Connecting-IP": "198.51.100.7", "X-Forwarded-For": "198.51.100.7"}
    assert [behind_a_cdn.ask("127.0.0.2", made_up).status for _ in range(3)] == [200, 200, 429]
    assert behind_a_cdn.ask("127.0.0.3", made_up).status == 200


def test_around_the_cdn_its_header_is_not_believed(behind_a_cdn: Front) -> None:
    inner = behind_a_cdn.gateways[0]
    made_up = {"CF-Connecting-IP": "198.51.100.7", "cf_connecting_ip": "198.51.100.7"}
    told = ask(inner, "/tell", made_up, client="127.0.0.9").told
    assert "198.51.100.7" not in str(told)
    assert [ask(inner, "/tell", made_up, client="127.0.0.9").status for _ in range(2)] == [200, 429]
