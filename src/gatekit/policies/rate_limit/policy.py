"""Rate limiting at work: one question to the counters for all rules, then header fields or a refusal.

Rules in shadow are asked about apart, once all others have let a request pass: what they would have refused must take
nothing from those.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gatekit.core.counters import Taken
from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import is_length
from gatekit.core.outcome import Outcome
from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.policies.rate_limit.admin import Admin, explained
from gatekit.policies.rate_limit.answers import Reading, exceeded, left_field, policy_field, tell_legacy, unavailable
from gatekit.policies.rate_limit.charge import AtOnce, Charges, Settles
from gatekit.policies.rate_limit.counting import Counting, Held, Question, questions
from gatekit.policies.rate_limit.setting import Setting
from gatekit.policies.rate_limit.telling import Telling
from gatekit.policies.rate_limit.texts import LARGEST

if TYPE_CHECKING:
    from gatekit.policies.rate_limit.config import RateLimit


class RateLimitPolicy:
    """Asks the counters and says what they said."""

    __slots__ = (
        "_all", "_enforced", "_fact", "_fallback", "_fields", "_fixed", "_here", "_legacy", "_reports", "_setting", "_shadows",
        "_telling", "observe", "on_response",
    )  # fmt: skip

    # Hooks that are there only where something is settled at the end of an exchange.
    observe: Callable[[Exchange, Outcome], None]
    on_response: Callable[[Exchange, ResponseHead], None]

    def __init__(self, spec: RateLimit, ports: Ports) -> None:
        self._setting = Setting(spec, ports)
        local, fallback = self._setting.local, self._setting.fallback
        self._here = None if local is None else AtOnce(local)
        self._fallback = None if fallback is None else AtOnce(fallback)
        countings = self._setting.countings
        self._enforced = tuple(one for one in countings if not one.shadow)
        self._shadows = tuple(one for one in countings if one.shadow)
        self._fields = spec.headers
        self._legacy = spec.legacy_headers
        self._telling = Telling(spec.name, frozenset(one.on_error for one in countings), ports)
        # One value for everybody, where everybody has the same limits.
        fixed = all(one.allowances.fixed for one in self._enforced)
        meters = [meter for one in self._enforced for meter in one.allowances.own.meters]
        self._fixed = policy_field(meters) if fixed else None
        self._all = len(meters)
        # Of this policy alone: the same spec may stand in several places of one pipeline.
        self._fact = f"rate_limit {id(self):x}"
        self._reports = frozenset(one.report for one in countings if one.report is not None)
        if any(one.settles for one in countings):
            self.observe = self._settle
        if self._reports:
            self.on_response = self._read_reports

    def decide(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        if not self._setting.loaded:
            return self._once_loaded(exchange)
        asked = questions(self._enforced, exchange, self._setting.mark)
        here = self._here
        if here is None:
            return self._ask_store(exchange, asked)
        if asked:
            reply = self._told(exchange, asked, here.take_now([one.ask for one in asked]), here)
            if reply is not None:
                return reply
        if self._shadows:
            asked = questions(self._shadows, exchange, self._setting.mark)
            self._noted(exchange, asked, here.take_now([one.ask for one in asked]), here)
        return None

    async def _once_loaded(self, exchange: Exchange) -> Reply | None:
        """Nobody is taken for one without a plan before the plans have been read, or could not be."""
        await self._setting.load()
        decided = self.decide(exchange)
        return decided if decided is None or isinstance(decided, Reply) else await decided

    async def _ask_store(self, exchange: Exchange, asked: list[Question]) -> Reply | None:
        if asked:
            try:
                taken = await self._take(exchange, asked)
            except StoreUnavailable as error:
                self._telling.lost(error)
                reply = self._without_store(exchange, asked)
            else:
                reply = self._told(exchange, asked, taken, self._there())
            if reply is not None:
                return reply
        asked = questions(self._shadows, exchange, self._setting.mark)
        if asked:
            try:
                taken = await self._take(exchange, asked)
            except StoreUnavailable as error:
                self._telling.lost(error)
            else:
                self._noted(exchange, asked, taken, self._there())
        return None

    async def _take(self, exchange: Exchange, asked: list[Question]) -> Sequence[Taken]:
        """What the store answers. Where that is not heard, what may have been taken is given back at the end."""
        store = self._setting.store
        assert store is not None
        under_way = [one for one in asked if one.meter.concurrent]
        if under_way:
            self._held(exchange).unsure += under_way
        taken = await store.take([one.ask for one in asked])
        if under_way:
            self._held(exchange).unsure.clear()
        self._telling.back()
        return taken

    def _without_store(self, exchange: Exchange, asked: Iterable[Question]) -> Reply | None:
        """What becomes of a request that the store cannot be asked about. What one process may count by itself is less than
        the limit, and may be less than one request costs: that one then takes all of it."""
        here: list[Question] = []
        for one in asked:
            if one.counting.on_error == "deny":
                return unavailable(exchange)
            if one.counting.on_error == "local":
                share = one.meter.share
                here.append(one._replace(ask=one.ask._replace(limit=share, cost=min(one.ask.cost, share.amount))))
        fallback = self._fallback
        if not here or fallback is None:
            return None
        return self._told(exchange, here, fallback.take_now([one.ask for one in here]), fallback)

    def _there(self) -> Charges:
        charges = self._setting.charges
        assert charges is not None
        return charges

    def _told(
        self, exchange: Exchange, asked: Sequence[Question], taken: Sequence[Taken], book: Settles
    ) -> Reply | None:
        """Header fields where it fits, the refusal where it does not."""
        for answer in taken:
            if not answer.allowed:
                self._note_refused(exchange, asked, taken, shadow=False)
                readings = [Reading(one.meter, answer) for one, answer in zip(asked, taken, strict=True)]
                return exceeded(readings, legacy=self._legacy, fields=self._fields)
        self._took(exchange, asked, taken, book)
        if self._fields:
            policy = self._fixed
            if policy is None or len(asked) < self._all:
                policy = policy_field([one.meter for one in asked])
            exchange.respond_put(b"ratelimit-policy", policy)
            exchange.respond_put(b"ratelimit", left_field(asked, taken))
        if self._legacy:
            tell_legacy(exchange, [Reading(one.meter, answer) for one, answer in zip(asked, taken, strict=True)])
        return None

    def _noted(self, exchange: Exchange, asked: Sequence[Question], taken: Sequence[Taken], book: Settles) -> None:
        """What rules in shadow would have said."""
        if all(answer.allowed for answer in taken):
            self._took(exchange, asked, taken, book)
        else:
            self._note_refused(exchange, asked, taken, shadow=True)

    def _note_refused(
        self, exchange: Exchange, asked: Sequence[Question], taken: Sequence[Taken], *, shadow: bool
    ) -> None:
        """For figures, events and operators: a rule once, each of its limits by itself."""
        counted: Counting | None = None
        for one, answer in zip(asked, taken, strict=True):
            if not answer.allowed:
                if one.counting is not counted:
                    counted = one.counting
                    counted.figures.count_refused(shadow=shadow)
                self._telling.refused(exchange, one.counting.name, one.meter, one.caller, answer, shadow=shadow)

    def _took(self, exchange: Exchange, asked: Sequence[Question], taken: Sequence[Taken], book: Settles) -> None:
        """Note what was taken, for figures and for the end of the exchange."""
        counted: Counting | None = None
        for one, answer in zip(asked, taken, strict=True):
            counting, meter, caller, ask = one
            if counting is not counted:
                counted = counting
                counting.figures.allowed += 1
            if answer.remaining <= meter.near:
                counting.figures.near += 1
                self._telling.near(exchange, counting.name, meter, caller, answer.remaining)
            if meter.concurrent:
                self._held(exchange).taken.append((one, book))
                book.hold(ask)
            elif counting.charges:
                self._held(exchange).taken.append((one, book))

    def _held(self, exchange: Exchange) -> Held:
        found = exchange.fact(self._fact)
        if found is None:
            found = exchange.facts[self._fact] = Held()
        held: Held = found
        return held

    def _read_reports(self, exchange: Exchange, head: ResponseHead) -> None:
        """Take what the upstream reports out of what clients see, and keep it if it is a number."""
        held = exchange.fact(self._fact)
        for name in self._reports:
            values = head.get_all(name)
            if not values:
                continue
            head.remove(name)
            value = values[0].strip(" \t").encode("latin-1")
            if held is not None and len(values) == 1 and is_length(value) and int(value) <= LARGEST:
                held.reports[name] = int(value)
            else:
                for counting in (one for one in self._setting.countings if one.report == name):
                    counting.figures.unreadable_charges += 1

    def _settle(self, exchange: Exchange, outcome: Outcome) -> None:
        """Give back what is no longer under way, and charge what it turned out to cost. The first time only."""
        held: Held | None = exchange.fact(self._fact)
        if held is None:
            return
        del exchange.facts[self._fact]
        for one in held.unsure:
            self._there().release(one.ask)
        for one, book in held.taken:
            if one.meter.concurrent:
                book.release(one.ask)
        costs: dict[str, int | None] = {}
        for one, book in held.taken:
            if not one.meter.concurrent:
                name = one.counting.name
                if name not in costs:
                    costs[name] = one.counting.charged(exchange, outcome, held.reports)
                cost = costs[name]
                if cost is not None and cost != one.ask.cost:
                    book.charge(one.ask._replace(cost=cost - one.ask.cost))

    def jobs(self) -> list[Job]:
        return self._setting.jobs()

    def status(self) -> Mapping[str, Any]:
        """Figures of each rule since it was set up, and of counters and stores."""
        told: dict[str, Any] = {"rules": {one.name: one.figures.told() for one in self._setting.countings}}
        if self._setting.store is not None:
            told["store_errors"] = self._telling.store_errors
            told["store_lost"] = self._telling.is_lost
        return {**told, **self._setting.status()}

    def explain(self, exchange: Exchange) -> Iterable[str]:
        return explained(self._setting, exchange)

    def admin(self) -> Admin:
        """What an operator may look at and change."""
        return Admin(self._setting, self._telling)
