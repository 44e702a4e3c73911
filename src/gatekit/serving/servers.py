"""The servers that can carry a gateway: what a worker asks of them, and the table of those there are.

Each takes the listening socket as it is, serves in the worker's own loop, and leaves signals alone.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol

from gatekit.serving.settings import BadSettings, Settings

SERVERS: Mapping[str, str] = MappingProxyType(
    {
        "granian": "gatekit.serving.on_granian:OnGranian",
        "uvicorn": "gatekit.serving.on_uvicorn:OnUvicorn",
    }
)
"""Name → `module:class`."""


class Server(Protocol):
    """A server for one ASGI application on one listening socket."""

    name: str
    protocols: str
    """What it speaks, as the banner says it."""

    async def serve(self) -> None:
        """Serve until `stop` was called and everything under way has ended. Returns early when it cannot start."""
        ...

    async def stop_accepting(self) -> None:
        """Take no more connections and hold the listening socket no longer; what it has accepted is served on."""
        ...

    def stop(self) -> None:
        """Take no more connections, close idle ones, let requests finish, then return from `serve`."""
        ...

    def renew(self) -> None:
        """Read the certificate files again, for connections from now on. Raises OSError, ssl.SSLError; where a server
        cannot do it at all, the workers are replaced instead."""
        ...


class ServerFactory(Protocol):
    def __call__(self, app: Any, sock: socket.socket, settings: Settings) -> Server: ...


def server_named(name: str) -> ServerFactory:
    """The server of that name. Raises BadSettings when there is none, or when it is not installed."""
    home = SERVERS.get(name)
    if home is None:
        raise BadSettings(f"there is no server {name!r}: it is one of {', '.join(SERVERS)}")
    module, _, attribute = home.partition(":")
    try:
        found: ServerFactory = getattr(import_module(module), attribute)
    except ImportError as error:
        raise BadSettings(f"{name} cannot be used ({error}): pip install 'gatekit-asgi[server]'") from None
    return found
