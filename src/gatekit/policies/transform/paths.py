"""Paths that a configuration writes: literal ones, templates, prefixes by segment, patterns of the whole path.

Text in a configuration is decoded (`/a b`, never `/a%20b`); it is encoded here once. What a template is filled with
came out of the request's canonical path and goes back without being decoded or encoded twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gatekit.core.paths import canonical, encode

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# In a canonical decoded path a percent sign before one of these is an escape that was kept, see core.paths.
_KEPT = re.compile(r"(%2F|%5C|%3B|%25(?=[0-9A-Fa-f]{2})|;)")
_DOT_SEGMENT = re.compile(rb"/\.{1,2}(?:/|$)")


def wire(text: str) -> bytes:
    """A piece of a canonical decoded path as it stands on the wire, kept escapes left as they are."""
    if _KEPT.search(text) is None:
        return encode(text)
    return b"".join(part.encode("ascii") if at % 2 else encode(part) for at, part in enumerate(_KEPT.split(text)))


def refuse_path(text: str) -> str:
    """The text again. Raises ValueError unless it is a path with exactly one reading."""
    if not text.startswith("/"):
        raise ValueError("a path starts with a slash")
    if "?" in text or "#" in text:
        raise ValueError("a path has no query and no fragment")
    again = canonical(encode(text))
    if again.marks or again.raw != encode(text):
        raise ValueError(
            "this path has more than one reading: write it decoded, without dot segments, doubled slashes, "
            "backslashes, semicolons or percent escapes"
        )
    return text


class Template:
    """A path with `{name}` where a captured value goes."""

    __slots__ = ("_literals", "names")

    def __init__(self, text: str) -> None:
        """Raises ValueError on a stray brace and on what `refuse_path` refuses."""
        parts = _FIELD.split(text)
        if any("{" in one or "}" in one for one in parts[::2]):
            raise ValueError("a brace stands for itself nowhere in a path template: write {name}")
        refuse_path(_FIELD.sub("x", text))
        self._literals = tuple(encode(one) for one in parts[::2])
        self.names = tuple(parts[1::2])

    def fill(self, values: Mapping[str, str | None]) -> bytes | None:
        """The path on the wire; None when filling in made a dot segment, which would lead somewhere else.

        Raises LookupError when a name was not captured: the route and the template do not fit together.
        """
        if not self.names:
            return self._literals[0]
        out = [self._literals[0]]
        for name, literal in zip(self.names, self._literals[1:], strict=True):
            if name not in values:
                raise LookupError(f"the path template needs {name!r}, which the route does not capture")
            out.append(wire(values[name] or ""))
            out.append(literal)
        path = b"".join(out)
        return None if _DOT_SEGMENT.search(path) else path


class Prefix(BaseModel):
    """A path prefix, and what stands in its place. In Python a pair will do: `("/old", "/new")`.

    The prefix is one of whole segments, a trailing slash means nothing in either (Gateway API, ReplacePrefixMatch):
    with `/foo` → `/xyz`, `/foo/bar` becomes `/xyz/bar`, `/foo/` becomes `/xyz/`, and `/foobar` is left alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    old: str = Field(alias="from")
    """The prefix to look for. `/` is a prefix of every path."""
    new: str = Field(alias="to")
    """What to put there. Empty or `/` strips the prefix."""

    @model_validator(mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            if len(value) != 2:
                raise ValueError("a prefix is replaced by one other: give two, from and to")
            return {"from": value[0], "to": value[1]}
        return value

    @field_validator("old", "new")
    @classmethod
    def _one_reading(cls, value: str) -> str:
        return value and refuse_path(value)

    def on_wire(self) -> tuple[bytes, bytes]:
        """Both, encoded, without their trailing slashes."""
        return encode(self.old).rstrip(b"/"), encode(self.new).rstrip(b"/")


def swapped(path: bytes, old: bytes, new: bytes) -> bytes | None:
    """The path with the prefix `old` replaced by `new`, None when it has another. Both come from `Prefix.on_wire`."""
    if not path.startswith(old):
        return None
    rest = path[len(old) :]
    if rest and not rest.startswith(b"/"):
        return None
    return new + rest or b"/"


class Pattern(BaseModel):
    """An RE2 pattern of the whole decoded path, and a template for its named groups. A pair will do in Python."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    """Must match from the first slash to the end; parts are named `(?P<name>…)`."""
    to: str
    """The new path, with `{name}` for each named group. Route parameters are not known here."""

    @model_validator(mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            if len(value) != 2:
                raise ValueError("a pattern and a path template belong together: give two")
            return {"pattern": value[0], "to": value[1]}
        return value

    @model_validator(mode="after")
    def _fits(self) -> Pattern:
        known = self.compiled().groupindex
        for name in Template(self.to).names:
            if name not in known:
                raise ValueError(f"the path template needs {name!r}, which the pattern does not name")
        return self

    def compiled(self) -> Any:
        """The pattern, compiled. Raises ValueError when it is no RE2 pattern."""
        import re2

        quiet = re2.Options()
        quiet.log_errors = False
        try:
            return re2.compile(self.pattern, quiet)
        except re2.error as error:
            raise ValueError(f"not an RE2 pattern: {error}") from None
