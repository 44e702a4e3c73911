"""The ports of a running process: its clock, its randomness, its locks. Tests bring their own instead."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gatekit.core.events import Events
from gatekit.core.ports import Cells, Fetched, Ports

if TYPE_CHECKING:
    from gatekit.clients.fetch import HttpFetch


class SystemClock:
    """The process's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


_SIZE = 16
_BATCH = 16
_tokens: deque[bytes] = deque()
# What a parent has left over must not be given out again by each of its children.
os.register_at_fork(after_in_child=_tokens.clear)


class SystemRandom:
    """`random` for spreading load, `token` from the operating system for what nobody may guess."""

    random = staticmethod(random.random)

    @staticmethod
    def token(size: int) -> bytes:
        """Tokens of the usual size are fetched by the batch: one call of the operating system costs as much as many
        of them. Taking one is atomic, so threads need no lock."""
        if size != _SIZE:
            return os.urandom(size)
        try:
            return _tokens.popleft()
        except IndexError:
            fresh = os.urandom(_SIZE * _BATCH)
            _tokens.extend(fresh[at : at + _SIZE] for at in range(_SIZE, len(fresh), _SIZE))
            return fresh[:_SIZE]


class SystemFetch:
    """`Fetch` through the guarded dialer: public addresses over https. The client is loaded when it is first needed."""

    def __init__(self) -> None:
        self._client: HttpFetch | None = None

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 5.0,
    ) -> Fetched:
        if self._client is None:
            from gatekit.clients.fetch import HttpFetch

            self._client = HttpFetch()
        return await self._client(method, url, headers=headers, body=body, timeout=timeout)

    async def aclose(self) -> None:
        """Close what is open in the running loop."""
        if self._client is not None:
            await self._client.aclose()


FETCH = SystemFetch()
"""One for the process; its connections are each loop's own."""


def system_ports(*, events: Events | None = None, cells: Cells | None = None) -> Ports:
    """Ports for production: real time and randomness, fetching from public addresses, in-memory state, locks that
    threads may contend for."""
    return Ports(
        clock=SystemClock(), random=SystemRandom(), fetch=FETCH, events=events, cells=cells, lock=threading.Lock
    )
