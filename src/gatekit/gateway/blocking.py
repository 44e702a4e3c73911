"""Ports that do I/O, made non-suspending for WSGI: the work runs on the loop thread while the caller's thread waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import TimeoutError as Late
from typing import TypeVar, overload

from gatekit.core.ports import Ask, Counters, Fetch, Fetched, Taken
from gatekit.errors import StoreUnavailable
from gatekit.gateway.loop_thread import SHARED, LoopThread

T = TypeVar("T")


class _Caller:
    def __init__(self, loop_thread: LoopThread, timeout: float) -> None:
        self._loop_thread = loop_thread
        self._timeout = timeout

    def wait(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work` on the loop thread. Raises StoreUnavailable after the timeout; the work is cancelled."""

        async def awaited() -> T:
            return await work()

        future = asyncio.run_coroutine_threadsafe(awaited(), self._loop_thread.loop)
        try:
            return future.result(self._timeout)
        except Late:
            future.cancel()
            raise StoreUnavailable(f"no answer within {self._timeout} s") from None


class BlockingCounters:
    """`Counters` that wait in the caller's thread."""

    def __init__(self, inner: Counters, loop_thread: LoopThread, timeout: float = 1.0) -> None:
        self._inner = inner
        self._caller = _Caller(loop_thread, timeout)

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        return self._caller.wait(lambda: self._inner.take(asks))


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
    ) -> Fetched:
        caller = _Caller(self._loop_thread, timeout + 1.0)
        return caller.wait(lambda: self._inner(method, url, headers=headers, body=body, timeout=timeout))


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
