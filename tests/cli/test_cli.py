"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gatekit import __version__
from gatekit.cli import demo as demo_module
from gatekit.cli import main
from gatekit.cli.demo import backends
from gatekit.cli.tour import STOPS, Stop, table

GOOD = """
routes:
  - match: GET /orders/{id}
    to: orders
  - match: /orders/*
    to: orders
    headers: {x-tier: beta}
clusters:
  orders: {urls: ["http://127.0.0.1:9001"]}
"""


@pytest.fixture
def good(tmp_path: Path) -> str:
    file = tmp_path / "gateway.yaml"
    file.write_text(GOOD)
    return str(file)


def test_check_says_what_is_there(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", good]) == 0
    assert "good, routes: 2, clusters: 1" in capsys.readouterr().out


def test_check_prints_every_finding_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("routes:\n  - match: orders\n    to: order\n  - match: GET /x\n    too: orders\n")
    assert main(["check", str(file)]) == 1
    said = capsys.readouterr().err
    assert f"{file}:2" in said
    assert f"{file}:5" in said


def test_check_of_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere.yaml"]) == 1
    assert "nowhere.yaml" in capsys.readouterr().err


def test_explain_names_the_winner_and_why_others_lost(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", good, "get", "http://shop.example/orders/7?x=1", "-H", "X-Tier: gold"]) == 0
    said = capsys.readouterr().out
    assert "GET /orders/{id}" in said
    assert "/orders/*" in said
    assert main(["explain", good, "POST", "/orders/7"]) == 1
    assert main(["explain", good, "POST", "/orders/7", "-H", "x-tier: beta", "--client", "192.0.2.1"]) == 0


def test_explain_refuses_what_is_no_header(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", good, "GET", "/", "-H", "x-tier=beta"]) == 1
    assert "Name: value" in capsys.readouterr().err


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("https://json-schema.org/")


def test_without_a_command_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "demo" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"gatekit {__version__}\n"


def test_columns_line_up() -> None:
    assert table([("a", "bb"), ("ccc", "d")]) == ["a    bb", "---  --", "ccc  d"]


@pytest.mark.servers
def test_the_demo_comes_out_as_stated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--once"]) == 0
    said = capsys.readouterr().out
    assert f"{len(STOPS)} of {len(STOPS)} as stated" in said
    assert "orders-1" in said
    assert "orders-2" in said


@pytest.mark.servers
def test_a_tour_that_does_not_come_out_as_stated_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Stop("GET", "/v1/orders/1", 404, ("-",), "-", "stated wrongly")
    monkeypatch.setattr(demo_module, "STOPS", (wrong,))
    assert main(["demo", "--once"]) == 1
    assert "stated" in capsys.readouterr().err


@pytest.mark.servers
def test_the_demo_serves_until_it_is_interrupted() -> None:
    """Ctrl-C ends it with 0, its backends with it; a taken port is no reason not to start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "gatekit.cli", "demo", "--port", str(port)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline()]
            while "405" not in lines[-1] and lines[-1]:
                lines.append(process.stdout.readline())
            assert "takes another" in lines[0]
            base = lines[1].split()[-1]
            with socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2])), timeout=5) as client:
                client.sendall(b"GET /v1/orders/1 HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n")
                assert client.recv(12) == b"HTTP/1.1 200"
        finally:
            process.send_signal(2)
            assert process.wait(10) == 0
            process.stdout.close()


@pytest.mark.servers
def test_backends_end_with_whoever_started_them() -> None:
    with backends("one") as ports:
        with socket.create_connection(("127.0.0.1", ports["one"]), timeout=5) as client:
            client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
            said = b""
            while part := client.recv(4096):
                said += part
        assert b'"backend": "one"' in said
        assert b'"body": "hi"' in said
    with pytest.raises(OSError, match=r"refused|reset"):
        socket.create_connection(("127.0.0.1", ports["one"]), timeout=5)


def test_a_backend_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="did not start"), backends("one"):
        raise AssertionError("not reached")
