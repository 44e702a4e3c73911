"""The guarded dialer: resolve once, judge every address, connect to the addresses that were judged.

Nothing resolves a second time. A resolver that answers a public address while it is looked at and 127.0.0.1 when it
is connected to (DNS rebinding) is therefore asked only for the first of these answers.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Literal, TypeVar

from gatekit.clients.addresses import AddressRules
from gatekit.clients.eyeballs import (
    ATTEMPT_DELAY,
    Connect,
    Resolve,
    interleave,
    open_socket,
    race,
    system_resolve,
)
from gatekit.clients.urls import read_host
from gatekit.core.peers import Address
from gatekit.errors import GatekitError

P = TypeVar("P", bound=asyncio.Protocol)


class DialFailed(GatekitError):
    """There was no connection. `reason` is the step that failed. For operators: the text names host and port."""

    def __init__(self, reason: Literal["resolve", "connect", "tls", "timeout"], host: str, port: int, why: str) -> None:
        self.reason = reason
        self.host = host
        self.port = port
        super().__init__(f"{host} port {port}: {why}")


class GuardedDialer:
    """Connections to where the rules allow. Holds nothing of a loop; may be used from several at once.

    `connect_timeout` bounds one `connect` from the look-up to the end of the TLS handshake, in seconds.
    """

    def __init__(
        self,
        rules: AddressRules,
        *,
        resolve: Resolve = system_resolve,
        connect: Connect = open_socket,
        connect_timeout: float = 5.0,
        attempt_delay: float = ATTEMPT_DELAY,
    ) -> None:
        self.rules = rules
        self.connect_timeout = connect_timeout
        self._resolve = resolve
        self._connect = connect
        self._attempt_delay = attempt_delay

    async def connect(
        self, factory: Callable[[], P], host: str, port: int, *, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.Transport, P]:
        """A connected transport and protocol. `host` is a name, a dotted quad, or IPv6 with or without brackets.

        With `tls` the name goes out as SNI and the certificate must be for it, whatever address was dialled. Raises
        TargetRefused when the rules forbid the port or any address of the host, DialFailed when nobody answers.
        """
        written = f"[{host}]" if ":" in host and not host.startswith("[") else host
        name, literal = read_host(written)
        self.rules.check_port(name, port)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.connect_timeout):
                addresses = [literal] if literal is not None else await self._look_up(name, port)
                for address in addresses:
                    self.rules.check_address(name, address)
                order = interleave([_unmapped(address) for address in addresses])
                sock = await race(order, port, connect=self._connect, delay=self._attempt_delay)
                server_name = name if tls is not None else None
                return await loop.create_connection(factory, sock=sock, ssl=tls, server_hostname=server_name)
        except TimeoutError:
            raise DialFailed("timeout", name, port, f"not connected within {self.connect_timeout} s") from None
        except ssl.SSLError as error:
            raise DialFailed("tls", name, port, str(error)) from error
        except OSError as error:
            raise DialFailed("connect", name, port, str(error)) from error

    async def _look_up(self, name: str, port: int) -> list[Address]:
        try:
            found = [ip_address(text) for text in await self._resolve(name)]
        except (OSError, ValueError) as error:
            raise DialFailed("resolve", name, port, f"no address: {error}") from error
        if not found:
            raise DialFailed("resolve", name, port, "no address")
        return list(dict.fromkeys(found))


def _unmapped(address: Address) -> Address:
    """Mapped IPv4 is dialled as what it was judged as: the IPv4 address."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
