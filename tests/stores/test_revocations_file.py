"""Revocations in a file: what is appended to it, by whomever, and what may become of it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatekit.errors import StoreUnavailable
from gatekit.mechanisms.denylist import LEEWAY
from gatekit.mechanisms.revocation import MAX_JSON, Revocation, read_revocation
from gatekit.stores import revocations_file as module

from .scene import ShiftedClock, at_work, opened, until


def later() -> float:
    return time.time() + 3600


def line(jti: str, **given: Any) -> str:
    return Revocation("jti", jti, until=int(later()), at=1, **given).as_json() + "\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "revoked.jsonl"


@pytest.fixture
def store(path: Path) -> Any:
    return opened(f"file://{path}")


def revoked(store: Any, *jtis: str) -> list[str]:
    return [jti for jti in jtis if store.revoked({"jti": jti})]


def append(path: Path, text: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def size(path: Path) -> int:
    return path.stat().st_size


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def inode(path: Path) -> int:
    return path.stat().st_ino


def away(path: Path) -> None:
    path.unlink()


def beside(path: Path) -> list[str]:
    return [one.name for one in path.parent.iterdir()]


def records(path: Path) -> list[Revocation]:
    return [read_revocation(text) for text in path.read_bytes().split(b"\n") if text]


# -- reading


async def test_what_anybody_appends_is_in_force_after_a_look(store: Any, path: Path) -> None:
    append(path, line("a") + line("b"))
    await store.look()
    assert revoked(store, "a", "b", "c") == ["a", "b"]
    append(path, line("c"))
    await store.look()
    assert revoked(store, "a", "b", "c") == ["a", "b", "c"]
    assert store.status()["read_to"] == size(path)


async def test_an10_a_gateway_at_work_knows_it_within_a_second(store: Any, path: Path) -> None:
    async with at_work(store):
        assert store.status()["trouble"] == "is not there"
        append(path, line("a"))
        assert await until(lambda: revoked(store, "a")) < 1.0
        assert store.status()["connected"]
        assert not store.status()["stale"]


async def test_a_line_that_is_not_whole_yet_waits_for_its_rest(store: Any, path: Path) -> None:
    whole = line("a")
    append(path, line("b") + whole[:20])
    await store.look()
    assert revoked(store, "a", "b") == ["b"]
    append(path, whole[20:-1])
    await store.look()
    assert revoked(store, "a") == []
    append(path, "\n")
    await store.look()
    assert revoked(store, "a") == ["a"]
    assert store.status()["refused"] == 0


GARBAGE = {
    "words": b"hello\n",
    "no text": b"\xff\xfe\x00\n",
    "half of a line": line("x").encode()[:25] + b"\n",
    "two in one": line("x").encode()[:-1] + line("y").encode(),
    "a list": b"[1]\n",
    "long": b"x" * (MAX_JSON + 5) + b"\n",
    "longer than a piece": b"x" * (9 * MAX_JSON) + b"\n",
    "much longer": b"x" * (30 * MAX_JSON) + b"\n",
    "deep": b"[" * 10_000 + b"\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_a_garbage_line_is_passed_over_and_told_once(
    store: Any, path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    append(path, line("a").encode() + garbage + line("b").encode() + b"\n\r\n" + garbage + line("c").encode())
    await store.look()
    assert revoked(store, "a", "b", "c", "x", "y") == ["a", "b", "c"]
    assert store.status()["refused"] >= 2
    assert len([one for one in caplog.records if "passed over" in one.message]) == 1
    assert "hello" not in caplog.text


async def test_line_breaks_of_windows_and_blank_lines_are_no_garbage(store: Any, path: Path) -> None:
    append(path, "\n\r\n" + line("a")[:-1] + "\r\n" + "  " + line("b") + "\n\n")
    await store.look()
    assert revoked(store, "a", "b") == ["a", "b"]
    assert store.status()["refused"] == 0


async def test_nothing_but_a_line_break_is_read_too(store: Any, path: Path) -> None:
    append(path, "\n")
    await store.look()
    assert store.status()["read_to"] == 1


def rotated(path: Path) -> None:
    path.rename(path.with_suffix(".1"))
    path.write_text(line("new"))


def truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(line("new").encode())


def rewritten(path: Path) -> None:
    """In place, and longer than before, as an editor may do it."""
    path.write_text(line("new") + line("x" * 300) + line("y" * 300))


def replaced(path: Path) -> None:
    fresh = path.with_suffix(".tmp")
    fresh.write_text(line("new") + line("old"))
    fresh.replace(path)


def overwritten(path: Path) -> None:
    """By a file of the same length, in place."""
    data = path.read_text().replace('"old"', '"new"')
    stamp = path.stat().st_mtime_ns
    path.write_text(data)
    os.utime(path, ns=(stamp + 10**9, stamp + 10**9))


@pytest.mark.parametrize(
    "change", [rotated, truncated, rewritten, replaced, overwritten], ids=lambda function: function.__name__
)
async def test_another_file_is_read_from_its_beginning_and_what_was_known_stays(
    store: Any, path: Path, change: Callable[[Path], None]
) -> None:
    append(path, line("old") + line("more"))
    await store.look()
    change(path)
    await store.look()
    assert revoked(store, "old", "more", "new") == ["old", "more", "new"]
    append(path, line("after"))
    await store.look()
    assert revoked(store, "after") == ["after"]


async def test_a_file_that_is_gone_leaves_the_list_in_force(
    store: Any, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    append(path, line("a"))
    await store.look()
    away(path)
    for _ in range(3):
        await store.look()
    assert revoked(store, "a") == ["a"]
    assert not store.status()["connected"]
    assert [one.message for one in caplog.records] == [f"{path} is not there; what was read of it stays in force"]
    append(path, line("b"))
    await store.look()
    assert store.status()["connected"]
    assert store.status()["trouble"] is None
    assert revoked(store, "a", "b") == ["a", "b"]


async def test_what_cannot_be_read_is_told_and_is_not_waited_for(tmp_path: Path) -> None:
    store = opened(f"file://{tmp_path}")
    pending = store.loaded()
    assert pending is not None
    await pending
    assert store.loaded() is None
    assert store.status()["trouble"] == "cannot be read: Is a directory"
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await store.revoke(jti="a", until=later())
    assert revoked(store, "a") == []


async def test_lines_are_taken_in_their_order(store: Any, path: Path) -> None:
    append(path, line("a") + line("a", restored=True) + line("b", restored=True) + line("b"))
    await store.look()
    assert revoked(store, "a", "b") == ["b"]


async def test_a_file_of_many_pieces_is_read_to_its_end(store: Any, path: Path) -> None:
    append(path, "".join(line(str(number)) for number in range(12_000)))
    assert size(path) > 2 * 8 * MAX_JSON
    await store.look()
    assert store.status()["entries"] == 12_000


async def test_the_first_request_waits_for_the_file_but_not_for_ever(
    store: Any, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    append(path, line("a"))
    monkeypatch.setattr(module, "LOAD_SECONDS", 0.02)
    held = store._helm.take()
    await store.loaded()
    assert store.loaded() is None
    assert revoked(store, "a") == []
    assert "has not been read within 0.02 s" in caplog.text
    store._helm.leave(held)
    await store.look()
    assert revoked(store, "a") == ["a"]


async def test_whoever_waits_while_another_reads_has_the_list_then(store: Any, path: Path) -> None:
    append(path, "".join(line(str(number)) for number in range(500)))
    await asyncio.gather(*(store.loaded() for _ in range(3)))
    assert store.status()["entries"] == 500


async def test_of_two_that_look_one_reads(store: Any, path: Path) -> None:
    append(path, line("a"))
    held = store._helm.take()
    await store.look()
    assert revoked(store, "a") == []
    store._helm.leave(held)


# -- writing


async def test_it_is_on_the_disk_and_in_force_when_revoke_returns(store: Any, path: Path) -> None:
    await store.revoke(jti="a", until=later(), why="stolen")
    assert revoked(store, "a") == ["a"]
    (record,) = records(path)
    assert (record.kind, record.value, record.why) == ("jti", "a", "stolen")
    assert mode(path) == 0o640 & ~_umask()


def _umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


async def test_a_writer_who_died_in_the_middle_of_a_line_spoils_no_other(store: Any, path: Path) -> None:
    append(path, line("a")[:30])
    await store.revoke(jti="b", until=later())
    other = opened(f"file://{path}")
    await other.look()
    assert revoked(other, "b") == ["b"]
    assert other.status()["refused"] == 1


WRITER = """
import asyncio, sys, time
from gatekit.core.ports import Ports
from gatekit.gateway.system import SystemClock, SystemRandom
from gatekit.stores import SystemStores
from gatekit.stores import revocations_file as module
module.COMPACT_FROM = 4000
async def main():
    store = SystemStores().revocations(sys.argv[1], Ports(clock=SystemClock(), random=SystemRandom()))
    for number in range(40):
        await store.revoke(jti=f"{sys.argv[2]}-{number}", until=time.time() + 3600)
asyncio.run(main())
"""


async def test_several_processes_append_and_compact_at_once_and_nothing_is_lost(path: Path) -> None:
    ended = Revocation("jti", "ended", until=int(time.time()) - LEEWAY - 5, at=1).as_json() + "\n"
    append(path, ended * 200)
    writers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, f"file://{path}", name) for name in "abc"
    ]
    store = opened(f"file://{path}")
    wanted = [f"{name}-{number}" for name in "abc" for number in range(40)]
    async with at_work(store):
        assert [await writer.wait() for writer in writers] == [0, 0, 0]
        await until(lambda: revoked(store, *wanted) == wanted)
    assert "ended" not in {record.value for record in records(path)}
    fresh = opened(f"file://{path}")
    await fresh.look()
    assert revoked(fresh, *wanted) == wanted


async def test_a_file_is_shortened_when_most_of_its_beginning_has_ended(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPACT_FROM", 1)
    clock = ShiftedClock()
    store, reader = opened(f"file://{path}", clock), opened(f"file://{path}", clock)
    for number in range(30):
        await store.revoke(jti=f"short {number}", until=time.time() + 60)
    await store.revoke(jti="long", until=later())
    await store.revoke(jti="back", until=later())
    await store.restore(jti="back")
    os.chmod(path, 0o604)
    await reader.look()
    before = size(path), inode(path)
    clock.shift = 60 + LEEWAY + 5
    await store.revoke(jti="next", until=later())
    assert size(path) < before[0] / 3
    assert inode(path) != before[1]
    assert mode(path) == 0o604
    assert beside(path) == [path.name]
    await reader.look()
    assert revoked(reader, "short 1", "long", "back", "next") == ["long", "next"]
    newcomer = opened(f"file://{path}", clock)
    await newcomer.look()
    assert revoked(newcomer, "short 1", "long", "back", "next") == ["long", "next"]
    before = size(path), inode(path)
    await store.revoke(jti="and another", until=later())
    assert inode(path) == before[1]


async def test_a_file_that_cannot_be_shortened_is_left_as_it_is(
    store: Any, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "COMPACT_FROM", 1)
    append(path, (Revocation("jti", "ended", until=1, at=1).as_json() + "\n") * 3)

    def refuse(*arguments: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    await store.revoke(jti="a", until=later())
    assert "cannot be shortened: Operation not permitted" in caplog.text
    assert beside(path) == [path.name]
    assert revoked(store, "a") == ["a"]


async def test_a_lock_that_somebody_keeps_is_not_waited_for_for_ever(
    store: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.1)
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match="cannot be written: somebody else has locked it"):
            await store.revoke(jti="a", until=later())
    assert revoked(store, "a") == []
    await store.revoke(jti="a", until=later())


async def test_a_disk_that_is_full_is_told(store: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda handle, data: len(data) - 1)
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        await store.revoke(jti="a", until=later())
    assert revoked(store, "a") == []


async def test_a_write_that_hangs_is_given_up(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.02)
    go_on = asyncio.Event()

    async def hang(*arguments: Any) -> None:
        await go_on.wait()

    monkeypatch.setattr(asyncio, "to_thread", hang)
    with pytest.raises(StoreUnavailable, match=r"could not be written within 0.02 s"):
        await store.revoke(jti="a", until=later())


async def test_what_has_ended_already_is_not_taken_back(store: Any, path: Path) -> None:
    append(path, Revocation("jti", "a", until=int(time.time()) - LEEWAY - 1, at=1).as_json() + "\n")
    assert not await store.restore(jti="a")
    append(path, line("a"))
    assert await store.restore(jti="a")
    assert not await store.restore(jti="a")


async def test_a_line_that_takes_back_lasts_as_long_as_what_it_takes_back(store: Any, path: Path) -> None:
    end = int(later())
    for until_when in (end - 100, end, end - 200):
        append(path, Revocation("jti", "a", until=until_when, at=1).as_json() + "\n")
    await store.restore(jti="a")
    last = records(path)[-1]
    assert (last.restored, last.until) == (True, end)


async def test_a_file_that_is_replaced_before_it_is_locked_is_not_written_to(
    store: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the lock may hold a file that has been compacted away meanwhile."""
    append(path, "")
    tried = threading.Event()
    is_ours = module._is_ours

    def noted(handle: int, at: Path) -> bool:
        found = is_ours(handle, at)
        if not found and not tried.is_set():
            # The lock is had in the end, but of a file that nobody will read.
            rotated(path)
            tried.set()
        return found

    monkeypatch.setattr(module, "_is_ours", noted)
    with path.open("ab") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        writing = asyncio.create_task(store.revoke(jti="a", until=later()))
        assert await asyncio.to_thread(tried.wait, 10)
    await writing
    fresh = opened(f"file://{path}")
    await fresh.look()
    assert revoked(fresh, "new", "a") == ["new", "a"]


async def test_the_lock_of_a_file_that_was_replaced_is_worth_nothing(path: Path, tmp_path: Path) -> None:
    append(path, line("old"))
    with path.open("r+b") as file:
        assert module._is_ours(file.fileno(), path)
        rotated(path)
        assert not module._is_ours(file.fileno(), path)
        away(path)
        assert not module._is_ours(file.fileno(), path)


# -- words


@pytest.mark.parametrize(
    "url", ["file:", "file:relative", "file://host/path", "file:///path/", "file:///a%00b", "file:///a#b", "file://"]
)
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the URL of a file"):
        opened(url)


def test_a_url_may_name_any_file(tmp_path: Path) -> None:
    assert opened("file:///a%20b/c").status()["store"] == "file:///a b/c"
    assert opened("file://localhost/a").status()["store"] == "file:///a"
    assert opened("file:/a").status()["store"] == "file:///a"
