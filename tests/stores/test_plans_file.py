"""Plans in a file: what is read, when it is read again, and that a file at fault changes nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.core.policy import jobs_of
from gatekit.gateway.loop_thread import LoopThread
from gatekit.gateway.shared import Shared
from gatekit.stores import SystemStores, plans, plans_file, watched
from gatekit.stores.plans import MAX_NAME, MAX_PLAN, PIECE, KeptPlans, unpacked, wrong_with
from gatekit.stores.plans_file import EVERY, FilePlans, _plans
from gatekit.stores.watched import Unusable
from gatekit.testing import ManualClock, test_ports

YAML = """
# who pays for what
acme: pro
globex: 9000/minute
12: basic
no: "10/second;100/minute"
"a: b": 'pro'
"""


class World:
    """A file and the store that reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.store = FilePlans(f"file://{path}", test_ports(clock=self.clock))

    def write(self, text: str) -> None:
        """Put another file in its place, as an operator does."""
        beside = self.path.with_name("new")
        beside.write_text(text)
        beside.replace(self.path)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "plans.yaml")
    made.path.write_text(YAML)
    return made


async def test_a_file_of_yaml_is_read_and_every_word_of_it_is_a_text(world: World) -> None:
    await world.store.refresh()
    found = {name: world.store.find(name) for name in ("acme", "globex", "12", "no", "a: b", "ACME", "", "nobody")}
    assert found == {
        "acme": "pro", "globex": "9000/minute", "12": "basic", "no": "10/second;100/minute", "a: b": "pro",
        "ACME": None, "": None, "nobody": None,
    }  # fmt: skip


async def test_a_file_of_json_is_read(tmp_path: Path) -> None:
    world = World(tmp_path / "plans.json")
    world.path.write_text('\n{ "acme" : "pro",\r\n\t"\\u00e9\\"": "9000/minute"}\n ')
    await world.store.refresh()
    assert (world.store.find("acme"), world.store.find('é"')) == ("pro", "9000/minute")


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20).filter(lambda t: not t.isspace())
    )
)
def test_what_json_can_write_is_read_as_it_was(entries: dict[str, str]) -> None:
    for text in (json.dumps(entries), json.dumps(entries, ensure_ascii=False, indent=1)):
        raw = text.encode("utf-8", "surrogatepass")
        try:
            raw.decode()
        except UnicodeDecodeError:
            continue
        assert _plans(raw, True) == entries


@given(st.text(alphabet='{}[]",:\\ abu0\n', max_size=30))
def test_what_is_read_as_json_is_json(text: str) -> None:
    try:
        found = _plans(text.encode(), True)
    except Unusable:
        return
    assert json.loads(text) == found


@given(st.text(max_size=40))
def test_whatever_a_file_holds_is_read_or_refused(text: str) -> None:
    for strict in (True, False):
        try:
            found = _plans(text.encode("utf-8", "surrogatepass"), strict)
        except Unusable:
            continue
        assert all(wrong_with(name, plan) is None for name, plan in found.items())


async def test_an_empty_mapping_is_one(world: World) -> None:
    await world.store.refresh()
    world.write("{}\n")
    await world.store.refresh()
    assert world.store.find("acme") is None
    assert world.store.status()["entries"] == 0
    assert world.store.status()["last_error"] is None


async def test_opening_reads_nothing_and_whoever_waits_for_it_does(world: World) -> None:
    assert world.store.find("acme") is None
    pending = world.store.loaded()
    assert pending is not None
    await pending
    assert world.store.find("acme") == "pro"
    assert world.store.loaded() is None


async def test_a_file_that_is_another_one_is_read_again_and_no_other_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bool] = []
    original = plans_file._plans

    def counted(raw: bytes, strict: bool) -> dict[str, str]:
        read.append(True)
        return original(raw, strict)

    monkeypatch.setattr(plans_file, "_plans", counted)
    for _ in range(3):
        await world.store.refresh()
    assert len(read) == 1
    before = world.path.stat()
    # Of the same size and the same time: it is another file all the same.
    world.write(YAML.replace("acme", "ajax"))
    os.utime(world.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await world.store.refresh()
    assert (len(read), world.store.find("ajax"), world.store.find("acme")) == (2, "pro", None)
    # The same file, written to.
    world.path.write_text(YAML + "\n")
    await world.store.refresh()
    assert (len(read), world.store.find("acme")) == (3, "pro")


BROKEN = [
    ("", "not one mapping"),
    ("# nothing\n", "not one mapping"),
    ("[]", "not a mapping of names to plans, in line 1"),
    ("acme", "not a mapping of names to plans, in line 1"),
    ("acme: {", "not a mapping of names to plans, in line 1"),
    ("acme: pro\n  b: c", "not YAML, in line 2"),
    ("acme: 'pro", "not YAML, in line 1"),
    ("acme: \x00", "cannot be read"),
    ("acme: pro\nacme: basic", "'acme' is given twice, in line 2"),
    ("acme:\n  plan: pro", "not a mapping of names to plans, in line 2"),
    ("acme: [pro]", "not a mapping of names to plans, in line 1"),
    ("a: &x pro\nb: *x", "not a mapping of names to plans, in line 2"),
    ("? [a]\n: b", "not a mapping of names to plans, in line 1"),
    ("acme:\n", "a plan is the name of one, or limits, as a text of 1 to 1024 characters, in line 1"),
    ("acme: '  '", "a plan is the name of one"),
    (f"acme: {'x' * (MAX_PLAN + 1)}", "a plan is the name of one"),
    ("'': pro", "a name is a text of 1 to 512 characters, in line 1"),
    (f"? {'x' * (MAX_NAME + 1)}\n: pro", "a name is a text"),
    ("a: b\n---\nc: d", "not a mapping of names to plans, in line 3"),
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
        assert world.store.find("acme") == "pro"
        (said,) = [one.getMessage() for one in caplog.records]
        assert f"{world.path} is not used, and the plans that were read last stay in force: " in said
        assert why in said
        assert world.store.status()["last_error"] in said
        world.write(YAML)
        await world.store.refresh()
    assert [one.levelname for one in caplog.records] == ["WARNING", "INFO"]
    assert world.store.status()["last_error"] is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        ('{"a": }', "no name and a text, in line 1"),
        ('{\n"a": "b"\n"c": "d"}', "no name and a text, in line 2"),
        ('{"a": "b",}', "in line 1"),
        ('{"a": "b",\n\n"c": 7}', "no name and a text, in line 3"),
        ('{"a": "\\x"}', "it is not JSON, in line 1"),
        ('{"a": "b\n"}', "in line 1"),
        ('{"a": "b"} x', "something follows after the object, in line 1"),
        ('{"a": "b", "a": "c"}', "'a' is given twice, in line 1"),
        ('{"a": ""}', "a plan is the name of one"),
    ],
    ids=range(11),
)
async def test_json_is_read_as_strictly(tmp_path: Path, text: str, why: str) -> None:
    world = World(tmp_path / "plans.json")
    world.path.write_text(text)
    await world.store.refresh()
    assert why in world.store.status()["last_error"]
    assert world.store.find("a") is None


async def test_bytes_that_are_no_text_are_no_file(world: World) -> None:
    world.path.write_bytes(b"a: \xff")
    await world.store.refresh()
    assert world.store.status()["last_error"] == "it is not UTF-8"


async def test_a_file_that_is_too_large_is_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans_file, "MAX_BYTES", len(YAML))
    await world.store.refresh()
    world.write(YAML + " ")
    await world.store.refresh()
    assert world.store.status()["last_error"] == f"it is larger than {len(YAML)} bytes"
    assert world.store.find("acme") == "pro"
    monkeypatch.setattr(plans_file, "MAX_ENTRIES", 2)
    world.write("a: b\nc: d")
    await world.store.refresh()
    assert world.store.find("c") == "d"
    world.write("a: b\nc: d\ne: f")
    await world.store.refresh()
    assert world.store.status()["last_error"] == "there are more than 2 names, in line 3"
    assert world.store.status()["entries"] == 2


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
    assert world.store.find("acme") == "pro"


async def test_nor_is_one_in_a_directory_that_others_can_write(world: World) -> None:
    """They could put another file in its place."""
    world.path.parent.chmod(0o777)
    await world.store.refresh()
    assert "its directory" in world.store.status()["last_error"]
    assert world.store.find("acme") is None
    world.path.parent.chmod(0o1777)
    await world.store.refresh()
    assert world.store.find("acme") == "pro"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
async def test_a_file_that_others_can_write_is_not_read(world: World, mode: int) -> None:
    world.path.chmod(mode)
    await world.store.refresh()
    assert "chmod go-w" in world.store.status()["last_error"]
    assert world.store.find("acme") is None
    world.path.chmod(0o644)
    await world.store.refresh()
    assert world.store.find("acme") == "pro"
    # Later too, though nothing else of it changed; what was read stays in force.
    world.path.chmod(mode)
    await world.store.refresh()
    assert "chmod go-w" in world.store.status()["last_error"]
    assert world.store.find("acme") == "pro"


async def test_a_file_that_is_not_there_at_the_start_is_told_and_nobody_has_a_plan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path / "plans.yaml")
    pending = world.store.loaded()
    assert pending is not None
    await pending
    assert world.store.loaded() is None
    assert world.store.find("acme") is None
    await world.store.refresh()
    (said,) = [one.getMessage() for one in caplog.records]
    assert said == f"{world.path} is not used, and nobody has a plan: No such file or directory"
    assert world.store.status()["last_error"] == "No such file or directory"
    world.write(YAML)
    await world.store.refresh()
    assert world.store.find("acme") == "pro"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/null")), "is no file"),
    ],
    ids=["gone", "a directory", "a device"],
)
async def test_what_is_no_file_any_more_changes_nothing(world: World, make: Callable[[Path], object], why: str) -> None:
    await world.store.refresh()
    make(world.path)
    await world.store.refresh()
    assert why in world.store.status()["last_error"]
    assert world.store.find("acme") == "pro"


async def test_a_link_is_followed_as_kubernetes_has_them(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("acme: pro")
    (tmp_path / "two.yaml").write_text("acme: basic")
    world = World(tmp_path / "plans.yaml")
    world.path.symlink_to("one.yaml")
    await world.store.refresh()
    assert world.store.find("acme") == "pro"
    world.path.unlink()
    world.path.symlink_to("two.yaml")
    await world.store.refresh()
    assert world.store.find("acme") == "basic"


async def test_the_file_is_looked_at_every_second_by_one_at_a_time(world: World) -> None:
    (job,) = jobs_of(world.store)
    assert (job.interval(), job.first_after) == (EVERY, 0.0)
    assert EVERY == 1.0
    holder = world.store._helm.take()
    assert holder is not None
    await job.run()
    assert world.store.find("acme") is None
    world.store._helm.leave(holder)
    await job.run()
    assert world.store.find("acme") == "pro"


async def test_a_file_at_fault_is_read_once_and_stays_at_fault(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    original = plans_file._plans

    def counted(raw: bytes, strict: bool) -> dict[str, str]:
        read.append(raw)
        return original(raw, strict)

    monkeypatch.setattr(plans_file, "_plans", counted)
    world.path.write_text("acme:")
    for _ in range(3):
        await world.store.refresh()
    assert len(read) == 1
    # Also where the last look did not come as far as the content.
    world.path.chmod(0o666)
    await world.store.refresh()
    assert "chmod go-w" in world.store.status()["last_error"]
    world.path.chmod(0o600)
    await world.store.refresh()
    assert "a plan is the name of one" in world.store.status()["last_error"]
    assert len(read) == 1


async def test_a_file_that_is_read_for_too_long_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slow = threading.Event()
    original = watched.read_watched

    def read(*arguments: object) -> object:
        assert slow.wait(20)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(plans_file, "LOAD_SECONDS", 0.05)
    monkeypatch.setattr(plans_file, "read_watched", read)
    pending = world.store.loaded()
    assert pending is not None
    await pending
    assert world.store.loaded() is None
    assert "has not been read within 0.05 s" in caplog.text
    slow.set()
    await world.store.refresh()
    assert world.store.find("acme") == "pro"


def test_threads_without_a_loop_wait_for_it_and_never_suspend(world: World) -> None:
    loop_thread = LoopThread()
    store = FilePlans(f"file://{world.path}", test_ports(once=Shared(loop_thread)))
    found: list[str | None] = []

    async def decide() -> None:
        pending = store.loaded()
        if pending is not None:
            await pending
        found.append(store.find("acme"))

    def serve() -> None:
        with pytest.raises(StopIteration):
            decide().send(None)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loop_thread.stop()
    assert found == ["pro"] * 4


async def test_figures_for_the_operator(world: World) -> None:
    store = f"file://{world.path}"
    assert world.store.status() == {"store": store, "entries": 0, "age_seconds": None, "last_error": None}
    await world.store.refresh()
    world.clock.advance(2.5)
    assert world.store.status() == {"store": store, "entries": 5, "age_seconds": 2.5, "last_error": None}
    assert repr(world.store) == f"<FilePlans {world.path}>"


@pytest.mark.parametrize(
    "url",
    ["file:plans.yaml", "file://host/plans", "file://", "redis:///plans", "file:///a%00b", "/etc/plans", "file:///a/",
     "file:///a?prefix=b", "file:///a#b"],
)  # fmt: skip
def test_a_file_is_named_by_its_absolute_path(url: str) -> None:
    with pytest.raises(ValueError, match=r"absolute path|nothing but its path"):
        FilePlans(url, test_ports())


def test_the_store_is_opened_by_its_url(tmp_path: Path) -> None:
    for url in (f"file://{tmp_path}/plans%20of.yaml", f"FILE://localhost{tmp_path}/plans%20of.yaml"):
        store = SystemStores().plans(url, test_ports())
        assert isinstance(store, FilePlans)
        assert store._path == tmp_path / "plans of.yaml"


# -- what is kept


def test_what_was_replaced_is_freed_later_a_piece_at_a_time() -> None:
    kept = KeptPlans()
    first = {str(number): "pro" for number in range(2 * PIECE + 1)}
    kept.replace(first)
    assert not list(kept.tidy())
    kept.replace({"a": "b"})
    # Whoever looks into the old one still finds what is there.
    assert first["0"] == "pro"
    assert len(list(kept.tidy())) == 3
    assert not first
    assert (kept.find("a"), len(kept)) == ("b", 1)
    assert not list(kept.tidy())


def test_one_entry_is_changed_within_the_room_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "MAX_ENTRIES", 1)
    kept = KeptPlans()
    for name, plan in (("a", "b"), ("c", "d"), ("a", "e"), ("x", None)):
        kept.change(name, plan)
    assert (kept.find("a"), kept.find("c"), len(kept)) == ("e", None, 1)
    kept.change("a", None)
    assert len(kept) == 0


@given(
    st.dictionaries(st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=9).filter(lambda t: not t.isspace()))
)
def test_what_is_packed_is_unpacked_as_it_was(entries: dict[str, str]) -> None:
    kept = KeptPlans()
    kept.replace(dict(entries))
    found: dict[str, str] = {}
    for piece in unpacked(iter(list(kept.pieces()))):
        found.update(piece)
    assert found == entries


@pytest.mark.parametrize("line", [b"[]", b"7", b'{"a": 1}', b'{"a": ""}', b"{", b"\xff", b""])
def test_what_was_not_packed_is_not_unpacked(line: bytes) -> None:
    with pytest.raises(ValueError):
        list(unpacked(iter([line])))


async def test_a_loop_that_reads_a_large_file_is_not_held_up(tmp_path: Path) -> None:
    """The loop turns while 100,000 entries are read: at least once in every tenth of a second."""
    world = World(tmp_path / "plans.json")
    world.path.write_text(json.dumps({f"tenant-{number}": "pro" for number in range(100_000)}))
    loop = asyncio.get_running_loop()
    reading = asyncio.ensure_future(world.store.refresh())
    turns = 0
    while not reading.done():
        over = loop.create_future()
        loop.call_later(0.001, over.set_result, None)
        await over
        turns += 1
    assert world.store.find("tenant-99999") == "pro"
    assert turns > 3
