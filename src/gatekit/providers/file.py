"""Documents from files: YAML and JSON read to plain data, with the line of every entry.

Nothing but text, numbers, booleans, null, lists and mappings comes out, whatever the file says: no object is ever
constructed from a tag. Words are read as in YAML 1.2 (`yes`, `on` and `10:30` are text). A key that is given twice, an
alias that multiplies, a file that is too large: each is a finding with its line, and nothing of the file is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from gatekit.core.plan import Document
from gatekit.errors import ConfigRefused, Problem

MAX_BYTES = 16 * 1024 * 1024
"""The largest file that is read."""
MAX_ENTRIES = 1_000_000
"""The most entries a document may have once its aliases are followed."""
MAX_DEPTH = 32
"""The deepest nesting."""

_TAG = "tag:yaml.org,2002:"
_QUOTED = ("'", '"', "|", ">")
_ESCAPE = re.compile(r"(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\.")
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]{1,3})?")


def read_document(path: str | os.PathLike[str]) -> Document:
    """The document in a file; JSON if its name ends so, else YAML. Raises ConfigRefused, also when it cannot be read."""
    origin = os.fspath(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigRefused([Problem("", f"cannot be read: {error.strerror or error}", source=origin)]) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigRefused([Problem("", "is not UTF-8", source=origin, line=line)]) from None
    return parse_text(text, origin)


def read_url(url: str) -> Document:
    """The document in a file named by its URL (RFC 8089): `file:///etc/gateway.yaml`."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise _refused(url, "is on another host: a file is named by file:///path")
    return read_document(unquote(parts.path))


def parse_text(text: str, origin: str = "") -> Document:
    """The document that `text` holds; JSON if `origin` ends so, else YAML. Raises ConfigRefused with every finding."""
    if len(text) > MAX_BYTES:
        raise _refused(origin, f"is larger than {MAX_BYTES} bytes")
    strict = origin.endswith(".json")
    if strict:
        try:
            json.loads(text, parse_constant=_no_constant)
        except json.JSONDecodeError as error:
            raise _refused(origin, f"is not JSON: {error.msg}", error.lineno) from None
        except (ValueError, RecursionError):
            raise _refused(origin, "is not JSON that can be read: a number or the nesting is out of range") from None
    language = "JSON" if strict else "YAML"
    reader = _Reader(origin)
    try:
        data = reader.document(_as_yaml(text) if strict else text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "cannot be read"
        raise _refused(origin, f"is not {language}: {what}", None if mark is None else mark.line + 1) from None
    except yaml.YAMLError:
        raise _refused(origin, f"is not {language}: it holds a character that may not be there") from None
    if not reader.problems and not isinstance(data, dict):
        empty = data is None
        raise _refused(origin, "is empty" if empty else "is not a mapping of settings, as in `routes: [...]`")
    if reader.problems:
        raise ConfigRefused(reader.problems)
    revision = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Document(origin=origin, data=data, revision=revision, lines=reader.lines)


class _Reader:
    """Builds data from parser events, so that neither depth nor aliases can run away with it."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._entries = 0
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []

    def document(self, text: str) -> Any:
        events = iter(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        data: Any = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _refused(self._origin, "holds a second document: give each a file of its own", _line(event))
                data = self._node(next(events), events, "", 0)
        return data

    def _node(self, event: Any, events: Iterator[Any], path: str, depth: int) -> Any:
        if path:
            self.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        before = self._entries
        self._count(1, event)
        if depth > MAX_DEPTH:
            raise _refused(self._origin, f"is nested more than {MAX_DEPTH} deep", _line(event))
        data: Any
        if isinstance(event, yaml.ScalarEvent):
            data = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._plain_tag(event, "seq", path)
            data = self._sequence(events, path, depth)
        else:
            self._plain_tag(event, "map", path)
            data = self._mapping(events, path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (data, self._entries - before)
        return data

    def _alias(self, event: Any, path: str) -> Any:
        found = self._anchors.get(event.anchor)
        if found is None:
            self._problem(path, f"the alias *{event.anchor} stands for nothing that is complete before it", event)
            return None
        self._count(found[1], event)
        return found[0]

    def _sequence(self, events: Iterator[Any], path: str, depth: int) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            found.append(self._node(event, events, f"{path}[{len(found)}]", depth + 1))
        return found

    def _mapping(self, events: Iterator[Any], path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[Any] = []
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._problem(path, "a key of a mapping is text", event)
                self._node(event, events, path, depth + 1)
                self._node(next(events), events, path, depth + 1)
                continue
            key = event.value
            if key == "<<" and event.style not in _QUOTED:
                merged.append(self._node(next(events), events, f"{path}.<<", depth + 1))
                continue
            inner = f"{path}.{key}" if path else key
            if key in found:
                self._problem(inner, f"{key!r} is given twice; first in line {self.lines[inner]}", event)
                self._node(next(events), events, inner, depth + 1)
                continue
            self.lines[inner] = _line(event)
            found[key] = self._node(next(events), events, inner, depth + 1)
        return self._merged(found, merged, path)

    def _merged(self, found: dict[str, Any], merged: list[Any], path: str) -> dict[str, Any]:
        """What `<<: *anchor` brings in, where the mapping does not say it itself."""
        for one in merged:
            for mapping in one if isinstance(one, list) else [one]:
                if not isinstance(mapping, dict):
                    self.problems.append(Problem(path, "<< takes a mapping, or a list of them", source=self._origin))
                    continue
                found = {**mapping, **found}
        return found

    def _scalar(self, event: Any, path: str) -> Any:
        text = event.value
        if event.tag is not None and event.tag not in ("!", f"{_TAG}str"):
            self._problem(path, f"the tag {event.tag.replace(_TAG, '!!')} is not taken here", event)
            return None
        if event.style in _QUOTED or event.tag is not None:
            return text
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text):
            return True
        if _FALSE.fullmatch(text):
            return False
        if _INT.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text

    def _plain_tag(self, event: Any, kind: str, path: str) -> None:
        if event.tag is not None and event.tag not in ("!", _TAG + kind):
            self._problem(path, f"the tag {event.tag.replace(_TAG, '!!')} is not taken here", event)

    def _count(self, entries: int, event: Any) -> None:
        self._entries += entries
        if self._entries > MAX_ENTRIES:
            raise _refused(self._origin, f"has more than {MAX_ENTRIES} entries, aliases followed", _line(event))

    def _problem(self, path: str, message: str, event: Any) -> None:
        self.problems.append(Problem(path, message, source=self._origin or None, line=_line(event)))


def _line(event: Any) -> int:
    line: int = event.start_mark.line + 1
    return line


def _as_yaml(text: str) -> str:
    """JSON as YAML reads it: no tabs (in JSON they stand between tokens only), no characters written as two escapes."""
    return _ESCAPE.sub(lambda found: found[0] if found["pair"] is None else json.loads(f'"{found[0]}"'), text).replace(
        "\t", " "
    )


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _refused(origin: str, message: str, line: int | None = None) -> ConfigRefused:
    return ConfigRefused([Problem("", message, source=origin or None, line=line)])


__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_ENTRIES", "parse_text", "read_document"]
