"""The state directory: what was saved is read back whole, or not at all, and nothing of it can stop a gateway."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.clients.disk import StateDirectory
from gatekit.core.ports import Disk
from gatekit.testing.policies import step

DATA = b'{"keys": []}'


def load(directory: StateDirectory, name: str = "a") -> bytes | None:
    """In a thread without a loop: there it never suspends."""
    return step(directory.load(name), "load")


def save(directory: StateDirectory, data: bytes = DATA, name: str = "a") -> None:
    step(directory.save(name, data), "save")


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "state")


@pytest.fixture
def saved(directory: StateDirectory) -> StateDirectory:
    save(directory)
    return directory


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What was logged since the last time."""

    def since() -> list[str]:
        messages = list(caplog.messages)
        caplog.clear()
        return messages

    with caplog.at_level(logging.WARNING, "gatekit.disk"):
        yield since


def is_a_disk(directory: StateDirectory) -> Disk:
    """For the type checker: the port is implemented as core declares it."""
    return directory


# -- what goes well


def test_what_was_saved_last_is_read_back(directory: StateDirectory, warned: Callable[[], list[str]]) -> None:
    assert load(directory) is None
    save(directory)
    save(directory, b"", "b")
    assert (load(directory), load(directory, "b"), load(directory, "c")) == (DATA, b"", None)
    save(directory, b"newer\n\x00\xff")
    assert load(StateDirectory(directory.path)) == b"newer\n\x00\xff"
    assert sorted(os.listdir(directory.path)) == ["a", "b"]
    assert warned() == []


async def test_it_works_the_same_in_a_loop_which_goes_on_meanwhile(directory: StateDirectory) -> None:
    threads: set[str] = set()

    class Told(StateDirectory):
        def _read(self, name: str) -> bytes:
            threads.add(threading.current_thread().name)
            return super()._read(name)

    await directory.save("a", DATA)
    assert await Told(directory.path).load("a") == DATA
    assert threads
    assert threading.current_thread().name not in threads


def test_nobody_else_can_read_or_write_it(saved: StateDirectory) -> None:
    assert stat.S_IMODE(saved.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((saved.path / "a").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["a", "0", "jwks-0f.json", "a" * 128, "a_b.c-d"])
def test_names(directory: StateDirectory, name: str) -> None:
    save(directory, DATA, name)
    assert load(directory, name) == DATA


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "../a", "a/b", "A", "ä", "a\n", "a\x00", "a b", "-a", "a" * 129])
def test_what_is_no_name_is_a_mistake_of_the_caller(directory: StateDirectory, name: str) -> None:
    with pytest.raises(ValueError, match="is no name for a file here"):
        load(directory, name)
    with pytest.raises(ValueError, match="is no name for a file here"):
        save(directory, DATA, name)


@settings(deadline=None, max_examples=25)
@given(data=st.binary(max_size=300), at=st.integers(0, 400), byte=st.integers(1, 255))
def test_any_bytes_come_back_and_none_that_were_changed(data: bytes, at: int, byte: int) -> None:
    with tempfile.TemporaryDirectory() as path:
        directory = StateDirectory(path)
        save(directory, data)
        assert load(directory) == data
        whole = (directory.path / "a").read_bytes()
        at %= len(whole)
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ byte]) + whole[at + 1 :], whole + bytes([byte])):
            (directory.path / "a").write_bytes(damaged)
            assert load(directory) is None


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, None),
        ({"GATEKIT_STATE_DIR": ""}, None),
        ({"STATE_DIRECTORY": "/var/lib/gatekit"}, "/var/lib/gatekit"),
        ({"STATE_DIRECTORY": "/var/lib/gatekit:/var/lib/other"}, "/var/lib/gatekit"),
        ({"STATE_DIRECTORY": "/var/lib/gatekit", "GATEKIT_STATE_DIR": "/srv/a:b"}, "/srv/a:b"),
    ],
)
def test_the_environment_names_it(environ: dict[str, str], path: str | None) -> None:
    found = StateDirectory.found(environ)
    assert (None if found is None else str(found.path)) == path


# -- what is not believed


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.write_bytes(b""), "it is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "it is damaged"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"gatekit 1", b"gatekit 2")), "it is damaged"),
        (lambda path: path.chmod(0o620), "it belongs to, or can be written by, somebody else"),
        (lambda path: path.chmod(0o602), "it belongs to, or can be written by, somebody else"),
        (lambda path: path.parent.chmod(0o720), "its directory belongs to, or can be written by, somebody else"),
        (lambda path: path.parent.chmod(0o1777), "its directory belongs to, or can be written by, somebody else"),
        (link, "Too many levels of symbolic links"),
        (pipe, "it is no file of ours"),
        (folder, "it is no file of ours"),
    ],
    ids=["empty", "cut", "version", "group", "others", "directory of a group", "of all", "link", "pipe", "folder"],
)
def test_what_somebody_else_may_have_written_is_not_read(
    saved: StateDirectory, spoil: Callable[[Path], object], why: str, warned: Callable[[], list[str]]
) -> None:
    spoil(saved.path / "a")
    assert load(saved) is None
    assert warned() == [f"{saved.path / 'a'} is done without: cannot be read: {why}"]


@pytest.mark.parametrize("which", ["it", "its directory"])
def test_what_belongs_to_somebody_else_is_not_read(
    saved: StateDirectory, which: str, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    real = os.fstat

    def theirs(handle: int) -> os.stat_result:
        whole = real(handle)
        found = list(whole)
        if stat.S_ISDIR(whole.st_mode) is (which == "its directory"):
            found[4] = os.geteuid() + 1_000
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", theirs)
    assert load(saved) is None
    assert f"{which} belongs to, or can be written by, somebody else" in warned()[0]


def test_nothing_is_written_where_others_could_change_it(
    directory: StateDirectory, warned: Callable[[], list[str]]
) -> None:
    directory.path.mkdir()
    directory.path.chmod(0o777)
    save(directory)
    assert os.listdir(directory.path) == []
    assert "cannot be written: its directory belongs to, or can be written by, somebody else" in warned()[0]


def test_what_is_too_long_is_neither_saved_nor_read(directory: StateDirectory, warned: Callable[[], list[str]]) -> None:
    small = StateDirectory(directory.path, max_bytes=10)
    save(small, b"x" * 10)
    save(small, b"x" * 11, "b")
    assert (load(small), load(small, "b")) == (b"x" * 10, None)
    assert warned() == [f"{small.path / 'b'} is done without: cannot be written: it is longer than 10 bytes"]
    save(directory, b"x" * 11, "c")
    assert load(small, "c") is None
    assert "it is no file of ours" in warned()[0]


# -- what fails


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_full_keeps_what_was_there_and_nothing_else(
    saved: StateDirectory, call: str, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    save(saved, b"newer")
    assert warned() == [f"{saved.path / 'a'} is done without: cannot be written: No space left on device"]
    monkeypatch.undo()
    assert load(saved) == DATA
    assert os.listdir(saved.path) == ["a"]


def test_what_takes_the_place_of_something_is_on_the_disk_before_and_its_name_after(
    saved: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real = os.replace

    def synced(handle: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")

    def replaced(*paths: str | Path) -> None:
        steps.append("replace")
        real(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    save(saved, b"newer")
    assert steps == ["file", "replace", "directory"]


def test_an_interrupt_leaves_nothing_half_done(saved: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(saved, b"newer")
    assert os.listdir(saved.path) == ["a"]
    assert load(saved) == DATA


def test_what_a_killed_process_left_is_swept_once_it_is_old(saved: StateDirectory) -> None:
    for name, age in ((".a.old", 3_700), (".a.young", 60), ("b", 3_700)):
        path = saved.path / name
        path.write_bytes(b"")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    (saved.path / ".folder").mkdir()
    os.utime(saved.path / ".folder", (0, 0))
    save(StateDirectory(saved.path))
    assert sorted(os.listdir(saved.path)) == [".a.young", ".folder", "a", "b"]


def test_a_place_that_cannot_be_is_done_without(tmp_path: Path, warned: Callable[[], list[str]]) -> None:
    (tmp_path / "file").write_bytes(b"")
    directory = StateDirectory(tmp_path / "file")
    save(directory)
    assert "cannot be written: File exists" in warned()[0]
    save(directory, DATA, "b")
    assert load(directory, "c") is None
    assert "c is done without: cannot be read: Not a directory" in warned()[-1]


def test_each_failure_is_told_of_once_until_it_goes_well_again(
    saved: StateDirectory, warned: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        (saved.path / "a").chmod(0o620)
        assert [load(saved) for _ in range(3)] == [None] * 3
        assert len(warned()) == 1
        (saved.path / "a").chmod(0o600)
        assert load(saved) == DATA

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            save(saved)
            save(saved)
            save(saved, DATA, "b")
        assert len(warned()) == 2
        save(saved)
        save(saved, DATA, "b")


class Hanging(StateDirectory):
    """A disk that answers when it is told to."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__(path, timeout=timeout)
        self.answer, self.begun = threading.Event(), threading.Event()
        self.calls: list[str] = []

    def _read(self, name: str) -> bytes:
        self.calls.append(name)
        self.begun.set()
        self.answer.wait(10)
        return super()._read(name)


async def test_a_disk_that_does_not_answer_holds_up_nobody_for_long_and_few_threads(
    saved: StateDirectory, warned: Callable[[], list[str]]
) -> None:
    directory = Hanging(saved.path, 0.01)
    assert [await directory.load(name) for name in ("a", "b", "c", "d")] == [None] * 4
    assert directory.calls == ["a", "b"]
    assert warned() == [
        f"{saved.path / name} is done without: the disk does not answer within 0.01 s" for name in ("a", "b", "c", "d")
    ]
    directory.answer.set()
    while directory._hanging:
        await asyncio.get_running_loop().run_in_executor(None, int)
    directory._timeout = 5.0
    assert await directory.load("a") == DATA


async def test_who_gives_up_waiting_for_the_disk_disturbs_nothing(saved: StateDirectory) -> None:
    directory = Hanging(saved.path, 5.0)
    waiting = asyncio.ensure_future(directory.load("a"))
    await asyncio.get_running_loop().run_in_executor(None, directory.begun.wait, 5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    directory.answer.set()
    assert await directory.load("a") == DATA


def test_processes_and_threads_that_share_it_see_whole_blobs_only(directory: StateDirectory) -> None:
    blobs = [bytes([index]) * 5_000 for index in range(4)]
    save(directory, blobs[0])
    seen: set[Any] = set()

    def both(blob: bytes) -> None:
        mine = StateDirectory(directory.path)
        for _ in range(25):
            save(mine, blob)
            seen.add(load(mine))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(both, blobs))
    assert seen <= set(blobs)
    assert os.listdir(directory.path) == ["a"]
