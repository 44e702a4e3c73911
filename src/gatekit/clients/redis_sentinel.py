"""The master that sentinels name, as one event loop speaks to it.

All sentinels are asked, and the latest word counts: the one with the highest number of the configuration (config-epoch).
A server is spoken to when it says itself that it is a master. Who the master is is asked anew whenever it does not answer
or takes no writes, and once a second while there are questions: a master that was cut off and replaced may be back, and
not know yet.
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections.abc import Sequence
from contextvars import Context
from math import inf
from typing import Any, Final, NamedTuple

from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError

from gatekit.clients.redis_links import Access, Link, Lost, Unfit
from gatekit.clients.redis_nodes import CONNECT_SECONDS, Node
from gatekit.clients.redis_urls import Place, RedisUrl

ASK_EVERY: Final = 1.0
"""Seconds after which the sentinels are asked again although the master answers."""
AGAIN_AFTER: Final = 0.1
"""The same while it does not."""
LATE: Final = 0.25
"""Seconds after which sentinels that have not answered are not waited for where any has."""
TRIES: Final = 3
"""How many masters are asked for one answer at most."""


class Word(NamedTuple):
    """What a sentinel says. Of two, the one with the higher epoch is later."""

    epoch: int
    place: Place


class Master:
    """`connections` to the master at most, and one to each sentinel."""

    def __init__(self, url: RedisUrl, access: Access, connections: int) -> None:
        self._name = url.master
        self._access = access
        self._connections = connections
        self._patience = max(url.timeout, CONNECT_SECONDS)
        self._loop = asyncio.get_running_loop()
        tls = url.options if url.tls else None
        to_sentinels = Access(url.sentinel, 0, tls)
        self._sentinels = {place: Node(place, to_sentinels, 1, self._patience) for place in url.places}
        self._word: Word | None = None
        self._node: Node | None = None
        self._finding: Task[Lost | None] | None = None
        self._begun = self._found = -inf
        self._doubted = False
        self._closed = False

    async def ask(self, command: Sequence[Any], deadline: float, keys: Sequence[str] | None = None) -> Any:
        """What the master answers. Raises Lost, and the ResponseError that was answered."""
        node = await self._master(deadline)
        for tried in range(1, TRIES + 1):
            try:
                answer = await node.ask(command, deadline)
            except (Lost, ReadOnlyError) as error:
                self._doubt(node)
                # Nobody had the question, or it wrote nothing: whoever is the master by now may be asked.
                if tried == TRIES or (isinstance(error, Lost) and error.sent):
                    raise
                if (other := await self._master(deadline)) is node:
                    raise
                node = other
            else:
                if node is self._node:
                    self._doubted = False
                return answer
        raise AssertionError

    async def place(self, channel: str, deadline: float) -> Place:
        node = await self._master(deadline)
        # Over a connection that has been asked whether it leads to a master.
        await node.ask(("PING",), deadline)
        return await node.place(channel, deadline)

    def doubt(self, place: Place) -> None:
        if self._word is not None and place == self._word.place:
            self._doubt(self._node)

    def _doubt(self, node: Node | None) -> None:
        """Ask the sentinels before this master is asked again: at once, and from then on now and then."""
        if node is self._node and not self._doubted:
            self._doubted = True
            self._found = -inf

    def drop_idle(self) -> None:
        for node in self._all():
            node.drop_idle()

    async def aclose(self) -> None:
        self._closed = True
        if self._finding is not None:
            self._finding.cancel()
        await asyncio.wait([self._loop.create_task(node.aclose()) for node in self._all()])

    def _all(self) -> list[Node]:
        return [*self._sentinels.values(), *([] if self._node is None else [self._node])]

    # -- who it is

    async def _master(self, deadline: float) -> Node:
        """The master, as the sentinels say. Raises Lost."""
        now = self._loop.time()
        age = now - self._found
        if self._node is None or age >= ASK_EVERY or (self._doubted and age >= AGAIN_AFTER):
            task = self._finding
            if task is None or task.done():
                if self._closed:
                    raise Lost(next(iter(self._sentinels)), Unfit("is not used any more"), sent=False)
                task = self._finding = self._loop.create_task(self._find(), context=Context())
                self._begun = now
            if self._node is None:
                await asyncio.wait([task], timeout=max(0.0, deadline - now))
            elif now - self._begun < LATE:
                # Sentinels that do not answer are no reason not to ask the master that is known.
                await asyncio.wait([task], timeout=max(0.0, deadline - now) / 2)
            if self._node is None:
                lost = task.result() if task.done() and not task.cancelled() else None
                place, cause = (
                    (next(iter(self._sentinels)), TimeoutError()) if lost is None else (lost.place, lost.cause)
                )
                raise Lost(place, cause, sent=False)
        return self._node

    async def _find(self) -> Lost | None:
        """Ask the sentinels, and go by what they say. What went wrong otherwise."""
        begun = self._loop.time()
        asking = {self._loop.create_task(self._said(place, begun + self._patience)) for place in self._sentinels}
        words: list[Word] = []
        lost: Lost | None = None
        try:
            while asking and len(words) <= len(self._sentinels) // 2:
                left = max(0.0, begun + LATE - self._loop.time()) if words else None
                done, asking = await asyncio.wait(asking, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for task in done:
                    said = task.result()
                    if isinstance(said, Word):
                        words.append(said)
                    else:
                        lost = said
            self._take(words)
        finally:
            for task in asking:
                task.cancel()
            self._found = self._loop.time()
        return None if words else lost

    async def _said(self, sentinel: Place, deadline: float) -> Word | Lost:
        """What one sentinel says."""
        node = self._sentinels[sentinel]
        try:
            said = await node.ask(("SENTINEL", "MASTER", self._name), deadline)
            epoch = int(dict(zip(said[::2], said[1::2], strict=False))[b"config-epoch"])
            host, port = await node.ask(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name), deadline)
            return Word(epoch, Place(host.decode("ascii").lower(), int(port)))
        except Lost as lost:
            return lost
        except ResponseError as error:
            unknown = "no such master" in str(error).lower()
            return Lost(sentinel, Unfit(f"knows no master {self._name}") if unknown else error, sent=True)
        except (TypeError, ValueError, KeyError, AttributeError):
            return Lost(sentinel, Unfit("does not answer as a sentinel does"), sent=True)

    def _take(self, words: Sequence[Word]) -> None:
        """Go by the latest word. One that is older than what was said before needs a majority to say so."""
        if not words or self._closed:
            return
        latest = max(words)
        few = len(words) <= len(self._sentinels) // 2
        if self._word is not None and latest.epoch < self._word.epoch and few:
            return
        if self._word is None or latest.place != self._word.place:
            if self._node is not None:
                self._node.retire()
            self._node = Node(latest.place, self._access, self._connections, self._patience, _be_master)
            self._doubted = False
        self._word = latest


async def _be_master(link: Link) -> None:
    """Nothing, where the server on this connection is a master. Raises Unfit."""
    await link.send_command("ROLE")
    try:
        role = await link.read_response()
    except NoPermissionError:
        # It may not be asked: the sentinels' word, and that a replica takes no writes, must do.
        return
    if not isinstance(role, list) or role[:1] != [b"master"]:
        raise Unfit("is not a master")
