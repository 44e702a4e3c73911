"""One worker as the supervisor sees it: a process, a channel to it, and what it said of itself."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gatekit.gateway.system import PROCESSES
from gatekit.serving.channel import Channel, PeerGone
from gatekit.serving.settings import TOKEN, Settings

_log = logging.getLogger("gatekit.supervisor")

Document = Mapping[str, Any]
"""A configuration as it crosses to workers: origin, data, revision."""


class WorkerProcess:
    """A worker from its start to its end. `ready` is what it told when it began to serve, `refused` and `failed` why it
    did not."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.ready: Mapping[str, Any] | None = None
        self.refused: list[Mapping[str, Any]] | None = None
        self.failed: str | None = None
        self.leaving = False
        self.started_at = 0.0
        self._said = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None

    @property
    def pid(self) -> int:
        return -1 if self._process is None else self._process.pid

    async def start(
        self, settings: Settings, listening: socket.socket, generation: int, document: Document | None
    ) -> None:
        """Start the process. It listens on `listening`, which stays open here."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            fds = (listening.fileno(), theirs.fileno())
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gatekit.serving.worker", *map(str, fds),
                stdin=asyncio.subprocess.PIPE, pass_fds=fds, env=_environment(settings.workers),
                # A group of its own: what a terminal sends to all at once is for the supervisor alone.
                process_group=0,
            )  # fmt: skip
        finally:
            theirs.close()
        self.started_at = asyncio.get_running_loop().time()
        self._channel = Channel(ours, self._heard)
        await self._channel.open()
        orders = {
            "worker": self.number,
            # Workers have no business with the admin address and its token.
            "settings": replace(settings, admin=None, admin_token=None).to_json(),
            "generation": generation,
            "document": document,
        }
        stdin = self._process.stdin
        if stdin is not None:
            try:
                stdin.write(json.dumps(orders).encode())
                await stdin.drain()
            except OSError:
                pass  # It has ended already; `wait` tells.
            stdin.close()

    async def until_ready(self, timeout: float) -> bool:
        """Wait until it serves. False when it refused, failed, ended or took too long."""
        said = asyncio.create_task(self._said.wait())
        ended = asyncio.create_task(self.wait())
        await asyncio.wait([said, ended], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not said.done() and ended.done() and self._channel is not None:
            # What it said last may still be on its way.
            await asyncio.wait([asyncio.create_task(self._channel.closed.wait()), said], timeout=1.0)
        for task in (said, ended):
            task.cancel()
        return self.ready is not None

    async def ask(self, what: str, *, timeout: float = 10.0, **about: Any) -> Mapping[str, Any]:
        """Ask it something. Raises PeerGone."""
        if self._channel is None:
            raise PeerGone("the worker was not started")
        return await self._channel.ask(what, timeout=timeout, **about)

    async def pressure(self) -> Mapping[str, Any]:
        """What it tells of its load; nothing where it does not answer."""
        try:
            return await self.ask("pressure", timeout=2.0)
        except PeerGone:
            return {}

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return -1 if self._process is None else await self._process.wait()

    async def end(self, timeout: float) -> None:
        """Stop it: by asking first, by force when it does not leave within `timeout` seconds; 0 does not ask."""
        self.leaving = True
        try:
            if timeout:
                await self.ask("stop", timeout=timeout)
            async with asyncio.timeout(timeout):
                await self.wait()
        except (PeerGone, TimeoutError):
            self.kill()
            await self.wait()
        if self._channel is not None:
            await self._channel.close()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.returncode is None:
            try:
                self._process.kill()
            except ProcessLookupError:
                pass

    async def _heard(self, what: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
        if what == "ready":
            self.ready = about
        elif what == "refused":
            self.refused = list(about["problems"])
        elif what == "failed":
            self.failed = about["message"]
        self._said.set()
        return {}


def _environment(workers: int) -> dict[str, str]:
    """What workers inherit: everything but the admin token and the service manager's ear, which are the supervisor's; and
    how many they are."""
    inherited = {name: value for name, value in os.environ.items() if name not in (TOKEN, "NOTIFY_SOCKET")}
    return {**inherited, PROCESSES: str(workers)}


def file_limit() -> int:
    """Raise this process's limit on open files as far as it may be raised, for the workers to inherit; the limit."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
