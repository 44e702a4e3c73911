"""What a rate limit tells: header fields, and the replies to requests that it refuses.

The fields are those of draft-ietf-httpapi-ratelimit-headers-11, structured fields as of RFC 9651, and where they are
wanted the older X-RateLimit-Limit, -Remaining and -Reset (in seconds), which know one limit only: the tightest.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf
from typing import Final, NamedTuple

from gatekit.core.counters import Taken
from gatekit.core.exchange import Exchange
from gatekit.core.outcome import Fault
from gatekit.core.verdict import Reply
from gatekit.policies.rate_limit.counting import Question
from gatekit.policies.rate_limit.meters import Meter

QUOTA_EXCEEDED: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
REDUCED_CAPACITY: Final = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
CONCURRENT_WAIT: Final = 1.0
"""After how many seconds it is worth asking again where too much is under way: nobody knows when it will have ended."""


class Reading(NamedTuple):
    """A meter and what its counter said."""

    meter: Meter
    taken: Taken

    @property
    def wait(self) -> float:
        """In how many seconds to ask again, infinity where that will not help."""
        return CONCURRENT_WAIT if self.meter.concurrent else self.taken.retry_after


def policy_field(meters: Sequence[Meter]) -> bytes:
    """The value of `RateLimit-Policy`."""
    return ", ".join([meter.policy for meter in meters]).encode("ascii")


def left_field(asked: Sequence[Question], taken: Sequence[Taken]) -> bytes:
    """The value of `RateLimit`: what is left of each, and in how many seconds the whole of it is back."""
    parts = [_left(one.meter, answer.remaining, answer.reset_after) for one, answer in zip(asked, taken, strict=True)]
    return ", ".join(parts).encode("ascii")


def _left(meter: Meter, remaining: int, seconds: float) -> str:
    # What is under way ends when it ends, and what never fits does so at no time.
    if meter.concurrent or seconds == inf:
        return f"{meter.left}{remaining}"
    return f"{meter.left}{remaining};t={ceil(seconds)}"


def tell_legacy(exchange: Exchange, readings: Sequence[Reading]) -> None:
    """Queue the older header fields of a request that may pass."""
    tightest = min(readings, key=lambda one: one.taken.remaining / one.meter.limit.amount)
    for name, value in _legacy(tightest, tightest.taken.reset_after):
        exchange.respond_put(name, value)


def _legacy(reading: Reading, seconds: float) -> list[tuple[bytes, bytes]]:
    seconds = CONCURRENT_WAIT if reading.meter.concurrent else seconds
    told = [
        (b"x-ratelimit-limit", b"%d" % reading.meter.limit.amount),
        (b"x-ratelimit-remaining", b"%d" % reading.taken.remaining),
    ]
    return told if seconds == inf else [*told, (b"x-ratelimit-reset", b"%d" % ceil(seconds))]


def exceeded(readings: Sequence[Reading], *, legacy: bool, fields: bool) -> Reply:
    """A 429 that names the limits which do not allow it, and when all of them would.

    Only those are in `RateLimit`, so that Retry-After is at no time before one of the times given there.
    """
    violated = [one for one in readings if not one.taken.allowed]
    longest = max(violated, key=lambda one: one.wait)
    headers: list[tuple[bytes, bytes]] = []
    reason, detail = "rate_limit.too_costly", "It asks for more at once than the limit ever allows."
    if longest.wait < inf:
        reason, detail = "rate_limit.exceeded", "More requests than the limit allows."
        headers.append((b"retry-after", b"%d" % _whole(longest.wait)))
    if fields:
        left = ", ".join(
            _left(one.meter, one.taken.remaining, inf if one.wait == inf else _whole(one.wait)) for one in violated
        )
        headers += [
            (b"ratelimit-policy", policy_field([one.meter for one in readings])),
            (b"ratelimit", left.encode("ascii")),
        ]
    if legacy:
        headers += _legacy(longest, longest.wait)
    return Reply(
        429,
        reason,
        detail,
        headers=headers,
        members={"type": QUOTA_EXCEEDED, "violated-policies": [one.meter.name for one in violated]},
    )


def _whole(seconds: float) -> int:
    return max(1, ceil(seconds))


def unavailable(exchange: Exchange) -> Reply:
    """A 503: nobody can count, and nothing may pass uncounted."""
    exchange.fault = Fault.GATEWAY
    return Reply(
        503,
        "rate_limit.unavailable",
        "Requests cannot be counted at the moment.",
        headers=[("retry-after", "1")],
        members={"type": REDUCED_CAPACITY},
    )
