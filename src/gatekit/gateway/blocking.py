"""Ports of your own that do I/O, made non-suspending for WSGI: the work runs on the loop thread while the caller's thread
waits. The ports that gatekit comes with do so by themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import overload

from gatekit.core.counters import Ask, Counters, Taken
from gatekit.core.ports import PUBLIC, Fetch, Fetched, Reach
from gatekit.gateway.loop_thread import SHARED, LoopThread
from gatekit.gateway.shared import awaited


class BlockingCounters:
    """`Counters` that wait in the caller's thread."""

    def __init__(self, inner: Counters, loop_thread: LoopThread, timeout: float = 1.0) -> None:
        self._inner = inner
        self._loop_thread = loop_thread
        self._timeout = timeout

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        return await awaited(lambda: self._inner.take(asks), self._timeout, self._loop_thread)

    async def charge(self, asks: Sequence[Ask]) -> None:
        await awaited(lambda: self._inner.charge(asks), self._timeout, self._loop_thread)

    async def reset(self, asks: Sequence[Ask]) -> None:
        await awaited(lambda: self._inner.reset(asks), self._timeout, self._loop_thread)


class BlockingFetch:
    """`Fetch` that waits in the caller's thread."""

    def __init__(self, inner: Fetch, loop_thread: LoopThread) -> None:
        self._inner = inner
        self._loop_thread = loop_thread

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 5.0,
        reach: Reach = PUBLIC,
    ) -> Fetched:
        def work() -> Awaitable[Fetched]:
            return self._inner(method, url, headers=headers, body=body, timeout=timeout, reach=reach)

        return await awaited(work, timeout + 1.0, self._loop_thread)


@overload
def blocking(port: Counters, timeout: float = 1.0, *, loop_thread: LoopThread = SHARED) -> BlockingCounters: ...
@overload
def blocking(port: Fetch, timeout: float = 1.0, *, loop_thread: LoopThread = SHARED) -> BlockingFetch: ...
def blocking(
    port: Counters | Fetch, timeout: float = 1.0, *, loop_thread: LoopThread = SHARED
) -> BlockingCounters | BlockingFetch:
    """The same port for a WSGI service: every call waits in the caller's thread, at most `timeout` seconds."""
    if callable(port):
        return BlockingFetch(port, loop_thread)
    return BlockingCounters(port, loop_thread, timeout)
