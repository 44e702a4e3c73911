"""Candidate policies beside the one in force: what they would have said, counted, and never done."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal

from gatekit.core.events import Event
from gatekit.core.exchange import Exchange
from gatekit.core.ports import Ports
from gatekit.policies.authz.ruleset import BoundRule, Decision, RuleSet

FACT: Final = "authz.shadow"
"""The fact that tells which candidates disagree: `strict:would_deny:default`, several with commas between them."""

ANONYMOUS_CLASS: Final = "anonymous"
OTHER_CLASS: Final = "other"
MOST_CLASSES: Final = 16
"""How many classes of callers are counted apart, so that no scheme of somebody's making can fill the memory."""

Would = Literal["allow", "deny"]


@dataclass(frozen=True, slots=True)
class ShadowDisagreed(Event):
    """A candidate policy would have decided otherwise. `rule` is the candidate's that decided, `live_rule` the one in
    force; `principal` is the scheme the caller came by, or `anonymous`; `route` is the id of the route."""

    candidate: str
    would: Would
    rule: str
    live_rule: str
    principal: str
    route: str | None


class Tally:
    """What was counted of one candidate. A cell: it outlives reloads that leave the candidate as it is.

    `agreed` requests were decided alike, of `unknown` ones it could not be said without asking somebody. The others are counted by what the candidate would have done, its rule and
    the class of the caller; `failed` counts by rule and class how often a rule of the candidate could not be told.
    """

    __slots__ = ("_classes", "agreed", "disagreed", "failed", "unknown")

    def __init__(self) -> None:
        self.agreed = 0
        self.unknown = 0
        self.disagreed: dict[tuple[Would, str, str], int] = {}
        self.failed: dict[tuple[str, str], int] = {}
        self._classes: set[str] = set()

    def class_of(self, scheme: str) -> str:
        """The class that callers of that scheme are counted in."""
        if scheme not in self._classes:
            if len(self._classes) >= MOST_CLASSES:
                return OTHER_CLASS
            self._classes.add(scheme)
        return scheme

    def status(self) -> dict[str, Any]:
        """The counts as plain data."""
        return {
            "agreed": self.agreed,
            "unknown": self.unknown,
            "disagreed": [
                {"would": would, "rule": rule, "principal": principal, "count": count}
                for (would, rule, principal), count in sorted(self.disagreed.items())
            ],
            "failed": [
                {"rule": rule, "principal": principal, "count": count}
                for (rule, principal), count in sorted(self.failed.items())
            ],
        }


class Candidate:
    """One candidate at work, over the rules in force. Rules that it takes over from them (None) are not looked at again:
    what the decision in force says of them is enough, and nobody is asked twice."""

    __slots__ = ("_allow", "_denies_as_live", "_deny", "_rest", "name", "rules", "tally")

    def __init__(
        self,
        name: str,
        live: RuleSet,
        allow: Sequence[BoundRule] | None,
        deny: Sequence[BoundRule] | None,
        tally: Tally,
        *,
        public: bool,
    ) -> None:
        self.name = name
        self.tally = tally
        allows = live.allow if allow is None else allow
        self.rules = RuleSet(allows, live.deny if deny is None else deny, public=public)
        self._allow = None if allow is None else RuleSet(allow, (), public=public).known
        self._deny = RuleSet((), deny, public=True).known if deny else None
        self._denies_as_live = deny is None
        rest = RuleSet(allows, (), public=public)
        self._rest = None if any(rule.part.asks for rule in allows) else rest.known

    def decide(self, exchange: Exchange, live: Decision) -> Decision | None:
        """What the candidate would come to, where `live` is what is done. None where somebody would have to be asked."""
        if self._deny is not None:
            denied = self._deny(exchange)
            if not denied.allowed:
                return denied
        elif self._denies_as_live and live.side == "deny":
            return live
        if self._allow is not None:
            return self._allow(exchange)
        if live.side != "deny":
            return live
        return None if self._rest is None else self._rest(exchange)


class Shadow:
    """The candidates of one policy at work."""

    __slots__ = ("_events", "_guard", "candidates")

    def __init__(self, candidates: Sequence[Candidate], ports: Ports) -> None:
        self.candidates = tuple(candidates)
        self._events = ports.events
        self._guard: AbstractContextManager[object] = ports.lock()

    def compare(self, exchange: Exchange, live: Decision) -> None:
        """Count what each candidate would have decided. Nothing of it reaches the client or the upstream."""
        for candidate in self.candidates:
            found = candidate.decide(exchange, live)
            with self._guard:
                if found is None:
                    candidate.tally.unknown += 1
                elif found.allowed is live.allowed and (found is live or not found.failed):
                    candidate.tally.agreed += 1
                else:
                    self._differs(exchange, live, candidate.name, found, candidate.tally)

    def _differs(self, exchange: Exchange, live: Decision, name: str, found: Decision, tally: Tally) -> None:
        who = exchange.identity
        principal = tally.class_of(who.scheme if who is not None and who.scheme else ANONYMOUS_CLASS)
        if found.failed:
            failure = (found.rule, principal)
            tally.failed[failure] = tally.failed.get(failure, 0) + 1
        if found.allowed is live.allowed:
            tally.agreed += 1
            return
        would: Would = "allow" if found.allowed else "deny"
        key = (would, found.rule, principal)
        tally.disagreed[key] = tally.disagreed.get(key, 0) + 1
        told, text = exchange.facts.get(FACT), f"{name}:would_{would}:{found.rule}"
        exchange.facts[FACT] = text if told is None else f"{told},{text}"
        if self._events.wants(ShadowDisagreed):
            route = None if exchange.route is None else exchange.route.id
            self._events.emit(ShadowDisagreed(name, would, found.rule, live.rule, principal, route))

    def status(self) -> dict[str, Any]:
        """The counts of every candidate, by name."""
        with self._guard:
            return {one.name: one.tally.status() for one in self.candidates}
