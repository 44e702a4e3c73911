"""The canonical path: computed once, used by matching, authorisation and limit keys alike, and forwarded as it is.

What two readers of a path could read differently is resolved (dot segments, doubled slashes, escapes of unreserved
characters) or refused. Four kinds can be allowed route by route; they then stay escaped in both forms of the path, so
that they are never mistaken for the character they stand for. Sources: RFC 3986 sections 5.2.4 and 6.2.2; the
normalisation rules and advisories of Envoy, Traefik and Caddy.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

ENCODED_SLASH: Final = 1
"""`%2F`: one segment to some readers, two to others."""
BACKSLASH: Final = 2
"""`\\` or `%5C`: a separator to some."""
SEMICOLON: Final = 4
"""`;` or `%3B`: begins a path parameter to some, so that `/admin;x` may or may not be `/admin`."""
DOUBLE_ENCODING: Final = 8
"""`%25` before two hex digits: an escape to whoever decodes twice."""

MARKS: Final = {
    "encoded_slash": ENCODED_SLASH,
    "backslash": BACKSLASH,
    "semicolon": SEMICOLON,
    "double_encoding": DOUBLE_ENCODING,
}


class PathRefused(ValueError):
    """The path has no one meaning. The text says why; it does not repeat the path."""


class CanonicalPath(NamedTuple):
    """`path` is decoded text for matching, `raw` the bytes to forward, `marks` which allowable oddities it has.

    Canonicalising `raw` again gives the same path and raw; a mark goes where the segment that had it did.
    """

    path: str
    raw: bytes
    marks: int


# No escape, no dot at the start of a segment, no doubled slash, none of the refused characters: already canonical.
_PLAIN = re.compile(rb"/(?:[A-Za-z0-9_~!$&'()*+,=:@\-][A-Za-z0-9_~!$&'()*+,=:@.\-]*(?:/|$))*")
is_plain: Final = _PLAIN.fullmatch
"""Truthy for a path that is its own canonical form, whatever the settings, and has no mark."""
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@")
_WIRE = tuple(bytes((c,)) if c in _SAFE else b"%%%02X" % c for c in range(256))
_HEX = {c: int(chr(c), 16) for c in b"0123456789abcdefABCDEF"}
_KEPT = {
    ord("/"): (b"%2F", ENCODED_SLASH),
    ord("\\"): (b"%5C", BACKSLASH),
    ord(";"): (b"%3B", SEMICOLON),
}
# A decoded percent sign, until it is known whether it stands before two hex digits. NUL is refused, so it is free.
_PERCENT = b"\x00"
_LOOKS_ESCAPED = re.compile(rb"\x00(?=[0-9A-Fa-f]{2})")
# What a reader that decodes kept escapes would take for the end of a segment.
_KEPT_SPLIT = re.compile(rb";|%3B|%2F|%5C")
_DOTS = frozenset((b".", b".."))
_QUERY_BAD = re.compile(rb"[\x00-\x20\x7f#]")


def canonical(raw: bytes, *, merge_slashes: bool = True) -> CanonicalPath:
    """The canonical form of the path part of a request target. Raises PathRefused."""
    if is_plain(raw):
        return CanonicalPath(raw.decode("ascii"), raw, 0)
    if not raw.startswith(b"/"):
        if raw == b"*":
            return CanonicalPath("*", b"*", 0)
        raise PathRefused("the target does not start with a slash")
    plain: list[bytes] = []
    wire: list[bytes] = []
    marks = 0
    segments = raw.split(b"/")[1:]
    last = len(segments) - 1
    for index, segment in enumerate(segments):
        shown, sent, found = _segment(segment)
        marks |= found
        if shown in (b".", b".."):
            if shown == b".." and plain:
                plain.pop()
                wire.pop()
            if index == last:
                plain.append(b"")
                wire.append(b"")
        elif shown or index == last or not merge_slashes:
            plain.append(shown)
            wire.append(sent)
    try:
        path = "/" + b"/".join(plain).decode("utf-8")
    except UnicodeDecodeError:
        raise PathRefused("the path is not UTF-8") from None
    return CanonicalPath(path, b"/" + b"/".join(wire), marks)


def check_query(query: bytes) -> bytes:
    """The query as it may be forwarded: bytes outside ASCII escaped. Raises PathRefused on controls, spaces and `#`."""
    if _QUERY_BAD.search(query):
        raise PathRefused("the query holds a character that must be escaped")
    return query if query.isascii() else b"".join(b"%%%02X" % c if c > 127 else bytes((c,)) for c in query)


def encode(path: str) -> bytes:
    """A decoded path as it goes on the wire, every character outside the safe set escaped. For paths we write."""
    return b"".join(b"/" if c == 47 else _WIRE[c] for c in path.encode("utf-8"))


def _segment(segment: bytes) -> tuple[bytes, bytes, int]:
    """One segment: its decoded form with kept escapes, its form on the wire, its marks."""
    plain, wire, marks = bytearray(), bytearray(), 0
    at, end = 0, len(segment)
    while at < end:
        char = segment[at]
        at += 1
        escaped = char == 37
        if escaped:
            high, low = _HEX.get(segment[at]) if at < end else None, _HEX.get(segment[at + 1]) if at + 1 < end else None
            if high is None or low is None:
                raise PathRefused("a percent sign stands before no two hex digits")
            char = high * 16 + low
            at += 2
        elif char < 33 or char == 127 or char in b"#?":
            raise PathRefused("the path holds a character that must be escaped")
        if char == 0:
            raise PathRefused("the path holds a NUL")
        kept = _KEPT.get(char)
        if kept is not None:
            marks |= kept[1]
            if escaped or char != 59:
                plain += kept[0]
                wire += kept[0]
            else:
                plain += b";"
                wire += b";"
        elif char == 37:
            plain += _PERCENT
            wire += b"%25"
        else:
            plain.append(char)
            wire += _WIRE[char]
    shown, doubled = _LOOKS_ESCAPED.subn(b"%25", bytes(plain))
    if doubled:
        marks |= DOUBLE_ENCODING
    if marks and not _DOTS.isdisjoint(_KEPT_SPLIT.split(shown)):
        raise PathRefused("a dot segment stands beside an escape that some readers take for a separator")
    return shown.replace(_PERCENT, b"%"), bytes(wire), marks
