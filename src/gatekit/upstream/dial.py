"""Opening a connection to one endpoint: TCP, TLS or a Unix socket, within the connect timeout.

A `Target` is an endpoint with the settings that connections to it depend on. Two targets that compare equal share
connections, also across reloads. Names are looked up anew for new connections, and what is in use is replaced by and
by (`max_connection_age`), so that a change in DNS is followed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Hashable
from ipaddress import ip_address
from typing import TypeVar

from gatekit.clients.eyeballs import interleave, open_socket, race, system_resolve
from gatekit.core.peers import Address
from gatekit.core.plan import ClusterPlan, Endpoint, TlsPlan
from gatekit.errors import UpstreamError
from gatekit.upstream.sweep import Alarm, Sweeper

P = TypeVar("P", bound=asyncio.Protocol)

RESOLVED_FOR = 2.0
"""Seconds for which the addresses of a name are used again: the system's look-up says nothing of how long they hold."""


class Target:
    """An endpoint and how to connect to it. `key` is the identity under which connections are kept.

    The plan's `tls_context` is part of it: contexts whose factories compare equal must be interchangeable. Raises
    ValueError when the files that `tls` names cannot be used.
    """

    __slots__ = ("_context", "_found", "_known_at", "authority", "endpoint", "key", "name", "plan", "server_name")

    def __init__(self, plan: ClusterPlan, endpoint: Endpoint) -> None:
        self.plan = plan
        self.endpoint = endpoint
        self.name = endpoint.key
        self.authority = endpoint.authority.encode("latin-1")
        self.key = target_key(plan, endpoint)
        self._found: list[Address] = []
        self._known_at = float("-inf")
        tls = plan.tls
        self.server_name = endpoint.host if tls is None or tls.server_name is None else tls.server_name
        self._context: ssl.SSLContext | None = None
        if endpoint.tls and tls is not None:
            self._context = make_context(tls)

    @property
    def context(self) -> ssl.SSLContext | None:
        """The TLS context, made on first use: the system's trust store unless the plan has one of its own."""
        if not self.endpoint.tls:
            return None
        if self._context is None:
            self._context = (self.plan.tls_context or ssl.create_default_context)()
        return self._context

    async def addresses(self, now: float) -> list[Address]:
        """Where the endpoint is, by its name's present addresses. Those known before serve while nobody answers for
        the name. Raises OSError when it never had any."""
        host = self.endpoint.host
        try:
            return [ip_address(host)]
        except ValueError:
            pass
        if now - self._known_at < RESOLVED_FOR:
            return self._found
        try:
            found = [ip_address(text) for text in await system_resolve(host)]
        except OSError:
            if not self._found:
                raise
        else:
            self._found = interleave(list(dict.fromkeys(found)))
        self._known_at = now
        return self._found


def target_key(plan: ClusterPlan, endpoint: Endpoint) -> Hashable:
    """What connections to this endpoint depend on."""
    return (
        endpoint.key,
        plan.tls_context if endpoint.tls else None,
        plan.tls if endpoint.tls else None,
        plan.connect_timeout,
        plan.keepalive,
        plan.max_connection_age,
        plan.max_connections,
        plan.max_waiting,
        plan.max_wait,
    )


def make_context(tls: TlsPlan) -> ssl.SSLContext:
    """A client's context from files. Raises ValueError, saying which file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"tls.ca: {tls.ca} cannot be used: {error}") from error
    if tls.cert is not None:
        try:
            context.load_cert_chain(tls.cert, tls.key)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"tls.cert, tls.key: {tls.cert} cannot be used: {error}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


async def dial(target: Target, factory: Callable[[], P], sweeper: Sweeper) -> P:
    """A connected protocol. Raises UpstreamError with `sent` false; leaves nothing behind when it is cancelled."""
    loop = asyncio.get_running_loop()
    endpoint = target.endpoint
    protocol: P
    sock: socket.socket | None = None
    try:
        context = target.context
        name = target.server_name if context is not None else None
        with Alarm(sweeper, target.plan.connect_timeout):
            if endpoint.uds is not None:
                _, protocol = await loop.create_unix_connection(
                    factory, endpoint.uds, ssl=context, server_hostname=name
                )
            else:
                addresses = await target.addresses(sweeper.now())
                if len(addresses) == 1:
                    sock = await open_socket(addresses[0], endpoint.port)
                else:
                    sock = await race(addresses, endpoint.port)
                _, protocol = await loop.create_connection(factory, sock=sock, ssl=context, server_hostname=name)
    except BaseException as error:
        if sock is not None:
            sock.close()
        if isinstance(error, TimeoutError):
            raise UpstreamError("upstream.connect_timeout", target.name, status=504) from error
        if isinstance(error, ssl.SSLError):
            raise UpstreamError("upstream.tls_failed", f"{target.name}: {error}") from error
        if isinstance(error, OSError):
            raise UpstreamError("upstream.connect_failed", f"{target.name}: {error}") from error
        raise
    return protocol
