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
import os
import stat
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import ValidationError

from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.key_hash import read_hash
from gatekit.policies.authn.keys import StoredKey

_log = logging.getLogger("gatekit.stores")

EVERY: Final = 1.0
"""Seconds between two looks at the file."""
MAX_BYTES: Final = 64 * 1024 * 1024
"""The largest file that is read."""


class _Unusable(Exception):
    """The file is not used. The text says why and shows nothing of what is in it but ids and names of fields."""

    look: _Look | None = None
    """What the file looked like whose content is at fault; None where it was not read."""


class _Look(NamedTuple):
    """What tells one file from another without reading it."""

    modified: int
    size: int
    inode: int


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
        self._looked: _Look | None = None
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
            found = await asyncio.to_thread(_read, self._path, self._looked)
        except _Unusable as error:
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


def _read(path: Path, before: _Look | None) -> tuple[Mapping[str, Mapping[str, Any]], _Look] | None:
    """Prefix → record, and what the file looks like; None where it looks as it did before. Raises _Unusable."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            _check_owner(found, path.parent.stat())
            look = _look(found)
            if look == before:
                return None
            raw = file.read(MAX_BYTES + 1)
            if _look(os.fstat(file.fileno())) != look:
                raise _Unusable("it was being written: write another file and rename it")
    except OSError as error:
        raise _Unusable(error.strerror or "it cannot be read") from None
    try:
        if len(raw) > MAX_BYTES:
            raise _Unusable(f"it is larger than {MAX_BYTES} bytes")
        return _records(_document(raw, path.suffix == ".json")), look
    except _Unusable as error:
        error.look = look
        raise


def _look(found: os.stat_result) -> _Look:
    return _Look(found.st_mtime_ns, found.st_size, found.st_ino)


def _check_owner(file: os.stat_result, directory: os.stat_result) -> None:
    if not stat.S_ISREG(file.st_mode):
        raise _Unusable("it is no file")
    if file.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(file.st_mode) & 0o022:
        raise _Unusable("it belongs to, or can be written by, somebody else: chown it to this user and chmod go-w")
    mode = stat.S_IMODE(directory.st_mode)
    if directory.st_uid not in (os.geteuid(), 0) or (mode & 0o022 and not mode & stat.S_ISVTX):
        raise _Unusable(
            "its directory belongs to, or can be written by, somebody else, who could put another in its place"
        )


def _document(raw: bytes, strict: bool) -> dict[Any, Any]:
    try:
        if strict:
            data = json.loads(raw, object_pairs_hook=_once_each)
        else:
            data = yaml.load(raw.decode("utf-8-sig"), Loader=_Loader)  # noqa: S506 - a safe loader that refuses more
    except _Unusable:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise _Unusable(f"it is not YAML{'' if mark is None else f', in line {mark.line + 1}'}") from None
    except json.JSONDecodeError as error:
        raise _Unusable(f"it is not JSON, in line {error.lineno}") from None
    except (ValueError, RecursionError, yaml.YAMLError):
        raise _Unusable("it holds what cannot be read") from None
    if not isinstance(data, dict):
        raise _Unusable("it is not a mapping of key ids to records")
    return data


def _records(data: dict[Any, Any]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for name, record in data.items():
        if not isinstance(record, dict) or "id" in record:
            raise _Unusable(f"the record of {name!r} is not a mapping of settings without an id of its own")
        whole = {**record, "id": name}
        try:
            key = StoredKey.model_validate(whole)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise _Unusable(f"the record of {name!r} cannot be used: {place or 'record'}: {first['msg']}") from None
        salted = read_hash(key.hash)
        assert salted is not None
        other = found.setdefault(salted.prefix, whole)
        if other is not whole:
            raise _Unusable(f"{other['id']!r} and {name!r} are the same key: whose is it?")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Unusable("a name is given twice in one mapping")
    return found


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain data, and no name twice in a mapping."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(names)) < len(names):
            raise _Unusable(f"a name is given twice in the mapping of line {node.start_mark.line + 1}")
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found
