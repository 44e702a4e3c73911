"""What a rate limit tells to whoever listens. No event names a caller: `caller` is a digest, the same for the same one.

What `peek` of the admin view gives as `caller` is that digest, so that whoever suspects somebody can find out.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatekit.core.events import Event


@dataclass(frozen=True, slots=True)
class LimitExceeded(Event):
    """A limit did not allow a request. With `shadow` it was let through all the same; `wait` is in how many seconds it
    would fit, infinity where it never will."""

    rule: str
    limit: str
    caller: str
    route: str | None
    wait: float
    shadow: bool


@dataclass(frozen=True, slots=True)
class LimitNear(Event):
    """A caller has used up a limit nearly (`near` of the settings); at most once in a period for one caller."""

    rule: str
    limit: str
    caller: str
    route: str | None
    remaining: int


@dataclass(frozen=True, slots=True)
class StoreLost(Event):
    """The shared store stopped answering; once for each outage. `doing` says what happens to requests meanwhile."""

    name: str
    doing: str
    why: str


@dataclass(frozen=True, slots=True)
class StoreBack(Event):
    """The shared store answers again, after so many `seconds`."""

    name: str
    seconds: float


__all__ = ["LimitExceeded", "LimitNear", "StoreBack", "StoreLost"]
