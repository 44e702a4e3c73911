"""Errors for programmers and operators. Never shown to a client: what a client sees is a `Reply`.

Three families are kept apart: a `Reply` answers a client and is not an exception; a `Problem` is a finding in a
configuration and is collected; a `GatekitError` is raised at whoever writes or runs the code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal


class Problem:
    """One finding in a configuration: where it is, what is wrong, and what to do about it.

    `path` is the place in the document in dotted form (`routes[3].path`); `source` and `line` say where that was
    written, when it came from a file (line counts from 1). A finding of severity `error` refuses the configuration, a
    `warning` does not.
    """

    __slots__ = ("line", "message", "path", "severity", "source")

    def __init__(
        self,
        path: str,
        message: str,
        *,
        source: str | None = None,
        line: int | None = None,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        self.path = path
        self.message = message
        self.source = source
        self.line = line
        self.severity = severity

    def _key(self) -> tuple[object, ...]:
        return (self.path, self.message, self.source, self.line, self.severity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problem) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Problem({str(self)!r})"

    def __str__(self) -> str:
        where = self.path or "document"
        if self.source is not None:
            at = self.source if self.line is None else f"{self.source}:{self.line}"
            where = f"{at}: {where}"
        elif self.line is not None:
            where = f"line {self.line}: {where}"
        mark = "" if self.severity == "error" else "warning: "
        return f"{where}: {mark}{self.message}"


class GatekitError(Exception):
    """The root of everything gatekit raises at programmers and operators."""


class ConfigRefused(GatekitError):
    """A configuration was refused; nothing changed. `problems` has every finding, errors and warnings."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"configuration refused, {len(self.problems)} finding(s):\n{lines}")


class ContractViolation(GatekitError):
    """Policies were put together in an order in which one lacks what another must provide first."""


class MisplacedPolicy(GatekitError, TypeError):
    """A policy spec stands where a middleware belongs, or the reverse. The message names the right import."""


class MissingPort(GatekitError):
    """A policy was bound without a port it needs."""

    def __init__(self, port: str) -> None:
        self.port = port
        super().__init__(f"this policy needs the port {port!r}: bind it with spec.bind({port}=...)")


class MissingSecret(GatekitError):
    """A reference to a secret leads to nothing. The text names the reference, never what was found."""


class PolicySuspended(GatekitError):
    """A policy waited for an event loop under WSGI, where there is none. The request was refused (fail closed).

    `decide` may await only ports; under WSGI a port that does I/O is wrapped so that it never suspends.
    """


class StoreUnavailable(GatekitError):
    """A shared store did not answer in time. What follows is a setting of the policy that asked (`on_error`).

    `unsent`: no connection came about, so that nobody can have heard the question, and it may be asked again.
    """

    unsent = False


class StoreUnreached(StoreUnavailable):
    """No connection to a shared store came about."""

    unsent = True


class RouteFailed(GatekitError):
    """A route predicate raised. The request is refused with 500; it never falls through to another route."""

    def __init__(self, route: str, error: Exception) -> None:
        self.route = route
        self.error = error
        super().__init__(f"a predicate of route {route!r} raised {error!r}")


class ClientDisconnected(GatekitError):
    """The client went away while its request was read or its answer was sent. Nobody's fault."""


class BodyRefused(GatekitError):
    """The body of a request is not taken: it is too long (413) or comes too slowly (408). The client's fault.

    `status` and `reason` are what the client is told.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


class UpstreamError(GatekitError):
    """A destination gave no complete answer.

    `reason` is stable and dotted (`upstream.connect_failed`), `status` is what the client is told when no answer has
    begun. `sent` says whether a byte of the request may have reached the upstream, `began` whether a response head
    arrived: together they tell a retry whether it would be safe. The text never reaches a client.
    """

    def __init__(self, reason: str, detail: str, *, status: int = 502, sent: bool = False, began: bool = False) -> None:
        self.reason = reason
        self.status = status
        self.sent = sent
        self.began = began
        super().__init__(f"{reason}: {detail}")


class ResponseTruncated(GatekitError):
    """A destination broke off after its answer had begun.

    It is raised out of the application on purpose: the server then cuts the connection, and the client cannot take a
    short body for a whole one.
    """
