"""Serving by granian, embedded in the worker's loop: HTTP/1.1, HTTP/2 and WebSocket.

It carries as many requests as under its own command line (measured side by side). It reads certificates once.
"""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

from granian import _granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server as Embedded

from gatekit.serving.settings import Settings

_MODES = {"both": HTTPModes.auto, "1": HTTPModes.http1, "2": HTTPModes.http2}
_SPOKEN = {"both": "HTTP/1.1, HTTP/2, WebSocket", "1": "HTTP/1.1, WebSocket", "2": "HTTP/2"}
_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"handlers": [], "propagate": True}},
}


def _known(record: logging.LogRecord) -> bool:
    """Every granian that is embedded says that this is experimental, which is why our tests run on it."""
    return "experimental" not in record.getMessage()


class _OnSocket(Embedded):
    """granian on a socket that listens already, instead of one that it binds."""

    def __init__(self, app: Any, sock: socket.socket, **options: Any) -> None:
        super().__init__(app, interface=Interfaces.ASGI, **options)
        self._handed = sock
        self.listening: int | None = None

    def _init_shared_socket(self) -> None:
        # granian closes the number it is given.
        number = self.listening = self._handed.dup().detach()
        holder: Any = _granian.SocketHolder
        self._shd: Any = holder(number, self._handed.family == socket.AF_UNIX, self.backlog)
        self._sfd: Any = number


def _silent(family: int) -> socket.socket:
    """A socket that listens where nobody is told of: a name or a port of this machine alone, which the kernel chooses."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    # An empty name is one in the abstract namespace (unix(7)).
    sock.bind("" if family == socket.AF_UNIX else ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    sock.listen(1)
    sock.setblocking(False)
    return sock


class OnGranian:
    """`gatekit.serving.servers.Server` by granian."""

    name = "granian"

    def __init__(self, app: Any, sock: socket.socket, settings: Settings) -> None:
        options: dict[str, Any] = {}
        tls = settings.tls
        if tls is not None:
            options = {"ssl_cert": Path(tls.cert), "ssl_key": Path(tls.key), "ssl_protocol_min": SSLProtocols.tls12}
            if tls.client_ca is not None:
                options |= {"ssl_ca": Path(tls.client_ca), "ssl_client_verify": True}
        # Whoever waits for either version waits for the first bytes without a limit: a silent client would stay for
        # ever. Over TLS the handshake says which it is.
        self._http = settings.http if settings.http != "auto" else "1" if tls is None else "both"
        logger = logging.getLogger("_granian")
        level = logger.level
        self._sock = sock
        self._server = _OnSocket(
            app,
            sock,
            http=_MODES[self._http],
            backlog=settings.backlog,
            # More connections than this wait unanswered, slow ones included.
            backpressure=settings.max_connections,
            # hyper counts the wait for the next request of a connection as the reading of its head.
            http1_settings=HTTP1Settings(header_read_timeout=int(settings.keepalive * 1000)),
            log_dictconfig=_LOGGING,
            **options,
        )
        logger.setLevel(level)
        logger.addFilter(_known)

    @property
    def protocols(self) -> str:
        return _SPOKEN[self._http]

    async def serve(self) -> None:
        await self._server.serve()

    async def stop_accepting(self) -> None:
        """granian has no word for it, and told to stop it drops connections that are in their TLS handshake. So the
        number that it accepts from is given to a socket that nobody knows of. It is of the same family: granian may still be
        starting, when it asks the socket for its address and panics over one of another family."""
        if self._server.listening is not None:
            with _silent(self._sock.family) as silent:
                os.dup2(silent.fileno(), self._server.listening, inheritable=False)
            self._server.listening = None
        self._sock.close()

    def stop(self) -> None:
        # From here on granian closes the number, and it may soon be another file's.
        self._server.listening = None
        stop: Any = self._server.stop
        stop()

    def renew(self) -> None:
        raise OSError("granian reads certificates once")
