"""Path patterns: what may be written for the path of a route, and what it matches.

| written                | kind     | matches                                                                       |
|------------------------|----------|-------------------------------------------------------------------------------|
| `/a/b`                 | exact    | that path only, upper and lower case told apart                               |
| `/v1/orders/{id}`      | template | `{id}` is one whole segment, never an empty one                               |
| `/files/{rest:path}`   | template | the rest of the path, at least one character of it; in the last place only    |
| `/admin/*`             | prefix   | `/admin`, `/admin/`, `/admin/x`; never `/adminx`. `/*` matches every request  |
| `~^/v[0-9]+/x$`        | regex    | the whole path against RE2; named groups become parameters                    |

Patterns are compared with the canonical, decoded path (`core.paths`), so they are written decoded. One that no
canonical path can match is refused here with what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from gatekit.routing.regex import Regex, compile_regex

Kind = Literal["exact", "template", "prefix", "regex"]

NO_PARAMS: Final[Mapping[str, str]] = MappingProxyType({})
"""The parameters of a pattern that has none."""

MAX_SEGMENTS: Final = 64
"""How many segments a pattern may have: the index walks no deeper, whatever a request holds."""

_NAMED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
# The escapes that stay escaped in a canonical path, where a route allows them.
_KEPT_ESCAPES = frozenset({"%2F", "%5C", "%3B", "%25"})

_LITERAL, _NAME, _REST, _PREFIX = range(4)


class PathPattern:
    """One parsed pattern. Immutable.

    `segments` are the fixed places in order, a literal as its text and `{name}` as None; `names` the parameters of
    those places in order; `rest` the name of a `{name:path}` at the end. `precedence` orders patterns that match the
    same path, the lowest first: exact, then by segment (literal, `{name}`, the rest, a prefix's end), then regex.
    """

    __slots__ = ("kind", "names", "precedence", "regex", "rest", "segments", "text")

    def __init__(
        self,
        text: str,
        kind: Kind,
        segments: tuple[str | None, ...] = (),
        names: tuple[str, ...] = (),
        rest: str | None = None,
        regex: Regex | None = None,
    ) -> None:
        self.text = text
        self.kind: Kind = kind
        self.segments = segments
        self.names = names
        self.rest = rest
        self.regex = regex
        self.precedence: tuple[int, ...]
        if kind == "exact":
            self.precedence = (0,)
        elif kind == "regex":
            self.precedence = (2,)
        else:
            codes = tuple(_NAME if segment is None else _LITERAL for segment in segments)
            end = (_PREFIX,) if kind == "prefix" else () if rest is None else (_REST,)
            self.precedence = (1, *codes, *end)

    def __repr__(self) -> str:
        return f"PathPattern({self.text!r})"

    def __str__(self) -> str:
        return self.text

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of all parameters that a match gives."""
        if self.regex is not None:
            return tuple(self.regex.groupindex)
        return self.names if self.rest is None else (*self.names, self.rest)

    def match(self, path: str) -> Mapping[str, str] | None:
        """The parameters if this pattern matches the canonical path, else None. The index does the same faster."""
        if self.kind == "exact":
            return NO_PARAMS if path == self.text else None
        if self.regex is not None:
            found = self.regex.fullmatch(path)
            return None if found is None else regex_params(found.groupdict())
        parts = path.split("/")[1:]
        count = len(self.segments)
        if len(parts) < count or (self.kind == "template" and self.rest is None and len(parts) > count):
            return None
        values = []
        for segment, part in zip(self.segments, parts, strict=False):
            if segment is None:
                if not part:
                    return None
                values.append(part)
            elif segment != part:
                return None
        params = dict(zip(self.names, values, strict=True))
        if self.rest is not None:
            remainder = "/".join(parts[count:])
            if not remainder:
                return None
            params[self.rest] = remainder
        return params


def regex_params(groups: Mapping[str, str | None]) -> Mapping[str, str]:
    """The named groups that took part in a match."""
    return {name: value for name, value in groups.items() if value is not None} if groups else NO_PARAMS


def parse_path(text: str) -> PathPattern:
    """The pattern that `text` writes. Raises ValueError, with what to do, for one that could never match."""
    if text.startswith("~"):
        return PathPattern(text, "regex", regex=compile_regex(text[1:]))
    if not text.startswith("/"):
        raise ValueError(f"the path {text!r} must begin with a slash (or with ~ for a regex); write /* for every path")
    prefix = text.endswith("/*")
    body = text[:-2] if prefix else text
    parts = body.split("/")[1:]
    if len(parts) > MAX_SEGMENTS:
        raise ValueError(
            f"the path {text[:40]!r}... has more than {MAX_SEGMENTS} segments; use a shorter prefix, or a regex"
        )
    segments: list[str | None] = []
    names: list[str] = []
    rest: str | None = None
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if "{" not in part and "}" not in part:
            _check_literal(text, part, last=last and not prefix)
            segments.append(part)
            continue
        named = _NAMED.fullmatch(part)
        if named is None:
            raise ValueError(
                f"in {text!r}, {part!r} is no parameter: write {{name}} for one whole segment or {{name:path}} for the "
                "rest; for a part of a segment use a regex"
            )
        if prefix:
            raise ValueError(f"{text!r} has a parameter before /*: end it with {{rest:path}} instead")
        if named[1] in names:
            raise ValueError(f"{text!r} names the parameter {named[1]!r} twice")
        if named[2] is None:
            segments.append(None)
            names.append(named[1])
        elif last:
            rest = named[1]
        else:
            raise ValueError(f"in {text!r}, {part!r} must be the last segment")
    if prefix:
        return PathPattern(text, "prefix", tuple(segments))
    if names or rest is not None:
        return PathPattern(text, "template", tuple(segments), tuple(names), rest)
    return PathPattern(text, "exact", tuple(segments))


def _check_literal(text: str, part: str, *, last: bool) -> None:
    """Refuse a literal segment that no canonical path can have."""
    if not part and not last:
        raise ValueError(f"{text!r} has an empty segment; a canonical path has single slashes, write them so")
    if part in (".", ".."):
        raise ValueError(f"{text!r} has a dot segment; a canonical path has none, write the path it leads to")
    if "?" in part or "#" in part:
        raise ValueError(f"{text!r} holds ? or #, which end a path; match the query with a query predicate")
    if "*" in part:
        raise ValueError(f"in {text!r} a * may only stand at the end after a slash, as in /admin/*; else use a regex")
    if "\\" in part:
        raise ValueError(f"{text!r} holds a backslash; write %5C, as the canonical path has it where a route allows it")
    if "\0" in part:
        raise ValueError(f"{text!r} holds a NUL, which no path may; remove it")
    for escape in _ESCAPE.finditer(part) if "%" in part else ():
        if escape[0] not in _KEPT_ESCAPES:
            raise ValueError(f"{text!r} holds the escape {escape[0]}; patterns are decoded, write the character itself")
