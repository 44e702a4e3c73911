"""The WSGI driver: the same policies in front of a Flask or Django service, without an event loop.

`decide` is run with one `send(None)`: what awaits only ports that never suspend finishes there. Differences that WSGI
forces: spellings of a header are merged before we see them, the raw path is known only where the server tells it, and
a client that leaves is noticed only when the server closes the response.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from gatekit.core.exchange import Exchange
from gatekit.core.headers import Headers
from gatekit.core.outcome import raised
from gatekit.core.verdict import Reply
from gatekit.drivers.answer import Answer, refused_body
from gatekit.drivers.asgi import PlanSource
from gatekit.drivers.steps import decide
from gatekit.drivers.wsgi_answer import Parts, Start, answer, gone
from gatekit.drivers.wsgi_body import WsgiBody
from gatekit.drivers.wsgi_environ import headers_of, inner_environ, raw_path_of
from gatekit.drivers.wsgi_forward import LoopThread, forward
from gatekit.errors import BodyRefused, ClientDisconnected, PolicySuspended

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication


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
        raw_headers = headers_of(environ)
        headers = Headers(raw_headers, shared=True)
        body = WsgiBody(environ)
        exchange = Exchange(
            "http", environ["REQUEST_METHOD"], environ["wsgi.url_scheme"], headers, environ.get("REMOTE_ADDR") or None,
            environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"), environ, plan.door, body, self._now(),
        )  # fmt: skip
        stack = environ.get("gatekit.stack", ())
        if stack:
            exchange.inherit(stack[-1])
        pipeline = plan.admit(exchange, raw_path_of(environ), environ.get("QUERY_STRING", "").encode("latin-1"))
        out = Answer(exchange, pipeline)
        try:
            reply, out.entered = run_now(decide(exchange, pipeline))
        except ClientDisconnected:
            out.entered = exchange.cursor + 1
            return gone(out, start_response)
        except PolicySuspended as error:
            kind, out.entered = pipeline.kinds[exchange.cursor], exchange.cursor + 1
            reply = pipeline.failed(exchange, kind, "decide", error)
            pipeline.refused(exchange, kind, reply)
        destination = pipeline.destination
        if reply is None and destination is None and self.app is None:
            reply = Reply(500, "router.no_destination")
        if reply is not None:
            return answer(out, reply, start_response)
        if destination is not None:
            if self._loop_thread is None:
                raise RuntimeError("this driver was built without a loop thread and cannot forward")
            return forward(destination, out, body, start_response, self._loop_thread())
        assert self.app is not None
        inner = inner_environ(exchange, environ, stack, raw_headers, body)
        limited = body.limit is not None and body.length is None
        if not (pipeline.responds or pipeline.observes or exchange.queue is not None or limited):
            return self.app(inner, start_response)
        started = Start(out, start_response)
        try:
            parts = self.app(inner, started)
        except BodyRefused as error:
            if out.status is not None:
                out.finish(raised(out.status, error))
                raise
            return answer(out, refused_body(out, error), start_response)
        except BaseException as error:
            out.finish(raised(out.status, error))
            raise
        return Parts(out, parts, started=started, filters=True)


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
