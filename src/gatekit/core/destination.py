"""Where a request can be sent: a cluster over the network, an httpx transport, an app in this process.

One seam for all of them, shaped so that retries, hedges and mirrors can look at a head before a byte of it is passed
on: `open` gives a response whose head is there and whose body is still to be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import RawHeaders
from gatekit.core.plan import ClusterPlan, SplitPlan
from gatekit.core.ports import Ports


class Response(Protocol):
    """A destination's answer. Hop-by-hop headers are gone; the body's framing is the driver's to write anew.

    `close` must be called exactly once, whatever happens: it gives the connection back when the body was read to its
    end and cuts it when it was not. It never awaits.
    """

    status: int
    headers: RawHeaders
    trailers: RawHeaders

    def take(self) -> tuple[bytes, bool]:
        """What has arrived so far without waiting, and whether that was the end."""
        ...

    async def read(self) -> bytes:
        """The next part of the body, waiting for it; b"" at its end. Raises UpstreamError when it breaks off."""
        ...

    def close(self) -> None: ...


class Destination(Protocol):
    """Something that answers requests. `name` is what logs call it."""

    name: str

    async def open(self, exchange: Exchange) -> Response:
        """Send the request and wait for the head of the answer. Raises UpstreamError or ClientDisconnected.

        Cancelling it gives up the attempt and leaves nothing behind.
        """
        ...


class WebSocketSession(Protocol):
    """The client's side of a WebSocket, as the driver hands it to a destination. `accept` or `deny` comes first."""

    subprotocols: list[str]

    async def accept(self, subprotocol: str | None, headers: RawHeaders) -> None:
        """Accept the handshake; the `on_response` hooks see a head of status 101."""
        ...

    async def deny(self, head: ResponseHead, body: bytes) -> None:
        """Refuse the handshake with an HTTP response where the server can send one, else by closing (403)."""
        ...

    async def receive(self) -> str | bytes | None:
        """The client's next message, None once it has gone or closed (`close_code` says how)."""
        ...

    async def send(self, message: str | bytes) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...

    @property
    def close_code(self) -> int:
        """The client's close code once `receive` gave None; 1006 when it went without one."""
        ...

    @property
    def close_reason(self) -> str:
        """The reason it gave with it, as far as the server tells."""
        ...


@runtime_checkable
class WebSocketDestination(Protocol):
    """A destination that also takes WebSockets."""

    async def websocket(self, exchange: Exchange, session: WebSocketSession) -> None:
        """Carry the session until either side ends it. Raises UpstreamError before `accept` was called."""
        ...


@runtime_checkable
class Closable(Protocol):
    """A destination that holds something of its own (threads, say), to be let go when the gateway closes."""

    def close(self) -> None:
        """Let go. It can be used again afterwards."""
        ...


class DestinationFactory(Protocol):
    """How the gateway turns what compilation knows of a cluster or a split into something that answers."""

    def __call__(self, plan: ClusterPlan | SplitPlan, ports: Ports) -> Destination: ...


Destinations = Mapping[str, Destination]
