"""How the fields of an access line are written so that no value can end the line or begin another field."""

from __future__ import annotations

import json
import re

Fields = dict[str, str | int | float | bool | None]

# What may stand in a text line without quotes.
_BARE = re.compile(r"[!#-<>-~]+")
_encode = json.JSONEncoder(separators=(",", ":")).encode


def as_json(fields: Fields) -> str:
    """One JSON object in printable ASCII: whatever else is escaped, controls and line separators of any kind too."""
    return _encode(fields)


def as_text(fields: Fields) -> str:
    """`key=value` pairs: `-` for nothing, quoted as in JSON whatever is not plainly one word."""
    return " ".join(f"{name}={_word(value)}" for name, value in fields.items())


def _word(value: str | int | float | bool | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str) and value != "-" and _BARE.fullmatch(value):
        return value
    return _encode(value)
