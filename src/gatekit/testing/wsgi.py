"""Call a WSGI application as a server would, and hold it to PEP 3333. No socket, no thread, no event loop."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from gatekit.core.headers import Headers
from gatekit.testing.exchanges import CLIENT, HOST, HeaderItems, raw_headers, split_target
from gatekit.testing.responses import ProtocolBroken, TestResponse

Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Any], Iterable[bytes]]


def environ(
    method: str,
    target: str,
    *,
    headers: HeaderItems | None = None,
    body: bytes = b"",
    client: str | None = CLIENT,
    scheme: str = "http",
    http_version: str = "1.1",
    script_name: str = "",
    raw_uri: Literal["RAW_URI", "REQUEST_URI"] | None = "REQUEST_URI",
    multithread: bool = True,
    extra: Mapping[str, Any] | None = None,
) -> Environ:
    """The environ a server makes of this request. Spellings of one header name are merged, as servers merge them.

    `raw_uri` is the key under which the server tells the target as it was sent (gunicorn RAW_URI, waitress REQUEST_URI);
    None for a server that does not.
    """
    given_scheme, authority, raw_path, query = split_target(target)
    found: Environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": script_name,
        "PATH_INFO": unquote_to_bytes(raw_path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": f"HTTP/{http_version}",
        "REMOTE_ADDR": client or "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": given_scheme or scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if raw_uri is not None:
        found[raw_uri] = script_name + (raw_path + (b"?" + query if query else b"")).decode("latin-1")
    raw = raw_headers(headers)
    if not any(name == b"host" for name, _ in raw):
        raw.insert(0, (b"host", (authority or HOST).encode("latin-1")))
    if body and not any(name == b"content-length" for name, _ in raw):
        raw.append((b"content-length", b"%d" % len(body)))
    for name, value in raw:
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        text = value.decode("latin-1")
        found[key] = f"{found[key]},{text}" if key in found else text
    found.update(extra or {})
    return found


class _Server:
    """The server's half: `start_response`, `write`, and what PEP 3333 asks of the application."""

    def __init__(self) -> None:
        self.response = TestResponse()
        self.started = 0
        self.body_begun = False

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if self.started and exc_info is None:
            raise ProtocolBroken("start_response was called a second time without exc_info")
        if exc_info is not None and self.body_begun:
            raise exc_info[1].with_traceback(exc_info[2])
        if type(status) is not str or len(status) < 4 or not status[:3].isdigit() or status[3] != " ":
            raise ProtocolBroken(f"a status line must be like '200 OK', not {status!r}")
        if type(headers) is not list:
            raise ProtocolBroken("headers must be a list")
        for pair in headers:
            name, value = pair
            if type(pair) is not tuple or type(name) is not str or type(value) is not str:
                raise ProtocolBroken(f"a header must be a tuple of two strings, not {pair!r}")
            if any(char in name + value for char in "\r\n\x00") or name.lower() == "status":
                raise ProtocolBroken(f"a header that may not be sent: {pair!r}")
        self.started += 1
        response = self.response
        response.status, response.reason = int(status[:3]), status[4:]
        response.headers = Headers(
            [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        )
        return self.take

    def take(self, part: bytes) -> None:
        if type(part) is not bytes:
            raise ProtocolBroken(f"a part of the body must be bytes, not {type(part).__name__}")
        if part and not self.started:
            raise ProtocolBroken("a part of the body before start_response was called")
        if part:
            self.body_begun = True
            self.response.parts.append(part)


def call_wsgi(
    app: WsgiApp,
    method: str = "GET",
    target: str = "/",
    *,
    headers: HeaderItems | None = None,
    body: bytes = b"",
    close_after: int | None = None,
    raise_app_exceptions: bool = True,
    **environ_fields: Any,
) -> TestResponse:
    """One request to a WSGI application: calls it, iterates what it returns, and closes that.

    `close_after` closes after that many parts of the body, as a server does when the client has gone. With
    `raise_app_exceptions=False` what the app raises is kept in `error`. Other keywords go to `environ`. Raises
    ProtocolBroken when the app breaks PEP 3333, also by a body that does not fit its Content-Length.
    """
    server = _Server()
    response = server.response
    the_environ = environ(method, target, headers=headers, body=body, **environ_fields)
    try:
        result = app(the_environ, server.start_response)
        if isinstance(result, (bytes, str)):
            raise ProtocolBroken("the result must be an iterable of bytes, not a string")
        try:
            whole = True
            for number, part in enumerate(result):
                if number == close_after:
                    whole = False
                    break
                server.take(part)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        if not server.started:
            raise ProtocolBroken("the body ended and start_response was never called")
        response.complete = whole
    except ProtocolBroken:
        raise
    except Exception as error:
        response.error = error
        if raise_app_exceptions:
            raise
        return response
    declared = response.headers.get("content-length")
    if whole and declared is not None and method != "HEAD" and response.status not in (204, 304):
        length = len(response.body)
        if length != int(declared):
            raise ProtocolBroken(f"a body of {length} bytes under a Content-Length of {declared}")
    if method == "HEAD":
        response.parts.clear()
    return response


class Closes:
    """A WSGI app around another one that counts the iterables it gave and those that were closed. A middleware must
    close what the app behind it returned, exactly once each."""

    __slots__ = ("_app", "closed", "opened")

    def __init__(self, app: WsgiApp) -> None:
        self._app = app
        self.opened = 0
        self.closed = 0

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        result = self._app(environ, start_response)
        self.opened += 1
        return _Closing(self, result)


class _Closing:
    def __init__(self, owner: Closes, result: Iterable[bytes]) -> None:
        self._owner = owner
        self._result = result

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._result)

    def close(self) -> None:
        self._owner.closed += 1
        close = getattr(self._result, "close", None)
        if close is not None:
            close()
