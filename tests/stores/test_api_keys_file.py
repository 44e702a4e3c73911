"""API keys in a file: what is read, when it is read again, and that a file at fault changes nothing."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatekit.core.policy import jobs_of
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.key_hash import hash_of, new_api_key
from gatekit.stores import SystemStores, api_keys_file, watched
from gatekit.stores.api_keys_file import EVERY, FileApiKeys
from gatekit.testing import ManualClock, SeededRandom, test_ports

RANDOM = SeededRandom(5)
ONE, TWO = (new_api_key(RANDOM.token) for _ in range(2))
YAML = f"""
reports:                             # who makes them
  hash: {ONE.hash}
  subject: svc-reports
  tenant: acme
  scopes: [orders:read]
  expires: 2030-01-01T00:00:00Z
  disabled: false
"""


class World:
    """A file and the store that reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.store = FileApiKeys(f"file://{path}", test_ports(clock=self.clock))

    def write(self, text: str) -> None:
        """Put another file in its place, as an operator does."""
        beside = self.path.with_name("new")
        beside.write_text(text)
        beside.replace(self.path)

    def known(self, prefix: str) -> str | None:
        found = self.store.known(prefix)
        return None if found is None else found["id"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "keys.yaml")
    made.path.write_text(YAML)
    return made


async def test_a_file_of_yaml_is_read(world: World) -> None:
    await world.store.refresh()
    found = world.store.known(ONE.prefix)
    assert found is not None
    assert (found["id"], found["hash"], found["subject"]) == ("reports", ONE.hash, "svc-reports")
    assert found["scopes"] == ["orders:read"]
    assert found["expires"].timestamp() == 1893456000
    assert world.store.known(TWO.prefix) is None
    assert await world.store.find(ONE.prefix) is found


async def test_a_file_of_json_is_read(tmp_path: Path) -> None:
    world = World(tmp_path / "keys.json")
    world.path.write_text(json.dumps({"one": {"hash": ONE.hash, "expires": 1893456000}, "two": {"hash": TWO.hash}}))
    await world.store.refresh()
    assert (world.known(ONE.prefix), world.known(TWO.prefix)) == ("one", "two")


async def test_opening_reads_nothing_and_the_first_question_does(world: World) -> None:
    with pytest.raises(StoreUnavailable):
        world.store.known(ONE.prefix)
    found = await world.store.find(ONE.prefix)
    assert found is not None
    assert world.known(ONE.prefix) == "reports"


async def test_a_file_that_is_another_one_is_read_again_and_no_other_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bool] = []
    original = api_keys_file._records

    def counted(data: dict[Any, Any]) -> Any:
        read.append(True)
        return original(data)

    monkeypatch.setattr(api_keys_file, "_records", counted)
    for _ in range(3):
        await world.store.refresh()
    assert len(read) == 1
    before = world.path.stat()
    # Of the same size and the same time: it is another file all the same.
    world.write(YAML.replace("reports", "exports"))
    os.utime(world.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await world.store.refresh()
    assert (len(read), world.known(ONE.prefix)) == (2, "exports")
    # The same file, written to.
    world.path.write_text(YAML + "\n")
    await world.store.refresh()
    assert (len(read), world.known(ONE.prefix)) == (3, "reports")
    os.utime(world.path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    await world.store.refresh()
    assert len(read) == 4


async def test_a_key_that_is_taken_out_is_gone(world: World) -> None:
    await world.store.refresh()
    world.write("{}\n")
    await world.store.refresh()
    assert world.known(ONE.prefix) is None
    assert world.store.status()["records"] == 0


BROKEN = [
    ("", "not a mapping"),
    ("[]", "not a mapping"),
    ("reports: [", "not YAML, in line 2"),
    ("reports: \x00", "cannot be read"),
    ("reports: {}\nreports: {}", "given twice in the mapping of line 1"),
    (f"a:\n  hash: {ONE.hash}\n  hash: {TWO.hash}\n", "given twice in the mapping of line 2"),
    ("? [a]\n: {}", "not YAML"),
    ("a: !!python/object:os.system x", "not YAML"),
    ("reports: v1", "the record of 'reports' is not a mapping"),
    (f"reports: {{id: other, hash: '{ONE.hash}'}}", "without an id of its own"),
    ("reports: {}", "'reports' cannot be used: hash: Field required"),
    (f"reports: {{hash: '{ONE.text}'}}", "'reports' cannot be used: hash:"),
    (f"reports: {{secret: '{ONE.text}'}}", "found by its prefix"),
    ("reports: {hash: 'sha256:" + "0" * 64 + "'}", "found by its prefix"),
    (f"reports: {{hash: '{ONE.hash}', sopes: [a]}}", "sopes: Extra inputs"),
    (f"reports: {{hash: '{ONE.hash}', expires: 2030-01-01}}", "expires"),
    (f"true: {{hash: '{ONE.hash}'}}", "the record of True cannot be used: id"),
    (f"a: {{hash: '{ONE.hash}'}}\nb: {{hash: '{hash_of(ONE.text, bytes(16))}'}}", "'a' and 'b' are the same key"),
]


@pytest.mark.parametrize(("text", "why"), BROKEN, ids=range(len(BROKEN)))
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_said_once(
    world: World, text: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    await world.store.refresh()
    with caplog.at_level(logging.INFO, "gatekit.stores"):
        world.write(text)
        for _ in range(3):
            await world.store.refresh()
        assert world.known(ONE.prefix) == "reports"
        (said,) = [one.getMessage() for one in caplog.records]
        assert f"{world.path} is not used, and the keys that were read last stay in force: " in said
        assert why in said
        assert world.store.status()["last_error"] in said
        assert ONE.text not in said
        assert ONE.hash[14:] not in said
        world.write(YAML)
        await world.store.refresh()
    assert [one.levelname for one in caplog.records] == ["ERROR", "INFO"]
    assert world.store.status()["last_error"] is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON, in line 1"),
        ('{\n"a": }', "not JSON, in line 2"),
        ('{"a": {}, "a": {}}', "given twice"),
        ('{"a": {"hash": "", "hash": ""}}', "given twice"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "not a mapping"),
        ('{"a": {}}', "hash: Field required"),
    ],
    ids=range(7),
)
async def test_json_is_read_as_strictly(tmp_path: Path, text: str, why: str) -> None:
    world = World(tmp_path / "keys.json")
    world.path.write_text(text)
    await world.store.refresh()
    assert why in world.store.status()["last_error"]


async def test_bytes_that_are_no_text_are_no_file(world: World) -> None:
    world.path.write_bytes(b"\xff\xfe\x00")
    await world.store.refresh()
    assert world.store.status()["last_error"] == "it holds what cannot be read"


async def test_a_file_that_is_too_large_is_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys_file, "MAX_BYTES", len(YAML))
    await world.store.refresh()
    assert world.known(ONE.prefix) == "reports"
    world.write(YAML + " ")
    await world.store.refresh()
    assert world.store.status()["last_error"] == f"it is larger than {len(YAML)} bytes"


async def test_a_file_that_is_being_written_is_read_next_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.fstat
    looked: list[int] = []

    def fstat(handle: int) -> os.stat_result:
        looked.append(handle)
        if len(looked) == 2:
            os.utime(world.path, ns=(0, 0))
        return original(handle)

    monkeypatch.setattr(os, "fstat", fstat)
    await world.store.refresh()
    assert world.store.status()["last_error"] == "it was being written: write another file and rename it"
    await world.store.refresh()
    assert world.known(ONE.prefix) == "reports"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
async def test_a_file_that_others_can_write_is_not_read(world: World, mode: int) -> None:
    world.path.chmod(mode)
    await world.store.refresh()
    assert "chmod go-w" in world.store.status()["last_error"]
    with pytest.raises(StoreUnavailable):
        await world.store.find(ONE.prefix)
    world.path.chmod(0o644)
    await world.store.refresh()
    assert world.known(ONE.prefix) == "reports"
    # Later too, though nothing else of it changed; and it is good again as soon as it is put right.
    world.path.chmod(mode)
    await world.store.refresh()
    assert "chmod go-w" in world.store.status()["last_error"]
    assert world.known(ONE.prefix) == "reports"
    world.path.chmod(0o600)
    await world.store.refresh()
    assert world.store.status()["last_error"] is None


async def test_a_file_at_fault_is_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    original = api_keys_file._document

    def counted(raw: bytes, strict: bool) -> dict[Any, Any]:
        read.append(raw)
        return original(raw, strict)

    monkeypatch.setattr(api_keys_file, "_document", counted)
    world.path.write_text("reports: {}")
    for _ in range(3):
        await world.store.refresh()
    assert len(read) == 1


async def test_a_file_at_fault_stays_at_fault_when_it_is_only_looked_at(world: World) -> None:
    world.path.write_text("reports: {}")
    await world.store.refresh()
    world.path.chmod(0o666)
    await world.store.refresh()
    assert "chmod go-w" in world.store.status()["last_error"]
    world.path.chmod(0o600)
    await world.store.refresh()
    assert "Field required" in world.store.status()["last_error"]


@pytest.mark.parametrize(
    ("mode", "read"), [(0o770, False), (0o707, False), (0o1777, True), (0o755, True), (0o700, True)]
)
async def test_a_file_that_others_can_replace_is_not_read(tmp_path: Path, mode: int, read: bool) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    world = World(folder / "keys.yaml")
    world.path.write_text(YAML)
    folder.chmod(mode)
    await world.store.refresh()
    assert ("its directory" in (world.store.status()["last_error"] or "")) is not read
    if read:
        assert world.known(ONE.prefix) == "reports"


@pytest.mark.parametrize("theirs", ["file", "directory", None])
async def test_a_file_or_directory_of_somebody_else_is_not_read(
    world: World, theirs: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = watched.check_owner

    def owned_by_another(found: os.stat_result) -> os.stat_result:
        return os.stat_result((*found[:4], 4711, *found[5:10]))

    def check(file: os.stat_result, directory: os.stat_result) -> None:
        original(
            owned_by_another(file) if theirs == "file" else file,
            owned_by_another(directory) if theirs == "directory" else directory,
        )

    monkeypatch.setattr(watched, "check_owner", check)
    await world.store.refresh()
    assert ("somebody else" in (world.store.status()["last_error"] or "")) is (theirs is not None)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/null")), "is no file"),
    ],
    ids=["gone", "a directory", "a device"],
)
async def test_what_is_no_file_is_not_read(world: World, make: Callable[[Path], object], why: str) -> None:
    await world.store.refresh()
    make(world.path)
    await world.store.refresh()
    assert why in world.store.status()["last_error"]
    assert world.known(ONE.prefix) == "reports"


async def test_a_link_is_followed_as_kubernetes_has_them(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(YAML)
    (tmp_path / "two.yaml").write_text(YAML.replace("reports", "exports"))
    world = World(tmp_path / "keys.yaml")
    world.path.symlink_to("one.yaml")
    await world.store.refresh()
    assert world.known(ONE.prefix) == "reports"
    world.path.unlink()
    world.path.symlink_to("two.yaml")
    await world.store.refresh()
    assert world.known(ONE.prefix) == "exports"


async def test_the_file_is_looked_at_every_second(world: World) -> None:
    (job,) = jobs_of(world.store)
    assert (job.interval(), job.first_after) == (EVERY, 0.0)
    assert EVERY == 1.0
    other = FileApiKeys(f"file://{world.path}", test_ports())
    assert [one.key for one in jobs_of(other)] == [job.key]
    await job.run()
    assert world.known(ONE.prefix) == "reports"


async def test_figures_for_the_operator(world: World) -> None:
    assert world.store.status() == {"records": 0, "age_seconds": None, "last_error": None}
    await world.store.refresh()
    world.clock.advance(2.5)
    assert world.store.status() == {"records": 1, "age_seconds": 2.5, "last_error": None}


@pytest.mark.parametrize(
    "url", ["file:keys.yaml", "file://host/keys.yaml", "file://", "redis:///keys", "file:///a%00b", "/etc/keys.yaml"]
)
def test_a_file_is_named_by_its_absolute_path(url: str) -> None:
    with pytest.raises(ValueError, match="named by its absolute path"):
        FileApiKeys(url, test_ports())


def test_the_store_is_opened_by_its_url(tmp_path: Path) -> None:
    for url in (f"file://{tmp_path}/keys%20of.yaml", f"file://localhost{tmp_path}/keys%20of.yaml"):
        store = SystemStores().api_keys(url, test_ports())
        assert isinstance(store, FileApiKeys)
        assert store._path == tmp_path / "keys of.yaml"
