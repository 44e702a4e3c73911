"""A WSGI environment read as a request, and written anew for the app behind."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import unquote_to_bytes

from gatekit.core.exchange import Exchange
from gatekit.core.headers import RawHeaders
from gatekit.core.paths import canonical, encode
from gatekit.drivers.wsgi_body import WsgiBody

_RAW_TARGETS = ("RAW_URI", "REQUEST_URI")


def headers_of(environ: dict[str, Any]) -> RawHeaders:
    """The request headers as far as the environment still tells them."""
    found: RawHeaders = []
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            if key not in ("HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"):
                found.append((key[5:].replace("_", "-").lower().encode("latin-1"), value.encode("latin-1")))
        elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            found.append((key.replace("_", "-").lower().encode("ascii"), value.encode("latin-1")))
    return found


def raw_path_of(environ: dict[str, Any]) -> bytes:
    """The path below where we are mounted, as it came where the server tells, else as the environment has it."""
    path: str = environ.get("PATH_INFO", "")
    plain = path.encode("latin-1")
    mounted = environ.get("SCRIPT_NAME", "").encode("latin-1")
    for name in _RAW_TARGETS:
        target = environ.get(name)
        if target:
            raw: bytes = target.encode("latin-1").partition(b"?")[0]
            if not raw.startswith(b"/"):
                scheme, _, rest = raw.partition(b"://")
                raw = b"/" + rest.partition(b"/")[2] if scheme.isalpha() and rest else raw
            # A middleware outside of us may have changed PATH_INFO: then what it wrote is what is meant.
            if unquote_to_bytes(raw) == mounted + plain:
                if not mounted:
                    return raw
                if raw.startswith(mounted):
                    return raw[len(mounted) :] or b"/"
            break
    try:
        return encode(plain.decode("utf-8")) or b"/"
    except UnicodeDecodeError:
        return b"".join(bytes((c,)) if 32 < c < 127 and c != 37 else b"%%%02X" % c for c in plain)


def inner_environ(
    exchange: Exchange, environ: dict[str, Any], stack: tuple[Exchange, ...], raw_headers: RawHeaders, body: WsgiBody
) -> dict[str, Any]:
    """A copy of the environment as the app behind is to see it."""
    inner = dict(environ)
    if exchange.target_host is not None:
        exchange.headers.set(b"host", exchange.target_host)
    if exchange.headers.raw is not raw_headers:
        for key in environ:
            if key.startswith("HTTP_") or key == "CONTENT_TYPE":
                del inner[key]
        for name, value in exchange.headers.raw:
            variable = name.decode("latin-1").upper().replace("-", "_")
            if variable == "CONTENT_TYPE":
                inner[variable] = value.decode("latin-1")
            elif variable != "CONTENT_LENGTH":
                variable = "HTTP_" + variable
                held = inner.get(variable)
                text = value.decode("latin-1")
                inner[variable] = text if held is None else f"{held},{text}"
    raw = exchange.target_path
    path = exchange.path if not exchange.rewritten else canonical(raw, merge_slashes=False).path
    query = exchange.target_query
    inner["PATH_INFO"] = path.encode("utf-8").decode("latin-1")
    inner["QUERY_STRING"] = query.decode("latin-1")
    for target in _RAW_TARGETS:
        if target in inner:
            mounted = encode(environ.get("SCRIPT_NAME", "").encode("latin-1").decode("utf-8", "replace"))
            inner[target] = ((mounted if mounted != b"/" else b"") + raw + (b"?" + query if query else b"")).decode()
    inner["gatekit.stack"] = (*stack, exchange)
    if exchange.identity is not None:
        inner["gatekit.identity"] = exchange.identity
    if body.data is not None:
        inner["wsgi.input"] = io.BytesIO(body.data)
    elif body.kept or (body.limit is not None and body.length is None):
        inner["wsgi.input"] = body.rest()
    return inner
