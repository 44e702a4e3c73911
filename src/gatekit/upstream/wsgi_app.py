"""`WsgiApp`: a WSGI application (PEP 3333) in this process as a destination.

The app runs on a bounded pool of threads of its own; the request body comes to it from the loop piece by piece, and its
response goes back the same way, with backpressure. A thread cannot be cancelled: when the client has gone or the time
is up, the app is told at its next read or write, its iterable is closed, and until then it keeps its thread.

Spellings of a header that WSGI cannot tell apart (`X_User` and `X-User`) are not passed on.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from gatekit.core.exchange import Exchange
from gatekit.core.headers import RawHeaders
from gatekit.core.paths import canonical
from gatekit.core.plan import ClusterPlan
from gatekit.errors import BodyRefused, ClientDisconnected, UpstreamError
from gatekit.upstream.forward import CHUNKED, body_length, forward_headers, request_target, response_headers
from gatekit.upstream.inflow import HIGH_WATER, Inflow
from gatekit.upstream.pool import Pools
from gatekit.upstream.sweep import Sweeper

_log = logging.getLogger("gatekit.upstream")

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Callable[[bytes], None]]], Iterable[bytes]]

THREADS = 32
"""Threads of one app."""


class Input(io.RawIOBase):
    """`wsgi.input`: reads the body in the loop, from the app's thread."""

    def __init__(self, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._exchange = exchange
        self._loop = loop
        self._rest = b""
        self._ended = False
        self._gone = False
        self.refused: BodyRefused | None = None
        self._asked: concurrent.futures.Future[bytes] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest and not self._ended:
            if self._gone:
                raise ClientDisconnected("the client has gone")
            self._asked = asyncio.run_coroutine_threadsafe(self._exchange.body.read(), self._loop)
            try:
                self._rest = self._asked.result()
            except concurrent.futures.CancelledError:
                raise ClientDisconnected("the client has gone") from None
            except BodyRefused as refused:
                self.refused = refused
                raise
            self._ended = not self._rest
        part = self._rest[: len(buffer)]
        self._rest = self._rest[len(part) :]
        buffer[: len(part)] = part
        return len(part)

    def leave(self) -> None:
        """In the loop: nobody waits for this any more."""
        self._gone = True
        if self._asked is not None:
            self._asked.cancel()


class Call(Inflow):
    """One call of an app. `run` and what it calls are the thread's; the rest is the loop's."""

    __slots__ = ("_app", "_gone", "_head", "_input", "_name", "_no_body", "_room", "_sent", "_transit")

    def __init__(
        self, app: App, name: str, exchange: Exchange, loop: asyncio.AbstractEventLoop, sweeper: Sweeper
    ) -> None:
        super().__init__(loop, sweeper)
        self._app = app
        self._name = name
        self._input = Input(exchange, loop)
        self._no_body = exchange.method == "HEAD"
        self._head: tuple[int, RawHeaders] | None = None
        self._sent = False
        self._gone = False
        self._transit = 0
        self._room = threading.Condition()

    # -- the thread's

    def run(self, environ: Environ) -> None:
        environ["wsgi.input"] = io.BufferedReader(self._input, 65536)
        error: BaseException | None = None
        try:
            result = self._app(environ, self._start_response)
            try:
                for part in result:
                    if part:
                        self._write(part)
                if self._head is None:
                    raise RuntimeError("the app returned without calling start_response")
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        except Exception as raised:
            error = raised
            if not self._gone and self._input.refused is None:
                _log.error("the app of cluster %s raised", self._name, exc_info=raised)
        if self._input.refused is not None and not self._sent:
            # What the app makes of a body that is not taken is not what the client is to hear.
            error = self._input.refused
        head = None if self._sent or error is not None else self._head
        self._post(head, b"", True, error)

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., None]:
        if exc_info is not None:
            try:
                if self._sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._head is not None:
            raise RuntimeError("start_response was called twice")
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        code = int(status.split(" ", 1)[0])
        self._head = (code, response_headers(code, raw))
        self._no_body = self._no_body or code in (204, 304)
        return self._write

    def _write(self, part: bytes) -> None:
        if self._head is None:
            raise RuntimeError("a body before start_response")
        head = None if self._sent else self._head
        self._sent = True
        if self._no_body:
            part = b""
            if head is None:
                return
        with self._room:
            while self._transit > HIGH_WATER and not self._gone:
                self._room.wait()
            if self._gone:
                raise ClientDisconnected("the client has gone")
            self._transit += len(part)
        self._post(head, part, False, None)

    def _post(self, head: tuple[int, RawHeaders] | None, part: bytes, ended: bool, error: BaseException | None) -> None:
        try:
            self.loop.call_soon_threadsafe(self._arrived, head, part, ended, error)
        except RuntimeError:
            # The loop was closed meanwhile: there is nobody left to tell.
            self._gone = True

    # -- the loop's

    def _arrived(
        self, head: tuple[int, RawHeaders] | None, part: bytes, ended: bool, error: BaseException | None
    ) -> None:
        if head is not None:
            self.status, self.headers = head
            self.began = True
        if part:
            self.chunks.append(part)
            self.buffered += len(part)
            self.paused = True
        if ended and self.error is None:
            if error is None:
                self.ended = True
            elif isinstance(error, BodyRefused):
                self.error = error
            elif self.began:
                self.error = UpstreamError("upstream.truncated", f"the app broke off: {error!r}", sent=True, began=True)
            else:
                self.error = UpstreamError("upstream.app_failed", f"the app gave no answer: {error!r}", sent=True)
        self.wake()

    def take(self) -> tuple[bytes, bool]:
        data, ended = super().take()
        if data:
            with self._room:
                self._transit -= len(data)
                self._room.notify()
        return data, ended

    def expire(self) -> None:
        reason = "upstream.idle_timeout" if self.began else "upstream.timeout"
        self.error = UpstreamError(reason, "the app did not answer in time", status=504, sent=True, began=self.began)
        self.wake()

    def leave(self) -> None:
        """Nobody reads any more: wake the thread wherever it waits."""
        if self.ended:
            return
        self._input.leave()
        with self._room:
            self._gone = True
            self._room.notify()


class WsgiResponse:
    """An app's answer."""

    __slots__ = ("_call", "_idle_timeout", "headers", "status", "trailers")

    def __init__(self, call: Call, idle_timeout: float) -> None:
        self.status = call.status
        self.headers: RawHeaders = call.headers
        self.trailers: RawHeaders = []
        self._call = call
        self._idle_timeout = idle_timeout

    def take(self) -> tuple[bytes, bool]:
        return self._call.take()

    async def read(self) -> bytes:
        return await self._call.read(self._idle_timeout)

    def close(self) -> None:
        self._call.leave()


class WsgiApp:
    """The destination over a WSGI application. At most `max_connections` calls run or wait for a thread."""

    def __init__(self, plan: ClusterPlan, pools: Pools, *, threads: int = THREADS) -> None:
        self.name = plan.name
        self._app: App = plan.app
        self._plan = plan
        self._pools = pools
        self._threads = threads
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._pid = 0
        self._lock = threading.Lock()
        self._calls = 0

    @property
    def calls(self) -> int:
        """Calls that run or wait for a thread."""
        return self._calls

    async def open(self, exchange: Exchange) -> WsgiResponse:
        exchange.backend = self.name
        exchange.attempts += 1
        loop = asyncio.get_running_loop()
        call = Call(self._app, self.name, exchange, loop, self._pools.on(loop).sweeper)
        environ = _environ(exchange)
        context = contextvars.copy_context()
        with self._lock:
            executor = self._running()
            if self._calls >= self._plan.max_connections:
                raise UpstreamError("upstream.overloaded", "too many calls wait for a thread", status=503)
            self._calls += 1
        executor.submit(context.run, call.run, environ).add_done_callback(self._done)
        try:
            await call.wait_for_head(self._plan.timeout)
        except BaseException:
            call.leave()
            raise
        return WsgiResponse(call, self._plan.idle_timeout)

    def close(self) -> None:
        """Let the threads go. Calls that run come to their end; those that wait for a thread never start."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)

    def _running(self) -> concurrent.futures.ThreadPoolExecutor:
        # Threads do not survive a fork: a child starts its own.
        if self._executor is None or self._pid != os.getpid():
            self._pid = os.getpid()
            self._calls = 0
            self._executor = concurrent.futures.ThreadPoolExecutor(self._threads, f"gatekit-wsgi-{self.name}")
        return self._executor

    def _done(self, future: concurrent.futures.Future[None]) -> None:
        with self._lock:
            self._calls -= 1


def _environ(exchange: Exchange) -> Environ:
    """The environ of PEP 3333, with RAW_URI and REQUEST_URI as gunicorn and werkzeug have them."""
    length = body_length(exchange)
    target, _, query = request_target(exchange).partition(b"?")
    path = canonical(target, merge_slashes=False).path if exchange.rewritten else exchange.path
    scheme = "https" if exchange.scheme == "https" else "http"
    full = (target + b"?" + query if query else target).decode("latin-1")
    environ: Environ = {
        "REQUEST_METHOD": exchange.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode("utf-8").decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "RAW_URI": full,
        "REQUEST_URI": full,
        "SERVER_NAME": exchange.host,
        "SERVER_PORT": str(exchange.port or (443 if scheme == "https" else 80)),
        "SERVER_PROTOCOL": f"HTTP/{exchange.http_version}",
        "REMOTE_ADDR": exchange.peer or "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    if length != CHUNKED:
        environ["CONTENT_LENGTH"] = str(length)
    for raw_name, raw_value in forward_headers(exchange, exchange.authority.encode("latin-1")):
        if b"_" in raw_name:
            continue
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        value = raw_value.decode("latin-1")
        key = name if name == "CONTENT_TYPE" else f"HTTP_{name}"
        if key in environ:
            value = environ[key] + ("; " if name == "COOKIE" else ",") + value
        environ[key] = value
    return environ
