"""Asking an authorization server about tokens (RFC 7662), and sparing it: nothing is asked twice at once, only so many
calls are under way, and a server that is down is left alone.

Here a token is only asked about. What the answer is worth is for `introspection` to say, so that routes with different
demands share what is known of one server.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

from gatekit.core.events import BreakerChanged
from gatekit.core.outcome import Grade
from gatekit.core.policy import Job
from gatekit.core.ports import Fetched, Ports, Reach
from gatekit.errors import StoreUnavailable
from gatekit.mechanisms.breaker import Permit, State
from gatekit.policies.authn.client_auth import ClientAuth
from gatekit.policies.authn.discovery import checked_url, metadata_urls
from gatekit.policies.authn.introspection_state import Answer, Line, Moves, Refused, Told
from gatekit.policies.authn.jose import JsonRefused, read_json

A = TypeVar("A", bound=Answer)

_log = logging.getLogger("gatekit.authn")

REREAD: Final = 3600.0
"""After how many seconds a server's metadata are read again."""
REREAD_SOON: Final = 60.0
"""The same where they could not be read."""

LAST_DATE: Final = 253_402_300_799
"""The year 9999. What is later is not meant in seconds."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# What a server may say of one token, which tells nothing of the next.
_ABOUT_THE_TOKEN: Final = frozenset({400, 413, 414, 422})
_REFUSALS: Final = frozenset({400, 401, 403})
_REFUSES_THE_CLIENT: Final = ("invalid_client", "unauthorized_client")
_FORM: Final = (("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json"))


class NoAnswer(Exception):
    """The server said nothing that can be used. `sort` is what is logged once. The text repeats nothing it said."""

    def __init__(self, sort: str, text: str, grade: Grade = Grade.BAD) -> None:
        self.sort = sort
        self.grade = grade
        super().__init__(text)


class Server(NamedTuple):
    """Which server is asked, and how. `url` is its endpoint; where it is None, the metadata of `issuer` name it."""

    url: str | None
    issuer: str | None
    client_id: str
    hint: str | None
    timeout: float
    max_in_flight: int
    reach: Reach

    @property
    def host(self) -> str:
        return urlsplit(self.url or self.issuer or "").netloc


class Introspector:
    """Asks one server."""

    __slots__ = ("_auth", "_fetch", "_key", "_once", "_ports", "_server", "line")

    def __init__(self, server: Server, auth: ClientAuth, ports: Ports) -> None:
        self._server = server
        self._auth = auth
        self._ports = ports
        self._fetch = ports.fetch
        self._once = ports.once
        self._key = ("introspection", server.url or server.issuer, server.client_id)
        self.line = ports.owned_by("introspection").cell(self._key, lambda: Line(ports.lock()))

    def shut(self, digest: bytes, now: float) -> Told | None:
        """Why nothing can be asked at the moment, where that is plain already. Another who waits for the same token is
        no further call."""
        line = self.line
        if line.calls >= self._server.max_in_flight and digest not in line.tokens:
            return self._counted(Told.BUSY)
        if line.breaker.state is State.OPEN and line.breaker.retry_after(now) > 0:
            return self._counted(Told.UNAVAILABLE)
        return None

    def refused(self, digest: bytes, rules: str, now: float) -> str | None:
        """Why this token was refused lately, by the server or by these rules."""
        found = self.line.refused.get(digest, now)
        return found.reason if found is not None and found.rules in (None, rules) else None

    def refuse(self, digest: bytes, reason: str, rules: str | None, now: float, ttl: float) -> None:
        """Remember for `ttl` seconds that this token is refused; `rules` is None where the server itself said so."""
        self.line.refused.put(digest, Refused(reason, rules), now, ttl)

    def rest(self, now: float) -> float:
        """For how many seconds more the server is left alone."""
        return self.line.breaker.retry_after(now)

    @property
    def endpoint(self) -> str:
        """Whom is asked, without a query; empty while that is not known."""
        return (self._server.url or self.line.endpoint or "").partition("?")[0]

    async def ask(self, text: bytes, digest: bytes, negative_ttl: float) -> Answer:
        """What the server says of a token, asked once for all who wait for it. A no is remembered."""
        places: list[Permit] = []
        if digest not in self.line.tokens:
            place = self._enter(digest)
            if isinstance(place, Told):
                return self._counted(place)
            places.append(place)
        try:
            return await self._once((*self._key, digest), lambda: self._call(text, digest, negative_ttl, places))
        except StoreUnavailable as error:
            self._report(_unreachable(error))
            return self._counted(Told.UNAVAILABLE)
        finally:
            # Nobody took it: another thread was first to ask about this token, or the loop came to its end.
            while places:
                self._leave(digest, places.pop(), Grade.IGNORE)

    async def reread(self) -> None:
        """Find out anew where the endpoint is. The one that was known stays in use where that fails."""
        try:
            self.line.endpoint = await self._once((*self._key, "metadata"), self._discovered)
        except NoAnswer as problem:
            self._report(problem)

    def jobs(self) -> list[Job]:
        server, line = self._server, self.line
        if server.url is not None:
            return []
        key = ("introspection metadata", server.issuer, server.client_id, server.reach, server.timeout)
        return [Job(key, self.reread, lambda: REREAD if line.endpoint else REREAD_SOON)]

    def status(self) -> Mapping[str, object]:
        """For the operator: nothing in it is a secret."""
        line = self.line
        return {
            "endpoint": self.endpoint,
            "breaker": line.breaker.state.value,
            "failures_in_row": line.in_row,
            "in_flight": line.calls,
            "refused_remembered": len(line.refused),
            **line.counts,
            "last_error": line.last_error,
        }

    # -- one call

    async def _call(self, text: bytes, digest: bytes, negative_ttl: float, places: list[Permit]) -> Answer:
        place = places.pop() if places else self._enter(digest)
        if isinstance(place, Told):
            return self._counted(place)
        grade = Grade.IGNORE
        try:
            answer = await self._answer(text)
            grade = Grade.GOOD
        except NoAnswer as problem:
            grade = problem.grade
            self._report(problem)
            return self._counted(Told.UNAVAILABLE)
        finally:
            self._leave(digest, place, grade)
        if answer is Told.INACTIVE:
            self.refuse(digest, "authn.inactive_token", None, self._ports.clock.monotonic(), negative_ttl)
        return self._counted(answer)

    def _enter(self, digest: bytes) -> Permit | Told:
        ports = self._ports
        now, random = ports.clock.monotonic(), ports.random.random()
        place, moves = self.line.enter(digest, self._server.max_in_flight, now, random)
        self._emit(moves)
        return place

    def _leave(self, digest: bytes, place: Permit, grade: Grade) -> None:
        self._emit(self.line.leave(digest, place, grade, self._ports.clock.monotonic()))

    async def _answer(self, text: bytes) -> Answer:
        endpoint = self._server.url or self.line.endpoint
        if endpoint is None:
            endpoint = self.line.endpoint = await self._once((*self._key, "metadata"), self._discovered)
        proof = self._auth.proof(endpoint)
        answer = await self._post(endpoint, text, proof.headers, proof.form)
        if answer.status in _REFUSALS and not proof.fresh:
            # Perhaps because it was sent before: a server may take each assertion only once.
            proof = self._auth.proof(endpoint, anew=True)
            answer = await self._post(endpoint, text, proof.headers, proof.form)
            if answer.status == 200:
                self._auth.take_once()
        return read_answer(answer)

    async def _post(
        self, endpoint: str, text: bytes, headers: Sequence[tuple[str, str]], form: Sequence[tuple[str, str]]
    ) -> Fetched:
        members = [("token", text.decode("ascii")), *form]
        if self._server.hint is not None:
            members.insert(1, ("token_type_hint", self._server.hint))
        return await self._sent("POST", endpoint, [*_FORM, *headers], urlencode(members).encode("ascii"))

    async def _sent(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes | None = None
    ) -> Fetched:
        server = self._server
        try:
            return await self._fetch(
                method, url, headers=headers, body=body, timeout=server.timeout, reach=server.reach
            )
        except StoreUnavailable as error:
            raise _unreachable(error) from None

    async def _discovered(self) -> str:
        """The endpoint, by OpenID Connect Discovery or else by RFC 8414. Raises NoAnswer."""
        issuer = self._server.issuer or ""
        for url in metadata_urls(issuer):
            answer = await self._sent("GET", url, [("accept", "application/json")])
            endpoint = read_metadata(answer.body, issuer) if answer.status == 200 else None
            if endpoint is not None:
                return endpoint
        raise NoAnswer("metadata", "no metadata of the issuer name an introspection_endpoint: give its url")

    # -- what is told of it

    def _counted(self, answer: A) -> A:
        self.line.count(answer.value if isinstance(answer, Told) else "active")
        return answer

    def _report(self, problem: NoAnswer) -> None:
        """Say what is wrong once for each outage. What a server refuses us for is the operator's to mend."""
        if self.line.failed(problem.sort, str(problem), self._ports.clock.monotonic()):
            level = logging.ERROR if problem.sort == "credentials" else logging.WARNING
            _log.log(level, "introspection at %s: %s", self._server.host, problem)

    def _emit(self, moves: Moves) -> None:
        for before, after in moves:
            name = f"introspection:{self._server.host}"
            self._ports.events.emit(BreakerChanged(name, before.value, after.value))


def read_answer(answer: Fetched) -> Answer:
    """The members of an answer that says `active`, or INACTIVE. Raises NoAnswer on anything that is no such answer."""
    if answer.status != 200:
        raise _refusal(answer)
    if "jwt" in answer.headers.get("content-type", "").lower():
        raise NoAnswer("answer", "it answers with a signed JWT (RFC 9701), which is not supported: have it send JSON")
    document = _object(answer.body)
    if document.get("active") is False:
        return Told.INACTIVE
    if document.get("active") is not True:
        raise NoAnswer("answer", "its answer is no JSON object that says whether the token is active")
    # Some servers write null for what there is not.
    members = {name: value for name, value in document.items() if value is not None}
    for name, is_right in _TYPES.items():
        if name in members and not is_right(members[name]):
            raise NoAnswer("member", f"its answer has a member {name} of the wrong form", Grade.IGNORE)
    return members


def _unreachable(error: StoreUnavailable) -> NoAnswer:
    """One line of what the fetch says; it may quote a server, so nothing but plain characters."""
    return NoAnswer("unreachable", re.sub(r"[^ -~]+", " ", str(error))[:200])


def _refusal(answer: Fetched) -> NoAnswer:
    status = answer.status
    if status in (401, 403) or (status == 400 and _object(answer.body).get("error") in _REFUSES_THE_CLIENT):
        why = "it refuses this gateway's own credentials: see to client_id, client_auth and the secret or key"
        return NoAnswer("credentials", f"it answered {status}: {why}")
    grade = Grade.IGNORE if status in _ABOUT_THE_TOKEN else Grade.BAD
    return NoAnswer("status", f"it answered {status}", grade)


def _object(text: bytes) -> dict[str, Any]:
    """The JSON object in a body, an empty one where there is none."""
    try:
        found = read_json(text)
    except JsonRefused:
        return {}
    return found if isinstance(found, dict) else {}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and _CONTROL.search(value) is None


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LAST_DATE


def _is_audience(value: object) -> bool:
    return _is_text(value) or (isinstance(value, list) and all(map(_is_text, value)))


_TYPES: Final[dict[str, Callable[[object], bool]]] = {
    "exp": _is_time, "nbf": _is_time, "iat": _is_time, "aud": _is_audience, "iss": _is_text, "sub": _is_text,
    "client_id": _is_text, "username": _is_text, "jti": _is_text, "token_type": _is_text,
    "cnf": lambda value: isinstance(value, dict),
}  # fmt: skip
"""What RFC 7662 section 2.2 says of the members that are looked at here."""


def read_metadata(body: bytes, issuer: str) -> str | None:
    """The introspection endpoint that metadata name, if they do. Raises NoAnswer on those of another issuer."""
    document = _object(body)
    if document.get("issuer") != issuer:
        raise NoAnswer("metadata", "the metadata found there are not those of the issuer, as it is spelt here")
    endpoint = document.get("introspection_endpoint")
    if endpoint is None:
        return None
    try:
        return checked_url(str(endpoint), http=issuer.startswith("http:"), what="the introspection_endpoint")
    except ValueError:
        raise NoAnswer("metadata", "the introspection_endpoint of the metadata is no URL that may be used") from None
