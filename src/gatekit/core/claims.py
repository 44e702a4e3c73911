"""How claims are named in settings: the path to a member of a token's payload, which may lie within others."""

from __future__ import annotations

import re
from typing import Final

MAX_PATH: Final = 256
MAX_PARTS: Final = 8

Path = tuple[str, ...]
"""The names that lead to a claim."""

_PART: Final = re.compile(r'"([^"]+)"|([^".]+)')
_CLEAN: Final = re.compile(r"[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?")


def parse_claim_path(text: str) -> Path:
    """The names that lead to a claim: `org.id` is the member `id` of the object `org`.

    What has dots within a name stands in double quotes, as in `resource_access."my.app".roles`. A URL (anything with
    `://`) is one name and needs none. Raises ValueError.
    """
    if len(text) > MAX_PATH or not _CLEAN.fullmatch(text):
        raise ValueError(f"a path to a claim has 1 to {MAX_PATH} printable characters")
    if "://" in text and '"' not in text:
        return (text,)
    parts: list[str] = []
    place = 0
    while True:
        found = _PART.match(text, place)
        if found is None:
            break
        parts.append(found[1] or found[2])
        place = found.end()
        if place == len(text):
            if len(parts) > MAX_PARTS:
                break
            return tuple(parts)
        if text[place] != ".":
            break
        place += 1
    raise ValueError(
        f"not a path to a claim: write names with dots between, {MAX_PARTS} at most, and a name that has dots itself in "
        'double quotes, as in resource_access."my.app".roles'
    )
