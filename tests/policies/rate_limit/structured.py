"""Structured fields as RFC 9651 has them (section 4.2), read strictly: lists of items with parameters."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any, NamedTuple

_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_BYTES = re.compile(r":([A-Za-z0-9+/]*={0,2}):")
_ESCAPED = re.compile(r"\\(.)")
_STRING = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


class Token(str):
    __slots__ = ()


class Item(NamedTuple):
    value: Any
    parameters: dict[str, Any]


class _Text:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def skip(self, characters: str) -> None:
        while self.at < len(self.text) and self.text[self.at] in characters:
            self.at += 1

    def next_is(self, character: str) -> bool:
        return self.text[self.at : self.at + 1] == character

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    @property
    def over(self) -> bool:
        return self.at == len(self.text)


def read_list(field: str) -> list[Item]:
    """The items of a List (section 4.2.1), of which none is an inner list. Raises ValueError."""
    text = _Text(field)
    text.skip(" ")
    items: list[Item] = []
    while not text.over:
        items.append(_item(text))
        text.skip(" \t")
        if text.over:
            return items
        if not text.next_is(","):
            raise ValueError(f"no comma at {text.at} of {field!r}")
        text.at += 1
        text.skip(" \t")
        if text.over:
            raise ValueError(f"{field!r} ends in a comma")
    return items


def _item(text: _Text) -> Item:
    value = _bare(text)
    parameters: dict[str, Any] = {}
    while text.next_is(";"):
        text.at += 1
        text.skip(" ")
        key = text.take(_KEY)
        if key is None:
            raise ValueError(f"no key at {text.at} of {text.text!r}")
        parameters[key[0]] = True
        if text.next_is("="):
            text.at += 1
            parameters[key[0]] = _bare(text)
    return Item(value, parameters)


def _bare(text: _Text) -> Any:
    readers: list[tuple[re.Pattern[str], Callable[[re.Match[str]], Any]]] = [
        (_STRING, lambda found: _ESCAPED.sub(r"\1", found[1])),
        (_NUMBER, _number),
        (_TOKEN, lambda found: Token(found[0])),
        (_BYTES, lambda found: base64.b64decode(found[1], validate=True)),
        (re.compile(r"\?[01]"), lambda found: found[0] == "?1"),
    ]
    for pattern, read in readers:
        found = text.take(pattern)
        if found is not None:
            return read(found)
    raise ValueError(f"no item at {text.at} of {text.text!r}")


def _number(found: re.Match[str]) -> int | float:
    whole, dot, rest = found[0].lstrip("-").partition(".")
    if len(whole) > (12 if dot else 15) or len(rest) > 3:
        raise ValueError(f"{found[0]} has too many digits")
    return float(found[0]) if dot else int(found[0])
