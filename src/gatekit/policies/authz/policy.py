"""Authorisation at work: one look at the rules, then nothing, a 403, or a 401 to a caller who is nobody yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from gatekit.core.exchange import Exchange
from gatekit.core.headers import fold
from gatekit.core.outcome import Fault
from gatekit.core.policy import Job, jobs_of, status_of
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.policies.authz.explained import decided, explained
from gatekit.policies.authz.model import Rule
from gatekit.policies.authz.rules import ANSWER
from gatekit.policies.authz.ruleset import PUBLIC, BoundRule, Decision, RuleSet
from gatekit.policies.authz.shadow import Candidate, Shadow, Tally

if TYPE_CHECKING:
    from gatekit.policies.authz.config import Authz

FACT: Final = "authz.rule"
"""The fact that names the deciding rule: its id, `public`, or `default` where no rule allowed."""

BEARER: Final = frozenset({"bearer", "introspection", "jwt"})
"""The schemes of callers who came with an access token, and can come back with one of more scopes (RFC 6750)."""


DENIED: Final = Reply(403, "authz.denied", "The caller may not do this.")
FAILED: Final = Reply(403, "authz.rule_failed", "Whether the caller may do this could not be found out.")


class AuthzPolicy:
    """Decides by rules. `decide` gives an awaitable only where somebody outside has to be asked."""

    __slots__ = (
        "_log_in", "_look", "_outside", "_rules", "_scoped", "_shadow", "_strips",
    )  # fmt: skip

    def __init__(self, spec: Authz, ports: Ports) -> None:
        deny = _bound(spec.denials(), "deny", ports, deny=True)
        allow = _bound(spec.allowances(), "allow", ports)
        self._rules = RuleSet(allow, deny, public=spec.public)
        self._look = self._rules.look
        self._outside = bool(self._rules.deciders)
        known = [*self._rules.deciders, *(one.bind_to(ports) for one in spec.unasked())]
        self._strips = frozenset[bytes]().union(*(getattr(one, "strips", ()) for one in known))
        self._shadow = _shadow(spec, self._rules, ports) if spec.shadow else None
        self._log_in = _authentication_required(spec.challenge)
        # The least first, whatever the order of the rules.
        scoped = sorted((rule for rule in allow if rule.needs), key=lambda rule: (len(rule.needs), rule.needs))
        self._scoped = tuple((rule, _insufficient(rule.needs)) for rule in scoped)

    def decide(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        if self._strips:
            self._strip(exchange)
        found = self._look(exchange)
        if not isinstance(found, Decision):
            return self._later(exchange, found)
        if found.allowed and self._shadow is None and not self._outside:
            exchange.facts[FACT] = found.rule
            return None
        return self._settled(exchange, found)

    def _strip(self, exchange: Exchange) -> None:
        """Take out what only somebody outside may say of the caller, in whatever spelling a client sends it."""
        raw, strips = exchange.headers.raw, self._strips
        kept = [pair for pair in raw if fold(pair[0]) not in strips]
        if len(kept) < len(raw):
            exchange.headers.raw = kept

    async def _later(self, exchange: Exchange, asking: Callable[[], Awaitable[Decision]]) -> Reply | None:
        return self._settled(exchange, await asking())

    def _settled(self, exchange: Exchange, found: Decision) -> Reply | None:
        exchange.facts[FACT] = found.rule
        if self._shadow is not None:
            self._shadow.compare(exchange, found)
        answer: Reply | None = exchange.facts.pop(ANSWER, None) if self._outside else None
        return None if found.allowed else self._refused(exchange, found, answer)

    def _refused(self, exchange: Exchange, found: Decision, answer: Reply | None) -> Reply:
        if found.failed:
            exchange.fault = Fault.GATEWAY
            return answer or FAILED
        if found.side == "none" and answer is not None:
            return answer
        who = exchange.identity
        if who is None or not who.scheme:
            return self._log_in if found.log_in and self._rules.may_log_in(exchange) else DENIED
        if found.side == "none" and who.scheme in BEARER:
            for rule, reply in self._scoped:
                if rule.would_hold(exchange):
                    return reply
        return DENIED

    def explain(self, exchange: Exchange) -> list[str]:
        """What is decided, and for each rule whether it holds or the first thing that spoke against it."""
        if self._strips:
            self._strip(exchange)
        lines = explained(self._rules, exchange)
        if self._shadow is not None:
            lines += [f"shadow {one.name}: {decided(one.rules, exchange)}" for one in self._shadow.candidates]
        return lines

    def status(self) -> dict[str, Any]:
        """The rules in force, what was counted of the shadow policies, and what conditions from outside tell."""
        rules = self._rules
        found: dict[str, Any] = {
            "allow": [PUBLIC] if rules.default.allowed else [rule.id for rule in rules.allow],
            "deny": [rule.id for rule in rules.deny],
        }
        if self._shadow is not None:
            found["shadow"] = self._shadow.status()
        told = [(decider.words, status_of(decider)) for decider in rules.deciders]
        if told:
            found["outside"] = [{"says": words, **(status() if status else {})} for words, status in told]
        return found

    def jobs(self) -> Iterable[Job]:
        """The background work of conditions from outside."""
        return [job for decider in self._rules.deciders for job in jobs_of(decider)]


def _bound(rules: Sequence[Rule], kind: str, ports: Ports, *, deny: bool = False, within: str = "") -> list[BoundRule]:
    return [
        BoundRule(rule, rule.id or f"{kind}[{place}]", ports, deny=deny, within=within)
        for place, rule in enumerate(rules)
    ]


def _shadow(spec: Authz, live: RuleSet, ports: Ports) -> Shadow:
    found: list[Candidate] = []
    for place, asked in enumerate(spec.shadow or ()):
        name = asked.id or f"shadow[{place}]"
        within = f"of the shadow policy {name}, "
        allow = None if asked.as_live else _bound(asked.allow or (), "allow", ports, within=within)
        deny = None if asked.deny is None else _bound(asked.deny, "deny", ports, deny=True, within=within)
        # A candidate that is changed is counted anew.
        tally = ports.cell((spec.kind, "shadow", name, repr(asked)), Tally)
        public = spec.public if asked.as_live else asked.public
        found.append(Candidate(name, live, allow, deny, tally, public=public))
    return Shadow(found, ports)


@lru_cache(maxsize=64)
def _authentication_required(challenge: str) -> Reply:
    return Reply(
        401, "authz.authentication_required", "Only callers who are known may do this.",
        headers=[("www-authenticate", challenge)],
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _insufficient(scopes: tuple[str, ...]) -> Reply:
    """RFC 6750 section 3.1: the token is good, and more is needed than it may do."""
    return Reply(
        403, "authz.denied", "The token does not have the scopes that this needs.",
        headers=[("www-authenticate", f'Bearer error="insufficient_scope", scope="{" ".join(scopes)}"')],
    )  # fmt: skip
