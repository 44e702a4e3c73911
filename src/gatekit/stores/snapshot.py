"""A copy of a list of revocations on the disk: what is in force, and how far its store had been read by then.

The list is cut into pieces, each a file of its own: so a change writes a sixteenth of a long list, and nothing that is
done with a piece keeps the loop for long. A piece says how far the store had been read when it was packed; what is read
again from the oldest of these on makes up for whatever is missing in it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final, NamedTuple

from gatekit.core.ports import Disk
from gatekit.mechanisms.denylist import PARTS, Entry
from gatekit.stores.kept import KeptList, turn

_log = logging.getLogger("gatekit.revocations")

PIECES: Final = 16

_PARTS_EACH: Final = PARTS // PIECES
_ENTRY: Final = Struct(">17sdd")
_FORMAT: Final = 1


class Read(NamedTuple):
    """How far a store was read: which data, to which number, and which run of its server."""

    epoch: str = ""
    seq: int = 0
    run_id: str = ""


def pack_head(read: Read) -> bytes:
    """The first line of a piece."""
    return json.dumps({"format": _FORMAT, **read._asdict()}).encode("ascii") + b"\n"


def pack(entries: Iterable[Entry]) -> bytes:
    """Entries as bytes, to stand one after another behind the head."""
    pack_one = _ENTRY.pack
    return b"".join([pack_one(key.to_bytes(17), before, until) for key, before, until in entries])


def unpack(data: bytes) -> tuple[Read, Iterator[Entry]]:
    """What was packed. Raises ValueError or TypeError on what another version packed; that it is whole, the disk has
    seen to."""
    line, _, _ = data.partition(b"\n")
    head = json.loads(line)
    size = len(data) - len(line) - 1
    if not isinstance(head, dict) or head.pop("format", None) != _FORMAT or size < 0 or size % _ENTRY.size:
        raise ValueError("these are no revocations, or of another version")
    read = Read(**head)
    entries = _ENTRY.iter_unpack(memoryview(data)[len(line) + 1 :])
    return read, (Entry(int.from_bytes(key), before, until) for key, before, until in entries)


class DiskCopy:
    """The copy of one list, under names that begin with `name`."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._name = name
        # What each piece was when it was saved last.
        self._saved: dict[int, tuple[str, str, int]] = {}

    async def load(self, kept: KeptList) -> Read:
        """Take in what was saved, and how far the store was read by then; not at all, where a piece is missing."""
        reads: list[Read] = []
        for piece in range(PIECES):
            data = await self._disk.load(self._name_of(piece))
            if data is not None:
                try:
                    read, entries = unpack(data)
                except (ValueError, TypeError):
                    _log.warning("%s on the disk is of another version and is not used", self._name_of(piece))
                else:
                    await kept.put_all(entries)
                    reads.append(read)
        epochs, runs = {read.epoch for read in reads}, {read.run_id for read in reads}
        if len(reads) < PIECES or len(epochs) > 1:
            return Read()
        return Read(epochs.pop(), min(read.seq for read in reads), runs.pop() if len(runs) == 1 else "")

    async def save(self, kept: KeptList, read: Read) -> None:
        """Save the pieces that are not on the disk as they are. `read` is how far the store has been read now: what comes
        while they are packed may be missing in some."""
        head = pack_head(read)
        for piece in range(PIECES):
            packed = []
            for part in range(piece * _PARTS_EACH, (piece + 1) * _PARTS_EACH):
                packed.append(pack(kept.part(part)))
                if len(packed[-1]) > 4096:
                    await turn()
            data = b"".join(packed)
            now = (read.epoch, read.run_id, hash(data))
            if self._saved.get(piece) != now:
                await self._disk.save(self._name_of(piece), head + data)
                self._saved[piece] = now

    def _name_of(self, piece: int) -> str:
        return f"{self._name}.{piece:x}"
