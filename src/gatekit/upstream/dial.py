"""Opening a connection to one endpoint: TCP, TLS or a Unix socket, within the connect timeout.

A `Target` is an endpoint with the settings that connections to it depend on. Two targets that compare equal share
connections, also across reloads.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Hashable
from typing import TypeVar

from gatekit.core.plan import ClusterPlan, Endpoint
from gatekit.errors import UpstreamError
from gatekit.upstream.sweep import Alarm, Sweeper

P = TypeVar("P", bound=asyncio.Protocol)


class Target:
    """An endpoint and how to connect to it. `key` is the identity under which connections are kept.

    The plan's `tls_context` is part of it: contexts whose factories compare equal must be interchangeable.
    """

    __slots__ = (
        "_context", "_make_context", "authority", "connect_timeout", "endpoint", "keepalive", "key", "max_connections",
        "name",
    )  # fmt: skip

    def __init__(self, plan: ClusterPlan, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.name = endpoint.key
        self.authority = endpoint.authority.encode("latin-1")
        self.connect_timeout = plan.connect_timeout
        self.keepalive = plan.keepalive
        self.max_connections = plan.max_connections
        self._make_context = plan.tls_context if endpoint.tls else None
        self._context: ssl.SSLContext | None = None
        self.key: Hashable = (
            self.name,
            endpoint.tls,
            self._make_context,
            plan.connect_timeout,
            plan.keepalive,
            plan.max_connections,
        )

    @property
    def context(self) -> ssl.SSLContext | None:
        """The TLS context, made on first use: the system's trust store unless the plan has one of its own."""
        if not self.endpoint.tls:
            return None
        if self._context is None:
            make = self._make_context or ssl.create_default_context
            self._context = make()
        return self._context


async def dial(target: Target, factory: Callable[[], P], sweeper: Sweeper) -> P:
    """A connected protocol. Raises UpstreamError with `sent` false; leaves nothing behind when it is cancelled."""
    loop = asyncio.get_running_loop()
    endpoint = target.endpoint
    context = target.context
    name = endpoint.host if context is not None else None
    protocol: P
    try:
        with Alarm(sweeper, target.connect_timeout):
            if endpoint.uds is not None:
                _, protocol = await loop.create_unix_connection(
                    factory, endpoint.uds, ssl=context, server_hostname=name
                )
            else:
                _, protocol = await loop.create_connection(
                    factory, endpoint.host, endpoint.port, ssl=context, server_hostname=name
                )
    except TimeoutError as error:
        raise UpstreamError("upstream.connect_timeout", target.name, status=504) from error
    except ssl.SSLError as error:
        raise UpstreamError("upstream.tls_failed", f"{target.name}: {error}") from error
    except OSError as error:
        raise UpstreamError("upstream.connect_failed", f"{target.name}: {error}") from error
    return protocol
