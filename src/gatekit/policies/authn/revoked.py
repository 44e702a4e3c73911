"""What is no longer valid, asked after every cache, so that a token that was verified a moment ago is refused too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

from gatekit.core.policy import Job
from gatekit.core.ports import Ports, Revocations, store_url
from gatekit.core.verdict import Reply
from gatekit.policies.authn.method import Verified, jobs_within


class Revoked:
    """A list of revocations at work. `challenges` are the headers of its 401."""

    __slots__ = ("_once", "_refused", "_revocations", "_wait", "loaded")

    def __init__(self, url: str, ports: Ports, challenges: Iterable[tuple[bytes, bytes]]) -> None:
        self._once = ports.once
        self._revocations: Revocations = ports.owned_by("stores").cell(
            ("revocations", url), lambda: ports.stores.revocations(store_url(url, ports), ports)
        )
        self._wait = cast("Callable[[], Awaitable[None] | None] | None", getattr(self._revocations, "loaded", None))
        self.loaded = self._wait is None
        invalid = [(name, _with_error(value)) for name, value in challenges]
        self._refused = Reply(401, "authn.revoked", "The credential was revoked.", headers=invalid)

    def check(self, found: Verified) -> Reply | None:
        """The refusal of a credential that was revoked."""
        revoked = self._revocations.revoked
        if revoked(found.marks) is not None:
            return self._refused
        for marks in found.others:
            if revoked(marks) is not None:
                return self._refused
        return None

    async def load(self) -> None:
        """Wait, once, until the list has been read or can be had in no time."""
        # Once for all who wait, and where there is an event loop.
        await self._once(("revocations", self._revocations), self._read)
        self.loaded = True

    async def _read(self) -> None:
        pending = None if self._wait is None else self._wait()
        if pending is not None:
            await pending

    def jobs(self) -> list[Job]:
        return jobs_within((self._revocations,))

    def status(self) -> Mapping[str, Any]:
        figures: Mapping[str, Any] = getattr(self._revocations, "status", dict)()
        return {"revocations": figures} if figures else {}


def _with_error(challenge: bytes) -> bytes:
    """RFC 6750 section 3.1: a token that was revoked is an invalid one. Other schemes have no such word."""
    return challenge + b', error="invalid_token"' if challenge[:7].lower() == b"bearer " else challenge
