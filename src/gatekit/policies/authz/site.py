"""Where a condition stands in a policy, and what follows from that for what a request does not have."""

from __future__ import annotations

from gatekit.core.ports import Ports
from gatekit.policies.authz.rules import Note


class Site:
    """Where a condition stands: in a deny rule or not, within how many `not`, and what it may use.

    `scopes_granted` compiles the rule as it would be for a caller with every scope that it asks for.
    """

    __slots__ = ("deny", "negated", "note", "ports", "scopes_granted")

    def __init__(
        self, ports: Ports, note: Note, *, deny: bool = False, negated: bool = False, scopes_granted: bool = False
    ) -> None:
        self.ports = ports
        self.note = note
        self.deny = deny
        self.negated = negated
        self.scopes_granted = scopes_granted

    def within_not(self) -> Site:
        """The site of what stands within a `not` here."""
        return Site(self.ports, self.note, deny=self.deny, negated=not self.negated)

    def without_grants(self) -> Site:
        """The same site, where no scope is granted."""
        return Site(self.ports, self.note, deny=self.deny, negated=self.negated)

    @property
    def missing(self) -> bool:
        """What a condition answers where the request has not what it is about."""
        return self.negated and not self.deny

    @property
    def every(self) -> bool:
        """Whether all of several values must pass, where a request has several and they cannot be told apart."""
        return self.negated is self.deny
