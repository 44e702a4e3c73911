"""Watching for a client that goes away while its answer is on its way: `send` does not tell, only `receive` does.

A `receive` that waits costs a task (10 µs), and most answers come sooner than that matters. So exchanges are remembered,
and one coarse timer per loop starts a watch for those that are still there after a few milliseconds and whose
body has been read (a `receive` before that would take the body away).
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from asgiref.typing import ASGIReceiveCallable

    from gatekit.core.exchange import NoBody
    from gatekit.drivers.body import AsgiBody

SWEEP = 0.005
"""Seconds between two looks. An answer that takes less than one or two of them is never watched."""


class Watched(Protocol):
    """Something that waits. `seen` is set at the first look."""

    seen: bool

    def ready(self) -> bool:
        """Whether a watch may begin: the request's body has been read and nobody else waits for a message."""
        ...

    def start(self, loop: asyncio.AbstractEventLoop) -> None: ...


class Watch:
    """A watch over the call to a destination. `gone` says that the client left; the task that answers it was then
    cancelled."""

    __slots__ = ("_body", "_receive", "_task", "_watcher", "gone", "over", "seen")

    def __init__(self, receive: ASGIReceiveCallable, body: AsgiBody | NoBody, task: asyncio.Task[Any]) -> None:
        self._receive = receive
        self._body = body
        self._task = task
        self._watcher: asyncio.Task[None] | None = None
        self.gone = False
        self.over = False
        self.seen = False

    def ready(self) -> bool:
        return self._body.done or self._body.length == 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to wait for the disconnect. In an empty context: nothing of the caller's may leak into it."""
        self._watcher = loop.create_task(self._run(), context=Context())

    async def _run(self) -> None:
        while not self.over:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if not self.over:
                    self.gone = True
                    self._task.cancel()
                return

    def stop(self) -> None:
        """The exchange is over: what comes now is no longer its business."""
        self.over = True
        if self._watcher is not None:
            self._watcher.cancel()

    def absorb(self) -> bool:
        """Whether a cancellation was the watch's own, and nobody else's at the same time; then it is taken back."""
        return self.gone and self._task.uncancel() == 0


class Watches:
    """The exchanges of one loop that nobody watches yet (`waiting`), and the timer that looks at them while there are any.

    One that is over must be taken out at once: whatever it holds would else live on until the timer comes, and
    at twenty thousand requests a second that is the memory, and the garbage collector's work, of hundreds.
    """

    __slots__ = ("armed", "loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: set[Watched] = set()
        self.armed = False

    def call(self, receive: ASGIReceiveCallable, body: AsgiBody | NoBody, task: asyncio.Task[Any] | None) -> Watch:
        """A watch over the call to a destination that `task`, the running one, makes; waiting to begin."""
        if task is None:
            raise RuntimeError("an ASGI application must be run by a task of its event loop")
        watch = Watch(receive, body, task)
        self.waiting.add(watch)
        if not self.armed:
            self.arm()
        return watch

    def arm(self) -> None:
        """Let the exchanges in `waiting` be watched once they have taken a few milliseconds."""
        self.armed = True
        self.loop.call_later(SWEEP, self._sweep, context=Context())

    def _sweep(self) -> None:
        for watch in tuple(self.waiting):
            if watch.seen and watch.ready():
                self.waiting.discard(watch)
                watch.start(self.loop)
            else:
                watch.seen = True
        if self.waiting:
            self.arm()
        else:
            self.armed = False
