"""What is under way in a driver, and what a drain does to it: responses that close their connections, streams that are
ended, and the cut of what is left.

It knows no time: when which of it happens is for `gateway.drain` to say. What it does to one exchange must be called in
the loop that serves it; the set of them may be looked at from any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gatekit.core.outcome import Fault, Grade, Outcome, client_gone
from gatekit.core.verdict import Reply
from gatekit.drivers.answer import Answer, answer
from gatekit.errors import ResponseTruncated

DRAINING = "gateway.draining"
"""The reason of what a drain ended or cut."""
RESTARTING = "the gateway is restarting"
"""What the clients of streams are told."""


class Stream(Protocol):
    """A response or WebSocket that would go on for ever. `ended` says that a drain has brought it to a proper end."""

    ended: bool

    def end(self) -> bool:
        """End it as soon as that can be done well. True if that is now; False if it has to wait, or is over already."""
        ...


class Flights:
    """The exchanges of one driver, over all its loops. `closes` is None until a drain begins; from then on it is asked
    of each HTTP/1 response whether its connection is to be closed."""

    __slots__ = ("closes", "under_way")

    def __init__(self) -> None:
        self.under_way: set[Answer] = set()
        self.closes: Callable[[], bool] | None = None

    def begin(self, closes: Callable[[], bool]) -> None:
        """A drain begins. Responses that have not begun are asked about as well as those still to come."""
        self.closes = closes
        for out in self.now():
            if out.status is None:
                self.close_after(out)

    def now(self) -> list[Answer]:
        """Those under way, in no order. Copying a set is one step, whatever other threads do to it."""
        return list(self.under_way.copy())

    def close_after(self, out: Answer) -> None:
        """Let the response say that it is the connection's last, if `closes` wants it. HTTP/2 and HTTP/3 know no such
        header (RFC 9113 section 8.2.2): there it is the server that says goodbye."""
        exchange = out.exchange
        closes = self.closes
        if closes is not None and not out.closing and exchange.kind == "http" and exchange.http_version[:1] == "1":
            out.closing = True
            out.send = _closing(out.send, closes)


def _closing(send: Any, closes: Callable[[], bool]) -> Any:
    def sends(message: Any) -> Any:
        if message["type"] == "http.response.start" and closes():
            headers = list(message.get("headers", ()))
            # Added to what an app may have said in a Connection of its own: `close` counts wherever it stands (RFC 9112
            # section 9.6).
            message = {**message, "headers": [*headers, (b"connection", b"close")]}
        return send(message)

    return sends


def end(out: Answer) -> bool:
    """End an exchange's stream. True if that is now."""
    return out.stream is not None and out.stream.end()


def cut(out: Answer) -> bool:
    """Cancel an exchange. True if its client loses something by it. Its driver sees to the rest: `was_cut`, then
    `cut_short` or the WebSocket's own."""
    task = out.task
    if task is None or task.done() or out.cutting:
        return False
    out.cutting = True
    task.cancel()
    return not out.over


def was_cut(out: Answer) -> bool:
    """Whether the cancellation that has just arrived is a drain's and nobody else's too; then it is taken back. Else
    the client has gone, or the server is ending."""
    if out.cutting and out.task is not None and out.task.uncancel() == 0:
        return True
    out.finish(client_gone())
    return False


async def cut_short(out: Answer) -> None:
    """The end of an exchange that was cut: 503 where nothing was sent. Raises ResponseTruncated where something was, so
    that the server cuts it too, and where the app behind has `send` itself: then only the server knows."""
    if out.over:
        return
    if out.status is None and not out.blind:
        out.exchange.reason = DRAINING
        out.exchange.fault = Fault.GATEWAY
        await answer(out, Reply(503, DRAINING))
        return
    finish_cut(out)
    raise ResponseTruncated(f"request {out.exchange.request_id}: {RESTARTING}") from None


def finish_cut(out: Answer) -> None:
    """Tell that it was we who broke it off. That says nothing about the upstream."""
    out.exchange.reason = DRAINING
    out.exchange.fault = Fault.GATEWAY
    out.finish(Outcome(out.status, reason=DRAINING, fault=Fault.GATEWAY, grade=Grade.IGNORE, complete=False))


def finish_ended(out: Answer) -> None:
    """Tell that a stream came to a proper end, at our wish. That says nothing about the upstream either."""
    out.exchange.reason = DRAINING
    out.finish(Outcome(out.status, reason=DRAINING, grade=Grade.IGNORE))
