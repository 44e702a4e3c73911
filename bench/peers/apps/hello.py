"""The bare app: what a server can do when the application does next to nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from bench.peers.answers import BODIES, PATHS, TYPES

Message = MutableMapping[str, Any]


def _messages(body: str) -> tuple[Message, Message]:
    headers = [(b"content-type", TYPES[body].encode()), (b"content-length", b"%d" % len(BODIES[body]))]
    return (
        {"type": "http.response.start", "status": 200, "headers": headers},
        {"type": "http.response.body", "body": BODIES[body]},
    )


SMALL_START, SMALL_BODY = _messages("small")
LARGE_START, LARGE_BODY = _messages("64k")
LARGE_PATH = PATHS["64k"]


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["path"] == LARGE_PATH:
        await send(LARGE_START)
        await send(LARGE_BODY)
    else:
        await send(SMALL_START)
        await send(SMALL_BODY)
