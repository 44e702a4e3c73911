"""Conditions on who is calling. A caller who is nobody in particular has nothing that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gatekit.core.claims import parse_claim_path
from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.policies.authz.rules import Part
from gatekit.policies.authz.site import Site
from gatekit.policies.authz.values import MISSING, ClaimTest, Param, claim_at, no_param, passes

NOBODY = "nobody is authenticated"


def _nobody(exchange: Exchange) -> str | None:
    who = exchange.identity
    return None if who is not None and who.scheme else NOBODY


def _about_caller(holds: Callable[[Identity], bool], words: str, site: Site) -> Part:
    """A condition on who is calling, which nobody in particular is not asked about."""
    missing = site.missing

    def decide(exchange: Exchange) -> bool:
        who = exchange.identity
        return holds(who) if who is not None and who.scheme else missing

    return Part(decide, words, lacks=_nobody, caller=True)


def scopes(wanted: Sequence[str], site: Site) -> Part:
    words = f"the caller has the scope{'s' * (len(wanted) > 1)} {' '.join(wanted)}"
    if site.scopes_granted and not site.negated:
        return Part(lambda _: True, words, caller=True)
    needed, missing = frozenset(wanted), site.missing

    # The condition that most rules are made of does without a function within the function.
    def decide(exchange: Exchange) -> bool:
        who = exchange.identity
        return needed <= who.scopes if who is not None and who.scheme else missing

    return Part(decide, words, lacks=_nobody, caller=True)


def any_scope(wanted: Sequence[str], site: Site) -> Part:
    words = f"the caller has one of the scopes {' '.join(wanted)}"
    if site.scopes_granted and not site.negated:
        return Part(lambda _: True, words, caller=True)
    one_of = frozenset(wanted)
    return _about_caller(lambda who: not one_of.isdisjoint(who.scopes), words, site)


def roles(wanted: Sequence[str], site: Site) -> Part:
    one_of, missing = frozenset(wanted), site.missing

    def decide(exchange: Exchange) -> bool:
        who = exchange.identity
        return not one_of.isdisjoint(who.roles) if who is not None and who.scheme else missing

    return Part(decide, f"the caller is {' or '.join(wanted)}", lacks=_nobody, caller=True)


def all_roles(wanted: Sequence[str], site: Site) -> Part:
    needed = frozenset(wanted)
    return _about_caller(lambda who: needed <= who.roles, f"the caller is {' and '.join(wanted)}", site)


def issuers(wanted: Sequence[str], site: Site) -> Part:
    one_of = frozenset(wanted)
    return _about_caller(lambda who: who.issuer in one_of, f"the issuer is {' or '.join(wanted)}", site)


def schemes(wanted: Sequence[str], site: Site) -> Part:
    one_of = frozenset(wanted)
    return _about_caller(lambda who: who.scheme in one_of, f"the caller came by {' or '.join(wanted)}", site)


def named(attribute: str, wanted: Sequence[str | Param], site: Site) -> Part:
    """A condition on the subject, client or tenant of the caller: given by name, or by a path parameter."""
    names = frozenset(one for one in wanted if isinstance(one, str))
    params = tuple(one.param for one in wanted if isinstance(one, Param))
    missing = site.missing

    def decide(exchange: Exchange) -> bool:
        who = exchange.identity
        if who is None or not who.scheme:
            return missing
        value = getattr(who, attribute)
        if value is None:
            return missing
        if value in names:
            return True
        held = False
        for param in params:
            wanted = exchange.params.get(param)
            held = held or (missing if wanted is None else value == wanted)
        return held

    def lacks(exchange: Exchange) -> str | None:
        if (nobody := _nobody(exchange)) is not None:
            return nobody
        if getattr(exchange.identity, attribute) is None:
            return f"the caller has no {attribute}"
        return no_param(params, exchange)

    shown = [*sorted(names), *(f"the path parameter {param}" for param in params)]
    return Part(decide, f"the {attribute} is {' or '.join(shown)}", lacks=lacks, caller=True)


def authenticated(wanted: bool) -> Part:
    """Known of everybody: nothing can be missing."""

    def decide(exchange: Exchange) -> bool:
        who = exchange.identity
        return (who is not None and bool(who.scheme)) is wanted

    return Part(decide, f"the caller is {'' if wanted else 'not '}authenticated", caller=True)


def claim(name: str, test: ClaimTest, site: Site) -> Part:
    """Neither the claim's value nor the one wanted is put into words: both may be secret."""
    path, checks, missing = parse_claim_path(name), tuple(test.checks()), site.missing
    absent = bool(test.absent)
    gone = absent or (missing and not test.present)
    # That nobody in particular lacks a claim says nothing in his favour either.
    unknown = (site.deny or site.negated) if absent else missing

    def decide(exchange: Exchange) -> bool:
        who = exchange.identity
        if who is None or not who.scheme:
            return unknown
        value = claim_at(who.claims, path)
        if value is MISSING:
            return gone
        return not absent and passes(checks, value, exchange, missing)

    def lacks(exchange: Exchange) -> str | None:
        who = exchange.identity
        if who is None or not who.scheme:
            return NOBODY
        if claim_at(who.claims, path) is MISSING and not absent:
            return f"there is no claim {name}"
        return no_param(test.params(), exchange)

    return Part(decide, test.words(f"the claim {name}"), lacks=lacks, caller=True)
