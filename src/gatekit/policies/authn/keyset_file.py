"""A key set as it outlives the process: the document as it came, whose it is, and when it came."""

from __future__ import annotations

import json
from typing import NamedTuple

from gatekit.policies.authn.jose import JsonRefused, read_json


class Saved(NamedTuple):
    """A key set that was kept. `fetched_at` is in seconds since the Unix epoch, `age` in seconds."""

    document: bytes
    fetched_at: float
    age: float


def to_save(url: str, fetched_at: float, document: bytes) -> bytes:
    """What is kept of the key set of `url`. The document is JSON that was read, so it is UTF-8."""
    return json.dumps({"url": url, "fetched_at": fetched_at, "document": document.decode("utf-8")}).encode("utf-8")


def read_saved(data: bytes, url: str, wall: float, stale: float) -> Saved | None:
    """What was kept, if it is of that `url` and no more than `stale` seconds old, and did not come from the future."""
    try:
        kept = read_json(data)
    except JsonRefused:
        return None
    if not isinstance(kept, dict) or kept.get("url") != url:
        return None
    fetched_at, document = kept.get("fetched_at"), kept.get("document")
    if not isinstance(fetched_at, (int, float)) or not isinstance(document, str):
        return None
    age = wall - fetched_at
    if not 0 <= age <= stale:
        return None
    return Saved(document.encode("utf-8"), float(fetched_at), age)
