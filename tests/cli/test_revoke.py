"""`gatekit revoke`: the words of the command, and what comes of them for a gateway that looks in the same store."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.servers.valkey import valkey_server

from gatekit.cli.revoke import STORE, add_arguments, revoke
from gatekit.core.ports import Ports
from gatekit.gateway.system import SystemClock, SystemRandom
from gatekit.mechanisms.revocation import Revocation, RevocationRefused, read_revocation
from gatekit.stores import SystemStores

Command = Callable[..., int]


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORE, raising=False)


def run(*words: str) -> int:
    parser = argparse.ArgumentParser("gatekit revoke")
    add_arguments(parser)
    return revoke(parser.parse_args(words))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "revoked.jsonl"


@pytest.fixture
def to_file(path: Path) -> Command:
    return lambda *words: run("--store", f"file://{path}", *words)


def last(path: Path) -> Revocation:
    return [read_revocation(line) for line in path.read_bytes().split(b"\n") if line][-1]


NOW = pytest.approx(time.time(), abs=300)
HOUR = pytest.approx(time.time() + 3600, abs=300)
NEW_YEAR_2100 = 4_102_444_800

GOOD: list[tuple[list[str], dict[str, Any], str]] = [
    (["--jti", "a", "--for", "1h"], {"kind": "jti", "value": "a", "until": HOUR, "at": NOW}, "a token"),
    (["--subject", "ann", "--for", "60m"], {"kind": "sub", "value": "ann", "until": HOUR}, "a subject"),
    (["--session", "s", "--for", "3600"], {"kind": "sid", "value": "s", "until": HOUR}, "a session"),
    (["--client", "c", "--until", "2100-01-01T00:00:00Z"], {"kind": "client_id", "until": NEW_YEAR_2100}, "a client"),
    (["--tenant", "t", "--until", "2100-01-01T01:00:00+01:00"], {"kind": "tenant", "until": NEW_YEAR_2100}, "a tenant"),
    (["--jti", "a", "--forever", "--why", "lost laptop"], {"until": None, "why": "lost laptop"}, "a token"),
    (["--jti", "a", "--issuer", "https://i", "--for", "1h"], {"kind": "jti", "iss": "https://i"}, "a token"),
    (["--subject", "a", "--issued-before", "now", "--for", "1h"], {"kind": "sub", "before": NOW}, "a subject"),
    (
        ["--all", "--issued-before", "2020-01-01T00:00:00Z", "--for", "1h"],
        {"kind": "all", "value": None, "before": 1_577_836_800}, "everything",
    ),
    (
        ["--issuer", "https://i", "--issued-before", "now", "--for", "1h"],
        {"kind": "iss", "value": "https://i", "iss": None, "before": NOW}, "an issuer",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("words", "fields", "told"), GOOD, ids=[" ".join(words) for words, _, _ in GOOD])
def test_what_the_options_revoke(
    to_file: Command,
    path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    fields: dict[str, Any],
    told: str,
) -> None:
    assert to_file(*words) == 0
    record = last(path)
    assert {name: getattr(record, name) for name in fields} == fields
    said = capsys.readouterr().out
    assert said.startswith(f"revoked: {told}, ")
    assert ("for ever" in said) == (record.until is None)
    assert "ann" not in said
    assert "https://i" not in said


BAD: list[tuple[list[str], str]] = [
    (["--jti", "a"], "say for how long"),
    ([], "say for how long"),
    (["--for", "1h"], "one thing"),
    (["--all", "--for", "1h"], "as of a time"),
    (["--issuer", "i", "--for", "1h"], "as of a time"),
    (["--jti", "a", "--issued-before", "now", "--for", "1h"], "as a whole"),
    (["--jti", "", "--for", "1h"], "text of 1 to 1024"),
    (["--jti", "a", "--for", "soon"], "a duration is"),
    (["--jti", "a", "--for", "0"], "over already"),
    (["--jti", "a", "--until", "2001-01-01T00:00:00Z"], "over already"),
    (["--jti", "a", "--until", "2100-01-01T00:00:00"], "--until is a time with its offset"),
    (["--jti", "a", "--until", "tomorrow"], "--until is a time with its offset"),
    (["--subject", "a", "--issued-before", "then", "--for", "1h"], "--issued-before is a time with its offset"),
]


@pytest.mark.parametrize(("words", "why"), BAD, ids=[" ".join(words) or "nothing" for words, _ in BAD])
def test_options_that_make_no_sense_are_refused_before_anything_is_opened(
    to_file: Command, path: Path, words: list[str], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        to_file(*words)
    assert not path.exists()


@pytest.mark.parametrize(
    "words",
    [["--jti", "a", "--subject", "b", "--for", "1h"], ["--jti", "a", "--for", "1h", "--forever"], ["--jtis", "a"]],
    ids=" ".join,
)
def test_options_that_exclude_each_other_are_no_command(to_file: Command, words: list[str]) -> None:
    with pytest.raises(SystemExit) as done:
        to_file(*words)
    assert done.value.code == 2


def test_what_was_revoked_is_taken_back_by_the_same_options(
    to_file: Command, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--subject", "ann", "--issued-before", "2020-01-01T00:00:00Z"]
    assert to_file(*words, "--for", "1h") == 0
    assert to_file(*words, "--restore") == 0
    assert last(path).restored
    assert "taken back: a subject" in capsys.readouterr().out
    assert to_file(*words, "--restore") == 1
    assert capsys.readouterr().err == "nothing is revoked by these options\n"


def test_the_store_may_come_from_the_environment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE, f"file://{path}")
    assert run("--jti", "a", "--for", "1h") == 0
    assert last(path).value == "a"
    monkeypatch.setenv("ELSEWHERE", f"file://{path}.2")
    assert run("--store", "env:ELSEWHERE", "--jti", "b", "--for", "1h") == 0
    assert last(path.with_name(path.name + ".2")).value == "b"


@pytest.mark.parametrize(
    ("store", "why"),
    [
        ("", "say where the gateways look"),
        ("memory:", "within each process"),
        ("postgres://user:hunter2@host", "begins with one of file:"),
        ("redis://user:hunter2@host/x", "URL of a Redis server"),
        ("env:NOWHERE", "env:NOWHERE is not set"),
    ],
)
def test_a_store_that_is_none_is_refused_without_being_repeated(store: str, why: str) -> None:
    with pytest.raises(Exception, match=why) as caught:
        run("--store", store, "--jti", "a", "--for", "1h")
    assert "hunter2" not in str(caught.value)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ValueError, match=r"gatekit-asgi\[redis\]"):
        run("--store", "redis://host", "--jti", "a", "--for", "1h")


@pytest.mark.servers
def test_a_gateway_that_looks_in_the_same_server_knows_it(tmp_path: Path) -> None:
    valkey = valkey_server(tmp_path)
    try:
        assert run("--store", valkey.url, "--tenant", "acme", "--for", "1h") == 0
        store: Any = SystemStores().revocations(valkey.url, Ports(clock=SystemClock(), random=SystemRandom()))

        async def read() -> None:
            holder = store._helm.take()
            await store._pull(holder)
            await store.aclose()

        asyncio.run(read())
        assert store.revoked({"tenant": "acme"}) == "tenant"
        assert run("--store", valkey.url, "--tenant", "acme", "--restore") == 0
        assert run("--store", valkey.url, "--tenant", "acme", "--restore") == 1
    finally:
        valkey.stop()


def test_it_is_one_of_the_commands(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from gatekit.cli import main

    assert main(["revoke", "--store", f"file://{path}", "--jti", "a", "--for", "1h"]) == 0
    assert main(["revoke", "--store", f"file://{path}", "--jti", "a"]) == 1
    assert "gatekit revoke: say for how long" in capsys.readouterr().err


def test_what_is_wrong_with_the_words_is_a_value_error() -> None:
    """Which is what the command line tells in one line, and exits with 1."""
    assert issubclass(RevocationRefused, ValueError)
