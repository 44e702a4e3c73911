"""What a method of authentication is: it looks for a credential of its kind and says whose it is.

`Authn` asks its methods in order. A new method is one module here: a model that says what was asked for, and a bound
object with the four things below. What carries its credential as a token in one header is a `TokenMethod` instead:
`bearer` takes the token out of the request, once for all of them that look in the same place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gatekit.core.exchange import Exchange
from gatekit.core.headers import RawHeaders
from gatekit.core.identity import Identity
from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply

if TYPE_CHECKING:
    from gatekit.policies.authn.bearer import Token


class Verified(NamedTuple):
    """A caller, with the headers that tell the upstream about him. Built once for a credential, never per request.

    `marks` is what `Revocations` looks at. `until` is when a kept one is good no longer, in seconds since the Unix
    epoch. `certificate` is the SHA-256 of the client certificate that the credential is bound to (RFC 8705), which
    each request must then come with. `others` are the marks of credentials that had to be good as well.
    """

    identity: Identity
    headers: RawHeaders
    marks: Mapping[str, Any] = {}
    until: float = inf
    certificate: bytes | None = None
    others: tuple[Mapping[str, Any], ...] = ()


IdentityHeaders = Callable[[Identity], RawHeaders]
"""Makes the headers that tell an upstream who is calling."""

Answer = Verified | Reply
"""What a method says to a credential of its kind."""


class BoundMethod(Protocol):
    """A method at work.

    `missing` is the reply to a request without any credential. `stripped` are the folded names of headers that carry
    the credential and do not go on.
    """

    missing: Reply
    stripped: frozenset[bytes]

    def identify(self, exchange: Exchange) -> Answer | Awaitable[Answer] | None:
        """The caller; a reply to a credential that is not good; None when there is none of this kind. What is known
        already is told at once; an awaitable is for what a port has to be asked about."""
        ...

    def strip(self, exchange: Exchange) -> None:
        """Take the credential out of what goes on, where it is not in a header."""
        ...


class TokenMethod(Protocol):
    """A method whose credential is a token, at work."""

    def takes(self, token: Token) -> bool:
        """Whether this token is of its kind, by its look: nothing of it is believed yet."""
        ...

    def verify(self, token: Token) -> Answer | Awaitable[Answer]:
        """Whose token it is, or why it is not good. `bearer` keeps a good one until its `until`."""
        ...


class Method(Protocol):
    """What was asked for of one method."""

    def bind_to(self, ports: Ports, realm: str, headers: IdentityHeaders) -> BoundMethod: ...


def refusal(reason: str, detail: str, challenge: str) -> Reply:
    """A 401: `reason` is dotted and stable, `challenge` the WWW-Authenticate (RFC 9110 section 11.6.1)."""
    return Reply(401, reason, detail, headers=[("www-authenticate", challenge)])


def unavailable(reason: str, detail: str, retry_after: float = 1.0) -> Reply:
    """A 503: whether the credential is good cannot be told now."""
    return Reply(503, reason, detail, headers=[("retry-after", str(max(1, round(retry_after))))])


def jobs_within(parts: Iterable[object]) -> list[Job]:
    """The background work of all that has any."""
    return [job for part in parts for job in getattr(part, "jobs", tuple)()]


def told_within(parts: Iterable[object]) -> dict[str, Any]:
    """What the parts tell about themselves, all together."""
    return {name: one for part in parts for name, one in getattr(part, "status", dict)().items()}
