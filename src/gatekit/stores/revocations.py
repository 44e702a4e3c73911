"""Revocations in memory: of this process alone, and gone with it. For tests, for development, for a single process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Unpack
from urllib.parse import urlsplit

from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.mechanisms.revocation import What, Which, restoration, revocation
from gatekit.stores.kept import EXPIRE_EVERY, KeptList, max_entries_of, options_of

_OPTIONS: Final = ("max_entries",)


class MemoryRevocations:
    """`memory:`. What is revoked is in force at once, in this process and in no other."""

    __slots__ = ("_clock", "_kept", "revoked")

    def __init__(self, url: str, ports: Ports) -> None:
        parts = urlsplit(url)
        if parts.netloc or parts.path or parts.fragment:
            raise ValueError("the URL of the store in memory is memory: and nothing else, but for its options")
        self._clock = ports.clock
        self._kept = KeptList(ports, max_entries_of(options_of(parts.query, _OPTIONS)))
        self.revoked = self._kept.revoked

    def revoke(self, **what: Unpack[What]) -> None:
        """Revoke what has this claim: `revoke(jti="…", until=exp)`. Raises RevocationRefused, DenylistFull."""
        self._kept.add(revocation(self._clock.wall(), **what))

    def restore(self, **which: Unpack[Which]) -> bool:
        """Take back what these words revoked; whether there was anything."""
        before = self._kept.changes
        self._kept.take(restoration(self._clock.wall(), **which))
        return self._kept.changes > before

    def jobs(self) -> list[Job]:
        return [Job(("revocations", self), self._kept.expire, lambda: EXPIRE_EVERY, EXPIRE_EVERY)]

    def status(self) -> Mapping[str, Any]:
        return {"store": "memory:", **self._kept.status()}
