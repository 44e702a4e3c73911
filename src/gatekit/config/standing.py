"""Which policies stand on a route: the gateway's and its own, and of a kind that is there twice perhaps one for both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gatekit.core.policy import Spec


class Standing(NamedTuple):
    """What stands on a route: its own policies, with what they took over, and the kinds of the gateway's that do not
    stand there since one of the route's own stands for both."""

    own: tuple[Spec, ...]
    taken: frozenset[str]

    def of(self, shared: Sequence[Spec]) -> list[Spec]:
        """All of them, the gateway's first."""
        return [*(spec for spec in shared if kind_of(spec) not in self.taken), *self.own]


def kind_of(spec: Spec) -> str:
    """The kind of a policy, or the name of its class where it has none."""
    return spec.kind or type(spec).__name__


def standing(shared: Sequence[Spec], own: Sequence[Spec]) -> Standing:
    """What stands on a route with these policies of its own. The first of a kind takes over all of the gateway's.

    Raises ValueError where the two contradict each other.
    """
    found: list[Spec] = []
    taken: set[str] = set()
    for spec in own:
        if kind_of(spec) not in taken:
            for outer in shared:
                both = spec.over(outer) if type(outer) is type(spec) else None
                if both is not None:
                    spec = both
                    taken.add(kind_of(spec))
        found.append(spec)
    return Standing(tuple(found), frozenset(taken))
