"""Load shedding at work.

Where there is room `decide` is a plain function that takes a place and says None; where there is none it says 503 at
once, or gives a coroutine that waits. The place is given back in `observe`, which drivers call once for every exchange
that was asked about, also where the wait was cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any, Final

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Fault, Outcome
from gatekit.core.policy import Job
from gatekit.core.ports import Ports, Signal
from gatekit.core.verdict import Reply
from gatekit.mechanisms.lag import Lag
from gatekit.mechanisms.limiter import State, Waiter
from gatekit.policies.overload import answers
from gatekit.policies.overload.exempt import exemption
from gatekit.policies.overload.levels import DEFAULT, LEVELS, PRIORITY, RANKS
from gatekit.policies.overload.saturation import saturation
from gatekit.policies.overload.scope import Rules, Scope, Scopes

if TYPE_CHECKING:
    from gatekit.policies.overload.config import Overload

BEAT: Final = 0.05
"""Seconds between two beats of an event loop whose lag is watched."""
_GATEWAY: Final = "gateway"
_NO_ROUTE: Final = "-"


class OverloadPolicy:
    """`Overload` bound to ports. One for each place where the spec stands, in each generation."""

    __slots__ = (
        "_answers", "_begin", "_exempt", "_full", "_hold_streams", "_lag", "_level", "_name_of", "_now", "_one", "_ports",
        "_random", "_rules", "_scopes", "_shadow", "_states", "_where", "_why_exempt",
    )  # fmt: skip

    def __init__(self, spec: Overload, ports: Ports, rules: Rules) -> None:
        """Raises ValueError where another of the same name and extent stands at the same place."""
        key = (spec.kind, spec.name, spec.per)
        if (ports.owner, key) in ports.used:
            raise ValueError(f"two of them at one place with per: {spec.per} would count as one: give each a name")
        self._ports = ports
        self._rules = rules
        self._now = ports.clock.monotonic
        self._random = ports.random.random
        self._shadow = spec.shadow
        self._hold_streams = spec.hold_streams
        self._exempt = exemption(spec.exempt)
        self._answers = answers.Answers(spec.retry_after)
        if rules.bounds.queue or spec.lag:
            # Said now that it is missing, not when it is needed.
            _ = ports.signals
        self._states: Scopes = ports.cell(key, lambda: Scopes(ports.lock))
        self._name_of = _upstream_of if spec.per == "upstream" else _route_of
        self._scopes: dict[str | None, Scope] = {}
        self._one = self._states.get(_GATEWAY, rules, self._now()) if spec.per == "gateway" else None
        # Which scope an exchange has its place in: what it is routed by may have changed by its end.
        self._where: dict[Exchange, Scope] = {}
        self._lag: Lag | None = None
        if spec.lag:
            self._lag = ports.owned_by(spec.kind).cell(
                ("lag", spec.lag_begin, spec.lag_full), lambda: Lag(spec.lag_begin, spec.lag_full)
            )

    # -- hooks

    def decide(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        if self._exempt is not None and self._exempt(exchange):
            return None
        level = RANKS.get(exchange.fact(PRIORITY), DEFAULT)
        now = self._now()
        scope = self._one
        if scope is None:
            scope = self._where[exchange] = self._scope(exchange, now)
        if now >= scope.due or scope.rules is not self._rules:
            scope.turn(self._rules, exchange.generation, now)
        scope.mix.came[level] += 1
        lag = self._lag
        if scope.chances is not None or (lag is not None and now > lag.calm_until):
            reason = self._turned_away(scope, exchange, level, now)
            if reason is not None and not self._shadow:
                return self._shed(scope, exchange, level, reason)
        limiter = scope.limiter
        if limiter.enter(exchange, level, now):
            places = len(limiter.held)
            if places > scope.peak:
                scope.peak = places
            return None
        return self._full_up(scope, exchange, level, now)

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        """The time to the head is what counts as latency: how long a body takes is the client's affair, and a stream
        would be for ever. What failed is not measured: failing is quick, and says nothing about the work."""
        scope = self._one or self._where.get(exchange)
        if scope is None:
            return
        if exchange.reason is None and head.status < 500:
            scope.answered(exchange, self._now())
        if not self._hold_streams and (head.status == 101 or head.is_event_stream):
            now = self._now()
            if scope.leave(exchange, now) and exchange.reason is None:
                scope.succeeded(now)

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        scope = self._one or self._where.pop(exchange, None)
        if scope is None:
            return
        now = self._now()
        if scope.leave(exchange, now):
            scope.ended(outcome, now)

    def jobs(self) -> Iterable[Job]:
        """The beats of each loop that serves requests."""
        if self._lag is None:
            return ()
        lag, ports = self._lag, self._ports

        async def beat() -> None:
            await _beats(lag, ports)

        return (Job(("overload", "lag", lag.begin, lag.full), beat, lambda: BEAT),)

    # -- where there is no room

    def _turned_away(self, scope: Scope, exchange: Exchange, level: int, now: float) -> str | None:
        """Whether the dice are against it, and why."""
        lag = self._lag
        if lag is not None and now > lag.calm_until and "wsgi.version" not in exchange.scope:
            share = lag.share(now)
            if share > 0.0 and self._random() < scope.mix.chances(share)[level]:
                self._note(scope, level, answers.LAG)
                return answers.LAG
        chances = scope.chances
        if chances is not None and chances[level] and self._random() < chances[level]:
            self._note(scope, level, answers.ADMISSION)
            return answers.ADMISSION
        return None

    def _full_up(
        self, scope: Scope, exchange: Exchange, level: int, now: float
    ) -> Reply | Awaitable[Reply | None] | None:
        if self._shadow:
            limiter, queue = scope.limiter, scope.rules.bounds.queue
            if len(limiter.held) >= limiter.caps[level] + queue:
                self._note(scope, level, answers.QUEUE_FULL if queue else answers.CONCURRENCY)
            limiter.force(exchange, now)
            return None
        found = scope.join(exchange, level, now, self._signal)
        if isinstance(found, str):
            self._note(scope, level, found)
            return self._shed(scope, exchange, level, found)
        if found.state is State.HOLDS:
            return None
        return self._wait(scope, exchange, level, found)

    def _signal(self) -> Signal:
        return self._ports.signals()

    async def _wait(
        self, scope: Scope, exchange: Exchange, level: int, waiter: Waiter[Exchange, Signal]
    ) -> Reply | None:
        try:
            await waiter.signal.wait(scope.rules.bounds.max_wait)
        except BaseException:
            scope.give_up(waiter, self._now())
            raise
        reason = scope.waited(waiter, self._now())
        if reason is None:
            return None
        self._note(scope, level, reason)
        return self._shed(scope, exchange, level, reason)

    def _note(self, scope: Scope, level: int, reason: str) -> None:
        scope.count(reason, level, shadow=self._shadow)
        if reason != answers.ADMISSION:
            scope.mix.shed += 1

    def _shed(self, scope: Scope, exchange: Exchange, level: int, reason: str) -> Reply:
        exchange.fault = Fault.GATEWAY
        return self._answers.pick(reason, self._random())

    def _scope(self, exchange: Exchange, now: float) -> Scope:
        route = exchange.route
        found = self._scopes.get(None if route is None else route.id)
        if found is None:
            found = self._states.get(self._name_of(exchange), self._rules, now)
            self._scopes[None if route is None else route.id] = found
        return found

    # -- told

    def explain(self, exchange: Exchange) -> Iterable[str]:
        """What would be said to it now, without taking a place."""
        if self._exempt is not None and self._exempt(exchange):
            yield "exempt: it is never turned away here"
            return
        said = exchange.fact(PRIORITY)
        level = RANKS.get(said, DEFAULT)
        scope = self._one or self._scope(exchange, self._now())
        limiter = scope.limiter
        yield f"{LEVELS[level]}{'' if said else ' unless a priority says otherwise'}, counted under {scope.name}"
        if limiter.caps[level] < float("inf"):
            yield f"{len(limiter.held)} under way of {int(limiter.caps[level])} that its level may fill, {limiter.waiting} waiting"
        if self._shadow:
            yield "shadow: it is let in whatever is said"

    def status(self) -> dict[str, Any]:
        now = self._now()
        scopes = [self._one] if self._one is not None else list(dict.fromkeys(self._scopes.values()))
        late, full = (0.0, 1.0) if self._lag is None else (self._lag.late(now), self._lag.full)
        told = {scope.name: scope.status(now) for scope in scopes}
        return {
            "saturation": round(
                max([saturation(late=late, full=full), *(one["saturation"] for one in told.values())]), 3
            ),
            "lag": round(late, 4),
            "shadow": self._shadow,
            "scopes": told,
        }


async def _beats(lag: Lag, ports: Ports) -> None:
    """Beat in the loop that runs this, until it is cancelled."""
    now = ports.clock.monotonic
    beat = lag.enter(now() + BEAT)
    try:
        while True:
            await ports.signals().wait(BEAT)
            came = now()
            lag.came(beat, came, came + BEAT)
    finally:
        lag.leave(beat)


def _route_of(exchange: Exchange) -> str:
    return _NO_ROUTE if exchange.route is None else exchange.route.id


def _upstream_of(exchange: Exchange) -> str:
    """The cluster, or the split, that answers; `-` for the app behind a middleware, and for what nothing answers."""
    destination = None if exchange.route is None else exchange.route.pipeline.destination
    return _NO_ROUTE if destination is None else destination.name
