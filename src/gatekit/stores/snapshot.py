"""A list of revocations as bytes, for the disk: what is in force, and how far its store had been read by then."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final, NamedTuple

from gatekit.mechanisms.denylist import Entry

_ENTRY: Final = Struct(">17sdd")
_FORMAT: Final = 1


class Read(NamedTuple):
    """How far a store was read: which data, to which number, and which run of its server."""

    epoch: str = ""
    seq: int = 0
    run_id: str = ""


def pack_head(read: Read) -> bytes:
    """The first line of the bytes."""
    return json.dumps({"format": _FORMAT, **read._asdict()}).encode("ascii") + b"\n"


def pack(entries: Iterable[Entry]) -> bytes:
    """Entries as bytes, to stand one after another behind the head."""
    pack_one = _ENTRY.pack
    return b"".join([pack_one(key.to_bytes(17), before, until) for key, before, until in entries])


def unpack(data: bytes) -> tuple[Read, Iterator[Entry]]:
    """What was packed. Raises ValueError or TypeError on what another version packed; that it is whole,
    the disk has seen to."""
    line, _, _ = data.partition(b"\n")
    head = json.loads(line)
    size = len(data) - len(line) - 1
    if not isinstance(head, dict) or head.pop("format", None) != _FORMAT or size < 0 or size % _ENTRY.size:
        raise ValueError("these are no revocations, or of another version")
    read = Read(**head)
    entries = _ENTRY.iter_unpack(memoryview(data)[len(line) + 1 :])
    return read, (Entry(int.from_bytes(key), before, until) for key, before, until in entries)
