"""What is doubtful about the settings of a rate limit, each a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gatekit.policies.rate_limit.rules import Terms

if TYPE_CHECKING:
    from gatekit.policies.rate_limit.config import RateLimit


def remarks(spec: RateLimit) -> Iterator[str]:
    rules = spec.named_rules()
    anonymous = [name for name, terms, _ in rules if not terms.needs_identity()]
    if 0 < len(anonymous) < len(rules):
        yield (
            f"the rules {', '.join(anonymous)} need no identity but stand behind authentication with the others: put them "
            "into a RateLimit of their own, so that a flood is refused before anything is verified"
        )
    for name, terms, _ in rules:
        for sentence in _of_rule(spec, terms):
            yield sentence if len(rules) == 1 else f"the rule {name}: {sentence}"
    if spec.instances > 1 and spec.store is None and not spec.divide:
        yield "instances changes nothing here: each process counts the whole limit; set divide: true, or a store"
    if all(terms.shadow for _, terms, _ in rules):
        yield "nothing is refused as long as shadow is set: take it out once you have seen what would be"


def _of_rule(spec: RateLimit, terms: Terms) -> Iterator[str]:
    if terms.by and all(isinstance(part, str) and part.startswith(("header:", "param:")) for part in terms.by):
        yield (
            "who chooses what he is counted by is not limited, since he may send another value each time: count by what "
            "authentication found, or put a limit by client_ip before it"
        )
    if terms.calendar and spec.store is None:
        yield "what was used of a day, week or month is forgotten when the process restarts: give a store"
    longest = max((quota.period for quota in terms.read(terms.limit) if quota.algorithm != "concurrency"), default=0)
    if not terms.calendar and spec.store is None and longest >= 86400:
        yield "what was used of a day or more is forgotten when the process restarts: give a store"
    if terms.algorithm == "sliding_log" and len(terms.limit) + sum(text.count(";") for text in terms.limit) > 1:
        yield "sliding_log remembers every request for each limit: sliding_window tells nearly the same for two numbers"
    if isinstance(terms.plan, str) and terms.plan.startswith("claim:") and terms.by == ("client_ip",):
        yield "callers have plans but are counted by address: count by user, tenant or client"
