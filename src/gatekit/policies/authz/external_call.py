"""An outside authoriser at work: what is known of it, one question to it, and what follows from the answer.

Nothing is held while it is waited for but a place among those that may wait. What goes wrong is told to operators once
in a while, in words without a value of any request.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from gatekit.core.events import BreakerChanged
from gatekit.core.exchange import Exchange
from gatekit.core.headers import encode_value, fold
from gatekit.core.outcome import Grade
from gatekit.core.ports import Lock, Ports, Reach
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.mechanisms.breaker import Breaker, Permit, Rules, State
from gatekit.mechanisms.recent import RecentCache
from gatekit.policies.authz.external_wire import DIALECTS, Answer, AnswerRefused, Question, QuestionRefused, Told
from gatekit.policies.authz.rules import Asking, Verdict, answer_with

if TYPE_CHECKING:
    from gatekit.policies.authz.external import External

_log = logging.getLogger("gatekit.authz")

BREAKER: Final = Rules(
    failure_rate=0.5, min_requests=5, window=2.0, open_for=1.0, open_at_most=30.0, probes=1, ramp=0.0
)
"""Half of the questions of the last 2 s failed, and there were 5: then none is asked for a second, and after that one, to
see. There is no ramp, since whoever is not asked about is denied."""

QUIET: Final = 10.0
"""Seconds between two lines in the log about one authoriser."""

_LEAST: Final = 0.005
"""Seconds that must be left for a second attempt to be worth it."""
_COUNTED: Final = ("asked", "allowed", "denied", "cached", "failed", "withheld", "retried", "unaskable")


class Line:
    """What is known of one authoriser: shared by every place that asks it the same way, and kept across reloads."""

    __slots__ = (
        "breaker",
        "cache",
        "counts",
        "in_flight",
        "last_error",
        "last_error_at",
        "lock",
        "moves",
        "quiet_until",
    )

    def __init__(self, spec: External, lock: Lock) -> None:
        self.lock = lock()
        self.moves: list[tuple[State, State]] = []
        self.breaker = Breaker(BREAKER, lambda before, after: self.moves.append((before, after)))
        self.cache: RecentCache[bytes, Answer] | None = None
        if spec.cache is not None:
            self.cache = RecentCache(spec.cache.entries)
        self.counts: Counter[str] = Counter()
        self.in_flight = 0
        self.quiet_until = 0.0
        self.last_error: str | None = None
        self.last_error_at = 0.0

    def taken_moves(self) -> list[tuple[State, State]]:
        """How the breaker moved since this was asked last. To be called under the lock."""
        moves = self.moves
        if moves:
            self.moves = []
        return moves


class Failed(Exception):
    """There is no answer. The text says why, for operators, without a value of the request.

    `grade` is what that says about the authoriser.
    """

    def __init__(self, why: str, grade: Grade = Grade.BAD) -> None:
        self.grade = grade
        super().__init__(why)


class BoundExternal:
    """The authoriser at work."""

    __slots__ = (
        "_clock", "_credentials", "_denied", "_fetch", "_key", "_line", "_ports", "_question", "_random", "_reach", "_read",
        "_refused", "_spec", "_told", "_ttl", "_unavailable", "strips", "words",
    )  # fmt: skip

    def __init__(self, spec: External, ports: Ports) -> None:
        """Raises ValueError on credentials that are no header values, MissingSecret, MissingPort."""
        self._spec = spec
        self._ports = ports
        self._clock, self._random, self._fetch = ports.clock, ports.random, ports.fetch
        self._question, self._read = DIALECTS[spec.style]
        self.words = f"the authoriser at {spec.host} agrees"
        self._credentials = tuple(_credential(name, reference, ports) for name, reference in spec.credentials.items())
        upstream = frozenset(name.encode("ascii") for name in spec.upstream_headers)
        self.strips = frozenset(map(fold, upstream))
        """Folded names of headers that come from the authoriser alone: a client's are to be removed from every request,
        also from one about which nobody is asked."""
        self._told = Told(
            url=spec.url.rstrip("/") if spec.style == "envoy" else spec.url,
            parts=frozenset(spec.send),
            claims=spec.claims,
            headers=frozenset(name.encode("ascii") for name in spec.headers),
            upstream=upstream,
            client=frozenset(name.encode("ascii") for name in spec.client_headers),
            relay_body=spec.relay_body,
        )
        self._ttl = 0.0 if spec.cache is None else spec.cache.ttl
        self._reach = Reach(spec.networks, spec.ca)
        written = spec.model_dump_json().encode("utf-8")
        self._key = ("external", sha256(written).digest())
        self._line: Line = ports.owned_by("authz").cell(self._key, lambda: Line(spec, ports.lock))
        self._denied = _refusal(Answer(False, []))
        self._refused = Reply(403, "authz.question_refused", "This request cannot be put to the authoriser.")
        detail = "Whether this is allowed cannot be told now."
        if spec.on_error == "unavailable":
            self._unavailable = Reply(503, "authz.authoriser_unavailable", detail, headers=[("retry-after", "1")])
        else:
            self._unavailable = Reply(403, "authz.authoriser_unavailable", detail)

    def decide(self, exchange: Exchange) -> Verdict | Asking:
        """What is kept is told at once; anything else must be asked."""
        cache = self._line.cache
        if cache is None:
            return partial(self._ask, exchange)
        question = self._asked(exchange)
        if question is None:
            return None
        digest = question.digest
        known = cache.get(digest, self._clock.monotonic())
        if known is not None:
            self._line.counts["cached"] += 1
            return self._carried_out(exchange, known)
        return partial(self._ask_once, exchange, question, digest, cache)

    def status(self) -> dict[str, object]:
        """How it goes with the authoriser: counts since the process began, `last_error` in words and its age in seconds."""
        line = self._line
        now = self._clock.monotonic()
        with line.lock:
            counts = {name: line.counts[name] for name in _COUNTED}
            found: dict[str, object] = {
                "authoriser": self._spec.host, "style": self._spec.style, **counts, "in_flight": line.in_flight,
                "breaker": line.breaker.state.value,
            }  # fmt: skip
        if line.last_error is not None:
            found["last_error"] = line.last_error
            found["last_error_age"] = round(now - line.last_error_at, 3)
        return found

    # -- asking

    def _asked(self, exchange: Exchange) -> Question | None:
        """The question about this request; None, with the refusal noted, where there can be none."""
        try:
            return self._question(self._told, exchange)
        except QuestionRefused as refused:
            self._line.counts["unaskable"] += 1
            _log.debug("a request cannot be put to the authoriser: %s", refused)
            answer_with(exchange, self._refused)
            return None

    async def _ask(self, exchange: Exchange) -> Verdict:
        question = self._asked(exchange)
        if question is None:
            return None
        return await self._settled(exchange, self._sent(question))

    async def _ask_once(
        self, exchange: Exchange, question: Question, digest: bytes, cache: RecentCache[bytes, Answer]
    ) -> Verdict:
        async def work() -> Answer:
            answer = await self._sent(question)
            cache.put(digest, answer, self._clock.monotonic(), self._ttl)
            return answer

        return await self._settled(exchange, self._ports.once((*self._key, digest), work))

    async def _settled(self, exchange: Exchange, pending: Awaitable[Answer]) -> Verdict:
        """What follows from the answer, or from there being none."""
        try:
            answer = await pending
        except (Failed, StoreUnavailable):
            if self._spec.on_error == "allow":
                self._clean(exchange)
                return True
            answer_with(exchange, self._unavailable)
            return None
        return self._carried_out(exchange, answer)

    async def _sent(self, question: Question) -> Answer:
        """One question, from the breaker's leave to the record of what came of it. Raises Failed."""
        line = self._line
        permit = self._begin()
        grade = Grade.IGNORE
        try:
            answer = await self._fetched(question)
            grade = Grade.GOOD
        except Failed as failed:
            grade = failed.grade
            self._report(failed)
            raise
        finally:
            now = self._clock.monotonic()
            with line.lock:
                line.in_flight -= 1
                line.breaker.record(permit, grade, now)
                moves = line.taken_moves()
            self._emit(moves)
        line.counts["allowed" if answer.allowed else "denied"] += 1
        return answer

    def _begin(self) -> Permit:
        """Leave to ask. Raises Failed."""
        line = self._line
        now, random = self._clock.monotonic(), self._random.random()
        why = "too many questions are under way"
        permit = None
        with line.lock:
            if line.in_flight < self._spec.max_in_flight:
                permit = line.breaker.try_acquire(now, random)
                why = "the breaker is open"
            if permit is not None:
                line.in_flight += 1
                line.counts["asked"] += 1
            moves = line.taken_moves()
        self._emit(moves)
        if permit is None:
            line.counts["withheld"] += 1
            raise Failed(why)
        return permit

    async def _fetched(self, question: Question) -> Answer:
        """The answer to one question, asked at most twice. Raises Failed."""
        spec = self._spec
        deadline = self._clock.monotonic() + spec.timeout
        headers = (*question.headers, *self._credentials)
        left, again = spec.timeout, spec.retry
        while True:
            try:
                fetched = await self._fetch(
                    question.method, question.url, headers=headers, body=question.body, timeout=left, reach=self._reach
                )
                return self._read(self._told, fetched)
            except AnswerRefused as refused:
                # Whoever answers in time is not down: one request that it chokes on must not keep the others out.
                raise Failed(str(refused), Grade.BAD if refused.down else Grade.IGNORE) from None
            except StoreUnavailable as error:
                left = deadline - self._clock.monotonic()
                # Only what says so itself was surely not heard.
                if not (again and getattr(error, "unsent", False) and left > _LEAST):
                    raise Failed(str(error)) from None
                again = False
                self._line.counts["retried"] += 1
            except Exception as error:
                raise Failed(f"asking raised {type(error).__name__}") from error

    # -- what follows

    def _carried_out(self, exchange: Exchange, answer: Answer) -> bool:
        """Put the authoriser's headers in place of the client's, or leave its refusal for the client."""
        if answer.allowed:
            self._clean(exchange)
            if answer.headers:
                exchange.headers.put_all(dict(answer.headers))
            return True
        plain = answer.status == 403 and answer.body is None and not answer.headers
        answer_with(exchange, self._denied if plain else _refusal(answer))
        return False

    def _clean(self, exchange: Exchange) -> None:
        strips = self.strips
        if strips:
            raw = exchange.headers.raw
            if any(fold(name) in strips for name, _ in raw):
                exchange.headers.raw = [pair for pair in raw if fold(pair[0]) not in strips]

    def _report(self, failed: Failed) -> None:
        """Take down what is wrong, and say it now and then."""
        line, now = self._line, self._clock.monotonic()
        line.counts["failed"] += 1
        line.last_error = str(failed)
        line.last_error_at = now
        if now >= line.quiet_until:
            line.quiet_until = now + QUIET
            _log.warning("the authoriser at %s: %s", self._spec.host, failed)

    def _emit(self, moves: list[tuple[State, State]]) -> None:
        for before, after in moves:
            self._ports.events.emit(BreakerChanged(f"authz:{self._spec.host}", before.value, after.value))


def _credential(name: str, reference: str, ports: Ports) -> tuple[str, str]:
    try:
        return name, encode_value(ports.secrets(reference)).decode("latin-1")
    except ValueError:
        raise ValueError(f"the credential {name} holds what a header cannot carry") from None


def _refusal(answer: Answer) -> Reply:
    """What the client is told of a denial."""
    detail = "The authoriser does not allow this."
    return Reply(answer.status, "authz.denied_by_authoriser", detail, headers=answer.headers, body=answer.body)
