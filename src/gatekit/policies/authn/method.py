"""What a method of authentication is: it looks for a credential of its kind and says whose it is.

`Authn` asks its methods in order. A new method is one module here: a model that says what was asked for, and a bound
object with the four things below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from gatekit.core.exchange import Exchange
from gatekit.core.headers import RawHeaders
from gatekit.core.identity import Identity
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply


class Verified(NamedTuple):
    """A caller, with the headers that tell the upstream about him. Built once for a credential, never per request."""

    identity: Identity
    headers: RawHeaders


IdentityHeaders = Callable[[Identity], RawHeaders]
"""Makes the headers that tell an upstream who is calling."""


class BoundMethod(Protocol):
    """A method at work.

    `missing` is the reply to a request without any credential. `stripped` are the folded names of headers that carry
    the credential and do not go on.
    """

    missing: Reply
    stripped: frozenset[bytes]

    def identify(self, exchange: Exchange) -> Verified | Reply | None:
        """The caller; a reply to a credential that is not good; None when there is none of this kind."""
        ...

    def strip(self, exchange: Exchange) -> None:
        """Take the credential out of what goes on, where it is not in a header."""
        ...


class Method(Protocol):
    """What was asked for of one method."""

    def bind_to(self, ports: Ports, realm: str, headers: IdentityHeaders) -> BoundMethod: ...
