"""AN7: key sets outlive the process, so that a cold start while the issuer is down still verifies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.policies.authn.keysets_scene import (
    ALGORITHMS,
    ISSUER,
    URL,
    Background,
    Scene,
    ask,
    jwks,
    plain,
    refresh,
    status,
)

from gatekit.clients.disk import StateDirectory
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.keyset_file import read_saved, to_save
from gatekit.policies.authn.keysets import KeySource
from gatekit.testing.fakes import FakeDisk

DAY = 86_400.0
NOW = 1_700_000_000.0
FILE = KeySource(url=URL, algorithms=ALGORITHMS).file


class CountingDisk(FakeDisk):
    __slots__ = ("loads", "saves")

    def __init__(self) -> None:
        super().__init__()
        self.loads = 0
        self.saves = 0

    async def load(self, name: str) -> bytes | None:
        self.loads += 1
        return await super().load(name)

    async def save(self, name: str, data: bytes) -> None:
        self.saves += 1
        await super().save(name, data)


def left_behind(*kids: str) -> Scene:
    """A process that fetched these keys and ended; its issuer went down."""
    scene = Scene(*kids, disk=CountingDisk())
    ask(scene.keys(), kids[0])
    scene.idp.down()
    scene.idp.asked.clear()
    return scene


@pytest.mark.parametrize("age", [0.0, 301.0, DAY], ids=["now", "stale", "a day"])
@pytest.mark.parametrize("job_first", [False, True], ids=["a request", "the refresh"])
def test_an7_a_cold_start_with_the_issuer_down_verifies_what_the_last_process_could(
    age: float, job_first: bool
) -> None:
    before = left_behind("a", "b")
    before.clock.advance(age)
    scene = before.restarted()
    keys = scene.keys()
    if job_first:
        assert refresh(keys) >= 5
        assert plain(keys, "a") is not None
    else:
        assert ask(keys, "a") is not None
        assert scene.idp.fetches == 0
    assert plain(keys, "b") is not None
    figures = status(keys)
    assert (figures["from_disk"], figures["age"], figures["fetched_at"]) == (True, age, NOW)
    assert figures["stale"] is (age > 300)


def test_an7_a_cold_start_from_a_real_directory(tmp_path: Path) -> None:
    before = Scene("a", disk=StateDirectory(tmp_path / "state"))
    ask(before.keys(), "a")
    before.idp.down()
    assert ask(before.restarted().keys(), "a") is not None
    (file,) = (tmp_path / "state").iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b" ")
    with pytest.raises(StoreUnavailable):
        ask(before.restarted().keys(), "a")


def test_an7_keys_from_the_disk_are_refreshed_in_the_background_at_once() -> None:
    before = left_behind("a")
    before.clock.advance(10)
    before.idp.up()
    before.idp.kids = ["b"]
    scene = before.restarted()
    keys = scene.keys()
    assert ask(keys, "a") is not None
    Background(keys, scene.clock).advance(0)
    assert (plain(keys, "b") is not None, status(keys)["from_disk"]) == (True, False)


def test_an5_a_new_key_id_is_fetched_though_the_disk_has_others() -> None:
    before = left_behind("a")
    before.idp.up()
    before.idp.kids = ["a", "b"]
    keys = before.restarted().keys()
    assert ask(keys, "b") is not None
    assert before.idp.fetches == 1


def test_keys_from_the_disk_end_when_they_would_have() -> None:
    before = left_behind("a")
    before.clock.advance(DAY - 10)
    scene = before.restarted()
    keys = scene.keys()
    assert ask(keys, "a") is not None
    scene.clock.advance(11)
    with pytest.raises(StoreUnavailable):
        ask(keys, "a")


def test_what_was_fetched_is_never_replaced_from_the_disk() -> None:
    before = left_behind("a")
    scene = before.restarted()
    scene.idp.up()
    scene.idp.kids = ["b"]
    keys = scene.keys()

    class Late(CountingDisk):
        async def load(self, name: str) -> bytes | None:
            data = await before.ports.disk.load(name)  # type: ignore[union-attr]
            # Meanwhile somebody else fetched.
            other = Scene(clock=scene.clock, fetch=scene.idp, cells=late.ports.cells)
            refresh(other.keys())
            return data

    late = Scene(clock=scene.clock, fetch=scene.idp, disk=Late())
    keys = late.keys()
    assert ask(keys, "b") is not None
    assert status(keys)["from_disk"] is False


# -- what is taken from the disk


DOCUMENT = jwks("a")


def record(**changed: Any) -> bytes:
    return json.dumps({"url": URL, "fetched_at": NOW, "document": DOCUMENT.decode(), **changed}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 1_000_000,
        record()[:-1],
        record(url=URL + "2"),
        record(url=None),
        record(fetched_at=NOW + 0.001),
        record(fetched_at=NOW + DAY),
        record(fetched_at=NOW - DAY - 0.001),
        record(fetched_at=0),
        record(fetched_at=True),
        record(fetched_at="1700000000"),
        record(fetched_at=None),
        record(document=None),
        record(document={"keys": []}),
        record(document="{}"),
        record(document='{"keys": []}'),
        record(document=jwks("a", "a").decode()),
    ],
    ids=lambda data: repr(data[-60:]),
)
def test_what_is_not_to_be_believed_is_as_if_nothing_were_there(data: bytes) -> None:
    scene = Scene("a", disk=FakeDisk({FILE: data}))
    scene.idp.down()
    keys = scene.keys()
    with pytest.raises(StoreUnavailable):
        ask(keys, "a")
    scene.idp.up()
    scene.clock.advance(30)
    assert ask(keys, "a") is not None


def test_a_record_is_read_as_it_was_written() -> None:
    text = '{"keys": [], "ä": "\U0001f511", "b": "\\\\ \\""}'.encode()
    saved = read_saved(to_save(URL, NOW - 5, text), URL, NOW, 10.0)
    assert saved == (text, NOW - 5, 5.0)


# -- when it is written


def test_what_changed_is_saved_and_what_did_not_is_not() -> None:
    disk = CountingDisk()
    scene = Scene("a", disk=disk)
    keys = scene.keys()
    refresh(keys)
    assert json.loads(disk.files[FILE]) == {"url": URL, "fetched_at": NOW, "document": jwks("a").decode()}
    for _ in range(3):
        scene.clock.advance(270)
        refresh(keys)
    assert (scene.idp.fetches, disk.saves, disk.loads) == (4, 1, 1)
    scene.idp.kids = ["a", "b"]
    scene.clock.advance(270)
    refresh(keys)
    assert disk.saves == 2
    assert json.loads(disk.files[FILE])["document"] == jwks("a", "b").decode()


def test_what_the_disk_has_already_is_not_saved_by_the_next_process() -> None:
    before = left_behind("a")
    before.idp.up()
    disk = before.ports.disk
    assert isinstance(disk, CountingDisk)
    before.clock.advance(60)
    refresh(before.restarted().keys())
    assert (disk.loads, disk.saves, before.idp.fetches) == (2, 1, 1)


def test_what_does_not_change_is_saved_again_before_it_is_too_old_to_be_read() -> None:
    disk = CountingDisk()
    scene = Scene("a", disk=disk)
    Background(scene.keys(), scene.clock).advance(3 * DAY)
    assert 3 * 20 <= disk.saves <= 3 * 24 + 1
    scene.idp.down()
    scene.clock.advance(DAY - 4_000)
    assert ask(scene.restarted().keys(), "a") is not None


def test_a_wall_clock_that_was_put_back_does_not_leave_a_date_of_the_future_on_the_disk() -> None:
    disk = CountingDisk()
    scene = Scene("a", disk=disk)
    keys = scene.keys()
    refresh(keys)
    scene.clock.set_wall(NOW - 10 * DAY)
    scene.clock.advance(270)
    refresh(keys)
    scene.idp.down()
    assert ask(scene.restarted().keys(), "a") is not None


def test_what_cannot_be_used_is_not_saved() -> None:
    disk = CountingDisk()
    scene = Scene(disk=disk)
    refresh(scene.keys())
    assert disk.files == {}


def test_each_key_set_has_a_file_of_its_own() -> None:
    disk = CountingDisk()
    scene = Scene("a", disk=disk)
    scene.idp.pages[ISSUER + "/.well-known/openid-configuration"] = json.dumps(
        {"issuer": ISSUER, "jwks_uri": URL}
    ).encode()
    for keys in (scene.keys(), scene.keys(url=URL + "2"), scene.keys(issuer=ISSUER)):
        refresh(keys)
    assert len(disk.files) == 3
    scene.idp.pages.clear()
    scene.idp.down()
    assert ask(scene.restarted().keys(issuer=ISSUER), "a") is not None


def test_a_disk_that_fails_is_asked_once_and_stops_nothing() -> None:
    class Broken(CountingDisk):
        async def load(self, name: str) -> bytes | None:
            raise ZeroDivisionError

    scene = Scene("a", disk=Broken())
    keys = scene.keys()
    with pytest.raises(ZeroDivisionError):
        refresh(keys)
    refresh(keys)
    assert plain(keys, "a") is not None
