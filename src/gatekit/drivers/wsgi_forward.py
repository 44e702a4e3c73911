"""Forwarding under WSGI: the destination is asked on the loop thread, and each part of its answer waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from gatekit.core.destination import Destination, Response
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Fault
from gatekit.drivers.answer import Answer
from gatekit.drivers.forward import broken
from gatekit.drivers.wsgi_answer import Parts, answer, gone, status_line, text_headers, whole
from gatekit.drivers.wsgi_body import WsgiBody
from gatekit.errors import ClientDisconnected, ResponseTruncated, UpstreamError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


class LoopThread(Protocol):
    """The process's event loop for what must do I/O: runs a coroutine there and waits for its result."""

    def run(self, work: Awaitable[Any]) -> Any: ...

    def call(self, function: Callable[[], object]) -> None: ...


def forward(
    destination: Destination, out: Answer, body: WsgiBody, start_response: StartResponse, loop_thread: LoopThread
) -> Iterable[bytes]:
    """Ask a destination by way of the loop thread; its answer is read there part by part."""
    try:
        response: Response = loop_thread.run(destination.open(out.exchange))
    except ClientDisconnected:
        return gone(out, start_response)
    except Exception as error:
        return answer(out, broken(out, error), start_response)
    head = ResponseHead(response.status, response.headers)
    replaced = out.settle(head)
    if replaced is not None:
        loop_thread.call(response.close)
        return whole(out, *replaced, start_response)
    start_response(status_line(head.status), text_headers(head.raw))
    return Parts(out, _Upstream(out, response, body, loop_thread), filters=True)


class _Upstream:
    """The parts of a destination's answer."""

    __slots__ = ("_body", "_end", "_loop_thread", "_out", "_response", "_shut")

    def __init__(self, out: Answer, response: Response, body: WsgiBody, loop_thread: LoopThread) -> None:
        self._out = out
        self._body = body
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
            self._out.cut(error.reason, Fault.UPSTREAM)
            raise ResponseTruncated(f"request {self._out.exchange.request_id}: {error}") from error
        if not part and self._end:
            raise StopIteration
        return part

    def close(self) -> None:
        if not self._shut:
            self._shut = True
            self._loop_thread.call(self._response.close)
            self._body.settle()
