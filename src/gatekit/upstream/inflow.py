"""`Inflow`: what comes from a destination. A head, then parts of a body, then the end or an error.

The receiving half that connections and in-process apps have in common: bounded buffering, one waiter, a swept deadline.
It does no I/O; who fills it does. One task at a time may wait on it.
"""

from __future__ import annotations

import asyncio

from gatekit.core.headers import RawHeaders
from gatekit.errors import BodyRefused, UpstreamError
from gatekit.upstream.sweep import Sweeper

HIGH_WATER = 64 * 1024
"""Bytes of body kept for a slow reader before the writer is held up; one read of the socket may add to it."""
PART = 64 * 1024
"""The most bytes handed on at once: a server may keep several parts for a client that does not read."""


class Inflow:
    """Filled by its subclass, read by the response. `began` says that the head is there, `ended` that all is."""

    __slots__ = (
        "began", "buffered", "chunks", "deadline", "ended", "error", "headers", "loop", "paused", "status", "sweeper",
        "trailers", "waiter",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, sweeper: Sweeper) -> None:
        self.loop = loop
        self.sweeper = sweeper
        self.waiter: asyncio.Future[None] | None = None
        self.deadline = float("inf")
        self.clear()

    def clear(self) -> None:
        """Be ready for another answer."""
        self.status = 0
        self.headers: RawHeaders = []
        self.trailers: RawHeaders = []
        self.chunks: list[bytes] = []
        self.buffered = 0
        self.began = False
        self.ended = False
        self.paused = False
        self.error: UpstreamError | BodyRefused | None = None

    def take(self) -> tuple[bytes, bool]:
        """What has arrived, and whether that was the end. An error shows only in `read`, after what came before it."""
        chunks = self.chunks
        if not chunks:
            return b"", self.ended
        if self.buffered <= PART:
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self.chunks = []
            self.buffered = 0
            if self.paused:
                self.paused = False
                self.resume()
            return data, self.ended
        data = chunks[0]
        if len(data) > PART:
            chunks[0] = data[PART:]
            data = data[:PART]
        else:
            del chunks[0]
        self.buffered -= len(data)
        return data, False

    async def read(self, idle_timeout: float) -> bytes:
        """The next part of the body, b"" at its end. Raises UpstreamError when it broke off."""
        while not self.chunks:
            if self.ended:
                return b""
            if self.error is not None:
                raise self.error
            await self.wait(self.sweeper.now() + idle_timeout)
        return self.take()[0]

    async def wait_for_head(self, seconds: float) -> None:
        """Return once the head is there. Raises `error` when it will not come."""
        sweeper = self.sweeper
        self.deadline = sweeper.now() + seconds
        while not self.began:
            if self.error is not None:
                raise self.error
            # As `wait` does it, without a coroutine of its own: every answer is resumed through here.
            waiter = self.waiter = self.loop.create_future()
            sweeper.watch(self)
            try:
                await waiter
            finally:
                self.waiter = None
                sweeper.entries.discard(self)

    async def wait(self, deadline: float) -> None:
        """Until something happens. Past the deadline `expire` is called, which must set `error`."""
        sweeper = self.sweeper
        waiter = self.waiter = self.loop.create_future()
        self.deadline = deadline
        sweeper.watch(self)
        try:
            await waiter
        finally:
            self.waiter = None
            sweeper.forget(self)

    def wake(self) -> None:
        """Something happened."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def resume(self) -> None:
        """There is room again."""

    def expire(self) -> None:
        """The deadline of `wait` has passed."""
        raise NotImplementedError
