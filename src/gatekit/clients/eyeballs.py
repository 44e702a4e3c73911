"""Connecting to the first of several addresses that answers (happy eyeballs, RFC 8305), each tried in its own socket.

No rules and no names in here beyond the look-up itself: whoever calls says which addresses may be tried.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address
from itertools import chain, zip_longest

from gatekit.core.peers import Address

Resolve = Callable[[str], Awaitable[Iterable[str]]]
"""The addresses of a name, best first. Raises OSError when there are none."""

Connect = Callable[[Address, int], Awaitable[socket.socket]]
"""A connected, non-blocking socket to that address and port. Raises OSError; closes what it opened if cancelled."""

ATTEMPT_DELAY = 0.25
"""Seconds until the next address is tried beside one that has not answered (RFC 8305, 5)."""


async def system_resolve(host: str) -> list[str]:
    """What the system's resolver answers, in its order (RFC 6724)."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in found]


async def open_socket(address: Address, port: int) -> socket.socket:
    """A TCP connection to that very address."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    # asyncio turns Nagle's algorithm off only on sockets whose protocol it knows.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


async def race(
    addresses: Sequence[Address], port: int, *, connect: Connect = open_socket, delay: float = ATTEMPT_DELAY
) -> socket.socket:
    """The first socket that connects; the next address joins when one fails or after the delay (RFC 8305, 5).

    Raises OSError with what each address said when none does.
    """
    waiting = deque(addresses)
    running: dict[asyncio.Task[socket.socket], Address] = {}
    failures: list[str] = []
    winner: asyncio.Task[socket.socket] | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                address = waiting.popleft()
                running[asyncio.create_task(_attempt(connect, address, port))] = address
            pause = delay if waiting else None
            done, _ = await asyncio.wait(running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if isinstance(error, OSError):
                    failures.append(f"{running.pop(task)}: {error}")
                elif error is not None:
                    raise error
            winner = next((task for task in done if task in running), None)
    finally:
        for task in running:
            if task is not winner:
                # Not awaited: whoever is cancelled in here could not close the winner any more.
                task.cancel()
                task.add_done_callback(_close_late)
    if winner is None:
        raise OSError("; ".join(failures))
    return winner.result()


async def _attempt(connect: Connect, address: Address, port: int) -> socket.socket:
    return await connect(address, port)


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    """Close what an attempt connected after another had won."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """Families in turns, beginning with that of the first address; the order within each is kept (RFC 8305, 4)."""
    first = [address for address in addresses if address.version == addresses[0].version]
    second = [address for address in addresses if address.version != addresses[0].version]
    turns = chain.from_iterable(zip_longest(first, second))
    return [address for address in turns if address is not None]
