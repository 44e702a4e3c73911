"""Which origins are meant: exact ones and wildcard subdomains, compared with what a browser sends (RFC 6454)."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<wild>\*\.)?"
    r"(?P<host>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_OWN_PORT = {"http": "80", "https": "443"}
_LABELS = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"


def checked_origin(text: str) -> str:
    """The origin as browsers write it: in lower case, without the scheme's own port. Raises ValueError."""
    if text == "*":
        return text
    if text == "null":
        raise ValueError("'null' is what every sandboxed page sends, whoever made it: it cannot be allowed")
    found = _ORIGIN.fullmatch(text.lower())
    if found is None or (found["wild"] and found["host"].startswith("[")):
        raise ValueError(f"{text!r} is no origin: write scheme://host[:port], without a path; '*.' may lead the host")
    port = found["port"]
    shown = "" if port is None or port == _OWN_PORT.get(found["scheme"]) else f":{port}"
    return f"{found['scheme']}://{found['wild'] or ''}{found['host']}{shown}"


class Origins:
    """The allowed origins, compiled. `any` says that all are."""

    __slots__ = ("_exact", "_wild", "any")

    def __init__(self, origins: Iterable[str]) -> None:
        """`origins` come from `checked_origin`."""
        names = tuple(origins)
        self.any = "*" in names
        self._exact = frozenset(one.encode("ascii") for one in names if "*" not in one)
        wild = [re.escape(one).replace(r"\*", _LABELS, 1) for one in names if "*" in one and one != "*"]
        self._wild = re.compile("|".join(wild).encode("ascii")) if wild else None

    def allow(self, origin: bytes) -> bool:
        """Whether a request of that origin may be answered with CORS headers."""
        if self.any or origin in self._exact:
            return True
        return self._wild is not None and self._wild.fullmatch(origin) is not None
