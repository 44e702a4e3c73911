"""The one way in which Redis and Valkey are spoken to here: one server, a cluster, or the master that sentinels name.

Every question is bounded in time and, once it may have arrived, is not asked twice: what a retry would mean, whoever asks
knows best. What goes wrong is a StoreUnavailable whose text has no credential, no command and nothing of what the server
said but its error code. Connections belong to the event loop that opened them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha1
from typing import TYPE_CHECKING, Any, NoReturn

from gatekit.clients.redis_urls import read_redis_url, slot_of
from gatekit.errors import StoreUnavailable

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

    from gatekit.clients.redis_links import Access
    from gatekit.clients.redis_nodes import Home

__all__ = ["Listener", "RedisRefused", "RedisServer", "Script", "redis_server", "slot_of"]


def redis_server(url: str, *, options: Sequence[str] = (), timeout: float = 1.0, connections: int = 8) -> RedisServer:
    """What is behind a URL of any of the schemes. Raises ValueError and ImportError as RedisServer does."""
    return RedisServer(url, options=options, timeout=timeout, connections=connections)


class Script:
    """A Lua script of ours. The server remembers it by its digest."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()


class RedisRefused(StoreUnavailable):
    """The server was reached, and answered with an error."""


class RedisServer:
    """A server, a cluster or a master by its URL.

    - `redis://user:password@host:6379/0`: one server.
    - `redis+cluster://user:password@host1:6379,host2:6379`: a cluster, by some of its nodes. The others are those it
      names, with the same credentials.
    - `redis+sentinel://user:password@host1:26379,host2:26379/mymaster?db=0`: the server that sentinels name as master.
      `?sentinel_user=` and `?sentinel_password=` are for the sentinels, which have no others.

    `rediss`, `rediss+cluster` and `rediss+sentinel` are the same with TLS: a server must show a certificate for its name
    from an authority of the system's or from the file `?ca=`; `?cert=` and `?key=` are what it is shown. `?timeout=`
    bounds every question, in seconds, 0.005 to 5; opening a connection may take a second all the same and goes on when
    whoever asked has given up. `connections` is how many each loop opens to each server. `options` are the other names
    that may stand in the query; their values are in `self.options`. Raises ValueError on a URL that is not like that,
    ImportError where redis-py is not installed. Opening does no I/O.
    """

    def __init__(self, url: str, *, options: Sequence[str] = (), timeout: float = 1.0, connections: int = 8) -> None:
        _need_client()
        self._url = read_redis_url(url, options, timeout)
        self._connections = connections
        self.options = self._url.options
        self.timeout = self._url.timeout
        self.shown = self._url.shown
        """What may be told of it: no credentials."""
        self._access = self._new_access()
        self._clients: dict[asyncio.AbstractEventLoop, Home] = {}

    def __repr__(self) -> str:
        return f"<RedisServer {self.shown}>"

    @property
    def database(self) -> int:
        """The number of its database. Channels are not within one."""
        return self._url.database

    async def ask(self, *command: Any, timeout: float | None = None) -> Any:
        """What the server answers to this command. In a cluster it goes to the node that has the slot of its second word,
        which is the key of most commands; what has no key, one node answers for itself. Raises StoreUnavailable."""
        bound = self.timeout if timeout is None else timeout
        loop = asyncio.get_running_loop()
        try:
            return await self._home(loop).ask(command, loop.time() + bound)
        except Exception as error:
            self._unavailable(error, bound)

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any], timeout: float | None = None
    ) -> Any:
        """What this script returns, run as one step of the server's. Raises StoreUnavailable; and ValueError where the
        keys are in several slots of a cluster."""
        bound = self.timeout if timeout is None else timeout
        loop = asyncio.get_running_loop()
        deadline = loop.time() + bound
        home = self._home(loop)
        try:
            try:
                return await home.ask(("EVALSHA", script.digest, len(keys), *keys, *arguments), deadline, keys)
            except Exception as error:
                from gatekit.clients.redis_links import is_unknown_script

                if not is_unknown_script(error):
                    raise
                return await home.ask(("EVAL", script.text, len(keys), *keys, *arguments), deadline, keys)
        except Exception as error:
            self._unavailable(error, bound)

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator[Listener]:
        """Hear what is published on a channel from now on. Raises StoreUnavailable."""
        from gatekit.clients.redis_nodes import CONNECT_SECONDS

        loop = asyncio.get_running_loop()
        bound = max(self.timeout, CONNECT_SECONDS)
        home = self._home(loop)
        try:
            place = await home.place(channel, loop.time() + bound)
        except Exception as error:
            self._unavailable(error, bound)
        pubsub = self._access.channel(place)
        listener = Listener(self, pubsub)
        try:
            await listener.begin(channel, bound)
            yield listener
        except StoreUnavailable:
            home.doubt(place)
            raise
        finally:
            await _close(pubsub)

    async def drop_idle(self) -> None:
        """Close the connections of the running loop that nobody uses: one was found broken, and others may be."""
        home = self._clients.get(asyncio.get_running_loop())
        if home is not None:
            home.drop_idle()

    async def aclose(self) -> None:
        """Close what is open in the running loop. It is closed also where the caller is cancelled meanwhile."""
        home = self._clients.pop(asyncio.get_running_loop(), None)
        if home is not None:
            await home.aclose()

    def _home(self, loop: asyncio.AbstractEventLoop) -> Home:
        """Where the questions of the running loop go."""
        home = self._clients.get(loop)
        if home is None:
            for closed in [one for one in list(self._clients) if one.is_closed()]:
                self._clients.pop(closed, None)
            home = self._clients[loop] = self._new_home()
        return home

    def _new_home(self) -> Home:
        url = self._url
        if url.kind == "cluster":
            from gatekit.clients.redis_cluster import Cluster

            return Cluster(url.places, self._access, self._connections, self.timeout)
        if url.kind == "sentinel":
            from gatekit.clients.redis_sentinel import Master

            return Master(url, self._access, self._connections)
        from gatekit.clients.redis_nodes import Node

        return Node(url.places[0], self._access, self._connections, self.timeout)

    def _new_access(self) -> Access:
        from gatekit.clients.redis_links import Access

        return Access(self._url.credentials, self._url.database, self._url.options if self._url.tls else None)

    def _unavailable(self, error: Exception, bound: float) -> NoReturn:
        """Raise what went wrong, in words of ours. Errors that are not the server's are raised as they are."""
        from gatekit.clients.redis_links import Lost, is_answer, told

        where = self.shown
        cause: BaseException = error
        if isinstance(error, Lost):
            cause = error.cause
            if self._url.kind != "server":
                where = f"{where}: {error.place}"
        text = told(cause, bound)
        if text is None:
            raise error
        raise (RedisRefused if is_answer(cause) else StoreUnavailable)(f"{where} {text}") from None


class Listener:
    """A subscription to one channel. `news` and `ping` must be called by one task."""

    __slots__ = ("_pubsub", "_server", "heard")

    def __init__(self, server: RedisServer, pubsub: PubSub) -> None:
        self._server = server
        self._pubsub = pubsub
        self.heard = 0.0
        """When the server last said anything here, by the loop's clock."""

    async def begin(self, channel: str, bound: float) -> None:
        """Subscribe, and wait until the server has said that we are."""
        try:
            async with asyncio.timeout(bound):
                await self._pubsub.subscribe(channel)
                found = None
                while found is None or found["type"] != "subscribe":
                    found = await self._next(bound)
        except Exception as error:
            self._server._unavailable(error, bound)

    async def news(self, timeout: float) -> bytes | None:
        """What is published within `timeout` seconds, None when nothing is. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        try:
            while (left := end - loop.time()) > 0:
                found = await self._next(left)
                if found is not None and found["type"] == "message":
                    return bytes(found["data"])
        except Exception as error:
            self._server._unavailable(error, timeout)
        return None

    async def ping(self) -> None:
        """Ask the server to say something here, which `heard` will tell. Raises StoreUnavailable."""
        bound = self._server.timeout
        try:
            async with asyncio.timeout(bound):
                await self._pubsub.ping()
        except Exception as error:
            self._server._unavailable(error, bound)

    async def _next(self, timeout: float) -> Any:
        """What comes next; None when nothing does."""
        found = await self._pubsub.get_message(timeout=timeout)
        if found is not None:
            self.heard = asyncio.get_running_loop().time()
        return found


async def _close(channel: Any) -> None:
    """Close it at once, whether or not the server takes anything any more."""
    link = channel.connection
    if link is not None:
        link.cut()
    with suppress(Exception):
        await channel.aclose()
        await channel.connection_pool.disconnect()


def _need_client() -> None:
    try:
        import redis.asyncio  # noqa: F401
    except ImportError:
        raise ImportError("a Redis server needs redis-py: install gatekit-asgi[redis]") from None
