"""Short texts that a regular expression may match: for witness requests, never for matching.

It reads the common part of RE2's syntax and guesses the rest; whoever uses a sample must ask the pattern itself
whether it matches. A pattern it cannot read has no samples, which only means that no witness is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from gatekit.routing.regex import compile_regex

_REPEAT = re.compile(r"\{([0-9]+)(?:,[0-9]*)?\}")
_OPENING = re.compile(r"\((?:\?(?:[imsU-]*:|P?<[A-Za-z_0-9]+>))?")
_FLAGS = re.compile(r"\(\?[imsU-]+\)")
_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}
_EMPTY = {"b", "B", "A", "z"}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_LIMIT = 8


@lru_cache(maxsize=4096)
def samples(pattern: str) -> tuple[str, ...]:
    """Some texts that the pattern matches whole, checked against it; none where no text could be found."""
    regex = compile_regex(pattern)
    try:
        found = _Reader(pattern).read()
    except (IndexError, ValueError, RecursionError):
        return ()
    return tuple(text for text in found if regex.fullmatch(text) is not None)


class _Reader:
    """One pass over a pattern, keeping for each part a few texts it matches, the shortest first."""

    __slots__ = ("_at", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> list[str]:
        return self._alternatives()

    def _alternatives(self) -> list[str]:
        found = self._sequence()
        while self._peek() == "|":
            self._at += 1
            found += self._sequence()
        return found[:_LIMIT]

    def _sequence(self) -> list[str]:
        found = [""]
        while self._at < len(self._text) and self._peek() not in "|)":
            part = self._repeated(self._atom())
            found = [head + tail for tail in part for head in found][:_LIMIT]
        return found

    def _repeated(self, part: list[str]) -> list[str]:
        mark = self._peek()
        if mark in ("*", "?"):
            part = ["", *part]
        elif mark != "+":
            counted = _REPEAT.match(self._text, self._at)
            if counted is None:
                return part
            self._at = counted.end() - 1
            part = [text * int(counted[1]) for text in part]
        self._at += 1
        if self._peek() == "?":
            self._at += 1
        return part

    def _atom(self) -> list[str]:
        flags = _FLAGS.match(self._text, self._at)
        if flags is not None:
            self._at = flags.end()
            return [""]
        opening = _OPENING.match(self._text, self._at)
        if opening is not None:
            self._at = opening.end()
            inner = self._alternatives()
            self._at += 1
            return inner
        char = self._take()
        if char in "^$":
            return [""]
        if char == ".":
            return ["a", "/", "0"]
        if char == "[":
            return self._set()
        return [self._escape() if char == "\\" else char]

    def _set(self) -> list[str]:
        """One character that the set has, tried against the set itself."""
        start = self._at - 1
        if self._peek() == "^":
            self._at += 1
        begin = self._at
        first = self._take()
        while first != "]" or self._at == begin + 1:
            if first == "\\":
                self._at += 1
            elif first == "[" and self._peek() == ":":
                self._at = self._text.index(":]", self._at) + 2
            first = self._take()
        inside = compile_regex(self._text[start : self._at])
        fits: Callable[[str], object] = inside.fullmatch
        return [char for char in dict.fromkeys(f"a01A-_.~{self._text[start + 1 : self._at]}") if fits(char)][:3]

    def _escape(self) -> str:
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char]
        if char in _EMPTY:
            return ""
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char.isalnum():
            raise ValueError("an escape this reader does not know")
        return char

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._text[self._at]
        self._at += 1
        return char
