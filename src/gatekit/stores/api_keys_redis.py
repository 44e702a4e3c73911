"""API keys in Redis or Valkey: `redis://user:password@host:6379/0`, `rediss://` for TLS.

The record of a key is one string, `gatekit:apikey:<prefix>`, with a JSON object: what a file of keys has under the id,
and that as `id`.

    SET gatekit:apikey:8q3k0v7m2d '{"id": "reports", "hash": "v1:8q3k0v7m2d:…", "subject": "svc-reports"}'

`?prefix=` puts another word in place of `gatekit`, `?timeout=` bounds a question (0.5 s; 0.005 to 1).
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from gatekit.clients.redis import RedisServer
from gatekit.core.policy import Job
from gatekit.core.ports import Ports

_log = logging.getLogger("gatekit.stores")

MAX_RECORD: Final = 64 * 1024
"""The longest record, in bytes."""
CONNECTIONS: Final = 16
"""To the server, from each loop. Who finds them all in use waits, within the time that a question may take."""

_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WORD: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class RedisApiKeys:
    """The keys on one server. Nothing is remembered of them here."""

    __slots__ = ("_refused", "_server", "_word")

    def __init__(self, url: str, ports: Ports) -> None:
        self._server = RedisServer(url, options=("prefix",), timeout=0.5, connections=CONNECTIONS)
        if self._server.timeout > 1.0:
            raise ValueError("a request waits for this: timeout is at most 1 second")
        self._word = self._server.options.get("prefix", "gatekit")
        if not _WORD.fullmatch(self._word):
            raise ValueError("a prefix is 1 to 64 letters, digits, dots, hyphens, underscores and colons")
        self._refused = 0

    def __repr__(self) -> str:
        return f"<RedisApiKeys {self._server.shown}>"

    async def find(self, prefix: str) -> Mapping[str, Any] | None:
        """The record of the key that begins with `prefix`. None also for one that is no JSON object: it is nobody's key,
        and other keys have nothing to do with it. Raises StoreUnavailable."""
        if not _PREFIX.fullmatch(prefix):
            return None
        text = await self._server.ask("GET", f"{self._word}:apikey:{prefix}")
        if text is None:
            return None
        record = _read(text)
        if record is None:
            if not self._refused:
                _log.warning("%s has a record of an API key that is no JSON object: nobody's key", self._server.shown)
            self._refused += 1
        return record

    async def aclose(self) -> None:
        """Close what is open in the running loop."""
        await self._server.aclose()

    def jobs(self) -> list[Job]:
        """One, which has nothing to do but to close the connections at the end."""
        return [Job(("api_keys", self), self._stay, lambda: 60.0)]

    def status(self) -> Mapping[str, Any]:
        return {"store": self._server.shown, "refused": self._refused}

    async def _stay(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self._server.aclose()


def _read(text: bytes) -> dict[str, Any] | None:
    """The record that this JSON is, None where it is none."""
    try:
        if len(text) > MAX_RECORD:
            raise ValueError
        record = json.loads(text.decode("utf-8"), object_pairs_hook=_once_each, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _refuse(text: str) -> Any:
    raise ValueError
