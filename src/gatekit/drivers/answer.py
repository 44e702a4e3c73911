"""Writing an answer, whoever gave it: response hooks, body filters, the messages, and the one observation at the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import Headers
from gatekit.core.outcome import Fault, Outcome, client_gone, finished, unfinished
from gatekit.core.pipeline import Pipeline
from gatekit.core.policy import BodyFilter
from gatekit.core.verdict import Reply, render
from gatekit.errors import BodyRefused, ResponseTruncated

if TYPE_CHECKING:
    from gatekit.drivers.flights import Stream


class Answer:
    """One exchange's response on its way out, whichever the driver (`send` is ASGI's).

    `entered` is how many policies see it, `status` what was sent, `bodiless` that no body may follow.

    For a drain: `task` serves the exchange, `stream` can be ended before its time, `closing` says that `send` may close
    the connection, `cutting` that the task was cancelled by the drain, `blind` that an app sends past this object.
    """

    __slots__ = (
        "blind", "bodiless", "closing", "cutting", "entered", "exchange", "filters", "over", "pipeline", "send", "status",
        "stream", "task",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, pipeline: Pipeline, send: Any = None) -> None:
        self.exchange = exchange
        self.pipeline = pipeline
        self.send = send
        self.entered = 0
        self.filters: list[BodyFilter] = []
        self.status: int | None = None
        self.bodiless = False
        self.over = False
        self.task: asyncio.Task[Any] | None = None
        self.stream: Stream | None = None
        self.blind = self.closing = self.cutting = False

    def settle(self, head: ResponseHead) -> tuple[ResponseHead, bytes] | None:
        """Run the response hooks on `head`. None if it stands; else what replaces it, already through its own hooks.

        A hook that fails is refused with 500, which then passes the policies outside of it: each of them may fail too.
        """
        exchange, pipeline = self.exchange, self.pipeline
        replaced: tuple[ResponseHead, bytes] | None = None
        if pipeline.responds or exchange.queue is not None:
            failure, entered = pipeline.respond(exchange, head, self.entered, self.filters)
            if failure is not None:
                replaced = self._replace(failure, entered)
                head = replaced[0]
        else:
            exchange.answered = True
        status = self.status = head.status
        self.bodiless = exchange.method == "HEAD" or not head.has_body
        if status >= 500 and exchange.fault is None:
            if exchange.reason is not None:
                exchange.fault = Fault.GATEWAY
            else:
                exchange.fault = Fault.APP if pipeline.destination is None else Fault.UPSTREAM
        if exchange.parent is not None:
            exchange.report()
        return replaced

    def _replace(self, failed: Reply, entered: int) -> tuple[ResponseHead, bytes]:
        exchange, pipeline = self.exchange, self.pipeline
        failure: Reply | None = failed
        while failure is not None:
            exchange.final = True
            pipeline.refused(exchange, pipeline.kinds[entered], failure)
            self.filters = []
            replaced = render(failure, exchange, pipeline.shape)
            failure, entered = pipeline.respond(exchange, replaced[0], entered, self.filters)
        return replaced

    def filtered(self, data: bytes, last: bool) -> bytes:
        """A part of the body as the filters leave it, innermost first."""
        try:
            for one in self.filters:
                data = one.feed(data) if data else b""
                if last:
                    data += one.finish()
        except Exception as error:
            # The response has begun: all that is left is to cut it, so that nobody takes it for whole.
            self.pipeline.failed(self.exchange, type(one).__name__, "body_filter", error)
            self.cut("policy.failed", Fault.GATEWAY)
            raise ResponseTruncated(f"request {self.exchange.request_id}: a body filter raised") from error
        return b"" if self.bodiless else data

    def finish(self, outcome: Outcome) -> None:
        """Tell the policies how it ended. Only the first call counts."""
        if not self.over:
            self.over = True
            exchange = self.exchange
            if exchange.parent is not None:
                exchange.report()
            if self.pipeline.observes:
                self.pipeline.observe(exchange, outcome, self.entered)

    def left(self) -> None:
        """The task was cancelled: the client has gone. What a drain cancels is told by who answers it instead."""
        if not self.cutting:
            self.finish(client_gone())

    def cut(self, reason: str | None = None, fault: Fault | None = None) -> None:
        """The response broke off after it had begun. Without a reason: an inner driver said why, and reported it."""
        exchange = self.exchange
        if not self.over:
            exchange.reason = reason or exchange.reason or "response.truncated"
            exchange.fault = fault or exchange.fault or Fault.UPSTREAM
            self.finish(unfinished(self.status, reason=exchange.reason, fault=exchange.fault))

    def complete(self) -> None:
        """The response was sent whole. Where nobody listens, nothing is made to be told."""
        if not self.pipeline.observes and self.exchange.parent is None:
            self.over = True
            return
        exchange = self.exchange
        reason = exchange.reason
        self.finish(finished(self.status or 0, reason=reason, ours=reason is not None, fault=exchange.fault))


def refused_body(out: Answer, error: BodyRefused) -> Reply:
    """The answer for a request whose body is not taken. That is the client's fault."""
    out.exchange.reason = error.reason
    out.exchange.fault = Fault.CLIENT
    return Reply(error.status, error.reason)


async def write(out: Answer, head: ResponseHead, body: bytes) -> None:
    """Send a whole response and observe it."""
    try:
        await out.send({"type": "http.response.start", "status": head.status, "headers": head.raw})
        if out.filters:
            body = out.filtered(body, True)
        elif out.bodiless:
            body = b""
        out.exchange.sent += len(body)
        await out.send({"type": "http.response.body", "body": body, "more_body": False})
    except OSError:
        out.finish(client_gone())
        return
    except asyncio.CancelledError:
        out.left()
        raise
    out.complete()


async def answer(out: Answer, reply: Reply) -> None:
    """Give `reply` as the whole answer."""
    head, body = render(reply, out.exchange, out.pipeline.shape)
    replaced = out.settle(head)
    if replaced is not None:
        head, body = replaced
    await write(out, head, body)


def trailers_of(out: Answer, raw: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Trailers as the hooks leave them."""
    trailers = Headers(raw)
    out.pipeline.trail(out.exchange, trailers, out.entered)
    return trailers.raw
