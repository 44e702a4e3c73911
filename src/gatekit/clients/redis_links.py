"""One connection to a Redis or Valkey server, on top of redis-py's, and what is said when it fails."""

from __future__ import annotations

import asyncio
import re
from asyncio import StreamWriter
from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    DataError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeout

from gatekit.clients.redis_urls import Credentials, Place

_CODE: Final = re.compile(r"[A-Z]{2,20}")


class Lost(Exception):
    """A question had no answer from the server at `place`. `sent` tells whether the server may have had it."""

    def __init__(self, place: Place, cause: BaseException, *, sent: bool) -> None:
        super().__init__()
        self.place = place
        self.cause = cause
        self.sent = sent


class Unfit(Exception):
    """A server answers, and is not what is looked for. The text, which is ours, says what it is or is not."""


class Link(Connection):
    """One connection."""

    _writer: StreamWriter | None

    async def connect(self) -> None:
        connect: Any = super().connect
        await connect()

    def cut(self) -> None:
        """End it at once. Whoever reads from it is told so."""
        if self._writer is not None:
            self._writer.transport.abort()

    def leave(self) -> StreamWriter | None:
        """End it at once and for good: it cannot be used again. What is left to be waited for."""
        self.cut()
        writer, self._writer, self._reader = self._writer, None, None
        return writer


class Trust:
    """What the connections of one server share: the context with the authorities, once one of them has it."""

    context: Any = None


class TlsLink(Link, SSLConnection):
    """One connection with TLS."""

    def __init__(self, *, trust: Trust, **settings: Any) -> None:
        super().__init__(**settings)
        if trust.context is None:
            trust.context = self.ssl_context
        self.ssl_context = trust.context

    async def connect(self) -> None:
        # The first time it reads the authorities, which takes many milliseconds.
        await asyncio.to_thread(self.ssl_context.get)
        await super().connect()


class Access:
    """How servers are spoken to: credentials, database and TLS, the same for all of them."""

    __slots__ = ("_class", "_settings")

    def __init__(self, credentials: Credentials, database: int, tls: Mapping[str, str | None] | None) -> None:
        self._class = Link if tls is None else TlsLink
        self._settings: dict[str, Any] = {
            "username": credentials.user,
            "password": credentials.password,
            "db": database,
            # Bounded from outside, and not tried again.
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0, supported_errors=()),
            "protocol": 2,
        }
        if tls is not None:
            self._settings |= {
                "trust": Trust(),
                "ssl_cert_reqs": "required",
                "ssl_check_hostname": True,
                "ssl_ca_certs": tls.get("ca"),
                "ssl_certfile": tls.get("cert"),
                "ssl_keyfile": tls.get("key"),
            }

    def link(self, place: Place) -> Link:
        """A connection that is not open yet."""
        return self._class(host=place.host, port=place.port, **self._settings)

    def channel(self, place: Place) -> PubSub:
        """A connection of its own to listen on, not open yet."""
        pool = ConnectionPool(
            connection_class=self._class, max_connections=1, host=place.host, port=place.port, **self._settings
        )
        return Redis(connection_pool=pool).pubsub()


def is_answer(error: BaseException) -> bool:
    """Whether a server said so."""
    return isinstance(error, ResponseError)


def is_unknown_script(error: BaseException) -> bool:
    return isinstance(error, NoScriptError)


def told(error: BaseException, bound: float) -> str | None:
    """What went wrong, without a word of the server's but the code of its error. None for a mistake of ours."""
    if isinstance(error, Unfit):
        return str(error)
    if isinstance(error, (TimeoutError, RedisTimeout)):
        return f"did not answer within {bound:g} s"
    if isinstance(error, AuthenticationError):
        return "does not take these credentials"
    if isinstance(error, BusyLoadingError):
        return "is still reading its data"
    if isinstance(error, ResponseError):
        code = _CODE.match(str(error)) if type(error) is ResponseError else None
        return f"answered with the error {code[0] if code else type(error).__name__}"
    # What redis-py could not even send.
    if isinstance(error, DataError) or not isinstance(error, (RedisError, OSError, EOFError)):
        return None
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and (cause.strerror or cause.args)):
        cause = cause.__context__
    if isinstance(cause, OSError) and cause.strerror:
        return f"cannot be reached: {cause.strerror}"
    return "broke the connection off"
