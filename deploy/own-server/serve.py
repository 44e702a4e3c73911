"""A gateway under a server of your own: admin endpoints on a second listener, and SIGTERM drains before the server stops.

python serve.py [CONFIG [PORT [ADMIN_PORT]]]
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import uvicorn

from gatekit import Gateway


class Server(uvicorn.Server):
    """uvicorn that leaves signals to us: by itself it closes its socket at SIGTERM, before any balancer has noticed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any, port: int, **options: Any) -> Server:
    # Who the client is, the gateway decides itself (trusted_proxies).
    return Server(uvicorn.Config(app, host="127.0.0.1", port=port, proxy_headers=False, access_log=False, **options))


async def serve(config: str = "gateway.yaml", port: int = 8000, admin_port: int = 9901) -> None:
    gateway = Gateway.from_config(config)
    public = server(gateway, port, timeout_keep_alive=75)
    private = server(gateway.admin(source=config), admin_port, lifespan="off")
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    serving = [asyncio.create_task(one.serve()) for one in (public, private)]
    # Whichever comes first: the signal, or a server that cannot start.
    await asyncio.wait([asyncio.create_task(told.wait()), *serving], return_when=asyncio.FIRST_COMPLETED)
    await gateway.drain(grace=5, timeout=30)
    public.should_exit = private.should_exit = True
    await asyncio.gather(*serving)


if __name__ == "__main__":
    path, *ports = sys.argv[1:] or ["gateway.yaml"]
    asyncio.run(serve(path, *map(int, ports)))
