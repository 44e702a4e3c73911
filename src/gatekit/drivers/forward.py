"""Forwarding: one destination asked, its answer passed on part by part. A short body never looks like a whole one."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from gatekit.core.destination import Destination, Response
from gatekit.core.exchange import NoBody
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Fault, client_gone
from gatekit.core.verdict import Reply
from gatekit.drivers.answer import Answer, answer, refused_body, trailers_of, write
from gatekit.drivers.body import AsgiBody
from gatekit.drivers.event_stream import EventRelay
from gatekit.drivers.watch import Watch, Watches
from gatekit.errors import BodyRefused, ClientDisconnected, ResponseTruncated, UpstreamError

_log = logging.getLogger("gatekit")


def broken(out: Answer, error: Exception) -> Reply:
    """The answer for a destination that gave none. What went wrong is for the log, not for the client."""
    exchange = out.exchange
    if isinstance(error, BodyRefused):
        return refused_body(out, error)
    if isinstance(error, UpstreamError):
        reply = Reply(error.status, error.reason)
        # What is wrong with the request itself, and found only while it was sent, is the client's.
        exchange.fault = Fault.CLIENT if error.reason.startswith("request.") else Fault.UPSTREAM
        _log.warning("no answer for request %s: %s", exchange.request_id, error)
    else:
        reply = Reply(502, "upstream.failed")
        exchange.fault = Fault.UPSTREAM
        _log.error("a destination raised for request %s", exchange.request_id, exc_info=error)
    exchange.reason = reply.reason
    return reply


async def forward(
    destination: Destination, out: Answer, receive: Any, body: AsgiBody | NoBody, watches: Watches
) -> None:
    """Ask `destination` and send what it answers, while watching for a client that leaves: then the call is cancelled.

    Raises ResponseTruncated when the answer broke off after it had begun.
    """
    watch: Watch | None = None
    response: Response | None = None
    exchange = out.exchange
    try:
        if not body.declared and isinstance(body, AsgiBody):
            await body.peek()
        watch = watches.call(receive, body, out.task)
        try:
            response = await destination.open(exchange)
        except ClientDisconnected:
            raise
        except Exception as error:
            await answer(out, broken(out, error))
            return
        head = ResponseHead(response.status, response.headers)
        # A filter may encode what it is given; what the upstream has encoded can have nothing added to it.
        coded = out.pipeline.filters and head.get_bytes(b"content-encoding") is not None
        replaced = out.settle(head)
        if replaced is not None:
            await write(out, *replaced)
            return
        start = {"type": "http.response.start", "status": head.status, "headers": head.raw}
        trailing = "http.response.trailers" in (exchange.scope.get("extensions") or ()) and _wants_trailers(out)
        if trailing:
            start["trailers"] = True
        try:
            # Not before: a drain may have begun while the answer was waited for.
            send = out.send
            await send(start)
            part, last = response.take()
            if not last and head.is_event_stream and not coded and _endable(out, head):
                out.stream = stream = EventRelay(out, response)
                await stream.relay(part, last)
            elif out.filters or out.bodiless:
                await _relay_filtered(response, out, part, last)
            else:
                while True:
                    if not part and not last:
                        part = await response.read()
                        last = not part
                    exchange.sent += len(part)
                    await send({"type": "http.response.body", "body": part, "more_body": not last})
                    if last:
                        break
                    part, last = response.take()
            if trailing:
                raw = trailers_of(out, response.trailers)
                await send({"type": "http.response.trailers", "headers": raw, "more_trailers": False})
        except Exception as error:
            _broken_off(out, error)
            return
        out.complete()
    except ClientDisconnected:
        out.finish(client_gone())
    except asyncio.CancelledError:
        out.left()
        if watch is None or not watch.absorb():
            raise
    finally:
        if watch is not None:
            watches.waiting.discard(watch)
            watch.stop()
        if response is not None:
            response.close()


def _broken_off(out: Answer, error: Exception) -> None:
    """The answer ended before its end. Raises ResponseTruncated, unless it is the client that has gone."""
    if isinstance(error, OSError):
        out.finish(client_gone())
    elif isinstance(error, ResponseTruncated):
        raise error
    else:
        if isinstance(error, UpstreamError):
            out.cut(error.reason, Fault.UPSTREAM)
        else:
            out.cut("upstream.failed", Fault.GATEWAY)
        raise ResponseTruncated(f"request {out.exchange.request_id}: {error}") from error


async def _relay_filtered(response: Response, out: Answer, part: bytes, last: bool) -> None:
    """Through the filters, `part` first; parts that a filter keeps back are not sent."""
    while True:
        if not part and not last:
            part = await response.read()
            last = not part
        part = out.filtered(part, last)
        if part or last:
            out.exchange.sent += len(part)
            await out.send({"type": "http.response.body", "body": part, "more_body": not last})
        if last:
            return
        part, last = response.take()


def _endable(out: Answer, head: ResponseHead) -> bool:
    """Whether something may be put after what has been sent: no length says where the body ends, and a comment can be
    read by whoever reads the rest."""
    if out.bodiless or head.get_bytes(b"content-length") is not None:
        return False
    return bool(out.filters) or head.get_bytes(b"content-encoding") is None


def _wants_trailers(out: Answer) -> bool:
    """Whether this client said that it takes trailers (RFC 9110 section 6.5.1)."""
    value = out.exchange.headers.get_bytes(b"te")
    return value is not None and b"trailers" in value.lower()
