"""The policies that ship, one line each, and how to find any policy by its kind.

A policy is one folder here and one line in `POLICIES`. Others come from any installed distribution through an entry
point of the group `gatekit.policies` whose name is the kind and whose object is the spec class. Nothing is imported
before it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from gatekit.core.policy import Spec
from gatekit.errors import GatekitError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

POLICIES: Mapping[str, str] = MappingProxyType(
    {
        "authn": "gatekit.policies.authn:Authn",
        "authz": "gatekit.policies.authz:Authz",
        "cors": "gatekit.policies.cors:Cors",
        "overload": "gatekit.policies.overload:Overload",
        "priority": "gatekit.policies.overload:Priority",
        "rate_limit": "gatekit.policies.rate_limit:RateLimit",
        "redirect": "gatekit.policies.transform:Redirect",
        "request_headers": "gatekit.policies.transform:RequestHeaders",
        "respond": "gatekit.policies.transform:Respond",
        "response_headers": "gatekit.policies.transform:ResponseHeaders",
        "rewrite": "gatekit.policies.transform:Rewrite",
        "security_headers": "gatekit.policies.guard:SecurityHeaders",
        "telemetry": "gatekit.policies.telemetry:Telemetry",
    }
)
"""What ships: kind → `module:Class`."""

GROUP = "gatekit.policies"
"""The entry point group in which a distribution offers policies of its own."""


class UnknownPolicy(GatekitError, KeyError):
    """No policy of that kind ships or is installed. `near` are the kinds it may be a misspelling of."""

    def __init__(self, kind: str, near: tuple[str, ...]) -> None:
        self.kind = kind
        self.near = near
        super().__init__(kind)

    def __str__(self) -> str:
        hint = f"did you mean {' or '.join(repr(one) for one in self.near)}?" if self.near else f"{GROUP} has none such"
        return f"there is no policy {self.kind!r}: {hint}"


class BrokenPolicy(GatekitError):
    """A distribution offers a policy that cannot be loaded, or that is no spec of that kind."""


def kinds() -> tuple[str, ...]:
    """Every kind there is, shipped and installed, sorted.

    Raises ValueError, naming the distribution, when one offers a kind that ships or that another offers too.
    """
    return tuple(sorted({*POLICIES, *_installed()}))


def spec_class(kind: str) -> type[Spec]:
    """The spec class of that kind, imported now.

    Raises UnknownPolicy for a kind that there is not, BrokenPolicy for one whose distribution does not hold what it
    promises, and what `kinds` raises. A kind that ships is always ours: no distribution is asked about it.
    """
    home = POLICIES.get(kind)
    if home is not None:
        module, _, name = home.partition(":")
        found: type[Spec] = getattr(import_module(module), name)
        return found
    entry = _installed().get(kind)
    if entry is None:
        from difflib import get_close_matches

        raise UnknownPolicy(kind, tuple(get_close_matches(kind, kinds(), n=2)))
    return _loaded(entry)


@cache
def _installed() -> dict[str, EntryPoint]:
    """Policies of other distributions. Looked up once: what is installed does not change while running."""
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in POLICIES:
            raise ValueError(
                f"{_distribution(entry)} offers a policy {entry.name!r}, which is the kind of a policy that ships with "
                f"gatekit: it must take another name"
            )
        other = found.setdefault(entry.name, entry)
        if other is not entry:
            raise ValueError(
                f"{_distribution(other)} and {_distribution(entry)} both offer a policy {entry.name!r}: "
                f"uninstall one of them"
            )
    return found


def _loaded(entry: EntryPoint) -> type[Spec]:
    try:
        found = entry.load()
    except Exception as error:
        raise BrokenPolicy(
            f"the policy {entry.name!r} of {_distribution(entry)} ({entry.value}) could not be loaded: {error!r}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Spec)):
        raise BrokenPolicy(f"{entry.value} of {_distribution(entry)} is {found!r}, not a subclass of gatekit.Spec")
    if found.kind != entry.name:
        raise BrokenPolicy(
            f"{entry.value} of {_distribution(entry)} says its kind is {found.kind!r}, but is offered as {entry.name!r}"
        )
    return found


def _distribution(entry: EntryPoint) -> str:
    return "a distribution without a name" if entry.dist is None else f"the distribution {entry.dist.name!r}"


__all__ = ["GROUP", "POLICIES", "BrokenPolicy", "UnknownPolicy", "kinds", "spec_class"]
