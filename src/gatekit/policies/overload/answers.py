"""What whoever is turned away is told. The answers are made beforehand: under overload there is no time to."""

from __future__ import annotations

from typing import Final

from gatekit.core.verdict import Reply

REDUCED_CAPACITY: Final = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
"""The problem type of RFC 9457's registry, from the RateLimit header fields for HTTP."""

CONCURRENCY: Final = "overload.concurrency"
QUEUE_FULL: Final = "overload.queue_full"
QUEUE_TIMEOUT: Final = "overload.queue_timeout"
LAG: Final = "overload.lag"
ADMISSION: Final = "overload.admission"

REASONS: Final = (CONCURRENCY, QUEUE_FULL, QUEUE_TIMEOUT, LAG, ADMISSION)
"""Why a request is shed."""

_DETAIL: Final = {
    CONCURRENCY: "As much is under way as can be.",
    QUEUE_FULL: "As much is under way and waiting as can be.",
    QUEUE_TIMEOUT: "There was no room in time.",
    LAG: "There is more to do than time to do it.",
    ADMISSION: "What would answer this fails too often at the moment.",
}
SPREAD: Final = 3
"""Clients are told to wait up to so many times the shortest wait: they must not all come back at once."""


class Answers:
    """A 503 for every reason and every wait from `least` seconds to `SPREAD` times that."""

    __slots__ = ("_replies", "_waits")

    def __init__(self, least: int) -> None:
        self._waits = range(least, SPREAD * least + 1)
        self._replies = {reason: [_reply(reason, wait) for wait in self._waits] for reason in REASONS}

    def pick(self, reason: str, chance: float) -> Reply:
        """The answer for that reason, with a wait drawn by `chance` in [0, 1)."""
        return self._replies[reason][int(chance * len(self._waits))]


def _reply(reason: str, wait: int) -> Reply:
    headers = [("retry-after", str(wait))]
    return Reply(503, reason, _DETAIL[reason], headers=headers, members={"type": REDUCED_CAPACITY})
