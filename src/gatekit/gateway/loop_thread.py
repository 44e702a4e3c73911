"""The process's own event loop in a thread: where a WSGI service does what must be awaited."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any


class LoopThread:
    """An event loop in a daemon thread, started when first needed, and anew in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        loop = self._loop
        if loop is None or self._pid != os.getpid():
            with self._lock:
                loop = self._loop
                if loop is None or self._pid != os.getpid():
                    loop = self._start()
        return loop

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        ready = threading.Event()

        def serve() -> None:
            asyncio.set_event_loop(loop)
            loop.call_soon(ready.set)
            try:
                loop.run_forever()
            finally:
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()

        self._thread = threading.Thread(target=serve, name="gatekit-loop", daemon=True)
        self._thread.start()
        ready.wait()
        self._loop, self._pid = loop, os.getpid()
        return loop

    def run(self, work: Awaitable[Any]) -> Any:
        """The result of `work`, awaited on the loop while the caller's thread waits."""

        async def awaited() -> Any:
            return await work

        future = asyncio.run_coroutine_threadsafe(awaited(), self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def call(self, function: Callable[[], object]) -> None:
        """Run `function` on the loop, soon. Nothing happens when the loop is gone already."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass

    def stop(self) -> None:
        """End the loop and its thread; tasks that are still there are cancelled first."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None or self._pid != os.getpid():
            return

        async def wind_up() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(wind_up(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


SHARED = LoopThread()
"""One for the process: middlewares and gateways under WSGI share it."""
