"""Why a request goes where it goes: the winner, and for every other candidate the first thing that spoke against it.

It asks the live matcher and its own index and predicates; there is no second implementation of matching here that could
disagree. It shows host, path and parameters of the path; of headers, query and cookies only whether they are there and
not what they hold: that may be secret.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from gatekit.core.exchange import Exchange
from gatekit.errors import RouteFailed
from gatekit.routing.matcher import Entry, Matcher, Rule
from gatekit.routing.predicates import Predicate, ValuePredicate

T = TypeVar("T")

FEW_RULES = 20
"""In a table smaller than this, rules whose host or path does not match are listed too; else they are counted."""

MOST_CANDIDATES = 100
"""How many losing candidates are listed; the rest are counted."""

_STEPS = (
    "priority",
    "host",
    "path",
    "method",
    "header predicates",
    "query predicates",
    "other predicates",
    "list order",
)


class Candidate(NamedTuple):
    """One rule that did not win, and why, in words."""

    rule_id: str
    why: str


class Explanation(Generic[T]):
    """What `explain` found. `str()` of it is for people.

    `winner` is the rule that won, None when none matched; `params` are its parameters. `candidates` lost, in rank
    order; `mismatched` counts the rules left out because host or path do not match, `unlisted` those left out for
    length. `failed` says which predicate raised: the request would be refused with 500. `allowed` are the methods of a
    405, empty for a 404. `policies` is what the policies of the winner would say, each with its kind.
    """

    __slots__ = ("allowed", "candidates", "failed", "mismatched", "params", "policies", "request", "unlisted", "winner")

    def __init__(self, request: str) -> None:
        self.request = request
        self.winner: Rule[T] | None = None
        self.params: dict[str, str] = {}
        self.candidates: tuple[Candidate, ...] = ()
        self.mismatched = 0
        self.unlisted = 0
        self.failed: str | None = None
        self.allowed: frozenset[str] = frozenset()
        self.policies: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __str__(self) -> str:
        if self.failed is not None:
            verdict = f"refused with 500: {self.failed}"
        elif self.winner is not None:
            given = ", ".join(f"{name}={value}" for name, value in self.params.items())
            verdict = f"rule {self.winner.id} ({self.winner.path})" + (f" with {given}" if given else "")
        elif self.allowed:
            verdict = f"no rule: 405, allowed are {', '.join(sorted(self.allowed))}"
        else:
            verdict = "no rule: 404"
        lines = [f"{self.request} -> {verdict}"]
        lines += [f"  not {candidate.rule_id}: {candidate.why}" for candidate in self.candidates]
        if self.unlisted:
            lines.append(f"  and {self.unlisted} more candidates")
        if self.mismatched:
            lines.append(f"  {self.mismatched} other rules: host or path does not match")
        lines += [f"  {kind}: {line}" for kind, said in self.policies for line in said]
        return "\n".join(lines)


def explain(matcher: Matcher[T], exchange: Exchange) -> Explanation[T]:
    """Match the exchange as live traffic is matched, and say why. Sets `exchange.params` as a match does."""
    explanation: Explanation[T] = Explanation(f"{exchange.method} {exchange.authority}{exchange.path}")
    won: Entry[T] | None = None
    try:
        won = matcher.winner(exchange)
        if won is None:
            explanation.allowed = matcher.allowed_methods(exchange)
    except RouteFailed as failed:
        explanation.failed = str(failed)
    if won is not None:
        explanation.winner = won.rule
        explanation.params = dict(exchange.params)
    near: dict[str, Entry[T]] = {}
    for entry in matcher.reachable(exchange):
        near.setdefault(entry.rule.id, entry)
    listed: list[tuple[int, Candidate]] = [
        (entry.rank, Candidate(rule_id, _why_lost(entry, exchange, won)))
        for rule_id, entry in near.items()
        if won is None or entry.rule is not won.rule
    ]
    if len(matcher.rules) < FEW_RULES:
        ranks: dict[str, int] = {}
        for entry in matcher.entries:
            ranks.setdefault(entry.rule.id, entry.rank)
        listed += [
            (ranks[rule.id], Candidate(rule.id, _why_far(rule, exchange)))
            for rule in matcher.rules
            if rule.id not in near
        ]
    else:
        explanation.mismatched = len(matcher.rules) - len(near)
    listed.sort()
    explanation.unlisted = max(0, len(listed) - MOST_CANDIDATES)
    explanation.candidates = tuple(candidate for _, candidate in listed[:MOST_CANDIDATES])
    return explanation


def _why_far(rule: Rule[T], exchange: Exchange) -> str:
    """Why a rule was not even a candidate."""
    if not any(host.match(exchange) for host in rule.hosts):
        return f"host {exchange.authority} is not {' or '.join(host.text for host in rule.hosts)}"
    return f"path {exchange.path} does not match {rule.path}"


def _why_lost(entry: Entry[T], exchange: Exchange, won: Entry[T] | None) -> str:
    """Why a rule whose host and path match did not win."""
    if entry.accepts is not None and exchange.method not in entry.accepts:
        return f"method {exchange.method} is not {' or '.join(sorted(entry.rule.methods))}"
    for predicate in entry.predicates:
        try:
            if not predicate.matches(exchange):
                return _why_not(predicate, exchange)
        except Exception as error:
            return f"it failed: {predicate.describe()} raised {error!r}"
    if won is None:
        return "an earlier rule failed"
    return f"ranked below {won.rule.id} by {_decided_by(won, entry)}"


def _why_not(predicate: Predicate, exchange: Exchange) -> str:
    if isinstance(predicate, ValuePredicate) and predicate.read(exchange) is None:
        return f"{predicate.kind} {predicate.name} is absent"
    return f"not true that {predicate.describe()}"


def _decided_by(won: Entry[T], lost: Entry[T]) -> str:
    """The first step of the order at which the two differ. A HEAD request may be decided against the rank, by method."""
    if lost.rank < won.rank:
        return "method: it names HEAD"
    return next(step for step, one, other in zip(_STEPS, won.order, lost.order, strict=True) if one != other)
