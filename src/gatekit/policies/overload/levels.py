"""How important a request is: four words, and the order they stand in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Level = Literal["critical", "default", "sheddable", "bulk"]

LEVELS: Final[tuple[Level, ...]] = ("critical", "default", "sheddable", "bulk")
"""Most important first."""
RANKS: Final[Mapping[object, int]] = {name: rank for rank, name in enumerate(LEVELS)}
DEFAULT: Final = RANKS["default"]

PRIORITY: Final = "priority"
"""The fact under which an exchange carries its level."""
