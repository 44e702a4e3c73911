"""A small streaming proxy over an HTTP client with the interface of httpx: what one writes with `build_request` and `send`.

Made to be as quick as the client allows: one client for the life of the server, its pool large enough for every
connection of the benchmark, no environment, no redirects, bodies passed on as they come and never decoded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

AT_ONCE = 512
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer", b"upgrade"}
)
"""Headers that are for one hop (RFC 9110 section 7.6.1). Transfer-Encoding is handled apart: it tells of a body."""
NOT_ON = HOP_BY_HOP | {b"transfer-encoding"}


class ClientProxy:
    """`client` is an `AsyncClient`; `upstream` a URL without a path."""

    def __init__(self, client: Any, upstream: str) -> None:
        self.client = client
        self.upstream = upstream

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        target = scope["raw_path"].decode("ascii")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("ascii")
        names = {name for name, _ in scope["headers"]}
        request = self.client.build_request(
            scope["method"],
            self.upstream + target,
            headers=[(name, value) for name, value in scope["headers"] if name not in NOT_ON],
            content=parts(receive) if names & {b"content-length", b"transfer-encoding"} else None,
        )
        response = await self.client.send(request, stream=True)
        try:
            headers = [(name.lower(), value) for name, value in response.headers.raw]
            start = [(name, value) for name, value in headers if name not in NOT_ON]
            await send({"type": "http.response.start", "status": response.status_code, "headers": start})
            async for part in response.aiter_raw():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()

    async def lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.client.aclose()
        await send({"type": "lifespan.shutdown.complete"})


async def parts(receive: Receive) -> AsyncIterator[bytes]:
    """The request's body as it comes in."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client is gone")
        more = message.get("more_body", False)
        yield message.get("body", b"")
