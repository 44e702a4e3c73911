"""Asking the policies, in order: one text for HTTP and WebSocket under ASGI, and for WSGI, which runs it to its end."""

from __future__ import annotations

from gatekit.core.exchange import Exchange
from gatekit.core.pipeline import Pipeline
from gatekit.core.verdict import Reply
from gatekit.errors import BodyRefused, ClientDisconnected


async def decide(exchange: Exchange, pipeline: Pipeline) -> tuple[Reply | None, int]:
    """Ask every policy in order. The answer to give instead of going on, if any, and how many policies were entered.

    A refusal of the door or the router is given last, so that a flood of such requests meets its limits.
    """
    for step in pipeline.decides:
        exchange.cursor = index = step.index
        reply: Reply | None
        if step.requires and (reply := pipeline.missing(exchange, step)) is not None:
            pipeline.refused(exchange, step.kind, reply)
            return reply, index + 1
        try:
            if step.needs_body is not None and await exchange.body.buffer(step.needs_body) is None:
                reply = Reply(413, "body.too_large", f"The body is larger than {step.needs_body} bytes.")
            elif step.call is None:
                continue
            else:
                found = step.call(exchange)
                if found is None:
                    continue
                reply = found if isinstance(found, Reply) else await found
        except ClientDisconnected:
            raise
        except BodyRefused as error:
            reply = Reply(error.status, error.reason)
        except Exception as error:
            reply = pipeline.failed(exchange, step.kind, "decide", error)
        if reply is not None:
            pipeline.refused(exchange, step.kind, reply)
            return reply, index + 1
    refusal = exchange.refusal
    if refusal is not None:
        pipeline.refused(exchange, "router", refusal)
    return refusal, pipeline.size
