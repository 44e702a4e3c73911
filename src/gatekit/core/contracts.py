"""Order as checked data: policies say where they belong and what they need, and this says whether it holds."""

from __future__ import annotations

from collections.abc import Sequence

from gatekit.core.policy import Spec


def in_stage_order(specs: Sequence[Spec]) -> list[Spec]:
    """The specs by stage; those of one stage keep the order they were given in."""
    return sorted(specs, key=lambda spec: spec.placement().stage)


def violations(specs: Sequence[Spec], *, complete: bool) -> list[str]:
    """What is wrong with this order, each a sentence that says what to do.

    `complete` says that nothing stands outside of these policies (a Gateway). Otherwise something that is required and
    that none of them provides may come from a middleware further out, and is checked for every request instead.
    """
    found: list[str] = []
    provided: set[str] = set()
    for place, spec in enumerate(specs):
        placement = spec.placement()
        name = type(spec).__name__
        for fact in sorted(placement.requires - provided):
            later = [type(other).__name__ for other in specs[place + 1 :] if fact in other.placement().provides]
            if later:
                found.append(
                    f"{name} needs {fact!r}, which {later[0]} provides only after it: put {later[0]} before {name}"
                )
            elif complete:
                found.append(
                    f"{name} needs {fact!r} and no policy here provides it: add one that does ({_known(fact)})"
                )
        provided |= placement.provides
    return found


def _known(fact: str) -> str:
    return "Authn, for example" if fact == "identity" else f"provides={{{fact!r}}}"
