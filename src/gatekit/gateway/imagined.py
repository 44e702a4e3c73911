"""A request that nobody sent, for asking the live matcher what it would do with one."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from gatekit.core.door import Door
from gatekit.core.exchange import Exchange, NoBody
from gatekit.core.headers import Headers, encode_name, encode_value


def imagined(
    door: Door, method: str, url: str, headers: Iterable[tuple[str, str]] = (), client: str | None = None
) -> tuple[Exchange, bytes, bytes]:
    """An exchange for `url` (`/path?query`, or whole with a host), and its raw path and query, not yet admitted.

    Raises ValueError on a header that cannot be one.
    """
    parts = urlsplit(url)
    raw = [(encode_name(name), encode_value(value)) for name, value in headers]
    if not any(name == b"host" for name, _ in raw):
        raw.insert(
            0, (b"host", (parts.netloc.rpartition("@")[2] or "localhost").encode("idna" if parts.netloc else "ascii"))
        )
    target = parts.path or "/"
    exchange = Exchange(
        "http", method.upper(), parts.scheme or "http", Headers(raw), client, "1.1", {}, door, NoBody(), 0.0
    )
    return exchange, target.encode("utf-8"), parts.query.encode("utf-8")
