"""The process of `gatekit run`: sockets, supervisor, admin endpoints and signals brought together, and the banner."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

from gatekit.gateway.admin import Admin
from gatekit.serving.banner import banner
from gatekit.serving.files import Watch, watcher
from gatekit.serving.listen import SocketFile, described, inherited, listen_tcp, listen_unix
from gatekit.serving.logs import set_up
from gatekit.serving.notify import notify
from gatekit.serving.process import file_limit
from gatekit.serving.servers import server_named
from gatekit.serving.settings import Settings, admin_address
from gatekit.serving.supervisor import Supervisor

_log = logging.getLogger("gatekit.supervisor")


def run(settings: Settings, say: Callable[[str], None]) -> int:
    """Serve until told to stop. The result is the exit code. Raises ConfigRefused and GatekitError when it cannot
    start."""
    server_named(settings.server)
    set_up("supervisor", settings.log_format, settings.log_level)
    limit = file_limit()
    watch = watcher(settings) if settings.dev else None
    listening = _listening(settings)
    left = None if settings.uds is None else SocketFile(settings.uds)
    try:
        return asyncio.run(_run(settings, listening, limit, say, watch))
    finally:
        listening.close()
        if left is not None:
            left.remove()


async def _run(
    settings: Settings, listening: socket.socket, limit: int, say: Callable[[str], None], watch: Watch | None
) -> int:
    supervisor = Supervisor(settings, listening)
    loop = asyncio.get_running_loop()
    told = on_signals(supervisor, loop)
    admin = _AdminListener(supervisor, settings)
    await admin.start()
    try:
        starting = asyncio.create_task(supervisor.start())
        waiting = asyncio.create_task(told.wait())
        await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        await starting
        for line in banner(supervisor, described(listening), admin.where, limit):
            say(line)
        notify("READY=1")
        watching = None if watch is None else asyncio.create_task(watch(supervisor.reload))
        await waiting
        if watching is not None:
            watching.cancel()
        notify("STOPPING=1")
        await supervisor.stop()
        return 0
    finally:
        await admin.stop()


class _AdminListener:
    """The admin endpoints on their own socket, served by uvicorn in the supervisor's loop."""

    def __init__(self, supervisor: Supervisor, settings: Settings) -> None:
        self._app = Admin(supervisor, token=settings.admin_token)
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self._sock: socket.socket | None = None
        self._file: SocketFile | None = None
        self.where: str | None = None

    async def start(self) -> None:
        asked = self._settings.admin
        if asked is None:
            return
        from gatekit.serving.on_uvicorn import quiet_server

        if asked.startswith("unix:"):
            self._sock = listen_unix(asked.removeprefix("unix:"), 0o600, 128)
            self._file = SocketFile(asked.removeprefix("unix:"))
        else:
            self._sock = listen_tcp(*admin_address(asked), 128)
        self.where = described(self._sock)
        self._server = quiet_server(self._app)
        self._task = asyncio.create_task(self._server.serve([self._sock]), name="gatekit admin")

    async def stop(self) -> None:
        if self._task is not None and self._sock is not None:
            self._server.should_exit = True
            await asyncio.wait([self._task], timeout=2.0)
            self._task.cancel()
            self._sock.close()
            if self._file is not None:
                self._file.remove()


def on_signals(supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """SIGTERM and SIGINT drain and stop, a second one at once; SIGHUP reloads. The event is set when it is to stop."""
    told = asyncio.Event()
    reloads: set[asyncio.Task[Any]] = set()

    def stop() -> None:
        if told.is_set():
            supervisor.hurry()
        told.set()

    def reload() -> None:
        task = loop.create_task(supervisor.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return told


def _listening(settings: Settings) -> socket.socket:
    if settings.fd is not None:
        return inherited(settings.fd, settings.backlog)
    if settings.uds is not None:
        return listen_unix(settings.uds, settings.uds_mode, settings.backlog)
    return listen_tcp(settings.host, settings.port, settings.backlog)
