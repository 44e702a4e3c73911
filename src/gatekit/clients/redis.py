"""The one way in which Redis and Valkey are spoken to here, on top of redis-py's asyncio client.

Every question is bounded in time and is not asked twice: what a retry would mean, whoever asks knows best. What goes
wrong is a StoreUnavailable whose text has no credential, no command and nothing of what the server said but its error
code. Connections belong to the event loop that opened them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from gatekit.errors import StoreUnavailable

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

_PATH: Final = re.compile(r"/?|/[0-9]{1,4}")
_CODE: Final = re.compile(r"[A-Z]{2,20}")
_TLS_FILES: Final = ("ca", "cert", "key")
_SECONDS: Final = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?")


class Script:
    """A Lua script of ours. The server remembers it by its digest."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()


class RedisRefused(StoreUnavailable):
    """The server was reached, and answered with an error."""


class RedisServer:
    """A server by its URL: `redis://user:password@host:6379/0`, or `rediss://` for TLS.

    A TLS server must show a certificate for its name from an authority of the system's or from the file `?ca=`; `?cert=`
    and `?key=` are what it is shown. `?timeout=` bounds every question, in seconds, 0.1 to 5. `options` are the other
    names that may stand in the query; their values are in `self.options`. Raises ValueError on a URL that is not like
    that, ImportError where redis-py is not installed. Opening does no I/O.
    """

    def __init__(self, url: str, *, options: Sequence[str] = (), timeout: float = 1.0, connections: int = 8) -> None:
        _need_client()
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 6379
            query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            raise ValueError("this is no URL of a Redis server: redis://host:6379/0 is") from None
        if parts.scheme not in ("redis", "rediss") or not host or not _PATH.fullmatch(parts.path) or parts.fragment:
            raise ValueError("the URL of a Redis server is redis://host:6379/0, or rediss:// for TLS")
        tls = parts.scheme == "rediss"
        self.options = _options(query, (*options, "timeout", *(_TLS_FILES if tls else ())))
        self.timeout = _timeout(self.options.get("timeout"), timeout)
        self._connections = connections
        self._tls = tls
        self._settings: dict[str, Any] = {
            "host": host,
            "port": port,
            "db": int(parts.path[1:] or 0),
            "username": None if parts.username is None else unquote(parts.username) or None,
            "password": None if parts.password is None else unquote(parts.password) or None,
        }
        self.shown = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}/{self._settings['db']}"
        """What may be told of it: no credentials."""
        self._clients: dict[asyncio.AbstractEventLoop, Any] = {}

    def __repr__(self) -> str:
        return f"<RedisServer {self.shown}>"

    @property
    def database(self) -> int:
        """The number of its database. Channels are not within one."""
        return int(self._settings["db"])

    async def ask(self, *command: Any, timeout: float | None = None) -> Any:
        """What the server answers to this command. Raises StoreUnavailable."""
        bound = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(bound):
                return await self._client().execute_command(*command)
        except Exception as error:
            self._unavailable(error, bound)

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any], timeout: float | None = None
    ) -> Any:
        """What this script returns, run as one step of the server's. Raises StoreUnavailable."""
        from redis.exceptions import NoScriptError

        bound = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(bound):
                client = self._client()
                try:
                    return await client.execute_command("EVALSHA", script.digest, len(keys), *keys, *arguments)
                except NoScriptError:
                    return await client.execute_command("EVAL", script.text, len(keys), *keys, *arguments)
        except Exception as error:
            self._unavailable(error, bound)

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator[Listener]:
        """Hear what is published on a channel from now on. Raises StoreUnavailable."""
        pubsub = self._client().pubsub()
        listener = Listener(self, pubsub)
        try:
            await listener.begin(channel)
            yield listener
        finally:
            # A server that takes nothing any more must not hold us up.
            with suppress(Exception):
                async with asyncio.timeout(self.timeout):
                    await pubsub.aclose()

    async def drop_idle(self) -> None:
        """Close the connections of the running loop that nobody uses: one was found broken, and others may be."""
        client = self._clients.get(asyncio.get_running_loop())
        if client is not None:
            with suppress(Exception):
                async with asyncio.timeout(self.timeout):
                    await client.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """Close what is open in the running loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await _to_the_end(client.aclose(close_connection_pool=True), self.timeout)

    def _client(self) -> Any:
        """The client of the running loop, a `redis.asyncio.Redis`: redis-py does not say what its commands return."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            for closed in [one for one in self._clients if one.is_closed()]:
                del self._clients[closed]
            client = self._clients[loop] = self._new_client()
        return client

    def _new_client(self) -> Any:
        from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        settings = dict(self._settings)
        if self._tls:
            settings |= {
                "ssl_cert_reqs": "required",
                "ssl_check_hostname": True,
                "ssl_ca_certs": self.options.get("ca"),
                "ssl_certfile": self.options.get("cert"),
                "ssl_keyfile": self.options.get("key"),
            }
        pool = BlockingConnectionPool(
            max_connections=self._connections,
            timeout=None,
            connection_class=SSLConnection if self._tls else Connection,
            socket_timeout=None,
            socket_connect_timeout=None,
            # Bounded as a whole by `asyncio.timeout`, and not tried again.
            retry=Retry(NoBackoff(), 0, supported_errors=()),
            protocol=2,
            **settings,
        )
        return Redis(connection_pool=pool)

    def _unavailable(self, error: Exception, bound: float) -> NoReturn:
        """Raise what went wrong, in words of ours. Errors that are not the server's are raised as they are."""
        from redis.exceptions import DataError, RedisError, ResponseError

        # What redis-py could not even send is a mistake of ours.
        if isinstance(error, DataError) or not isinstance(error, (RedisError, OSError, asyncio.IncompleteReadError)):
            raise error
        kind = RedisRefused if isinstance(error, ResponseError) else StoreUnavailable
        raise kind(f"{self.shown} {_told(error, bound)}") from None


class Listener:
    """A subscription to one channel. `news` and `ping` must be called by one task."""

    __slots__ = ("_pubsub", "_server", "heard")

    def __init__(self, server: RedisServer, pubsub: PubSub) -> None:
        self._server = server
        self._pubsub = pubsub
        self.heard = 0.0
        """When the server last said anything here, by the loop's clock."""

    async def begin(self, channel: str) -> None:
        """Subscribe, and wait until the server has said that we are."""
        bound = self._server.timeout
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


async def _to_the_end(closing: Coroutine[Any, Any, None], timeout: float) -> None:
    """Close, also where the caller is cancelled meanwhile: nobody else would. It takes `timeout` seconds at most."""
    task = asyncio.get_running_loop().create_task(closing)
    cancelled: asyncio.CancelledError | None = None
    end = asyncio.get_running_loop().time() + timeout
    while not task.done() and (left := end - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.wait([task], timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
    task.cancel()
    with suppress(Exception, asyncio.CancelledError):
        await task
    if cancelled is not None:
        raise cancelled


def _told(error: BaseException, bound: float) -> str:
    """What went wrong, without a word of the server's but the code of its error."""
    from redis.exceptions import AuthenticationError, ResponseError
    from redis.exceptions import TimeoutError as RedisTimeout

    if isinstance(error, (TimeoutError, RedisTimeout)):
        return f"did not answer within {bound:g} s"
    if isinstance(error, AuthenticationError):
        return "does not take these credentials"
    if isinstance(error, ResponseError):
        code = _CODE.match(str(error)) if type(error) is ResponseError else None
        return f"answered with the error {code[0] if code else type(error).__name__}"
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and (cause.strerror or cause.args)):
        cause = cause.__context__
    if isinstance(cause, OSError) and cause.strerror:
        return f"cannot be reached: {cause.strerror}"
    return "broke the connection off"


def _options(query: Sequence[tuple[str, str]], known: Sequence[str]) -> Mapping[str, str]:
    options = dict(query)
    if len(options) < len(query) or not options.keys() <= set(known):
        raise ValueError(f"behind the ? of this URL may stand, once each: {', '.join(known)}")
    return options


def _timeout(text: str | None, default: float) -> float:
    if text is None:
        return default
    seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
    if not 0.1 <= seconds <= 5.0:
        raise ValueError("timeout is a number of seconds from 0.1 to 5")
    return seconds


def _need_client() -> None:
    try:
        import redis.asyncio  # noqa: F401
    except ImportError:
        raise ImportError("a Redis server needs redis-py: install gatekit-asgi[redis]") from None
