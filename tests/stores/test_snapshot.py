"""A list as bytes, and back."""

from __future__ import annotations

import asyncio
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.core.ports import Ports
from gatekit.mechanisms.denylist import Entry
from gatekit.mechanisms.revocation import KINDS, Revocation, code_of
from gatekit.stores.kept import KeptList
from gatekit.stores.snapshot import PIECES, DiskCopy, Read, pack, pack_head, unpack
from gatekit.testing import ManualClock

SECONDS = st.integers(0, 253_402_300_799).map(float) | st.just(math.inf)
ENTRIES = st.lists(
    st.builds(
        lambda kind, scoped, digest, before, until: Entry(code_of(kind, scoped) | digest, before, until),
        st.sampled_from(KINDS), st.booleans(), st.integers(0, 2**128 - 1), SECONDS, SECONDS,
    )
)  # fmt: skip


@given(ENTRIES, st.builds(Read, st.text(), st.integers(0, 2**53), st.text()))
def test_what_is_packed_is_unpacked(entries: list[Entry], read: Read) -> None:
    half = len(entries) // 2
    found, again = unpack(pack_head(read) + pack(entries[:half]) + pack(entries[half:]))
    assert found == read
    assert list(again) == entries


class MemoryDisk:
    """A disk that forgets what it is told to."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.saved: list[str] = []

    async def load(self, name: str) -> bytes | None:
        return self.files.get(name)

    async def save(self, name: str, data: bytes) -> None:
        self.files[name] = data
        self.saved.append(name)


LATER = 1_800_000_000


def kept_list(*jtis: int) -> KeptList:
    kept = KeptList(Ports(clock=ManualClock()))
    for jti in jtis:
        kept.add(Revocation("jti", str(jti), until=LATER))
    return kept


def known(kept: KeptList, count: int) -> list[int]:
    return [number for number in range(count) if kept.revoked({"jti": str(number)})]


async def test_a_copy_has_the_whole_list_and_how_far_the_store_was_read() -> None:
    disk = MemoryDisk()
    await DiskCopy(disk, "list").save(kept_list(*range(3000)), Read("e", 7, "r"))
    assert len(disk.files) == PIECES
    kept = kept_list()
    assert await DiskCopy(disk, "list").load(kept) == Read("e", 7, "r")
    assert known(kept, 3001) == list(range(3000))
    assert await DiskCopy(disk, "other").load(kept_list()) == Read()


async def test_only_pieces_that_are_different_are_saved_again() -> None:
    disk = MemoryDisk()
    copy, kept = DiskCopy(disk, "list"), kept_list(*range(50))
    await copy.save(kept, Read("e", 1, "r"))
    disk.saved.clear()
    await copy.save(kept, Read("e", 2, "r"))
    assert disk.saved == []
    kept.add(Revocation("jti", "50", until=LATER))
    await copy.save(kept, Read("e", 3, "r"))
    assert len(disk.saved) == 1
    again = kept_list()
    # What is read again from there makes up for what the other pieces may lack.
    assert await DiskCopy(disk, "list").load(again) == Read("e", 1, "r")
    assert known(again, 60) == list(range(51))
    disk.saved.clear()
    await copy.save(kept, Read("e", 3, "another run"))
    await copy.save(kept, Read("another epoch", 3, "another run"))
    assert len(disk.saved) == 2 * PIECES


async def test_a_long_piece_leaves_the_loop_to_others_meanwhile() -> None:
    kept, disk = kept_list(), MemoryDisk()
    await kept.put_all(Entry(number << 8, math.inf, LATER) for number in range(500))
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(count)

    count()
    await DiskCopy(disk, "list").save(kept, Read())
    assert turns > 1
    again = kept_list()
    await DiskCopy(disk, "list").load(again)
    assert again.part(0) == kept.part(0)


@pytest.mark.parametrize("change", ["missing", "another version", "another epoch"])
async def test_a_copy_that_is_not_whole_says_nothing_of_how_far_the_store_was_read(
    change: str, caplog: pytest.LogCaptureFixture
) -> None:
    disk = MemoryDisk()
    await DiskCopy(disk, "list").save(kept_list(*range(500)), Read("e", 7, "r"))
    name = sorted(disk.files)[3]
    if change == "missing":
        del disk.files[name]
    elif change == "another version":
        disk.files[name] = b'{"format": 99}\n'
    else:
        disk.files[name] = pack_head(Read("f", 9, "r"))
    kept = kept_list()
    assert await DiskCopy(disk, "list").load(kept) == Read()
    assert 400 < len(known(kept, 500)) < 500
    assert ("is of another version" in caplog.text) == (change == "another version")


async def test_pieces_of_two_runs_of_one_server_are_of_no_run() -> None:
    disk = MemoryDisk()
    await DiskCopy(disk, "list").save(kept_list(1), Read("e", 7, "r"))
    disk.files["list.0"] = pack_head(Read("e", 9, "s"))
    assert await DiskCopy(disk, "list").load(kept_list()) == Read("e", 7, "")


HEAD = json.loads(pack_head(Read("e", 1, "r")))
BAD = {
    "empty": b"",
    "no line": pack_head(Read())[:-1],
    "no JSON": b"{\n",
    "a list": b"[]\n",
    "another version": json.dumps({**HEAD, "format": 2}).encode() + b"\n",
    "no version": json.dumps({"epoch": "e", "seq": 1, "run_id": "r"}).encode() + b"\n",
    "more": json.dumps({**HEAD, "more": 1}).encode() + b"\n",
    "half an entry": pack_head(Read()) + pack([Entry(1, 1.0, 2.0)])[:-1],
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_another_version_packed_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        unpack(data)
