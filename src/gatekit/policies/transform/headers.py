"""Which headers a configuration may change, and the change itself, encoded once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gatekit.core.headers import Headers, RawHeaders, encode_name, encode_value, fold

HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers of one connection (RFC 9110 section 7.6.1): each side of the gateway has its own."""

Values = Mapping[str, str | Sequence[str]]


def refuse_names(names: Iterable[str], *, request: bool) -> None:
    """Raise ValueError, saying why, for a name that is no header name or that no configuration may change."""
    for name in names:
        key = fold(encode_name(name)).decode("ascii")
        if key in HOP_BY_HOP:
            raise ValueError(f"{name} belongs to one connection, not to the message: the gateway writes it anew")
        if key == "content-length":
            raise ValueError(f"{name} is derived from the body that is really sent: it cannot be changed")
        if request and key == "host":
            raise ValueError(f"{name} says which server is meant: use Rewrite(host=...)")


def encoded(values: Values) -> tuple[tuple[bytes, bytes], ...]:
    """The pairs as they go on the wire. Raises ValueError on a bad name or value."""
    return tuple(
        (encode_name(name), encode_value(value))
        for name, given in values.items()
        for value in ((given,) if isinstance(given, str) else given)
    )


class Edit:
    """Remove, then set, then add, done in one pass over a header list.

    With `folded`, what is removed or replaced goes in every spelling that some server takes for the same name.
    """

    __slots__ = ("_dropped", "_folded", "_lengths", "_pairs")

    def __init__(self, *, set: Values, add: Values, remove: Iterable[str], folded: bool) -> None:
        names = [encode_name(name) for name in (*remove, *set)]
        self._dropped = frozenset(fold(name) if folded else name for name in names)
        self._lengths = frozenset(len(name) for name in names)
        self._pairs = (*encoded(set), *encoded(add))
        self._folded = folded

    def apply(self, headers: Headers) -> None:
        """Change that list. A list that belongs to somebody else is not touched: the headers get a new one."""
        dropped = self._dropped
        if not dropped:
            headers.raw = [*headers.raw, *self._pairs]
        elif self._folded:
            # Folding keeps the length, so that few names need to be folded at all.
            lengths = self._lengths
            kept: RawHeaders = [
                pair for pair in headers.raw if len(pair[0]) not in lengths or fold(pair[0]) not in dropped
            ]
            headers.raw = [*kept, *self._pairs]
        else:
            headers.raw = [*[pair for pair in headers.raw if pair[0] not in dropped], *self._pairs]
