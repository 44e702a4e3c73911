"""A cluster of Redis or Valkey, as one event loop speaks to it.

A question goes to the node that has the slot of its key. Which node that is, the cluster says: when it is asked (CLUSTER
SLOTS), and when a question came to the wrong node (MOVED, ASK). No address comes from anywhere else but the URL.

redis-py's own cluster client is not used: it sends ASKING and the question it is for on connections that need not be the
same one, pauses for a quarter of a second when the cluster is down, closes everything on some redirections, refuses
questions when all connections are in use, and learns the slots within the time of whoever asks, so that a short bound
would end that again and again.
"""

from __future__ import annotations

import asyncio
import re
from asyncio import Task
from bisect import bisect_left
from collections.abc import Sequence
from contextvars import Context
from math import inf
from typing import Any, Final, NamedTuple

from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError

from gatekit.clients.redis_links import Access, Lost, Unfit
from gatekit.clients.redis_nodes import CONNECT_SECONDS, Node
from gatekit.clients.redis_urls import SLOTS, Place, one_slot_of, slot_of

HOPS: Final = 5
"""So many nodes are asked for one answer at most."""
LEARN_EVERY: Final = 0.1
"""Seconds between two times that the slots are asked for."""
ASKED_AT_ONCE: Final = 3
MAX_NODES: Final = 1000

_REDIRECTION: Final = re.compile(r"(?:(MOVED|ASK) )?([0-9]{1,5}) (.*):([0-9]{1,5})")


class Slots(NamedTuple):
    """Who has which slots: `owners[i]` those up to `ends[i]`, from the end before on; None is nobody."""

    ends: Sequence[int]
    owners: Sequence[Place | None]

    def owner(self, slot: int) -> Place | None:
        at = bisect_left(self.ends, slot)
        return self.owners[at] if at < len(self.owners) else None


class Cluster:
    """`connections` to each node at most."""

    def __init__(self, seeds: Sequence[Place], access: Access, connections: int, patience: float) -> None:
        self._seeds = seeds
        self._access = access
        self._connections = connections
        self._patience = max(patience, CONNECT_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._nodes: dict[Place, Node] = {}
        self._slots = Slots((), ())
        self._moved: dict[int, Place] = {}
        self._learning: Task[Lost | None] | None = None
        self._learnt = -inf
        self._turn = 0
        self._closed = False

    async def ask(self, command: Sequence[Any], deadline: float, keys: Sequence[str] | None = None) -> Any:
        """What the node that has the slot answers. Raises Lost, and the ResponseError that was answered."""
        slot = _slot_of(command) if keys is None else one_slot_of(keys)
        place = self._owner(slot) or await self._learnt_owner(slot, deadline)
        importing = False
        for hop in range(1, HOPS + 1):
            node = self._node(place)
            try:
                if importing:
                    return await node.ask_importing(command, deadline)
                return await node.ask(command, deadline)
            except Lost as lost:
                self.doubt(place)
                if lost.sent or hop == HOPS:
                    raise
                # Nobody had the question yet: whoever has the slot by now may be asked.
                owner = await self._other_owner(slot, place, deadline)
                if owner is None:
                    raise
                place, importing = owner, False
            except ResponseError as error:
                redirection = _redirection(error, place)
                if redirection is None or hop == HOPS:
                    # redis-py 5.2 knows neither this error nor redirections outside of its own cluster client.
                    if isinstance(error, ClusterDownError) or str(error).startswith("CLUSTERDOWN"):
                        self._learn_soon()
                    raise
                importing, moved, place = redirection
                if not importing:
                    self._moved[moved] = place
                    self._learn_soon()
        raise AssertionError

    async def place(self, channel: str, deadline: float) -> Place:
        """The node that has the slot of this name: the nodes tell each other all that is published."""
        slot = slot_of(channel)
        return self._owner(slot) or await self._learnt_owner(slot, deadline)

    def doubt(self, place: Place) -> None:
        self._learn_soon()

    def drop_idle(self) -> None:
        for node in self._nodes.values():
            node.drop_idle()

    async def aclose(self) -> None:
        self._closed = True
        if self._learning is not None:
            self._learning.cancel()
        nodes = list(self._nodes.values())
        self._nodes.clear()
        closing = [self._loop.create_task(node.aclose()) for node in nodes]
        if closing:
            await asyncio.wait(closing)

    # -- who has what

    def _owner(self, slot: int | None) -> Place | None:
        """Who has this slot, as far as it is known; without a slot, one node after the other."""
        if slot is not None:
            return self._moved.get(slot) or self._slots.owner(slot)
        known = self._slots.owners
        if not known:
            return None
        self._turn += 1
        return known[self._turn % len(known)] or self._seeds[0]

    async def _learnt_owner(self, slot: int | None, deadline: float) -> Place:
        """Who has this slot, by what the cluster says now. Raises Lost."""
        if self._closed:
            raise Lost(self._seeds[0], Unfit("is not used any more"), sent=False)
        task = self._learn()
        await asyncio.wait([task], timeout=max(0.0, deadline - self._loop.time()))
        if not task.done():
            raise Lost(self._seeds[0], TimeoutError(), sent=False)
        lost = None if task.cancelled() else task.result()
        owner = self._owner(slot)
        if owner is None:
            if lost is None:
                raise Lost(self._seeds[0], Unfit(f"says that no node has the slot {slot}"), sent=False)
            raise Lost(lost.place, lost.cause, sent=False)
        return owner

    async def _other_owner(self, slot: int | None, place: Place, deadline: float) -> Place | None:
        """Who has this slot now, where it is not the node at `place` any more and that is known in time."""
        try:
            owner = await self._learnt_owner(slot, deadline)
        except Lost:
            return None
        return None if owner == place else owner

    def _learn_soon(self) -> None:
        if not self._closed and self._loop.time() - self._learnt >= LEARN_EVERY:
            self._learn()

    def _learn(self) -> Task[Lost | None]:
        """What learns the slots: one task for all who need it, which goes on when they have given up."""
        task = self._learning
        if task is None or (task.done() and self._loop.time() - self._learnt >= LEARN_EVERY):
            task = self._learning = self._loop.create_task(self._learnt_slots(), context=Context())
        return task

    async def _learnt_slots(self) -> Lost | None:
        """Ask some nodes at once, then others, until one has said who has which slots. What went wrong last otherwise."""
        try:
            known = dict.fromkeys(owner for owner in self._slots.owners if owner is not None)
            places = list(known | dict.fromkeys(self._seeds))
            self._turn += 1
            places = places[self._turn % len(places) :] + places[: self._turn % len(places)]
            lost: Lost | None = None
            end = self._loop.time() + self._patience
            for at in range(0, len(places), ASKED_AT_ONCE):
                found = await self._first_slots(places[at : at + ASKED_AT_ONCE], end)
                if isinstance(found, Slots):
                    self._take(found)
                    return None
                lost = found
                if self._loop.time() >= end:
                    break
            return lost
        finally:
            self._learnt = self._loop.time()

    async def _first_slots(self, places: Sequence[Place], end: float) -> Slots | Lost:
        """What the first of these nodes says that answers."""
        asking = {self._loop.create_task(self._slots_by(place, end)) for place in places}
        lost = Lost(places[0], TimeoutError(), sent=False)
        try:
            while asking:
                done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    found = task.result()
                    if isinstance(found, Slots):
                        return found
                    lost = found
        finally:
            for task in asking:
                task.cancel()
        return lost

    async def _slots_by(self, place: Place, end: float) -> Slots | Lost:
        try:
            slots = read_slots(await self._node(place).ask(("CLUSTER", "SLOTS"), end), place)
        except Lost as lost:
            return lost
        except ResponseError as error:
            return Lost(place, error, sent=True)
        return slots if slots.owners else Lost(place, Unfit("is no node of a cluster that has slots"), sent=True)

    def _take(self, slots: Slots) -> None:
        """Go by these slots from now on, and leave the nodes that have none."""
        self._slots = slots
        self._moved.clear()
        needed = {*slots.owners, *self._seeds}
        for place in [one for one in self._nodes if one not in needed]:
            self._nodes.pop(place).retire()

    def _node(self, place: Place) -> Node:
        node = self._nodes.get(place)
        if node is None:
            if self._closed:
                raise Lost(place, Unfit("is not used any more"), sent=False)
            if len(self._nodes) >= MAX_NODES:
                raise Lost(place, Unfit(f"is one node too many: {MAX_NODES} are known"), sent=False)
            node = self._nodes[place] = Node(place, self._access, self._connections, self._patience)
        return node


def read_slots(answer: Any, place: Place) -> Slots:
    """What the node at `place` answered to CLUSTER SLOTS. What cannot be understood of it is nobody's."""
    found = []
    for entry in answer if isinstance(answer, list) else ():
        try:
            begin, end, (host, port, *_) = int(entry[0]), int(entry[1]), entry[2]
            name = (host or b"").decode("ascii").lower() or place.host
            if 0 <= begin <= end < SLOTS and name != "?" and 0 < int(port) < 65536:
                found.append((begin, end, Place(name, int(port))))
        except (TypeError, ValueError, IndexError, AttributeError):
            continue
    ends: list[int] = []
    owners: list[Place | None] = []
    for begin, end, owner in sorted(found):
        last = ends[-1] if ends else -1
        if begin <= last:
            continue
        if begin > last + 1:
            ends.append(begin - 1)
            owners.append(None)
        ends.append(end)
        owners.append(owner)
    return Slots(ends, owners)


def _slot_of(command: Sequence[Any]) -> int | None:
    """The slot of a command's second word; None where it has none."""
    if len(command) < 2:
        return None
    word = command[1]
    return slot_of(word if isinstance(word, (str, bytes)) else str(word))


def _redirection(error: ResponseError, place: Place) -> tuple[bool, int, Place] | None:
    """Whether the slot is only just moving, its number, and the node to go to. None where the error says nothing of it."""
    found = _REDIRECTION.fullmatch(str(error))
    if found is None or not (found[1] or isinstance(error, AskError)):
        return None
    slot, port = int(found[2]), int(found[4])
    if slot >= SLOTS or not 0 < port < 65536:
        return None
    importing = found[1] == "ASK" or (isinstance(error, AskError) and not isinstance(error, MovedError))
    return importing, slot, Place((found[3] or place.host).lower(), port)
