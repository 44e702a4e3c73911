"""API keys in a file: `file:///etc/gatekit/keys.yaml`, YAML or, where its name ends so, JSON; key id → record.

    reports:
      hash: v1:8q3k0v7m2d:…        # as `gatekit key` prints it
      subject: svc-reports         # and tenant, scopes, roles, expires, disabled, as under `keys` of a configuration

The file is looked at every second and read again when it is another one. One that cannot be used changes nothing: the
keys that were read last stay in force, and it is said once. Whoever can write the file can make himself anybody, so a
file or a directory that others can write to is not read.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import ValidationError

from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.key_hash import read_hash
from gatekit.policies.authn.keys import StoredKey
from gatekit.stores.watched import Look, Unusable, read_watched

_log = logging.getLogger("gatekit.stores")

EVERY: Final = 1.0
"""Seconds between two looks at the file."""
MAX_BYTES: Final = 64 * 1024 * 1024
"""The largest file that is read."""


class FileApiKeys:
    """The keys in a file, as they were when it was last good."""

    __slots__ = ("_clock", "_content_error", "_last_error", "_looked", "_once", "_path", "_read_at", "_records")

    def __init__(self, url: str, ports: Ports) -> None:
        """Raises ValueError unless the URL names a file by its absolute path on this machine (RFC 8089)."""
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
            raise ValueError("a file with API keys is named by its absolute path, as in file:///etc/gatekit/keys.yaml")
        self._path = Path(path)
        self._clock = ports.clock
        self._once = ports.once
        self._records: Mapping[str, Mapping[str, Any]] | None = None
        self._looked: Look | None = None
        self._read_at = -inf
        # Of the content that was read last, good or not; and of the last look, which may not have come that far.
        self._content_error: str | None = None
        self._last_error: str | None = None

    def known(self, prefix: str) -> Mapping[str, Any] | None:
        """The record of that key. Raises StoreUnavailable until a good file has been read."""
        if self._records is None:
            raise StoreUnavailable("the file with API keys has not been read")
        return self._records.get(prefix)

    async def find(self, prefix: str) -> Mapping[str, Any] | None:
        """The same; reads the file where that has not been done."""
        if self._records is None:
            await self._once(("api_keys file", str(self._path)), self.refresh)
        return self.known(prefix)

    def jobs(self) -> list[Job]:
        return [Job(("api_keys file", str(self._path)), self.refresh, lambda: EVERY)]

    def status(self) -> Mapping[str, Any]:
        """Plain figures for the operator."""
        records = self._records
        return {
            "records": 0 if records is None else len(records),
            "age_seconds": None if records is None else round(self._clock.monotonic() - self._read_at, 3),
            "last_error": self._last_error,
        }

    async def refresh(self) -> None:
        """Read the file if it is another one than last time. Raises nothing: what is wrong with it is logged, once."""
        try:
            found = await asyncio.to_thread(read_watched, self._path, self._looked, MAX_BYTES, _parsed)
        except Unusable as error:
            if error.look is not None:
                self._looked, self._content_error = error.look, str(error)
            self._say(str(error))
            return
        if found is not None:
            self._records, self._looked = found
            self._read_at = self._clock.monotonic()
            self._content_error = None
        self._say(self._content_error)

    def _say(self, error: str | None) -> None:
        """Log what is wrong, or that nothing is any more, where that is not what was said last."""
        if error == self._last_error:
            return
        self._last_error = error
        if error is None:
            _log.info("%s can be used again", self._path)
            return
        kept = "nobody's key is good" if self._records is None else "the keys that were read last stay in force"
        _log.error("%s is not used, and %s: %s", self._path, kept, error)


def _parsed(raw: bytes, strict: bool) -> dict[str, Mapping[str, Any]]:
    return _records(_document(raw, strict))


def _document(raw: bytes, strict: bool) -> dict[Any, Any]:
    try:
        if strict:
            data = json.loads(raw, object_pairs_hook=_once_each)
        else:
            data = yaml.load(raw.decode("utf-8-sig"), Loader=_Loader)  # noqa: S506 - a safe loader that refuses more
    except Unusable:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise Unusable(f"it is not YAML{'' if mark is None else f', in line {mark.line + 1}'}") from None
    except json.JSONDecodeError as error:
        raise Unusable(f"it is not JSON, in line {error.lineno}") from None
    except (ValueError, RecursionError, yaml.YAMLError):
        raise Unusable("it holds what cannot be read") from None
    if not isinstance(data, dict):
        raise Unusable("it is not a mapping of key ids to records")
    return data


def _records(data: dict[Any, Any]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for name, record in data.items():
        if not isinstance(record, dict) or "id" in record:
            raise Unusable(f"the record of {name!r} is not a mapping of settings without an id of its own")
        whole = {**record, "id": name}
        try:
            key = StoredKey.model_validate(whole)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise Unusable(f"the record of {name!r} cannot be used: {place or 'record'}: {first['msg']}") from None
        salted = read_hash(key.hash)
        assert salted is not None
        other = found.setdefault(salted.prefix, whole)
        if other is not whole:
            raise Unusable(f"{other['id']!r} and {name!r} are the same key: whose is it?")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unusable("a name is given twice in one mapping")
    return found


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain data, and no name twice in a mapping."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(names)) < len(names):
            raise Unusable(f"a name is given twice in the mapping of line {node.start_mark.line + 1}")
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found
