"""A list as bytes, and back."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.mechanisms.denylist import Entry
from gatekit.mechanisms.revocation import KINDS, code_of
from gatekit.stores.snapshot import Read, pack, pack_head, unpack

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
