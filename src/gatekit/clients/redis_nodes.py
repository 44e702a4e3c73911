"""Connections to one Redis or Valkey server, from one event loop, on top of redis-py's.

A connection is opened by a task of its own, which goes on when whoever asked for it has given up: where questions may
take a few milliseconds only, a server that takes longer to connect to is there for the second one. A connection is used
again only when the whole answer to its last question has been read; in every other case it is cut.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, Future, Task
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Any, Final, Protocol

from redis.asyncio import Connection, Redis
from redis.exceptions import DataError, RedisError, ResponseError

from gatekit.clients.redis_links import Access, Link, Lost, Unfit
from gatekit.clients.redis_urls import Place

CONNECT_SECONDS: Final = 1.0
"""So long, at least, opening a connection may take, however short a question may be."""

_CAN_READ: Final = "can_read" if hasattr(Connection, "can_read") else "can_read_destructive"
"""The name of the same thing before redis-py 8."""
_WORDS: Final = Redis(protocol=2)
"""Never connected: it knows what redis-py makes of the answer to each command."""


class Home(Protocol):
    """Where the questions from one loop go: a server, a cluster or a master."""

    async def ask(self, command: Sequence[Any], deadline: float, keys: Sequence[str] | None = None) -> Any:
        """What is answered until `deadline`, by the loop's clock. `keys` are those of a script. Raises Lost, and the
        ResponseError that was answered."""
        ...

    async def place(self, channel: str, deadline: float) -> Place:
        """Where to listen. Raises Lost."""
        ...

    def doubt(self, place: Place) -> None:
        """Somebody found that the server there does not answer."""
        ...

    def drop_idle(self) -> None: ...

    async def aclose(self) -> None: ...


Greeting = Callable[[Link], Awaitable[None]]
"""What is said on a new connection before it is used. Raises what makes it unfit."""


class Node:
    """A server, as one loop speaks to it: `most` connections at most. Whoever finds them all in use waits."""

    def __init__(
        self, place: Place, access: Access, most: int, patience: float, greeting: Greeting | None = None
    ) -> None:
        self._at = place
        self._access = access
        self._most = most
        self._patience = max(patience, CONNECT_SECONDS)
        self._greeting = greeting
        self._loop = asyncio.get_running_loop()
        self._links: set[Link] = set()
        self._idle: list[Link] = []
        self._opening: set[Task[None]] = set()
        self._waiting: dict[Future[Link], None] = {}
        self._trouble: BaseException | None = None
        self._retired = False

    async def ask(self, command: Sequence[Any], deadline: float, keys: Sequence[str] | None = None) -> Any:
        """What the server answers to this command. Raises Lost, and the ResponseError that was answered."""
        link = await self._free(deadline)
        whole = False
        timer = self._loop.call_at(deadline, link.cut)
        try:
            await link.send_command(*command)
            answer = await _WORDS.parse_response(link, command[0])
            whole = True
            return answer
        except ResponseError:
            whole = True
            raise
        except DataError:
            raise
        except (RedisError, OSError, EOFError) as error:
            raise self._lost(error, deadline) from None
        finally:
            timer.cancel()
            self._back(link, whole)

    async def ask_importing(self, command: Sequence[Any], deadline: float) -> Any:
        """The same of a node that a slot is just moving to: `ASKING` is said before it, on the same connection."""
        link = await self._free(deadline)
        timer = self._loop.call_at(deadline, link.cut)
        try:
            await link.send_command("ASKING")
            await link.read_response()
            await link.send_command(*command)
            return await _WORDS.parse_response(link, command[0])
        except (ResponseError, DataError):
            raise
        except (RedisError, OSError, EOFError) as error:
            raise self._lost(error, deadline) from None
        finally:
            timer.cancel()
            self._back(link, whole=False)

    async def place(self, channel: str, deadline: float) -> Place:
        return self._at

    def doubt(self, place: Place) -> None:
        pass

    def drop_idle(self) -> None:
        """Cut the connections that nobody uses."""
        while self._idle:
            self._drop(self._idle.pop())

    def retire(self) -> None:
        """Take no more questions. Those that are under way have their answer."""
        self._retired = True
        self.drop_idle()
        for task in self._opening:
            task.cancel()
        self._tell_all(Unfit("is not used any more"))

    async def aclose(self) -> None:
        """Cut everything, and wait until it is closed. It is cut also where the caller is cancelled meanwhile."""
        left = [link.leave() for link in self._links]
        self.retire()
        self._links.clear()
        if self._opening:
            await asyncio.wait(list(self._opening))
        for writer in left:
            if writer is not None:
                with suppress(OSError):
                    await writer.wait_closed()

    # -- connections

    async def _free(self, deadline: float) -> Link:
        """A connection on which nothing is under way. Raises Lost."""
        while self._idle:
            link = self._idle.pop()
            if await self._fit(link):
                return link
            self._drop(link)
        return await self._next(deadline)

    async def _fit(self, link: Link) -> bool:
        """Whether this connection is open still, and nothing is due on it."""
        try:
            return link.is_connected and not await getattr(link, _CAN_READ)()
        except (RedisError, OSError):
            return False
        except BaseException:
            self._drop(link)
            raise

    async def _next(self, deadline: float) -> Link:
        """The connection that is free next. Raises Lost."""
        if self._retired:
            raise Lost(self._at, Unfit("is not used any more"), sent=False)
        waiter: Future[Link] = self._loop.create_future()
        self._waiting[waiter] = None
        self._open()
        timer = self._loop.call_at(deadline, self._give_up, waiter)
        try:
            link = await waiter
        except CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._back(waiter.result(), whole=True)
            raise
        finally:
            timer.cancel()
            self._waiting.pop(waiter, None)
        if not link.is_connected:
            # It was cut on its way here; redis-py would open it again.
            self._back(link, whole=False)
            raise Lost(self._at, Unfit("is not used any more"), sent=False)
        return link

    def _give_up(self, waiter: Future[Link]) -> None:
        self._waiting.pop(waiter, None)
        if not waiter.done():
            # An opening that failed when nobody waited any more knows better than the clock.
            waiter.set_exception(Lost(self._at, self._trouble or TimeoutError(), sent=False))

    def _first(self) -> Future[Link] | None:
        """Who waits longest, and waits no more now."""
        while self._waiting:
            waiter = next(iter(self._waiting))
            del self._waiting[waiter]
            if not waiter.done():
                return waiter
        return None

    def _open(self) -> None:
        """Open a connection for each who waits, as far as there may be more."""
        room = self._most - len(self._links)
        while len(self._opening) < min(len(self._waiting), room):
            self._opening.add(self._loop.create_task(self._opened(), context=Context()))

    async def _opened(self) -> None:
        """A task of its own: open a connection for the next who waits, or tell what went wrong."""
        link: Link | None = None
        trouble: Exception | None = None
        try:
            link = await self._connected()
        except TimeoutError:
            pass
        except Exception as error:
            trouble = error
        finally:
            if (task := asyncio.current_task()) is not None:
                self._opening.discard(task)
        self._trouble = trouble
        if link is not None:
            self._links.add(link)
            self._back(link, whole=True)
        elif trouble is None:
            # Whoever waits still has a longer bound of his own.
            self._open()
        elif self._links or self._opening:
            self._tell(self._first(), trouble)
        else:
            self._tell_all(trouble)

    async def _connected(self) -> Link:
        """A connection that is open and fit."""
        link = self._access.link(self._at)
        try:
            async with asyncio.timeout(self._patience):
                await link.connect()
                if self._greeting is not None:
                    await self._greeting(link)
        except BaseException:
            link.leave()
            raise
        return link

    def _tell(self, waiter: Future[Link] | None, trouble: BaseException) -> None:
        if waiter is not None:
            waiter.set_exception(Lost(self._at, trouble, sent=False))

    def _tell_all(self, trouble: BaseException) -> None:
        """No connection comes about, and none will come free."""
        while (waiter := self._first()) is not None:
            self._tell(waiter, trouble)

    def _back(self, link: Link, whole: bool) -> None:
        """A connection is not needed any more: it goes to the next who waits, or idle; or it is cut, where an answer may
        still be due on it."""
        if not whole or self._retired:
            self._drop(link)
            self._open()
            return
        waiter = self._first()
        if waiter is None:
            self._idle.append(link)
        else:
            waiter.set_result(link)

    def _drop(self, link: Link) -> None:
        self._links.discard(link)
        link.leave()

    def _lost(self, error: BaseException, deadline: float) -> Lost:
        return Lost(self._at, TimeoutError() if self._loop.time() >= deadline else error, sent=True)
