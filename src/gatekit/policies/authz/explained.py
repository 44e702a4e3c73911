"""Why rules come to what they come to, in words. What headers and claims hold is never shown: it may be secret."""

from __future__ import annotations

from gatekit.core.exchange import Exchange
from gatekit.policies.authz.rules import Part
from gatekit.policies.authz.ruleset import BoundRule, Decision, RuleSet


def explained(rules: RuleSet, exchange: Exchange) -> list[str]:
    """The decision, then each rule: that it holds, or the first thing that spoke against it."""
    lines = [decided(rules, exchange)]
    lines += [f"deny {rule.id}: {_about(rule, exchange)}" for rule in rules.deny]
    lines += [f"allow {rule.id}: {_about(rule, exchange)}" for rule in rules.allow]
    return lines


def decided(rules: RuleSet, exchange: Exchange) -> str:
    """What rules come to."""
    found = rules.look(exchange)
    if not isinstance(found, Decision):
        return "somebody outside has to be asked"
    if found.failed:
        return f"refused: the rule {found.rule} could not be evaluated"
    if found.side == "none":
        return "refused by default: no rule allows it"
    return f"{'allowed' if found.allowed else 'refused'} by {found.rule}"


def _about(rule: BoundRule, exchange: Exchange) -> str:
    found = rule.look(exchange)
    if found is True:
        return "holds"
    said = "has to ask" if callable(found) else "could not be evaluated" if found is None else "does not hold"
    return f"{said}: {_against(rule.part, exchange)}"


def _against(part: Part, exchange: Exchange) -> str:
    """The first thing that keeps a condition from holding. It is known not to hold."""
    if part.joint == "all":
        first = (_against(one, exchange) for one in part.parts if _told(one, exchange) != "holds")
        return next(first, f"it was not so that {part.words}")
    if part.joint == "any":
        return ", and ".join(_against(one, exchange) for one in part.parts)
    told = _told(part, exchange)
    if part.joint == "not":
        (inner,) = part.parts
        if told != "fails":
            return _against(inner, exchange)
        lacking = None if inner.lacks is None else inner.lacks(exchange)
        return f"it is so that {inner.words}" if lacking is None else lacking
    if told == "asks":
        return f"whether {part.words} has to be asked"
    if told == "untold":
        return f"it could not be told whether {part.words}"
    lacking = None if part.lacks is None else part.lacks(exchange)
    return f"it is not so that {part.words}" if lacking is None else lacking


def _told(part: Part, exchange: Exchange) -> str:
    try:
        found = part.decide(exchange)
    except Exception:
        return "untold"
    if callable(found):
        return "asks"
    return "holds" if found is True else "fails" if found is False else "untold"
