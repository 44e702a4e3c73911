"""Header lists as they travel: ordered pairs of bytes, names in lower case, duplicates kept.

Sources: RFC 9110 section 5 (field syntax), RFC 9112 section 5. Text is Latin-1, as on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from operator import itemgetter

RawHeaders = list[tuple[bytes, bytes]]

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00\r\n]")


def encode_name(name: str | bytes) -> bytes:
    """The name in lower case. Raises ValueError unless it is an RFC 9110 token."""
    raw = (name.encode("latin-1", "replace") if isinstance(name, str) else name).lower()
    if not _TOKEN.fullmatch(raw):
        raise ValueError(f"not a header name: {name!r}")
    return raw


def encode_value(value: str | bytes) -> bytes:
    """The value as bytes, outer white space cut. Raises ValueError on CR, LF, NUL, or text outside Latin-1."""
    try:
        raw = value.encode("latin-1") if isinstance(value, str) else value
    except UnicodeEncodeError:
        raise ValueError(f"a header value must be Latin-1: {value!r}") from None
    if _FORBIDDEN_IN_VALUE.search(raw):
        raise ValueError(f"a header value may not hold CR, LF or NUL: {value!r}")
    return raw.strip(b" \t")


_FOLDED = bytes(c if 48 <= c <= 57 or 97 <= c <= 122 else 45 for c in range(256))


def fold(name: bytes) -> bytes:
    """One spelling for names that some server or framework takes for the same: case, and `-` for whatever is neither
    letter nor digit.

    WSGI maps `X-User-Id` and `X_User_Id` to one key; proxies have been bypassed with `X.User.Id`; CGI servers have made
    one key of any such character.
    """
    return name.lower().translate(_FOLDED)


_TOLD_NAMES = frozenset({b"client-cert", b"client-cert-chain", b"forwarded", b"x-real-ip"})
_TOLD_PREFIXES = (b"ssl-client-", b"x-forwarded-", b"x-ssl-")


def is_told(name: bytes) -> bool:
    """Whether only a trusted peer may send a header of that name, in whatever spelling: in it a proxy tells of a client
    what nobody could tell of himself, his address, his certificate, or where he thinks that he is."""
    folded = fold(name)
    return folded in _TOLD_NAMES or folded.startswith(_TOLD_PREFIXES)


def is_length(value: bytes) -> bool:
    """Whether it is a Content-Length that every reader takes for the same number: digits, and far from 2^63."""
    return value.isdigit() and len(value) <= 18


class Shape:
    """What the names of a request's headers tell by themselves. Clients repeat them, so it is worked out once.

    `good`: every name is a token; `size`: their bytes; `host`: the place of the one Host, -1 where there is none or more;
    `lengths`: the places of Content-Length; `coded`: whether there is a Transfer-Encoding; `told`: whether any is one
    that only a trusted peer may send. `carried` is the forwarder's.
    """

    __slots__ = ("carried", "coded", "good", "host", "lengths", "size", "told")

    def __init__(self, names: tuple[bytes, ...]) -> None:
        self.good = all(map(_TOKEN.fullmatch, names))
        self.size = sum(map(len, names))
        self.host = names.index(b"host") if names.count(b"host") == 1 else -1
        self.lengths = tuple(place for place, name in enumerate(names) if name == b"content-length")
        self.coded = b"transfer-encoding" in names
        self.told = any(map(is_told, names))
        self.carried: tuple[tuple[int, ...], int] | None = None


_SHAPES_KEPT = 1024
_SHAPE_BYTES = 2048
_shapes: dict[tuple[bytes, ...], Shape] = {}
_name_of = itemgetter(0)


def shape_of(raw: RawHeaders) -> Shape:
    """The shape of this list. What is kept is bounded: a client that sends new names again and again costs itself the
    short cut, and others now and then."""
    names = tuple(map(_name_of, raw))
    found = _shapes.get(names)
    if found is None:
        found = Shape(names)
        if found.size <= _SHAPE_BYTES:
            if len(_shapes) >= _SHAPES_KEPT:
                _shapes.clear()
            _shapes[names] = found
    return found


class Headers:
    """A header list that can be read by name and changed.

    Reads scan the list: a request has few headers and few are asked for. The first change copies the list when it
    belongs to somebody else (`shared`), so that a server's scope is never mutated; `origin` stays what it was made with,
    and `shape` is that of `origin`, where somebody has asked for it.
    """

    __slots__ = ("_shared", "origin", "raw", "shape")

    def __init__(self, raw: RawHeaders | None = None, *, shared: bool = False) -> None:
        self.raw: RawHeaders = [] if raw is None else raw
        self.origin = self.raw
        self.shape: Shape | None = None
        self._shared = shared

    def get(self, name: str | bytes) -> str | None:
        """The first value of that name, or None."""
        value = self.get_bytes(name.lower().encode("latin-1", "replace") if isinstance(name, str) else name)
        return None if value is None else value.decode("latin-1")

    def get_bytes(self, name: bytes) -> bytes | None:
        """The first value of `name`, which must be in lower case."""
        for key, value in self.raw:
            if key == name:
                return value
        return None

    def get_all(self, name: str | bytes) -> list[str]:
        """Every value of that name, in order, one a line: lists are not split."""
        wanted = name.lower().encode("latin-1", "replace") if isinstance(name, str) else name
        return [value.decode("latin-1") for key, value in self.raw if key == wanted]

    def __contains__(self, name: str | bytes) -> bool:
        wanted = name.lower().encode("latin-1", "replace") if isinstance(name, str) else name
        return any(key == wanted for key, _ in self.raw)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def set(self, name: str | bytes, value: str | bytes) -> None:
        """Replace every value of that name by this one. Raises ValueError on a bad name or value."""
        self.put(encode_name(name), encode_value(value))

    def put(self, key: bytes, encoded: bytes) -> None:
        """`set` for what `encode_name` and `encode_value` have made already."""
        raw = [pair for pair in self.raw if pair[0] != key]
        raw.append((key, encoded))
        self.raw = raw
        self._shared = False

    def put_all(self, told: Mapping[bytes, bytes]) -> None:
        """`put` for each of these, in one pass."""
        raw = [pair for pair in self.raw if pair[0] not in told]
        raw += told.items()
        self.raw = raw
        self._shared = False

    def append(self, name: str | bytes, value: str | bytes) -> None:
        """Add a value and keep those that are there (Set-Cookie, Vary, Via)."""
        key, encoded = encode_name(name), encode_value(value)
        self._own()
        self.raw.append((key, encoded))

    def remove(self, name: str | bytes) -> None:
        """Drop every value of that name; a name that is not there is no error."""
        key = encode_name(name)
        self.raw = [pair for pair in self.raw if pair[0] != key]
        self._shared = False

    def remove_folded(self, name: str | bytes) -> None:
        """Drop every header that any server could take for `name`: see `fold`."""
        key = fold(encode_name(name))
        self.raw = [pair for pair in self.raw if fold(pair[0]) != key]
        self._shared = False

    def _own(self) -> None:
        if self._shared:
            self.raw = list(self.raw)
            self._shared = False
