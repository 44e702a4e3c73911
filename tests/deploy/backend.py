"""What the deployed gateways forward to: tells what it was sent, holds requests until they are released, echoes WebSockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from typing import Any

HELD: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
RELEASED: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
PIECE = bytes(range(256)) * 256


async def app(scope: Any, receive: Any, send: Any) -> None:
    """`/tell`, `/hold/KEY` with `/held/KEY` and `/release/KEY`, `/digest` of an upload, `/pieces/N`; WebSocket echo."""
    if scope["type"] == "websocket":
        await echo(receive, send)
        return
    _, what, *rest = scope["path"].split("/")
    key = rest[0] if rest else ""
    if what == "hold":
        HELD[key].set()
        await RELEASED[key].wait()
    elif what == "held":
        await HELD[key].wait()
    elif what == "release":
        RELEASED[key].set()
    body = await digest(receive) if what == "digest" else json.dumps(told(scope)).encode()
    pieces = [PIECE] * int(key) if what == "pieces" else [body]
    length = str(sum(map(len, pieces))).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def told(scope: Any) -> list[list[str]]:
    """The header lines that arrived."""
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]


async def digest(receive: Any) -> bytes:
    """SHA-256 of the body, in hex."""
    seen = hashlib.sha256()
    while True:
        message = await receive()
        seen.update(message.get("body", b""))
        if not message.get("more_body"):
            return seen.hexdigest().encode()


async def echo(receive: Any, send: Any) -> None:
    """Every message back, until the client leaves."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
