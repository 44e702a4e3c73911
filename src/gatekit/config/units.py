"""Text that configuration is written in, and what it stands for: durations and upstream URLs.

Everything here is pure, raises ValueError with a sentence, and never repeats a URL that may hold a password.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema

from gatekit.core.plan import Endpoint

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""What may stand behind a number, in seconds."""

_DURATION = r"[0-9]+(?:\.[0-9]+)? ?(?:ms|s|m|h|d)?"
_PARTS = re.compile(r"(?P<number>[0-9]{1,12}(?:\.[0-9]{1,9})?) ?(?P<unit>ms|s|m|h|d)?")
SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
"""What may stand behind a number, in bytes."""

_SIZE_TEXT = r"[0-9]{1,15} ?(?:B|KiB|MiB|GiB)?"
_SIZE = re.compile(r"(?P<number>[0-9]{1,15}) ?(?P<unit>B|KiB|MiB|GiB)?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\.?")


def seconds(value: Any) -> float:
    """Seconds from a number, or from text with a unit: `250ms`, `1.5s`, `2m`, `1h`, `1d`."""
    if isinstance(value, str):
        found = _PARTS.fullmatch(value.strip())
        if found is None:
            raise ValueError("a duration is a number of seconds, or text such as 250ms, 30s, 2m, 1h or 1d")
        return float(found["number"]) * UNITS[found["unit"] or "s"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise ValueError("a duration is a number of seconds, or text such as 250ms, 30s, 2m, 1h or 1d")
    return float(value)


Duration = Annotated[
    float,
    Field(gt=0, le=86400 * 366),
    BeforeValidator(seconds),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": f"^{_DURATION}$"}]}
    ),
]
"""A length of time above zero: float seconds inside, a number or text such as `"250ms"` where it is written."""


def size(value: Any) -> int:
    """Bytes from a whole number, or from text with a unit: `64KiB`, `10 MiB`, `1GiB`."""
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if found is None:
            raise ValueError("a size is a number of bytes, or text such as 64KiB, 10MiB or 1GiB")
        return int(found["number"]) * SIZES[found["unit"] or "B"]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a size is a number of bytes, or text such as 64KiB, 10MiB or 1GiB")
    return value


Size = Annotated[
    int,
    Field(ge=0, le=1 << 50),
    BeforeValidator(size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": f"^{_SIZE_TEXT}$"},
            ]
        }
    ),
]
"""A number of bytes: a whole number, or text such as `"10MiB"` where it is written. Units are powers of 1024."""


def parse_endpoint(url: str) -> Endpoint:
    """The endpoint that `http://host:port`, `https://host` or `unix:/path/of.sock` names."""
    scheme, colon, rest = url.partition(":")
    if not colon:
        raise ValueError("an upstream URL begins with http://, https:// or unix:")
    if scheme == "unix":
        path = rest.removeprefix("//")
        if not path.startswith("/") or "\x00" in path:
            raise ValueError("a unix: URL names a socket by its absolute path, as in unix:/run/app.sock")
        return Endpoint("localhost", 80, uds=path)
    if scheme not in ("http", "https"):
        raise ValueError("the scheme of an upstream URL is http, https or unix")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("the host or the port of this upstream URL cannot be read") from None
    if "@" in parts.netloc:
        raise ValueError("an upstream URL may not hold a user name or password: set a header by a policy instead")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("an upstream URL has no path, query or fragment: use the rewrite policy to change the path")
    host = parts.hostname or ""
    if not (":" in host or _HOST.fullmatch(host)):
        raise ValueError("an upstream URL names a host, as in http://127.0.0.1:9001")
    if port == 0:
        raise ValueError("the port of an upstream URL is 1 to 65535")
    tls = scheme == "https"
    return Endpoint(host, port or (443 if tls else 80), tls=tls)


__all__ = ["SIZES", "UNITS", "Duration", "Size", "parse_endpoint", "seconds", "size"]
