"""The WSGI driver: the same policies in front of a Flask or Django service, without an event loop.

`decide` is run with one `send(None)`: what awaits only ports that never suspend finishes there. Differences that WSGI
forces: spellings of a header are merged before we see them, the raw path is known only where the server tells it, and
a client that leaves is noticed only when the server closes the response.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_to_bytes

from gatekit.core.destination import Destination, Response
from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import Headers, RawHeaders
from gatekit.core.outcome import Fault, client_gone, raised, unfinished
from gatekit.core.paths import canonical, encode
from gatekit.core.pipeline import Pipeline
from gatekit.core.verdict import Reply, render
from gatekit.drivers.answer import Answer
from gatekit.drivers.asgi import PlanSource
from gatekit.drivers.forward import broken
from gatekit.drivers.wsgi_body import WsgiBody
from gatekit.errors import ClientDisconnected, PolicySuspended, ResponseTruncated, UpstreamError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

_RAW_TARGETS = ("RAW_URI", "REQUEST_URI")


class LoopThread(Protocol):
    """The process's event loop for what must do I/O: runs a coroutine there and waits for its result."""

    def run(self, work: Awaitable[Any]) -> Any: ...

    def call(self, function: Callable[[], object]) -> None: ...


class WsgiDriver:
    """A WSGI application that runs a plan; behind it `app`, or the plan's destinations by way of `loop_thread`."""

    __slots__ = ("_enter", "_loop_thread", "_now", "_source", "app")

    def __init__(
        self,
        source: PlanSource,
        *,
        now: Callable[[], float],
        app: WSGIApplication | None = None,
        enter: Callable[[], None] | None = None,
        loop_thread: Callable[[], LoopThread] | None = None,
    ) -> None:
        self._source = source
        self._now = now
        self._enter = enter
        self._loop_thread = loop_thread
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        plan = self._source.plan
        if self._enter is not None:
            self._enter()
        raw_headers = _headers(environ)
        headers = Headers(raw_headers, shared=True)
        body = WsgiBody(environ)
        exchange = Exchange(
            "http", environ["REQUEST_METHOD"], environ["wsgi.url_scheme"], headers, environ.get("REMOTE_ADDR") or None,
            environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"), environ, plan.door, body, self._now(),
        )  # fmt: skip
        stack = environ.get("gatekit.stack", ())
        if stack:
            exchange.inherit(stack[-1])
        pipeline = plan.admit(exchange, _raw_path(environ), environ.get("QUERY_STRING", "").encode("latin-1"))
        out = Answer(exchange, pipeline)
        try:
            reply, out.entered = decide_now(exchange, pipeline)
        except ClientDisconnected:
            out.entered = exchange.cursor + 1
            out.finish(client_gone())
            raise
        destination = pipeline.destination
        if reply is None and destination is None and self.app is None:
            reply = Reply(500, "router.no_destination")
        if reply is not None:
            return _answer(out, reply, start_response)
        if destination is not None:
            if self._loop_thread is None:
                raise RuntimeError("this driver was built without a loop thread and cannot forward")
            return _forward(destination, out, start_response, self._loop_thread())
        assert self.app is not None
        inner = _inner(exchange, environ, stack, raw_headers, body)
        if not (pipeline.responds or pipeline.observes or exchange.queue is not None):
            return self.app(inner, start_response)
        started = _Start(out, start_response)
        try:
            parts = self.app(inner, started)
        except BaseException as error:
            out.finish(raised(out.status, error))
            raise
        return _Parts(out, parts, started=started, filters=True)


def decide_now(exchange: Exchange, pipeline: Pipeline) -> tuple[Reply | None, int]:
    """`drivers.steps.decide`, run to its end here and now."""
    for step in pipeline.decides:
        exchange.cursor = index = step.index
        reply: Reply | None
        if step.requires and (reply := pipeline.missing(exchange, step)) is not None:
            pipeline.refused(exchange, step.kind, reply)
            return reply, index + 1
        try:
            if step.needs_body is not None and run_now(exchange.body.buffer(step.needs_body)) is None:
                reply = Reply(413, "body.too_large", f"The body is larger than {step.needs_body} bytes.")
            elif step.call is None:
                continue
            else:
                found = step.call(exchange)
                if found is None:
                    continue
                reply = found if isinstance(found, Reply) else run_now(found)
        except ClientDisconnected:
            raise
        except Exception as error:
            reply = pipeline.failed(exchange, step.kind, "decide", error)
        if reply is not None:
            pipeline.refused(exchange, step.kind, reply)
            return reply, index + 1
    refusal = exchange.refusal
    if refusal is not None:
        pipeline.refused(exchange, "router", refusal)
    return refusal, pipeline.size


def run_now(work: Awaitable[Any]) -> Any:
    """The result of a coroutine that never suspends. Raises PolicySuspended, with the coroutine closed, if it does."""
    steps = work.__await__()
    try:
        steps.send(None)
    except StopIteration as done:
        return done.value
    steps.close()
    raise PolicySuspended(
        "a policy awaited something that needs an event loop; under WSGI `decide` may await only ports"
    )


def _headers(environ: dict[str, Any]) -> RawHeaders:
    """The request headers as far as the environment still tells them."""
    found: RawHeaders = []
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            if key not in ("HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"):
                found.append((key[5:].replace("_", "-").lower().encode("latin-1"), value.encode("latin-1")))
        elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            found.append((key.replace("_", "-").lower().encode("ascii"), value.encode("latin-1")))
    return found


def _raw_path(environ: dict[str, Any]) -> bytes:
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


def _inner(
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
    elif body.kept:
        inner["wsgi.input"] = body.rest()
    return inner


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Unknown"


def _text(raw: RawHeaders) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]


def _answer(out: Answer, reply: Reply, start_response: StartResponse) -> Iterable[bytes]:
    """Give `reply` as the whole answer."""
    head, body = render(reply, out.exchange, out.pipeline.shape)
    replaced = out.settle(head)
    if replaced is not None:
        head, body = replaced
    return _whole(out, head, body, start_response)


def _whole(out: Answer, head: ResponseHead, body: bytes, start_response: StartResponse) -> Iterable[bytes]:
    start_response(_status_line(head.status), _text(head.raw))
    if out.filters:
        body = out.filtered(body, True)
    elif out.bodiless:
        body = b""
    return _Parts(out, [body] if body else [])


class _Start:
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
            status = _status_line(head.status)
        elif head.status != int(status[:3]):
            status = _status_line(head.status)
        sent = _text(head.raw)
        given = self._start_response(status, sent, exc_info) if exc_info else self._start_response(status, sent)

        def write(data: bytes) -> None:
            if self.replacement is None:
                data = out.filtered(data, False) if out.filters else data
                out.exchange.sent += len(data)
                given(data)

        return write


class _Parts:
    """The body on its way to the server: filtered, counted, closed once, and observed at its end."""

    __slots__ = ("_close", "_done", "_filters", "_out", "_parts", "_started")

    def __init__(
        self, out: Answer, parts: Iterable[bytes], *, started: _Start | None = None, filters: bool = False
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
            out.finish(out.outcome() if out.status is not None else _nothing())
            if not part:
                raise
            return part
        except ResponseTruncated:
            raise
        except BaseException as error:
            out.finish(raised(out.status, error))
            raise
        started = self._started
        if started is not None and started.replacement is not None:
            self._done = True
            part = started.replacement
            out.exchange.sent += len(part)
            out.finish(out.outcome())
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


def _nothing() -> Any:
    return unfinished(None, reason="app.incomplete", fault=Fault.APP)


def _forward(
    destination: Destination, out: Answer, start_response: StartResponse, loop_thread: LoopThread
) -> Iterable[bytes]:
    """Ask a destination by way of the loop thread; its answer is read there part by part."""
    try:
        response: Response = loop_thread.run(destination.open(out.exchange))
    except ClientDisconnected:
        out.finish(client_gone())
        raise
    except Exception as error:
        return _answer(out, broken(out, error), start_response)
    head = ResponseHead(response.status, response.headers)
    replaced = out.settle(head)
    if replaced is not None:
        loop_thread.call(response.close)
        return _whole(out, *replaced, start_response)
    start_response(_status_line(head.status), _text(head.raw))
    return _Parts(out, _Upstream(out, response, loop_thread), filters=True)


class _Upstream:
    """The parts of a destination's answer."""

    __slots__ = ("_end", "_loop_thread", "_out", "_response", "_shut")

    def __init__(self, out: Answer, response: Response, loop_thread: LoopThread) -> None:
        self._out = out
        self._response = response
        self._loop_thread = loop_thread
        self._end = False
        self._shut = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    async def _next(self) -> bytes:
        part, self._end = self._response.take()
        if not part and not self._end:
            part = await self._response.read()
            self._end = not part
        return part

    def __next__(self) -> bytes:
        if self._end:
            raise StopIteration
        try:
            part: bytes = self._loop_thread.run(self._next())
        except UpstreamError as error:
            self._out.finish(unfinished(self._out.status, reason=error.reason, fault=Fault.UPSTREAM))
            raise ResponseTruncated(f"request {self._out.exchange.request_id}: {error}") from error
        if not part and self._end:
            raise StopIteration
        return part

    def close(self) -> None:
        if not self._shut:
            self._shut = True
            self._loop_thread.call(self._response.close)
