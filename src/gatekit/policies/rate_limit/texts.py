"""Limits as they are written: `100/minute`, `5 per 10 minutes`, `10/second;1000/hour`, `20 concurrent`, `10MiB/minute`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from gatekit.core.units import SIZES

LARGEST: Final = 10**12
"""The largest amount there can be: what a double counts exactly with room to spare."""
LONGEST: Final = 10 * 365 * 86400
"""The longest period, in seconds."""
UNLIMITED: Final = "unlimited"

UNITS: Final = {
    "second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400, "month": 30 * 86400, "year": 365 * 86400,
}  # fmt: skip
"""The units of a period, in seconds. Months and years that begin when people say so need a calendar."""

_NO_LIMIT: Final = (
    "not a limit: write an amount and a time, as in 100/minute or 5 per 10 minutes, or 20 concurrent, or unlimited"
)
_PER: Final = re.compile(
    rf"\s*(\d{{1,15}})\s?({'|'.join(SIZES)})?\s*(?:/|(?i:\s+per\s+))\s*(\d{{1,9}})?\s*((?i:{'|'.join(UNITS)}))(?i:s?)\s*",
    re.ASCII,
)
_CONCURRENT: Final = re.compile(r"\s*(\d{1,15})\s+concurrent\s*", re.ASCII | re.IGNORECASE)
_BETWEEN: Final = re.compile(r"[;,|]")


class Amount(NamedTuple):
    """One limit as written: so much in `times` times `unit`. `unit` is `concurrent` for what is under way at once, and
    then there is no period. `sized` says that the amount was written in bytes."""

    amount: int
    unit: str
    times: int = 1
    sized: bool = False

    @property
    def concurrent(self) -> bool:
        return self.unit == "concurrent"

    @property
    def period(self) -> int:
        """In seconds; 0 for what is under way at once."""
        return 0 if self.concurrent else UNITS[self.unit] * self.times

    @property
    def span(self) -> str:
        """What tells it from others of the same name: `second`, `5-minutes`, `concurrent`."""
        return self.unit if self.times == 1 else f"{self.times}-{self.unit}s"


def amounts(texts: Iterable[str]) -> tuple[Amount, ...]:
    """The limits in these texts, none for `unlimited`. Raises ValueError on text that is no limit, on two limits for one
    period, and where there is no text."""
    written = [part for text in texts for part in _BETWEEN.split(text) if part.strip()]
    if not written:
        raise ValueError("give at least one limit")
    if any(part.strip().lower() == UNLIMITED for part in written):
        if len(written) > 1:
            raise ValueError("unlimited is no limit at all: leave the others out")
        return ()
    found: dict[int, Amount] = {}
    for part in written:
        one = _amount(part)
        if one.period in found:
            what = f"a period of {one.period} seconds" if one.period else "what is under way at once"
            raise ValueError(f"there are two limits for {what}: keep the lower one")
        found[one.period] = one
    return tuple(found.values())


def _amount(text: str) -> Amount:
    concurrent = _CONCURRENT.fullmatch(text)
    rate = _PER.fullmatch(text)
    if concurrent is not None:
        one = Amount(int(concurrent[1]), "concurrent")
    elif rate is not None:
        size = rate[2]
        one = Amount(int(rate[1]) * SIZES[size or "B"], rate[4].lower(), int(rate[3] or 1), size is not None)
    else:
        raise ValueError(_NO_LIMIT)
    if not 1 <= one.amount <= LARGEST:
        raise ValueError(f"an amount is from 1 to {LARGEST}, not {one.amount}")
    if one.times < 1 or one.period > LONGEST:
        raise ValueError("a period is from one second to ten years")
    return one
