"""Writing an answer under WSGI: `start_response` with the hooks run, and the body on its way to the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from gatekit.core.head import ResponseHead
from gatekit.core.headers import RawHeaders
from gatekit.core.outcome import Fault, client_gone, raised, unfinished
from gatekit.core.verdict import Reply, phrase, render
from gatekit.drivers.answer import Answer
from gatekit.errors import ResponseTruncated

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


def status_line(status: int) -> str:
    return f"{status} {phrase(status)}"


def text_headers(raw: RawHeaders) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]


def answer(out: Answer, reply: Reply, start_response: StartResponse) -> Iterable[bytes]:
    """Give `reply` as the whole answer."""
    head, body = render(reply, out.exchange, out.pipeline.shape)
    replaced = out.settle(head)
    if replaced is not None:
        head, body = replaced
    return whole(out, head, body, start_response)


def gone(out: Answer, start_response: StartResponse) -> Iterable[bytes]:
    """The client left while its request was read: a server has to be told something, though nobody will read it."""
    out.finish(client_gone())
    start_response("400 Bad Request", [("content-length", "0")])
    return []


def whole(out: Answer, head: ResponseHead, body: bytes, start_response: StartResponse) -> Iterable[bytes]:
    start_response(status_line(head.status), text_headers(head.raw))
    if out.filters:
        body = out.filtered(body, True)
    elif out.bodiless:
        body = b""
    return Parts(out, [body] if body else [])


class Start:
    """`start_response` for the app behind: the hooks run when it is called, again when it is called again."""

    __slots__ = ("_out", "_start_response", "replacement")

    def __init__(self, out: Answer, start_response: StartResponse) -> None:
        self._out = out
        self._start_response = start_response
        self.replacement: bytes | None = None

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        out = self._out
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        head = ResponseHead(int(status[:3]), raw)
        out.filters = []
        replaced = out.settle(head)
        if replaced is not None:
            head, body = replaced
            self.replacement = out.filtered(body, True)
            status = status_line(head.status)
        elif head.status != int(status[:3]):
            status = status_line(head.status)
        sent = text_headers(head.raw)
        given = self._start_response(status, sent, exc_info) if exc_info else self._start_response(status, sent)

        def write(data: bytes) -> None:
            if self.replacement is None:
                data = out.filtered(data, False) if out.filters else data
                out.exchange.sent += len(data)
                given(data)

        return write


class Parts:
    """The body on its way to the server: filtered, counted, closed once, and observed at its end."""

    __slots__ = ("_close", "_done", "_filters", "_out", "_parts", "_started")

    def __init__(
        self, out: Answer, parts: Iterable[bytes], *, started: Start | None = None, filters: bool = False
    ) -> None:
        self._out = out
        self._started = started
        self._filters = filters
        self._parts: Iterator[bytes] = iter(parts)
        self._close: Callable[[], object] | None = getattr(parts, "close", None)
        self._done = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        out = self._out
        if self._done:
            raise StopIteration
        try:
            part = next(self._parts)
        except StopIteration:
            self._done = True
            part = self._last()
            if out.status is not None:
                out.complete()
            else:
                out.finish(nothing())
            if not part:
                raise
            return part
        except ResponseTruncated:
            out.cut()
            raise
        except BaseException as error:
            out.finish(raised(out.status, error))
            raise
        started = self._started
        if started is not None and started.replacement is not None:
            self._done = True
            part = started.replacement
            out.exchange.sent += len(part)
            out.complete()
            return part
        if self._filters and out.filters:
            part = out.filtered(part, False)
        out.exchange.sent += len(part)
        return part

    def _last(self) -> bytes:
        """What is still to be sent once the app has no more: the filters' ends, or the answer that replaces its own."""
        out, started = self._out, self._started
        if started is not None and started.replacement is not None:
            part = started.replacement
        else:
            part = out.filtered(b"", True) if self._filters and out.filters else b""
        out.exchange.sent += len(part)
        return part

    def close(self) -> None:
        """Called by the server whatever happened; before the end of the body it means that the client is gone."""
        try:
            close, self._close = self._close, None
            if close is not None:
                close()
        except BaseException as error:
            self._out.finish(raised(self._out.status, error))
            raise
        finally:
            self._out.finish(client_gone())


def nothing() -> Any:
    return unfinished(None, reason="app.incomplete", fault=Fault.APP)
