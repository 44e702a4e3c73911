"""What can be seen of rules without a request: that nothing is allowed, or that a rule makes no difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from gatekit.policies.authz.model import Conditions, Rule

COMPARED: Final = 200
"""How many rules are compared with each other."""

OF_SOMEBODY: Final = frozenset(
    {
        "all_roles", "any_scope", "claims", "clients", "issuers", "roles", "schemes", "scopes", "subjects", "tenants",
    }
)  # fmt: skip
"""Conditions that nobody in particular ever satisfies."""


def remarks(allow: Sequence[Rule], deny: Sequence[Rule], *, public: bool) -> Iterator[str]:
    """Sentences that say what to do."""
    if not (allow or public):
        yield "nothing here allows anything: every request is answered 403; write public: true, or a rule"
    named = [(rule.id or f"allow[{place}]", rule) for place, rule in enumerate(allow)][:COMPARED]
    denying = [(rule.id or f"deny[{place}]", rule) for place, rule in enumerate(deny)][:COMPARED]
    for name, rule in (*named, *denying):
        if _never(rule):
            yield f"the rule {name} never holds: it wants a caller who is not authenticated, and asks what he is"
    asked = [(name, _flat(rule)) for name, rule in named]
    denied = [(name, _flat(rule)) for name, rule in denying]
    for place, (name, conditions) in enumerate(asked):
        for other, wider in denied:
            if _covers(wider, conditions):
                yield f"the rule {name} never allows: whenever it holds {other} denies; take one of them out"
        for before, (other, wider) in enumerate(asked):
            if _covers(wider, conditions) and (before < place or not _covers(conditions, wider)) and before != place:
                yield f"the rule {name} makes no difference: whatever it allows {other} allows; take one of them out"


def _flat(rule: Conditions) -> list[tuple[str, Any]]:
    """All that must hold, what stands within an `all` too."""
    found = [(name, value) for name, value in rule.conditions().items() if name != "all"]
    for one in rule.all or ():
        found += _flat(one)
    return found


def _covers(wider: list[tuple[str, Any]], narrower: list[tuple[str, Any]]) -> bool:
    """Whether all that the one asks is asked by the other too, in the same words."""
    return all(one in narrower for one in wider)


def _never(rule: Rule) -> bool:
    conditions = _flat(rule)
    return ("authenticated", False) in conditions and any(name in OF_SOMEBODY for name, _ in conditions)
