"""The streaming tests' gateway with a drain that can be begun from outside, and a second one with an app behind it.

`/.drain?GRACE&TIMEOUT` begins to answer once both drains have begun, and ends with the sum of their reports; it passes no
policy and is not under way itself. What begins with `/.own` is the app's: a WebSocket that it keeps open, a response that never ends.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway_app import Recording, gateway  # type: ignore[import-not-found] # beside this file, where it is run
from gateway_app import app as told

from gatekit import Gateway


async def own(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.get_running_loop().create_future()


embedding = Gateway(policies=[Recording()], app=own)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The gateways, what tells about them, and what drains them."""
    path = "" if scope["type"] == "lifespan" else scope["path"]
    if path.startswith("/.own"):
        await embedding(scope, receive, send)
    elif path == "/.drain":
        grace, timeout = map(float, scope["query_string"].split(b"&"))
        drains = [asyncio.create_task(one.drain(grace=grace, timeout=timeout)) for one in (gateway, embedding)]
        await asyncio.wait(drains, timeout=0)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        reports = await asyncio.gather(*drains)
        answer = {
            "seconds": max(report.seconds for report in reports),
            "cut": sum(report.cut for report in reports),
            "ended": sum(report.ended for report in reports),
            "active": gateway.active + embedding.active,
        }
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
    else:
        await told(scope, receive, send)
