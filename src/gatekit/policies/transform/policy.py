"""The bound transforming policies: everything is encoded and compiled here, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.paths import PathRefused, canonical
from gatekit.core.verdict import Reply
from gatekit.policies.transform.headers import Edit, encoded
from gatekit.policies.transform.paths import Pattern, Prefix, Template, swapped

if TYPE_CHECKING:
    from gatekit.policies.transform.config import Redirect, RequestHeaders, Respond, ResponseHeaders, Rewrite

_OWN_PORT = {"http": 80, "https": 443}
_DOTS = "a captured value makes a dot segment"
_WEB = {"ws": "http", "wss": "https"}


def turned_away(exchange: Exchange) -> bool:
    """Whether the door refused this request: then host and path may be missing and only its refusal is an answer."""
    refusal = exchange.refusal
    return refusal is not None and refusal.reason.startswith("door.")


class RequestEdit:
    """Changes the request headers that go on."""

    __slots__ = ("_edit",)

    def __init__(self, spec: RequestHeaders) -> None:
        self._edit = Edit(set=spec.set, add=spec.add, remove=spec.remove, folded=True)

    def decide(self, exchange: Exchange) -> None:
        self._edit.apply(exchange.headers)


class ResponseEdit:
    """Changes the headers of a response, if its status is one of those that are meant."""

    __slots__ = ("_above", "_below", "_edit")

    def __init__(self, spec: ResponseHeaders) -> None:
        self._edit = Edit(set=spec.set, add=spec.add, remove=spec.remove, folded=False)
        self._above = 400 if spec.when == "failure" else 0
        self._below = 400 if spec.when == "success" else 1000

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        if self._above <= head.status < self._below:
            self._edit.apply(head)


class RedirectPolicy:
    """Builds Location from the spec and the request, both in their canonical form."""

    __slots__ = ("_authority_given", "_host", "_path", "_port", "_prefix", "_scheme", "_status")

    def __init__(self, spec: Redirect) -> None:
        self._scheme = spec.scheme
        self._host = spec.host
        self._port = spec.port
        self._path = None if spec.path is None else Template(spec.path)
        self._prefix = None if spec.prefix is None else Prefix.model_validate(spec.prefix).on_wire()
        self._status = spec.code
        self._authority_given = (spec.scheme, spec.host, spec.port) != (None, None, None)

    def decide(self, exchange: Exchange) -> Reply | None:
        if turned_away(exchange):
            return None
        path = self._new_path(exchange)
        if path is None:
            return None if self._path is None else _bad_path(_DOTS)
        # Two leading slashes would make Location name another host.
        location = b"/" + path.lstrip(b"/")
        if self._authority_given:
            origin = self._origin(exchange)
            if self._scheme is not None and path == exchange.target_path and origin == _own_origin(exchange):
                return None
            location = origin + location
        if exchange.target_query:
            location += b"?" + exchange.target_query
        return Reply(self._status, "redirect", headers=[(b"location", location)])

    def _new_path(self, exchange: Exchange) -> bytes | None:
        """The path to lead to. None when a captured value made a dot segment or the prefix is another."""
        path = exchange.target_path
        if self._path is not None:
            return self._path.fill(exchange.params)
        if self._prefix is not None:
            return swapped(path, *self._prefix)
        return path if path.startswith(b"/") else None

    def _origin(self, exchange: Exchange) -> bytes:
        """Scheme and authority (Gateway API, HTTPRequestRedirectFilter): a new scheme brings its own port, else the
        port stays the one that was asked for."""
        scheme = self._scheme or _WEB.get(exchange.scheme, exchange.scheme)
        port = self._port
        if port is None and self._scheme is None:
            port = exchange.port
        return _origin(scheme, self._host or exchange.host, port)


def _origin(scheme: str, host: str, port: int | None) -> bytes:
    shown = "" if port is None or port == _OWN_PORT.get(scheme) else f":{port}"
    return f"{scheme}://{host}{shown}".encode("latin-1")


def _own_origin(exchange: Exchange) -> bytes:
    return _origin(_WEB.get(exchange.scheme, exchange.scheme), exchange.host, exchange.port)


class RewritePolicy:
    """Rewrites path and Host for the destination."""

    __slots__ = ("_host", "_path", "_prefix", "_regex")

    def __init__(self, spec: Rewrite) -> None:
        self._host = spec.host
        self._path = None if spec.path is None else Template(spec.path)
        self._prefix = None if spec.prefix is None else Prefix.model_validate(spec.prefix).on_wire()
        self._regex = None if spec.regex is None else WholePath(Pattern.model_validate(spec.regex))

    def decide(self, exchange: Exchange) -> Reply | None:
        if turned_away(exchange):
            return None
        if self._path is not None:
            path = self._path.fill(exchange.params)
        elif self._prefix is not None:
            path = swapped(exchange.target_path, *self._prefix) or exchange.target_path
        elif self._regex is not None:
            path = self._regex.rewritten(exchange)
        else:
            exchange.rewrite(host=self._host)
            return None
        if path is None:
            return _bad_path(_DOTS)
        try:
            exchange.rewrite(path=path, host=self._host)
        except PathRefused as refused:
            return _bad_path(str(refused))
        return None


class WholePath:
    """A compiled pattern of the whole decoded path with the template for its groups."""

    __slots__ = ("_match", "_template")

    def __init__(self, pattern: Pattern) -> None:
        self._match = pattern.compiled().fullmatch
        self._template = Template(pattern.to)

    def rewritten(self, exchange: Exchange) -> bytes | None:
        """The new path, the old one when the pattern does not match; None as in `Template.fill`."""
        old = exchange.target_path
        text = canonical(old, merge_slashes=False).path if exchange.rewritten else exchange.path
        found = self._match(text)
        return old if found is None else self._template.fill(found.groupdict())


def _bad_path(why: str) -> Reply:
    return Reply(400, "transform.bad_path", f"The request cannot be sent on: {why}.")


class FixedAnswer:
    """The same reply for everybody. A reply is only read when it is rendered, so one will do."""

    __slots__ = ("_reply",)

    def __init__(self, spec: Respond) -> None:
        body = None if spec.body is None else spec.body.encode("utf-8")
        headers = list(encoded(spec.headers))
        if body is not None and all(name != b"content-type" for name, _ in headers):
            headers.append((b"content-type", b"text/plain; charset=utf-8"))
        self._reply = Reply(spec.code, "respond", headers=headers, body=body)

    def decide(self, exchange: Exchange) -> Reply | None:
        return None if turned_away(exchange) else self._reply
