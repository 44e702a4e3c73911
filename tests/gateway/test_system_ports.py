"""The ports of a process: secrets from the environment and from files, time zones, development mode, the state directory."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gatekit import revocations
from gatekit.clients.disk import StateDirectory
from gatekit.errors import MissingSecret
from gatekit.gateway.system import system_ports, system_secret, system_zone
from gatekit.stores.revocations import MemoryRevocations


def test_a_secret_is_looked_up_where_the_reference_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", "from the environment")
    (tmp_path / "secret").write_text("from a file\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert system_secret("env:THE_SECRET") == "from the environment"
    assert system_secret(f"file:{tmp_path}/secret") == "from a file"
    assert system_secret("file:~/secret") == "from a file"
    assert system_secret("the secret itself") == "the secret itself"
    assert system_secret("http://is.no/reference") == "http://is.no/reference"


def test_a_secret_that_is_not_there_is_named_by_its_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY", "")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for reference, why in (
        ("env:NOT_SET_ANYWHERE", "is not set"),
        ("env:EMPTY", "is empty"),
        (f"file:{tmp_path}/none", "cannot be read: No such file"),
        (f"file:{tmp_path}", "cannot be read: Is a directory"),
        (f"file:{tmp_path}/bytes", "not UTF-8"),
    ):
        with pytest.raises(MissingSecret, match=why) as raised:
            system_secret(reference)
        assert reference in str(raised.value)


def test_a_time_zone_is_ahead_of_utc_by_its_own_rules() -> None:
    zurich = system_zone("Europe/Zurich")
    assert zurich(datetime(2026, 1, 15, tzinfo=UTC).timestamp()) == 3600
    assert zurich(datetime(2026, 7, 15, tzinfo=UTC).timestamp()) == 7200


@pytest.mark.parametrize("name", ["Europe/Nowhere", "Europe", "../../etc/passwd", ""])
def test_a_zone_that_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        system_zone(name)


def test_the_environment_says_where_state_is_kept_and_what_this_machine_is_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GATEKIT_STATE_DIR", "STATE_DIRECTORY", "GATEKIT_DEVELOPMENT"):
        monkeypatch.delenv(name, raising=False)
    bare = system_ports()
    assert (bare.disk, bare.development) == (None, False)
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:/another")
    monkeypatch.setenv("GATEKIT_DEVELOPMENT", "1")
    kept = system_ports()
    assert isinstance(kept.disk, StateDirectory)
    assert (kept.disk.path, kept.development) == (tmp_path, True)


def test_a_service_opens_the_list_that_its_gateways_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIST", "memory:")
    for url in ("memory:", "env:LIST"):
        found = revocations(url)
        assert isinstance(found, MemoryRevocations)
    found.revoke(jti="1", until=9e9)
    assert found.revoked({"jti": "1"}) == "jti"
    with pytest.raises(ValueError, match="begins with one of"):
        revocations("nowhere://x")


def test_the_environment_says_of_how_many_processes_this_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEKIT_PROCESSES", raising=False)
    assert system_ports().processes == 1
    monkeypatch.setenv("GATEKIT_PROCESSES", "4")
    assert system_ports().processes == 4
    for text in ("", "0", "-2", "four", "2.5"):
        monkeypatch.setenv("GATEKIT_PROCESSES", text)
        with pytest.raises(ValueError, match="GATEKIT_PROCESSES"):
            system_ports()
