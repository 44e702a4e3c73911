"""Several methods together: tokens of one place shared among those that take them, and methods of which all must hold."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gatekit.core.exchange import Exchange
from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.policies.authn.bearer import Bearer, TokenPlace
from gatekit.policies.authn.method import Answer, BoundMethod, IdentityHeaders, Verified, jobs_within, told_within

if TYPE_CHECKING:
    from gatekit.policies.authn.config import AnyMethod


def bind_methods(
    methods: Sequence[AnyMethod], ports: Ports, realm: str, headers: IdentityHeaders
) -> tuple[BoundMethod, ...]:
    """The methods at work, in order. Token methods that look in one place are one, where the first of them stands."""
    places: dict[object, list[TokenPlace]] = {}
    for method in methods:
        if isinstance(method, TokenPlace):
            places.setdefault(method.place, []).append(method)
    bound: list[BoundMethod] = []
    for method in methods:
        if not isinstance(method, TokenPlace):
            bound.append(method.bind_to(ports, realm, headers))
        elif method.place in places:
            # What takes tokens of any issuer takes those that nobody else did.
            group = sorted(places.pop(method.place), key=lambda one: getattr(one, "unchecked_issuer", False))
            bound.append(Bearer(group, [one.bind_tokens(ports, realm, headers) for one in group], ports, realm))
    return tuple(bound)


def carriers(methods: Iterable[AnyMethod]) -> Iterator[tuple[str, str | None]]:
    """Header and query parameter in which each of these carries its credential, where that does not go on."""
    for method in methods:
        parts = getattr(method, "methods", None)
        if parts is not None:
            yield from carriers(parts)
        elif not getattr(method, "forward", True):
            yield getattr(method, "header", "authorization"), getattr(method, "query", None)


class BoundAll:
    """Methods of which every one must find a good credential. The caller is whom the last of them finds."""

    __slots__ = ("_methods", "missing", "stripped")

    def __init__(self, methods: Sequence[BoundMethod]) -> None:
        self._methods = tuple(methods)
        self.stripped = frozenset[bytes]().union(*(method.stripped for method in methods))
        challenges = {header: None for method in methods for header in method.missing.headers}
        first = methods[0].missing
        self.missing = Reply(first.status, first.reason, first.detail, headers=challenges)

    def identify(self, exchange: Exchange) -> Answer | Awaitable[Answer] | None:
        """None where the first finds nothing: it says whether this is the way in that the caller took."""
        return self._from(exchange, 0, ())

    def _from(
        self, exchange: Exchange, place: int, marks: tuple[Mapping[str, Any], ...]
    ) -> Answer | Awaitable[Answer] | None:
        """Ask the methods from this place on; `marks` are those of the credentials that were found before."""
        found = self._methods[place].identify(exchange)
        if found is None:
            return self.missing if place else None
        if isinstance(found, (Verified, Reply)):
            return self._next(exchange, place, marks, found)
        return self._later(exchange, place, marks, found)

    def _next(
        self, exchange: Exchange, place: int, marks: tuple[Mapping[str, Any], ...], found: Answer
    ) -> Answer | Awaitable[Answer]:
        if isinstance(found, Reply):
            return found
        if place + 1 == len(self._methods):
            return found._replace(others=marks)
        following = self._from(exchange, place + 1, (*marks, found.marks, *found.others))
        return self.missing if following is None else following

    async def _later(
        self, exchange: Exchange, place: int, marks: tuple[Mapping[str, Any], ...], pending: Awaitable[Answer]
    ) -> Answer:
        following = self._next(exchange, place, marks, await pending)
        return following if isinstance(following, (Verified, Reply)) else await following

    def strip(self, exchange: Exchange) -> None:
        for method in self._methods:
            method.strip(exchange)

    def jobs(self) -> list[Job]:
        return jobs_within(self._methods)

    def status(self) -> Mapping[str, Any]:
        return told_within(self._methods)
