"""One worker: a gateway, its server, and the channel to the supervisor, in one process and one event loop.

It obeys the supervisor and no signal: what a process group or a service manager sends to everybody must not end
requests that the supervisor is draining. A supervisor that is gone is as good as an order to drain and stop.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import socket
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from gatekit.config.snapshot import Snapshot
from gatekit.core.events import GatewayStarted
from gatekit.core.plan import Document
from gatekit.errors import ConfigRefused
from gatekit.gateway.gateway import Gateway
from gatekit.serving.channel import Channel
from gatekit.serving.logs import set_up
from gatekit.serving.servers import Server, server_named
from gatekit.serving.settings import BadSettings, Settings

_log = logging.getLogger("gatekit.worker")

STOPPING = 5.0
"""Seconds that the server has to close what is left once everything was drained."""
SETTLING = 0.3
"""Seconds between the last accepted connection and the close of idle ones: what was accepted last is served."""


class Worker:
    """The process's state, and the answers to what the supervisor asks."""

    def __init__(self, settings: Settings, listening: socket.socket, control: socket.socket) -> None:
        self._settings = settings
        self._listening = listening
        self.channel = Channel(control, self._answer)
        self._gateway: Gateway | None = None
        self._server: Server | None = None
        self._prepared: Snapshot | None = None
        self._stop = asyncio.Event()

    async def run(self, generation: int, document: Mapping[str, Any] | None) -> int:
        """Serve until told to stop. The result is the exit code."""
        await self.channel.open()
        try:
            gateway = self._gateway = await asyncio.to_thread(self._made, generation, document)
            self._server = server_named(self._settings.server)(gateway, self._listening, self._settings)
        except ConfigRefused as refused:
            self.channel.tell("refused", problems=problems_of(refused))
            return await self._leave(1)
        except Exception as error:
            _log.debug("cannot start", exc_info=True)
            self.channel.tell("failed", message=str(error) or type(error).__name__)
            return await self._leave(1)
        gateway.events.subscribe(GatewayStarted, self._started)
        serving = asyncio.create_task(self._server.serve(), name="gatekit server")
        stopping = [asyncio.create_task(event.wait()) for event in (self._stop, self.channel.closed)]
        await asyncio.wait([serving, *stopping], return_when=asyncio.FIRST_COMPLETED)
        if not self._stop.is_set() and self.channel.closed.is_set():
            _log.warning("the supervisor is gone: draining")
            await gateway.drain(grace=0, timeout=self._settings.timeout)
        code = await self._end(serving)
        for task in stopping:
            task.cancel()
        return await self._leave(code)

    async def _end(self, serving: asyncio.Task[None]) -> int:
        server = self._server
        if server is not None and not serving.done():
            await server.stop_accepting()
            await asyncio.wait([serving], timeout=SETTLING)
            server.stop()
            await asyncio.wait([serving], timeout=STOPPING)
        if not serving.done():
            _log.warning("connections were left open: they are cut")
            serving.cancel()
            return 0
        error = None if serving.cancelled() else serving.exception()
        if error is not None:
            _log.error("the server ended", exc_info=error)
            return 1
        return 0 if self._stop.is_set() or self.channel.closed.is_set() else 1

    async def _leave(self, code: int) -> int:
        await self.channel.close()
        return code

    def _made(self, generation: int, document: Mapping[str, Any] | None) -> Gateway:
        if document is not None:
            return Gateway.from_config(document_from(document), generation=generation)
        return imported(self._settings)

    def _started(self, event: GatewayStarted) -> None:
        gateway = self._gateway
        server = self._server
        if gateway is None or server is None:
            return
        # What is here now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        plan = gateway.plan
        self.channel.tell(
            "ready",
            generation=plan.generation,
            digest=plan.digest,
            routes=len(plan.routes),
            clusters=len(plan.clusters),
            server=server.name,
            protocols=server.protocols,
            warnings=[str(warning) for warning in plan.warnings],
            local=local_state(plan),
        )

    async def _answer(self, what: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
        gateway, server = self._gateway, self._server
        if what == "ping":
            return {}
        if gateway is None or server is None:
            return {"error": "not started yet"}
        if what == "status":
            return gateway.status()
        if what == "pressure":
            return gateway.pressure()
        if what == "prepare":
            return await self._prepare(gateway, about)
        if what == "activate":
            return await self._activate(gateway)
        if what == "discard":
            prepared, self._prepared = self._prepared, None
            if prepared is not None:
                gateway.discard(prepared)
            return {}
        if what == "renew":
            server.renew()
            return {}
        if what == "drain":
            return await self._drain(gateway, server, about)
        if what == "stop":
            self._stop.set()
            return {}
        return {"error": f"a worker does not know {what!r}"}

    async def _drain(self, gateway: Gateway, server: Server, about: Mapping[str, Any]) -> Mapping[str, Any]:
        """Connections are taken until the grace ends: who came later would be cut with the rest. A worker that has a
        successor takes no more from the first moment on."""
        draining = asyncio.ensure_future(gateway.drain(grace=about["grace"], timeout=about["limit"]))
        if not about.get("succeeded"):
            await asyncio.wait([draining], timeout=about["grace"])
        await server.stop_accepting()
        report = await draining
        return {"seconds": report.seconds, "cut": report.cut, "ended": report.ended}

    async def _prepare(self, gateway: Gateway, about: Mapping[str, Any]) -> Mapping[str, Any]:
        """Compile beside the requests. The collector would look at all that comes into being, again and again, and stop
        them for it: it waits until the whole is there, and never looks at that."""
        source = document_from(about["document"])
        gc.disable()
        try:
            self._prepared = await asyncio.to_thread(
                gateway.prepare, source, generation=about["generation"], beside=True
            )
            gc.freeze()
        except ConfigRefused as refused:
            return {"problems": problems_of(refused)}
        finally:
            gc.enable()
        return {"generation": self._prepared.generation, "digest": self._prepared.digest}

    async def _activate(self, gateway: Gateway) -> Mapping[str, Any]:
        snapshot, self._prepared = self._prepared, None
        if snapshot is None:
            return {"error": "nothing was prepared"}
        gateway.activate(snapshot)
        await asyncio.to_thread(gateway.tidy)
        return {
            "generation": snapshot.generation,
            "digest": snapshot.digest,
            "routes": len(snapshot.routes),
            "clusters": len(snapshot.clusters),
        }


def local_state(plan: Snapshot) -> list[str]:
    """What this process keeps for itself, in words: with several workers each has its own."""
    specs = [*plan.config.policies, *(spec for route in plan.config.routes for spec in route.policies)]
    return sorted({f"{spec.kind}: {spec.keeps}" for spec in specs if spec.keeps})


def document_from(fields: Mapping[str, Any]) -> Document:
    return Document(origin=fields["origin"], data=fields["data"], revision=fields["revision"])


def problems_of(refused: ConfigRefused) -> list[dict[str, Any]]:
    return [{"path": one.path, "message": one.message, "severity": one.severity} for one in refused.problems]


def imported(settings: Settings) -> Gateway:
    """The Gateway that the target names. Raises BadSettings, and whatever its module raises."""
    named = settings.module
    if named is None:
        raise BadSettings(f"{settings.target!r} is no module:attribute")
    if "" not in sys.path:
        sys.path.insert(0, "")
    found: Any = import_module(named[0])
    for part in named[1].split("."):
        found = getattr(found, part)
    if not isinstance(found, Gateway) and callable(found):
        found = found()
    if not isinstance(found, Gateway):
        raise BadSettings(f"{settings.target} is a {type(found).__name__}, not a gatekit.Gateway or a function of one")
    return found


async def _serve(listening: socket.socket, control: socket.socket, orders: Mapping[str, Any]) -> int:
    settings = Settings.from_json(orders["settings"])
    return await Worker(settings, listening, control).run(orders["generation"], orders["document"])


def main(listening_fd: int, control_fd: int) -> int:
    """The process: `python -m gatekit.serving.worker LISTENING CONTROL`, both numbers of inherited sockets. What it is
    to do comes as JSON on standard input."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    listening, control = socket.socket(fileno=listening_fd), socket.socket(fileno=control_fd)
    listening.setblocking(False)
    control.setblocking(False)
    orders = json.loads(sys.stdin.buffer.read())
    settings = Settings.from_json(orders["settings"])
    set_up(f"worker-{orders['worker']}", settings.log_format, settings.log_level)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(listening, control, orders))


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
