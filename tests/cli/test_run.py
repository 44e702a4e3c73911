"""`gatekit run`: its arguments as settings, and what is said when it cannot start. Real instances are in tests/serving."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

import gatekit.serving.run
from gatekit.cli import main, parser
from gatekit.cli.run import settings_from
from gatekit.serving.settings import BadSettings, Settings, TlsFiles

TOKEN = "0123456789abcdef"


def settings(*arguments: str) -> Settings:
    return settings_from(parser().parse_args(["run", *arguments]))


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEKIT_ADMIN_TOKEN", raising=False)


def test_what_is_not_said_is_the_default() -> None:
    assert settings("gateway.yaml") == Settings("gateway.yaml")


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (["--host", "::", "--port", "0"], {"host": "::", "port": 0}),
        (["--uds", "/run/a.sock", "--uds-mode", "600"], {"uds": "/run/a.sock", "uds_mode": 0o600}),
        (["--fd", "3"], {"fd": 3}),
        (["--backlog", "16"], {"backlog": 16}),
        (["--server", "uvicorn", "--workers", "4"], {"server": "uvicorn", "workers": 4}),
        (["--http", "2"], {"http": "2"}),
        (["--keepalive", "1.5", "--max-connections", "10"], {"keepalive": 1.5, "max_connections": 10}),
        (["--tls-cert", "c", "--tls-key", "k"], {"tls": TlsFiles("c", "k")}),
        (["--tls-cert", "c", "--tls-key", "k", "--client-ca", "a"], {"tls": TlsFiles("c", "k", "a", "required")}),
        (
            ["--tls-cert=c", "--tls-key=k", "--client-ca=a", "--client-cert=optional", "--server=uvicorn"],
            {"tls": TlsFiles("c", "k", "a", "optional"), "server": "uvicorn"},
        ),
        (["--admin", "off"], {"admin": None}),
        (["--admin", "unix:/run/admin.sock"], {"admin": "unix:/run/admin.sock"}),
        (["--log-format", "json", "--log-level", "debug"], {"log_format": "json", "log_level": "debug"}),
        (["--grace", "0", "--timeout", "2.5", "--hang", "3"], {"grace": 0.0, "timeout": 2.5, "hang": 3.0}),
        (["--dev"], {"dev": True, "grace": 0.0, "timeout": 1.0}),
        (["--dev", "--timeout", "0.25", "--grace", "9"], {"dev": True, "grace": 0.0, "timeout": 0.25}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_each_argument_is_a_setting(arguments: list[str], fields: dict[str, Any]) -> None:
    assert settings("gateway.yaml", *arguments) == Settings("gateway.yaml", **fields)


def test_every_setting_has_an_argument() -> None:
    """A field that nobody can set from the command line would be a fixed one."""
    options = vars(parser().parse_args(["run", "gateway.yaml"]))
    made_of_several = {"target", "tls", "admin_token"}
    assert set(Settings.__dataclass_fields__) - made_of_several <= set(options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tls-cert", "c"], "--tls-cert and --tls-key go together"),
        (["--tls-key", "k"], "--tls-cert and --tls-key go together"),
        (["--client-ca", "a"], "needs --tls-cert and --tls-key"),
        (["--workers", "0"], "--workers must be 1 or more"),
        (["--admin", "0.0.0.0:9901"], "give --admin-token-file"),
        (["--admin", "9901"], "HOST:PORT, unix:PATH or off"),
        (["--uds", "a", "--fd", "3"], "keep one"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_go_together_is_said(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadSettings) as refused:
        settings("gateway.yaml", *arguments)
    assert said in str(refused.value)
    assert main(["run", "gateway.yaml", *arguments]) == 1
    assert capsys.readouterr().err.startswith("gatekit run: ")


@pytest.mark.parametrize(
    "arguments",
    [["--uds-mode", "689"], ["--uds-mode", "rw"], ["--http", "3"], ["--port", "http"], ["--log-format", "xml"], []],
    ids=str,
)
def test_a_command_line_that_cannot_be_understood_is_exit_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["run", *(["gateway.yaml"] if arguments else []), *arguments])
    assert done.value.code == 2
    assert "usage: gatekit run" in capsys.readouterr().err


# -- the admin token


def test_the_token_comes_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert settings("a.yaml", "--admin-token-file", str(file)).admin_token == TOKEN


def test_the_token_comes_from_the_environment_and_the_file_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEKIT_ADMIN_TOKEN", "of the environment")
    assert settings("a.yaml").admin_token == "of the environment"
    file = tmp_path / "token"
    file.write_text(TOKEN)
    assert settings("a.yaml", "--admin-token-file", str(file)).admin_token == TOKEN
    monkeypatch.setenv("GATEKIT_ADMIN_TOKEN", "")
    assert settings("a.yaml").admin_token is None


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read from"), (b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe" * 20, "cannot be read from")],
    ids=["missing", "empty", "blank", "binary"],
)
def test_a_file_without_a_token_is_said_and_its_content_is_not(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadSettings, match=said):
        settings("a.yaml", "--admin-token-file", str(file))


# -- into the process


def test_the_command_runs_what_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Settings] = []

    def run(settings: Settings, say: object) -> int:
        asked.append(settings)
        return 7

    monkeypatch.setattr(gatekit.serving.run, "run", run)
    assert main(["run", "gateway.yaml", "--port", "0", "--admin", "off"]) == 7
    assert asked == [Settings("gateway.yaml", port=0, admin=None)]


def test_an_unknown_server_is_said_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "gateway.yaml", "--server", "apache"]) == 1
    assert "there is no server 'apache': it is one of granian, uvicorn" in capsys.readouterr().err


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    said = capsys.readouterr().out
    options = parser().parse_args(["run", "a.yaml"])
    assert isinstance(options, argparse.Namespace)
    for name in vars(options):
        if name not in ("command", "config"):
            assert f"--{name.replace('_', '-')}" in said
