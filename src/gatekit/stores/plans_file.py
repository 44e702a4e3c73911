"""Who has which plan, in a file: `file:///etc/gatekit/plans.yaml`, YAML or, where its name ends so, JSON.

    acme: pro                 # the name of a plan
    globex: 9000/minute       # or limits of their own
    "12": pro                 # what is not quoted is a text all the same

The file is looked at every second and read again when it is another one: write the new one beside it and rename it. One
that cannot be used changes nothing: what was read last stays in force, and it is said once. Whoever can write the file
can lift his own limits, so a file or a directory that others can write to is not read.

A file that is not there at the start is a warning and no error: nobody has a plan then, and everybody has the limit of
the rule itself, as whoever is not in the file.

A million entries, which is all there may be, take about three seconds to read, in a thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import yaml

from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.stores.kept import Gate, Helm
from gatekit.stores.plans import MAX_BYTES, MAX_ENTRIES, KeptPlans, wrong_with
from gatekit.stores.watched import Look, Unusable, read_watched

_log = logging.getLogger("gatekit.stores")

EVERY: Final = 1.0
"""Seconds between two looks at the file."""
LOAD_SECONDS: Final = 2.0
"""For how long the first request waits for the file, at most."""

_WS: Final = r"[ \t\r\n]*"
_TEXT: Final = r'"([^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*)"'
_SPACE: Final = re.compile(_WS)
_OPENED: Final = re.compile(rf"{_WS}\{{(?:{_WS}(\}}))?")
_PAIR: Final = re.compile(rf"{_WS}{_TEXT}{_WS}:{_WS}{_TEXT}{_WS}([,}}])")
_Loader: Final = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class FilePlans:
    """The plans in a file, as they were when it was last good. Raises ValueError unless the URL names a file by its absolute
    path on this machine (RFC 8089)."""

    __slots__ = (
        "_clock", "_content_error", "_gate", "_helm", "_kept", "_last_error", "_looked", "_once", "_path", "_read_at", "find",
    )  # fmt: skip

    def __init__(self, url: str, ports: Ports) -> None:
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.scheme.lower() != "file" or parts.netloc not in ("", "localhost") or not path.startswith("/"):
            raise ValueError("a file of plans is named by its absolute path, as in file:///etc/gatekit/plans.yaml")
        if path.endswith("/") or "\0" in path or parts.query or parts.fragment:
            raise ValueError("the URL of a file of plans has nothing but its path")
        self._path = Path(path)
        self._clock = ports.clock
        self._once = ports.once
        self._kept = KeptPlans()
        self.find = self._kept.find
        self._helm = Helm(ports.clock)
        self._gate = Gate()
        self._looked: Look | None = None
        self._read_at = -inf
        # Of the content that was read last, good or not; and of the last look, which may not have come that far.
        self._content_error: str | None = None
        self._last_error: str | None = None

    def __repr__(self) -> str:
        return f"<FilePlans {self._path}>"

    def loaded(self) -> Awaitable[None] | None:
        """None once the file has been read, or could not be. Before that what waits for it, `LOAD_SECONDS` at most."""
        return None if self._gate.is_open else self._once(("plans", self, "load"), self._load)

    async def _load(self) -> None:
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self.refresh()
                await self._gate.wait(LOAD_SECONDS)
        except TimeoutError:
            _log.warning("%s has not been read within %g s; nobody has a plan until it is", self._path, LOAD_SECONDS)
        self._gate.open()

    def jobs(self) -> list[Job]:
        return [Job(("plans", self), self.refresh, lambda: EVERY)]

    def status(self) -> Mapping[str, Any]:
        """Plain figures for the operator."""
        read = self._read_at > -inf
        return {
            "store": f"file://{self._path}",
            "entries": len(self._kept),
            "age_seconds": round(self._clock.monotonic() - self._read_at, 3) if read else None,
            "last_error": self._last_error,
        }

    async def refresh(self) -> None:
        """Read the file if it is another one than last time. Raises nothing: what is wrong with it is logged, once."""
        holder = self._helm.take()
        if holder is None:
            return
        try:
            await self._refreshed()
        finally:
            self._helm.leave(holder)

    async def _refreshed(self) -> None:
        try:
            found = await asyncio.to_thread(self._read)
        except Unusable as error:
            if error.look is not None:
                self._looked, self._content_error = error.look, str(error)
            self._say(str(error))
        else:
            if found is not None:
                plans, self._looked = found
                self._kept.replace(plans)
                self._read_at = self._clock.monotonic()
                self._content_error = None
            self._say(self._content_error)
        self._gate.open()

    def _read(self) -> tuple[dict[str, str], Look] | None:
        for _ in self._kept.tidy():
            pass
        return read_watched(self._path, self._looked, MAX_BYTES, _plans)

    def _say(self, error: str | None) -> None:
        """Log what is wrong, or that nothing is any more, where that is not what was said last."""
        if error == self._last_error:
            return
        self._last_error = error
        if error is None:
            _log.info("%s can be used again", self._path)
            return
        kept = "nobody has a plan" if self._read_at == -inf else "the plans that were read last stay in force"
        _log.warning("%s is not used, and %s: %s", self._path, kept, error)


def _plans(raw: bytes, strict: bool) -> dict[str, str]:
    """Name → plan. Raises Unusable."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unusable("it is not UTF-8") from None
    plans: dict[str, str] = {}
    # Many have the same plan: it is kept once.
    same: dict[str, str] = {}
    for line, name, plan in _json_pairs(text) if strict else _yaml_pairs(text):
        wrong = wrong_with(name, plan)
        if name in plans:
            wrong = f"{name!r} is given twice"
        elif len(plans) >= MAX_ENTRIES:
            wrong = f"there are more than {MAX_ENTRIES} names"
        if wrong is not None:
            raise Unusable(f"{wrong}, in line {line()}")
        plans[name] = same.setdefault(plan, plan)
    return plans


def _json_pairs(text: str) -> Iterator[tuple[Callable[[], int], str, str]]:
    """Which line, name and plan, one after the other: read as a whole, a large file would hold up everything else."""
    at = _OPENED.match(text)
    end = at.end() if at else 0

    def line() -> int:
        after = _SPACE.match(text, end)
        return text.count("\n", 0, after.end() if after else end) + 1

    more = at is not None and at[1] is None
    if at is None:
        raise Unusable("it is not a JSON object of names and plans")
    while more:
        pair = _PAIR.match(text, end)
        if pair is None:
            raise Unusable(f"it is not JSON, or what is there is no name and a text, in line {line()}")
        name, plan, follows = pair.groups()
        if "\\" in pair[0]:
            try:
                name, plan = json.loads(f'["{name}","{plan}"]')
            except ValueError:
                raise Unusable(f"it is not JSON, in line {line()}") from None
        yield line, name, plan
        more, end = follows == ",", pair.end()
    if _SPACE.fullmatch(text, end) is None:
        raise Unusable(f"something follows after the object, in line {line()}")


def _yaml_pairs(text: str) -> Iterator[tuple[Callable[[], int], str, str]]:
    """The same. Every plain word is a text: a tenant may be called 12, or no."""
    events = yaml.parse(text, Loader=_Loader)
    name: str | None = None
    depth, documents = 0, 0
    try:
        for event in events:
            if isinstance(event, yaml.ScalarEvent) and depth:
                if name is None:
                    name = event.value
                else:
                    yield partial(_line_of, event), name, event.value
                    name = None
            elif isinstance(event, yaml.MappingStartEvent) and not depth and not documents:
                depth = 1
            elif isinstance(event, yaml.MappingEndEvent):
                documents += 1
                depth = 0
            elif isinstance(event, yaml.NodeEvent):
                raise Unusable(f"it is not a mapping of names to plans, in line {_line_of(event)}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise Unusable(f"it is not YAML{'' if mark is None else f', in line {mark.line + 1}'}") from None
    except (yaml.YAMLError, RecursionError):
        raise Unusable("it holds what cannot be read") from None
    if documents != 1:
        raise Unusable("it is not one mapping of names to plans: an empty one is written {}")


def _line_of(event: yaml.Event) -> int:
    return 0 if event.start_mark is None else event.start_mark.line + 1
