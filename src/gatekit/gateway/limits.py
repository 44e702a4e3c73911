"""The rate limits of a gateway as an operator sees them: who is near or over one, and letting somebody go.

What is known of a caller is said in the words of `by`: `tenant="acme"`, `user="ann", issuer="https://id.example"`,
`client_ip="203.0.113.9"`, `{"header:X-Key": "…"}`. All that is handed back is plain data.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from gatekit.policies.rate_limit.admin import Admin
from gatekit.policies.rate_limit.policy import RateLimitPolicy


class Limits:
    """The limits of one generation: of all policies together, each of which has an owner (`gateway`, `route:orders`)."""

    __slots__ = ("_found",)

    def __init__(self, policies: Iterable[tuple[str, object]]) -> None:
        self._found: Sequence[tuple[str, Admin]] = [
            (owner, policy.admin()) for owner, policy in policies if isinstance(policy, RateLimitPolicy)
        ]

    def __len__(self) -> int:
        """How many policies that limit rates there are."""
        return len(self._found)

    async def peek(self, rule: str | None = None, /, *who: Mapping[str, str], **known: str) -> list[dict[str, Any]]:
        """What is left for somebody of each limit that counts by what is said of him, or of the rules called `rule` only.
        Raises ValueError where none does, StoreUnavailable."""
        shown: list[dict[str, Any]] = []

        async def look(owner: str, admin: Admin) -> None:
            shown.extend({"owner": owner, **one} for one in await admin.peek(rule, *who, **known))

        await self._each(look)
        return shown

    async def reset(self, rule: str | None = None, /, *who: Mapping[str, str], **known: str) -> list[str]:
        """Forget what somebody has used, as if it had been nothing; the keys that were forgotten. As `peek`."""
        keys: list[str] = []

        async def forget(owner: str, admin: Admin) -> None:
            keys.extend(await admin.reset(rule, *who, **known))

        await self._each(forget)
        return keys

    def top(self, n: int = 10) -> list[dict[str, Any]]:
        """Who has used most of each limit, most first, `n` of each policy, as this process counts them."""
        return [{"owner": owner, **one} for owner, admin in self._found for one in admin.top(n)]

    def refused(self, n: int = 10) -> list[dict[str, Any]]:
        """Who was refused most often by this process of late, most often first, `n` in all."""
        found = [{"owner": owner, **one} for owner, admin in self._found for one in admin.refused(n)]
        return sorted(found, key=lambda one: -int(one["refused"]))[:n]

    async def _each(self, work: Callable[[str, Admin], Awaitable[None]]) -> None:
        """Do it for each policy that counts by what was said. Raises ValueError where that is none."""
        refused: ValueError | None = None
        counted = False
        for owner, admin in self._found:
            try:
                await work(owner, admin)
            except ValueError as error:
                refused = error
            else:
                counted = True
        if not counted:
            raise refused or ValueError("this gateway has no rate limits")
