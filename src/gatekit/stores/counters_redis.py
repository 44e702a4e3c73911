"""Counters of rate limits shared by every instance through Redis or Valkey, or a Cluster, or what a Sentinel looks after.

All that a request asks is one step on the server, by the server's clock, and one round trip, which it shares with the
requests that come at the same time. What a counter has come to say nothing about is gone by itself.

    redis://user:password@host:6379/0?prefix=gatekit&timeout=0.025&leases=on

A server that does not answer costs each of the first five requests `timeout` seconds at most, and those that follow
nothing: it is not asked again before it has answered a probe. The counters are then where they were, as far as the server
has kept them.

A key under our prefix that holds no state of ours, which happens only by somebody's hand, is nothing spent, and what is
spent next is written over it. Refusing it would keep a limit from counting for as long as nobody looks. `status` counts
them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

from gatekit.clients.redis import redis_server, slot_of
from gatekit.clients.redis_urls import SLOTS
from gatekit.core.counters import Ask, Counters, Limit, Taken
from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.errors import StoreUnavailable
from gatekit.mechanisms.backoff import delay
from gatekit.mechanisms.leases import SHARE
from gatekit.stores.counters_contact import Contact
from gatekit.stores.counters_line import Line
from gatekit.stores.counters_script import (
    CHARGE,
    LEASE,
    RESET,
    SCRIPT,
    TAKE,
    Answers,
    Call,
    Granted,
    Writer,
    read,
    tag_of,
)
from gatekit.stores.kept import wait

_log = logging.getLogger("gatekit.stores")

TIMEOUT: Final = 0.025
LONGEST_TIMEOUT: Final = 1.0
CONNECTIONS: Final = 2
"""Round trips under way at once, from each loop. What comes meanwhile shares the next one."""
CLUSTER_CONNECTIONS: Final = 8
"""To each node of a Cluster: only what has the same tag can share a round trip."""
CLUSTER_AT_ONCE: Final = 32
SECTORS: Final = 16
"""Into so many parts the slots of a Cluster are cut; whether it answers is known of each. A node that is lost does not end
the others, without anything being known of nodes here."""
PROBE_AFTER: Final = 0.05
PROBE_AT_MOST: Final = 1.0
"""Seconds between probes of a server that is down: from the first to the second, doubled each time, with jitter."""

LEAST_SHARE: Final = 0.001
MOST_SHARE: Final = 0.25

PATIENCE: Final = 2.0
"""Seconds after which the client ends a question by itself, which nobody waits for that long."""
PROBE_SECONDS: Final = 0.25
"""A probe may take longer than a request: that a server is slow is for requests to find."""

_PROBED: Final = Limit(1, 1.0)
_PREFIX: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_OPTIONS: Final = ("leases", "prefix")


def redis_counters(url: str, ports: Ports) -> Counters:
    """The counters behind that URL. With `leases=on` each process takes what it will need soon in one go, and counts that
    by itself. Raises ValueError, ImportError. Opening does no I/O."""
    from gatekit.stores.counters_leases import LeasedCounters

    counters = RedisCounters(url, ports)
    share = share_of(counters.options.get("leases", "off"))
    return counters if share is None else LeasedCounters(counters, ports, share)


def share_of(text: str) -> float | None:
    """The largest part of a limit that a process may hold as a lease; None where there are none. Raises ValueError."""
    if text == "off":
        return None
    if text == "on":
        return SHARE
    share = float(text) if re.fullmatch(r"0\.[0-9]{1,4}", text) else 0.0
    if not LEAST_SHARE <= share <= MOST_SHARE:
        raise ValueError(
            f"leases is on, off, or the largest part of a limit that one process may hold, {LEAST_SHARE:g} to {MOST_SHARE:g}"
        )
    return share


class RedisCounters:
    """The counters on one server, or one Cluster."""

    def __init__(self, url: str, ports: Ports) -> None:
        self._spread = "cluster" in url.partition(":")[0].lower()
        connections = CLUSTER_CONNECTIONS if self._spread else CONNECTIONS
        self._server = redis_server(url, options=_OPTIONS, timeout=TIMEOUT, connections=connections)
        if self._server.timeout > LONGEST_TIMEOUT:
            raise ValueError("a request waits for this: timeout is at most 1 second")
        self.options = self._server.options
        prefix = self.options.get("prefix", "gatekit")
        if not _PREFIX.fullmatch(prefix):
            raise ValueError("a prefix is 1 to 64 letters, digits, dots, hyphens, underscores and colons")
        self._ports = ports
        self._writer = Writer(prefix, ports.clock.wall)
        self._contacts = [
            Contact(
                f"{self._server.shown}: a sixteenth of the slots" if self._spread else self._server.shown, ports.clock
            )
            for _ in range(SECTORS if self._spread else 1)
        ]
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}
        self._questions = 0
        self._operations = 0
        self._foreign = 0

    def __repr__(self) -> str:
        return f"<RedisCounters {self._server.shown}>"

    # -- what policies call

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        return await self._asked(Call(TAKE, asks)) if asks else ()

    async def charge(self, asks: Sequence[Ask]) -> None:
        await self._asked(Call(CHARGE, asks))

    async def reset(self, asks: Sequence[Ask]) -> None:
        await self._asked(Call(RESET, asks))

    async def lease(self, asks: Sequence[Ask]) -> Sequence[Granted]:
        """As much of each cost as there is, and what is left then. Raises StoreUnavailable."""
        return await self._asked(Call(LEASE, asks))

    def jobs(self) -> list[Job]:
        return [Job(("counters", self), self._stay, lambda: PROBE_AT_MOST)]

    def status(self) -> Mapping[str, Any]:
        down = [contact for contact in self._contacts if contact.down]
        return {
            "store": self._server.shown,
            "up": not down,
            "since": max(contact.since for contact in self._contacts),
            "trouble": down[0].why if down else None,
            "questions": self._questions,
            "failures": sum(contact.failures for contact in self._contacts),
            "operations": self._operations,
            "foreign": self._foreign,
        }

    async def aclose(self) -> None:
        """Close what is open in the running loop."""
        self._lines.pop(asyncio.get_running_loop(), None)
        await self._server.aclose()

    # -- asking

    async def _asked(self, call: Call) -> Sequence[Any]:
        """What the server says to this call. Under WSGI the loop thread asks, and this never suspends."""
        place, contact = ("", self._contacts[0]) if not self._spread else self._sector(call)
        if contact.down and not contact.may_ask():
            raise StoreUnavailable(contact.why)
        self._questions += 1
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return await self._ports.once(object(), lambda: self._line().asked(call, contact, place))
        return await self._line(loop).asked(call, contact, place)

    def _line(self, loop: asyncio.AbstractEventLoop | None = None) -> Line:
        loop = loop or asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            for closed in [one for one in list(self._lines) if one.is_closed()]:
                self._lines.pop(closed, None)
            most = CLUSTER_AT_ONCE if self._spread else CONNECTIONS
            line = self._lines[loop] = Line(self._answers, self._server.timeout, most)
        return line

    def _sector(self, call: Call) -> tuple[str, Contact]:
        """On a Cluster: the tag of the call, with which it may share a round trip, and the part of the slots it is in."""
        tags = {tag_of(ask.key) for ask in call.asks}
        tag = tags.pop()
        if tags or not tag:
            raise ValueError("on a Cluster all counters of one call need the same tag: keys like {tag}rest")
        return tag, self._contacts[slot_of(tag) * SECTORS // SLOTS]

    async def _answers(self, calls: Sequence[Call]) -> Answers:
        """One round trip. Raises StoreUnavailable."""
        keys, said = self._writer.written(calls)
        self._operations += 1
        text = await self._server.run(SCRIPT, keys, [said], PATIENCE)
        try:
            answers = read(text, calls)
        except (ValueError, IndexError, AttributeError):
            raise StoreUnavailable(f"{self._server.shown} answers what the script does not say") from None
        if answers.foreign:
            if not self._foreign:
                _log.warning("%s has keys of ours that hold no state; they count as nothing spent", self._server.shown)
            self._foreign += answers.foreign
        return answers

    # -- while it is down

    async def tend(self) -> None:
        """Try what is down until it answers, until cancelled. Meanwhile no request does."""
        async with asyncio.TaskGroup() as group:
            for number, contact in enumerate(self._contacts):
                group.create_task(self._tend(number, contact))

    async def _tend(self, number: int, contact: Contact) -> None:
        contact.tend()
        try:
            # The first request need not wait for a connection. Whether there is a server is for it to find.
            await self._probed(number)
            while True:
                await contact.lost()
                await self._recover(number, contact)
        finally:
            contact.leave()

    async def _recover(self, number: int, contact: Contact) -> None:
        """Ask until it answers: the script, for nothing; on a Cluster the node that has the sector."""
        tries = 0
        while contact.down:
            tries += 1
            await wait(PROBE_AFTER + delay(tries, self._ports.random.random(), base=PROBE_AFTER, cap=PROBE_AT_MOST))
            if tries == 1:
                # Others than the one that was found broken may be.
                await self._server.drop_idle()
            if await self._probed(number):
                contact.answered()

    async def _probed(self, number: int) -> bool:
        """Whether it answers there."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._answers([Call(TAKE, [Ask(self._probe(number), _PROBED, 0)])])
        except (StoreUnavailable, TimeoutError):
            return False
        return True

    def _probe(self, number: int) -> str:
        """A key whose slot lies in that sector."""
        if not self._spread:
            return "{probe}"
        return next(f"{{{tag}}}" for tag in map(str, count()) if slot_of(tag) * SECTORS // SLOTS == number)

    async def _stay(self) -> None:
        try:
            await self.tend()
        finally:
            await self.aclose()
