"""Rules at work: allow rules, deny rules over them, and what they come to for a request.

A deny rule that holds or could not be told denies. Otherwise an allow rule that holds allows. Otherwise the request is
refused. The order in which rules are written decides nothing but which of several that say the same is named.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Literal

from gatekit.core.exchange import Exchange
from gatekit.core.ports import Ports
from gatekit.policies.authz.conditions import compiled
from gatekit.policies.authz.model import Conditions
from gatekit.policies.authz.rules import Asking, Decide, Note, Part, Verdict, told_by
from gatekit.policies.authz.site import Site

_log = logging.getLogger("gatekit.authz")

DEFAULT = "default"
"""The id that stands for no rule: nothing allowed the request."""

PUBLIC = "public"
"""The id that stands for `public: true`."""


class Decision:
    """What rules come to: whether the request may pass, and the rule that decided. Made beforehand, one object for each.

    `side` tells whether that was a deny rule, an allow rule (or `public`), or none; `failed` that the rule could not be
    told. `log_in`: to a caller who is nobody in particular it says that logging in may help.
    """

    __slots__ = ("allowed", "failed", "log_in", "rule", "side")

    def __init__(
        self,
        allowed: bool,
        rule: str,
        side: Literal["allow", "deny", "none"],
        *,
        failed: bool = False,
        log_in: bool = False,
    ) -> None:
        self.allowed = allowed
        self.rule = rule
        self.side = side
        self.failed = failed
        self.log_in = log_in

    def __repr__(self) -> str:
        return f"<{'allowed' if self.allowed else 'refused'} by {self.rule}{', which failed' if self.failed else ''}>"


class BoundRule:
    """A rule at work. `needs` are scopes that a caller may be told to bring: with them the rule would allow, where
    `granted` holds."""

    __slots__ = ("failed", "granted", "held", "id", "needs", "note", "part")

    def __init__(self, asked: Conditions, name: str, ports: Ports, *, deny: bool, within: str = "") -> None:
        self.id = name
        self.note = _once(within + name, deny=deny)
        self.part: Part = compiled(asked, Site(ports, self.note, deny=deny))
        side: Literal["allow", "deny"] = "deny" if deny else "allow"
        self.held = Decision(not deny, name, side, log_in=self.part.caller)
        self.failed = Decision(False, name, side, failed=True)
        self.needs = () if deny else tuple(sorted(set(_needed(asked))))
        self.granted: Decide | None = None
        if self.needs:
            self.granted = compiled(asked, Site(ports, self.note, scopes_granted=True)).decide

    def look(self, exchange: Exchange) -> Verdict | Asking:
        """What the rule says to this request. Never raises."""
        try:
            found = self.part.decide(exchange)
        except Exception as error:
            self.note(error)
            return None
        if found is True or found is False or callable(found):
            return found
        self.note(None)
        return None

    def would_hold(self, exchange: Exchange) -> bool:
        """Whether it would allow if the caller had the scopes it needs. Nobody is asked for that."""
        # Its scopes stand in it as a condition that holds, so that what could raise is a part among others, and guarded.
        return self.granted is not None and self.granted(exchange) is True


def _needed(asked: Conditions) -> Iterable[str]:
    """The scopes that the rule cannot hold without; of one of several, the first."""
    yield from asked.scopes or ()
    yield from (asked.any_scope or ())[:1]
    for one in asked.all or ():
        yield from _needed(one)


def _once(name: str, *, deny: bool) -> Note:
    """Logs the first time that something in a rule could not be told: of an exception its type and place, not its text,
    which may hold what nobody may read."""
    follows = "it denies" if deny else "it does not allow"
    noted = False

    def note(error: Exception | None) -> None:
        nonlocal noted
        if not noted:
            noted = True
            why = "who was asked did not say" if error is None else f"{type(error).__qualname__} in {_place(error)}"
            _log.error("the authz rule %s could not be evaluated, and then %s: %s", name, follows, why)

    return note


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "an unknown place" if trace is None else f"{trace.tb_frame.f_code.co_qualname}, line {trace.tb_lineno}"


Look = Callable[[Exchange], Decision | Callable[[], Awaitable[Decision]]]
"""What rules come to; where somebody must be asked, a function that asks."""


class RuleSet:
    """The rules of one policy at work. `look` never raises; `known` asks nobody, and takes a rule that would for one that
    could not be told."""

    __slots__ = ("allow", "deciders", "default", "deny", "known", "look")

    def __init__(self, allow: Sequence[BoundRule], deny: Sequence[BoundRule], *, public: bool) -> None:
        self.allow = tuple(allow)
        self.deny = tuple(deny)
        if public:
            self.default = Decision(True, PUBLIC, "allow")
        else:
            self.default = Decision(False, DEFAULT, "none", log_in=any(rule.part.caller for rule in allow))
        self.deciders = tuple(decider for rule in (*allow, *deny) for decider in rule.part.deciders())
        self.known = self._known()
        self.look: Look = self._later if any(rule.part.asks for rule in (*allow, *deny)) else self.known

    def may_log_in(self, exchange: Exchange) -> bool:
        """Whether no deny rule holds that would hold whoever called."""
        return not any(rule.look(exchange) is True for rule in self.deny if not rule.part.caller)

    def _known(self) -> Callable[[Exchange], Decision]:
        """For rules that all know their answer: the way of nearly every request, in one function."""
        denies = tuple((rule.part.decide, rule) for rule in self.deny)
        allows = tuple((rule.part.decide, rule) for rule in self.allow)
        default = self.default

        def look(exchange: Exchange) -> Decision:
            failed: Decision | None = None
            for decide, rule in denies:
                try:
                    found = decide(exchange)
                except Exception as error:
                    rule.note(error)
                    found = None
                if found is True:
                    return rule.held
                if found is not False:
                    rule.note(None)
                    failed = failed or rule.failed
            if failed is not None:
                return failed
            for decide, rule in allows:
                try:
                    found = decide(exchange)
                except Exception as error:
                    rule.note(error)
                    found = None
                if found is True:
                    return rule.held
                if found is not False:
                    rule.note(None)
                    failed = failed or rule.failed
            return failed or default

        return look

    def _later(self, exchange: Exchange) -> Decision | Callable[[], Awaitable[Decision]]:
        """Where somebody may have to be asked: nobody is while what is known settles it, or nothing could allow."""
        denied, failed, denying = _heard(self.deny, exchange)
        if denied is not None:
            return denied.held
        if failed is not None:
            return failed.failed
        allowed, failed, allowing = _heard(self.allow, exchange)
        found = self.default if failed is None else failed.failed
        if allowed is not None:
            found = allowed.held
        if not (allowing or (denying and found.allowed)):
            return found
        return partial(_asked, denying, allowing, found)


Waiting = list[tuple[Asking, BoundRule]]


def _heard(rules: Iterable[BoundRule], exchange: Exchange) -> tuple[BoundRule | None, BoundRule | None, Waiting]:
    """The first rule that holds, and then nothing else matters; else the first that could not be told, and those that have
    to ask."""
    failed: BoundRule | None = None
    waiting: Waiting = []
    for rule in rules:
        found = rule.look(exchange)
        if found is True:
            return rule, None, []
        if callable(found):
            waiting.append((found, rule))
        elif found is None:
            failed = failed or rule
    return None, failed, waiting


async def _asked(denying: Waiting, allowing: Waiting, found: Decision) -> Decision:
    """`found` is what it comes to where nobody who is asked says that his rule holds."""
    failed: Decision | None = None
    for asking, rule in denying:
        told = await told_by(asking, rule.note)
        if told is True:
            return rule.held
        if told is None:
            rule.note(None)
            failed = failed or rule.failed
    if failed is not None:
        return failed
    for asking, rule in allowing:
        told = await told_by(asking, rule.note)
        if told is True:
            return rule.held
        if told is None:
            rule.note(None)
            failed = failed or rule.failed
    return found if failed is None or found.failed else failed
