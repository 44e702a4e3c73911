"""Lengths of time and sizes as text: what they stand for in settings. Pure; raises ValueError with a sentence."""

from __future__ import annotations

import re
from math import isfinite
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""What may stand behind a number, in seconds."""

_DURATION = r"[0-9]+(?:\.[0-9]+)? ?(?:ms|s|m|h|d)?"
_PARTS = re.compile(r"(?P<number>[0-9]{1,12}(?:\.[0-9]{1,9})?) ?(?P<unit>ms|s|m|h|d)?")
SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
"""What may stand behind a number, in bytes."""

_SIZE_TEXT = r"[0-9]{1,15} ?(?:B|KiB|MiB|GiB)?"
_SIZE = re.compile(r"(?P<number>[0-9]{1,15}) ?(?P<unit>B|KiB|MiB|GiB)?")


def seconds(value: Any) -> float:
    """Seconds from a number, or from text with a unit: `250ms`, `1.5s`, `2m`, `1h`, `1d`."""
    if isinstance(value, str):
        found = _PARTS.fullmatch(value.strip())
        if found is None:
            raise ValueError("a duration is a number of seconds, or text such as 250ms, 30s, 2m, 1h or 1d")
        return float(found["number"]) * UNITS[found["unit"] or "s"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise ValueError("a duration is a number of seconds, or text such as 250ms, 30s, 2m, 1h or 1d")
    return float(value)


Seconds = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{_DURATION}$"}]}),
]
"""A length of time whose bounds its field sets: float seconds inside, a number or text where it is written."""

Duration = Annotated[
    float,
    Field(gt=0, le=86400 * 366),
    BeforeValidator(seconds),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": f"^{_DURATION}$"}]}
    ),
]
"""A length of time above zero: float seconds inside, a number or text such as `"250ms"` where it is written."""


def size(value: Any) -> int:
    """Bytes from a whole number, or from text with a unit: `64KiB`, `10 MiB`, `1GiB`."""
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if found is None:
            raise ValueError("a size is a number of bytes, or text such as 64KiB, 10MiB or 1GiB")
        return int(found["number"]) * SIZES[found["unit"] or "B"]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a size is a number of bytes, or text such as 64KiB, 10MiB or 1GiB")
    return value


Size = Annotated[
    int,
    Field(ge=0, le=1 << 50),
    BeforeValidator(size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": f"^{_SIZE_TEXT}$"},
            ]
        }
    ),
]
"""A number of bytes: a whole number, or text such as `"10MiB"` where it is written. Units are powers of 1024."""


__all__ = ["SIZES", "UNITS", "Duration", "Seconds", "Size", "seconds", "size"]
