"""What an upstream URL in a configuration stands for. Pure; raises ValueError with a sentence that never repeats a URL:
it may hold a password."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from gatekit.core.plan import Endpoint

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\.?")


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


__all__ = ["parse_endpoint"]
