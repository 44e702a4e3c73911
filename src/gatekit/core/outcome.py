"""How an exchange ended, whose fault that was, and whether it counts for or against a destination.

One classifier, shared by breakers, retries and telemetry. The three grades are those of Netflix's concurrency-limits
(success, dropped, ignore): "ignore" is what keeps adaptive limits and breakers honest.
"""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """Who is to blame for an exchange that did not go well."""

    NOBODY = "nobody"
    CLIENT = "client"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"
    APP = "app"


class Grade(Enum):
    """What an outcome says about the destination: it works, it fails, or nothing."""

    GOOD = "good"
    BAD = "bad"
    IGNORE = "ignore"


class Outcome:
    """The end of one exchange, handed to `observe` exactly once.

    `status` is what was sent, 499 where the client went away first, and None where nothing was sent at all. `complete`
    says whether the whole response was handed to the server. `error` is the exception of an embedded app.
    """

    __slots__ = ("complete", "error", "fault", "grade", "reason", "status")

    def __init__(
        self,
        status: int | None,
        *,
        reason: str | None = None,
        fault: Fault = Fault.NOBODY,
        grade: Grade = Grade.GOOD,
        complete: bool = True,
        error: BaseException | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.fault = fault
        self.grade = grade
        self.complete = complete
        self.error = error

    def __repr__(self) -> str:
        return (
            f"Outcome({self.status}, reason={self.reason!r}, fault={self.fault.value}, grade={self.grade.value}, "
            f"complete={self.complete})"
        )


def finished(status: int, *, reason: str | None, ours: bool, fault: Fault | None = None) -> Outcome:
    """The outcome of a response that was sent whole.

    `ours` says that gatekit answered and no destination was asked: that is graded IGNORE. `fault` overrides the blame
    where the sender knows better (a 502 we made because the upstream broke).
    """
    if fault is None:
        if status < 400:
            fault = Fault.NOBODY
        elif status < 500:
            fault = Fault.CLIENT
        else:
            fault = Fault.GATEWAY if ours else Fault.UPSTREAM
    if fault is Fault.UPSTREAM or fault is Fault.APP:
        grade = Grade.BAD
    elif ours:
        grade = Grade.IGNORE
    else:
        grade = Grade.GOOD
    return Outcome(status, reason=reason, fault=fault, grade=grade)


def client_gone() -> Outcome:
    """The client went away before the end: logged as 499, nobody's fault, no verdict on the destination."""
    return Outcome(499, reason="client.disconnected", grade=Grade.IGNORE, complete=False)


def raised(status: int | None, error: BaseException) -> Outcome:
    """An embedded app raised; `status` is that of a response it had begun, if any."""
    return Outcome(status, reason="app.raised", fault=Fault.APP, grade=Grade.BAD, complete=False, error=error)


def unfinished(status: int | None, *, reason: str, fault: Fault) -> Outcome:
    """A response that began and was broken off, or an app that returned without finishing one."""
    return Outcome(status, reason=reason, fault=fault, grade=Grade.BAD, complete=False)
