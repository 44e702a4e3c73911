"""Users' regular expressions, on RE2: linear in the length of what they look at, so that no pattern can hang a request.

Everywhere in routing a regex must match the *whole* value (`^` and `$` may be written and change nothing), `.` stands
for every character, a line feed too, and what RE2 cannot do without backtracking (look-around, back-references) is
refused when the table is built. Syntax: github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Protocol, cast

import re2

MAX_MEMORY: Final = 1 << 20
"""Bytes that one compiled pattern and its cached states may take. What does not compile within them is refused."""

MAX_PROGRAM: Final = 4_000
"""Instructions a compiled pattern may have. Where a text leads RE2 through more states than it can cache, it spends up
to 8 ns for each instruction and byte: with this limit the worst pattern measured took 30 ms for 8 KiB, where `.{1,255}`
has 2,000 instructions and an ordinary pattern 10 to 100 and a few microseconds.
"""


class Match(Protocol):
    """What a successful match gives: the named groups, None where a group took no part."""

    def groupdict(self) -> Mapping[str, str | None]: ...


class Regex(Protocol):
    """The part of a compiled pattern that routing uses."""

    pattern: str
    programsize: int
    groupindex: Mapping[str, int]

    def fullmatch(self, text: str) -> Match | None: ...


class _Ranged(Protocol):
    def possiblematchrange(self, size: int) -> tuple[bytes, bytes]: ...


def compile_regex(pattern: str) -> Regex:
    """The compiled pattern. Raises ValueError with what is wrong and, where it can be said, what to write instead."""
    try:
        compiled = cast("Regex", re2.compile(pattern, _options()))
    except UnicodeEncodeError:
        raise ValueError(f"the regex {pattern!r} holds a character that UTF-8 cannot write") from None
    except re2.error as error:
        raise ValueError(f"the regex {pattern!r} does not compile: {_advice(error)}") from None
    if compiled.programsize > MAX_PROGRAM:
        raise ValueError(
            f"the regex {pattern!r} takes {compiled.programsize} instructions of at most {MAX_PROGRAM}; write smaller "
            "repetitions and fewer Unicode classes"
        )
    return compiled


@lru_cache(maxsize=4096)
def match_range(pattern: str) -> tuple[bytes, bytes] | None:
    """Bounds, in UTF-8, between which everything lies that the pattern matches whole; None where there are none.

    Patterns with a word boundary have none: RE2 gives them bounds that leave out some of what they match.
    """
    if "\\b" in pattern or "\\B" in pattern:
        return None
    try:
        anchored = cast("_Ranged", re2.compile(f"^(?:{pattern})$", _options()))
        return anchored.possiblematchrange(64)
    except re2.error:
        return None


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = MAX_MEMORY
    options.dot_nl = True
    options.log_errors = False
    return options


def _advice(error: Exception) -> str:
    text = error.args[0].decode("utf-8", "replace") if error.args and isinstance(error.args[0], bytes) else str(error)
    if "too large" in text or "repetition size" in text:
        return f"{text}; write smaller repetitions and fewer Unicode classes"
    if "perl operator" in text or "escape sequence" in text:
        return f"{text}; RE2 has no look-around and no back-references"
    return text
