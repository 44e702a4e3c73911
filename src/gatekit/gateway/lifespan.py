"""The lifespans of apps in this process that stand behind a gateway: started before it serves, stopped after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

_log = logging.getLogger("gatekit")


class Lifespan:
    """ASGI lifespan for several apps. One that does not speak it (raises at startup) is left alone, as servers do."""

    def __init__(self, apps: Sequence[Any]) -> None:
        self._apps = apps
        self._running: list[_One] = []

    async def startup(self, state: dict[str, Any] | None) -> str | None:
        """Start each in order. A message when one refused to start; those before it are stopped again."""
        for app in self._apps:
            one = _One(app, state)
            failure = await one.startup()
            if failure is not None:
                await self.shutdown()
                return failure
            self._running.append(one)
        return None

    async def shutdown(self) -> str | None:
        """Stop each in reverse order; the first message of one that failed."""
        failures = [await one.shutdown() for one in reversed(self._running)]
        self._running = []
        return next((failure for failure in failures if failure is not None), None)


class _One:
    """One app's lifespan, run in a task of its own for as long as the gateway serves."""

    def __init__(self, app: Any, state: dict[str, Any] | None) -> None:
        self._app = app
        self._scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        if state is not None:
            self._scope["state"] = state
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._speaks = True

    async def startup(self) -> str | None:
        self._task = asyncio.create_task(self._run(), name="gatekit lifespan")
        await self._to_app.put({"type": "lifespan.startup"})
        answer = await self._from_app.get()
        if answer is None:
            self._speaks = False
            return None
        if answer["type"] == "lifespan.startup.failed":
            return str(answer.get("message") or "an app behind the gateway failed to start")
        return None

    async def shutdown(self) -> str | None:
        if not self._speaks or self._task is None:
            return None
        await self._to_app.put({"type": "lifespan.shutdown"})
        answer = await self._from_app.get()
        await self._task
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            return str(answer.get("message") or "an app behind the gateway failed to stop")
        return None

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._to_app.get, self._from_app.put)
        except Exception as error:
            # Not to know of lifespan is allowed (ASGI specification, lifespan protocol).
            _log.debug("an app behind the gateway does not take lifespan events: %r", error)
        finally:
            self._from_app.put_nowait(None)
