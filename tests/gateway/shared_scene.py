"""Work that a test lets go on, loops that go away, and everything that the libraries underneath complain of."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gatekit.gateway.shared import Shared

DESTROYED = "Task was destroyed but it is pending"
"""asyncio says so of every task that is lost with its loop."""


class Work:
    """Work that waits until it is told to go on, in whatever loop it runs."""

    def __init__(self, result: Any = "done") -> None:
        self.result = result
        self.begun = threading.Event()
        self.runs = 0
        self.at_once = 0
        self.most_at_once = 0
        self.cancelled = threading.Event()
        self._gates: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._open = False

    async def __call__(self) -> Any:
        self.runs += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if not self._open:
                gate = asyncio.Event()
                self._gates.append((asyncio.get_running_loop(), gate))
                self.begun.set()
                await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.at_once -= 1
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    def go(self) -> None:
        """Let it end, from any thread."""
        self._open = True
        for loop, gate in self._gates:
            if not loop.is_closed():
                loop.call_soon_threadsafe(gate.set)


async def turns(count: int = 5) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def many(shared: Shared, work: Callable[[], Awaitable[Any]], count: int) -> list[asyncio.Task[Any]]:
    """So many callers of the same key, who wait."""
    tasks = [asyncio.ensure_future(call(shared, "k", work)) for _ in range(count)]
    await turns()
    return tasks


async def call(shared: Shared, key: object, work: Callable[[], Awaitable[Any]]) -> Any:
    return await shared(key, work)


class Gone:
    """A loop thread whose loop was closed."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.close()


class Abrupt:
    """A loop in a thread that stops where it is."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


class Heard(logging.Handler):
    """Every warning that was logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def no_complaints() -> Iterator[set[str]]:
    """Nothing that asyncio or concurrent.futures log, once everything that nobody has is gone, but what is allowed."""
    allowed: set[str] = set()
    heard, loggers = Heard(), [logging.getLogger(name) for name in ("asyncio", "concurrent.futures")]
    for logger in loggers:
        logger.addHandler(heard)
    yield allowed
    gc.collect()
    for logger in loggers:
        logger.removeHandler(heard)
    assert [one for one in heard.messages if not any(part in one for part in allowed)] == []
