"""The ports of a running process: its clock, its randomness, its locks. Tests bring their own instead."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gatekit.clients.disk import StateDirectory
from gatekit.core.events import Events
from gatekit.core.ports import PUBLIC, Cells, Fetched, Ports, Reach, Zone, store_url
from gatekit.errors import MissingSecret
from gatekit.gateway.shared import Shared, awaited
from gatekit.gateway.signals import signal
from gatekit.stores import SystemStores

if TYPE_CHECKING:
    from gatekit.clients.fetch import HttpFetch


class SystemClock:
    """The process's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


_SIZE = 16
_BATCH = 16
_tokens: deque[bytes] = deque()
# What a parent has left over must not be given out again by each of its children.
os.register_at_fork(after_in_child=_tokens.clear)


class SystemRandom:
    """`random` for spreading load, `token` from the operating system for what nobody may guess."""

    random = staticmethod(random.random)

    @staticmethod
    def token(size: int) -> bytes:
        """Tokens of the usual size are fetched by the batch: one call of the operating system costs as much as many
        of them. Taking one is atomic, so threads need no lock."""
        if size != _SIZE:
            return os.urandom(size)
        try:
            return _tokens.popleft()
        except IndexError:
            fresh = os.urandom(_SIZE * _BATCH)
            _tokens.extend(fresh[at : at + _SIZE] for at in range(_SIZE, len(fresh), _SIZE))
            return fresh[:_SIZE]


class SystemFetch:
    """`Fetch` through the guarded dialer. The client is loaded when it is first needed."""

    def __init__(self) -> None:
        self._client: HttpFetch | None = None
        self._lock = threading.Lock()

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 5.0,
        reach: Reach = PUBLIC,
    ) -> Fetched:
        client = self._client or self._loaded()

        def work() -> Awaitable[Fetched]:
            return client(method, url, headers=headers, body=body, timeout=timeout, reach=reach)

        # A little more than the client gives itself, so that it is the one to say what happened.
        return await awaited(work, timeout + 1.0)

    def _loaded(self) -> HttpFetch:
        from gatekit.clients.fetch import HttpFetch

        with self._lock:
            self._client = self._client or HttpFetch()
            return self._client

    async def aclose(self) -> None:
        """Close what is open in the running loop."""
        if self._client is not None:
            await self._client.aclose()


FETCH = SystemFetch()
"""One for the process; its connections are each loop's own."""


def system_secret(reference: str) -> str:
    """`Secrets` from the environment and from files, as containers and service managers hand them in."""
    kind, colon, name = reference.partition(":")
    if not colon or kind not in ("env", "file"):
        return reference
    try:
        found = os.environ[name] if kind == "env" else Path(name).expanduser().read_text("utf-8").rstrip("\r\n")
    except (KeyError, OSError, UnicodeDecodeError) as error:
        why = "is not set" if isinstance(error, KeyError) else f"cannot be read: {_why(error)}"
        raise MissingSecret(f"{reference} {why}") from None
    if not found:
        raise MissingSecret(f"{reference} is empty")
    return found


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "unreadable" if isinstance(error, OSError) else "it is not UTF-8"


def system_zone(name: str) -> Zone:
    """`Zones` from the system's database, or that of the package `tzdata` where it has none."""
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        # A name that is a folder of the database is an OSError.
        raise ValueError(f"there is no time zone {name!r} in this system's database") from None

    def ahead(moment: float) -> float:
        offset = datetime.fromtimestamp(moment, zone).utcoffset()
        return 0.0 if offset is None else offset.total_seconds()

    return ahead


PROCESSES = "GATEKIT_PROCESSES"
"""The environment variable that says how many processes serve the same thing. `gatekit run` sets it for its workers."""


def _processes() -> int:
    text = os.environ.get(PROCESSES, "1")
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"{PROCESSES} is how many processes serve this together, a whole number from 1: not {text!r}")
    return int(text)


def system_ports(*, events: Events | None = None, cells: Cells | None = None) -> Ports:
    """Ports for production: real time and randomness, fetching from public addresses, in-memory state, locks that
    threads may contend for. All of them serve event loops and the threads of a WSGI server alike.

    Raises ValueError where GATEKIT_PROCESSES is no number."""
    return Ports(
        clock=SystemClock(),
        random=SystemRandom(),
        fetch=FETCH,
        stores=SystemStores(),
        once=Shared(),
        disk=StateDirectory.found(),
        secrets=system_secret,
        zones=system_zone,
        signals=signal,
        processes=_processes(),
        development=os.environ.get("GATEKIT_DEVELOPMENT") == "1",
        events=events,
        cells=cells,
        lock=threading.Lock,
    )


def revocations(url: str) -> Any:
    """The list of what is revoked at that URL, for a service that revokes: `await revocations(url).revoke(jti="…",
    until=exp)`, and `restore` to take it back. Gateways follow it where their `Authn` has the same URL.

    Raises ValueError on a URL that names no list. `env:NAME` and `file:/path` are looked up, as in a configuration.
    """
    ports = system_ports()
    return ports.stores.revocations(store_url(url, ports), ports)


def plans(url: str) -> Any:
    """Who has which plan, at that URL, for a service that administers plans: `await plans(url).set("acme", "pro")`, and
    `remove`. Gateways follow it where a `RateLimit` has the same URL as `plans_from`.

    Raises ValueError on a URL that names no such store. `env:NAME` and `file:/path` are looked up, as in a configuration.
    """
    ports = system_ports()
    return ports.stores.plans(store_url(url, ports), ports)
