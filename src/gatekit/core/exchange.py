"""`Exchange`: one request and what is known about it. The only object made for every request.

A policy reads it, may change the request headers that go on to the app or the upstream, and may queue response
headers. It has no socket and no loop: the driver that made it owns those.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from gatekit.core.headers import Headers, encode_name, encode_value
from gatekit.core.peers import unmapped

if TYPE_CHECKING:
    from gatekit.core.door import Door
    from gatekit.core.identity import Identity
    from gatekit.core.outcome import Fault
    from gatekit.core.plan import RoutePlan
    from gatekit.core.verdict import Reply


class Body(Protocol):
    """The request body: streamed to the destination, buffered only on demand."""

    data: bytes | None
    """The whole body once it has been buffered, else None."""
    limit: int | None
    """The most bytes that are taken, None for any number."""

    @property
    def length(self) -> int | None:
        """The declared Content-Length, None when there is none; 0 when the request has no body."""
        ...

    async def buffer(self, cap: int) -> bytes | None:
        """The whole body, or None when it is longer than `cap` bytes. What was read is kept and replayed.

        Raises BodyRefused when it is longer than `limit` or comes too slowly, ClientDisconnected.
        """
        ...

    async def read(self) -> bytes:
        """The next part, b"" at the end. Raises BodyRefused past `limit`, ClientDisconnected."""
        ...

    def abandon(self) -> None:
        """Nobody will read what is still to come: the answer came before it."""
        ...


class NoBody:
    """The body of a request that has none. Nothing changes it, so one serves all: `NO_BODY`."""

    __slots__ = ("data", "declared", "done", "length", "limit")

    def __init__(self) -> None:
        self.data: bytes | None = b""
        self.limit: int | None = None
        self.length: int | None = 0
        self.declared = True
        self.done = True

    async def buffer(self, cap: int) -> bytes | None:
        return b""

    async def read(self) -> bytes:
        return b""

    def abandon(self) -> None:
        pass


NO_BODY = NoBody()


class Exchange:
    """One request on its way through the gateway or a middleware.

    `path` is canonical and decoded, `raw_path` the same as bytes for the wire; `host` is in lower case without its
    port. `headers` are the request headers: changing them changes what the app or upstream gets. `scope` is the ASGI
    scope or WSGI environ, to be read only.
    """

    __slots__ = (
        "_client_ip", "_facts", "_request_id", "_target_host", "_target_path", "_target_query", "answered", "attempts",
        "authority", "backend", "body", "cursor", "door", "fault", "final", "generation", "headers", "host",
        "http_version", "identity", "kind", "method", "params", "parent", "path", "path_marks", "peer", "port", "query", "queue",
        "raw_path", "reason", "refusal", "route", "scheme", "scope", "sent", "started",
    )  # fmt: skip

    def __init__(
        self,
        kind: Literal["http", "websocket"],
        method: str,
        scheme: str,
        headers: Headers,
        peer: str | None,
        http_version: str,
        scope: MutableMapping[str, Any],
        door: Door,
        body: Body,
        started: float,
    ) -> None:
        self.kind = kind
        self.method = method
        self.scheme = scheme
        self.headers = headers
        self.peer = peer
        self.http_version = http_version
        self.scope = scope
        self.door = door
        self.body = body
        self.started = started
        # What the door fills in.
        self.authority = ""
        self.host = ""
        self.port: int | None = None
        self.path = ""
        self.raw_path = b""
        self.path_marks = 0
        self.query = b""
        # What matching and policies fill in.
        self.generation = 0
        self.route: RoutePlan | None = None
        self.params: Mapping[str, str] = {}
        self.identity: Identity | None = None
        self.refusal: Reply | None = None
        self.parent: Exchange | None = None
        # What the end of it is told from.
        self.reason: str | None = None
        self.fault: Fault | None = None
        self.backend: str | None = None
        self.attempts = 0
        self.sent = 0
        self.answered = False
        # Set once a response hook failed: what an inner driver still reports then changes nothing.
        self.final = False
        # Response headers that policies queued in `decide`, each with the place of the policy that did.
        self.queue: list[tuple[int, bytes, bytes]] | None = None
        self.cursor = 0
        self._request_id: str | None = None
        self._client_ip: str | None = None
        self._facts: dict[str, Any] | None = None
        self._target_path: bytes | None = None
        self._target_query: bytes | None = None
        self._target_host: bytes | None = None

    @property
    def request_id(self) -> str:
        """The id of this request: a trusted peer's if it is well formed, else a new one."""
        found = self._request_id
        if found is None:
            found = self._request_id = self.door.request_id(self)
        return found

    @property
    def client_ip(self) -> str | None:
        """The client's address behind trusted proxies; None for a peer without one (a Unix socket)."""
        if self._client_ip is None:
            peer = self.peer
            if peer is not None and peer.startswith("::ffff:"):
                peer = unmapped(peer)
            trust = self.door.trust
            if trust.any:
                self._client_ip = trust.client_ip(peer, self.headers.get_all(b"x-forwarded-for"))
            else:
                self._client_ip = peer
        return self._client_ip

    def note_client(self) -> None:
        """Read the client's address now, while the headers are as they came: policies may change them."""
        self._client_ip = self.client_ip

    @property
    def facts(self) -> dict[str, Any]:
        """What policies tell each other, under the names they declare in `provides`."""
        if self._facts is None:
            self._facts = {}
        return self._facts

    def fact(self, name: str) -> Any:
        """What a policy noted under that name, None where none did."""
        return None if self._facts is None else self._facts.get(name)

    def has(self, fact: str) -> bool:
        """Whether that which a policy `requires` has been provided."""
        if fact == "identity":
            return self.identity is not None
        return self._facts is not None and fact in self._facts

    def header(self, name: str) -> str | None:
        """The first request header of that name, or None."""
        return self.headers.get(name)

    def respond_with(self, name: str | bytes, value: str | bytes) -> None:
        """Set a response header, whatever the response will be. For `decide`; `on_response` has the head itself.

        Raises RuntimeError once the response has begun, ValueError on a bad name or value.
        """
        self.respond_put(encode_name(name), encode_value(value))

    def respond_put(self, key: bytes, encoded: bytes) -> None:
        """`respond_with` for what `encode_name` and `encode_value` would leave as it is."""
        if self.answered:
            raise RuntimeError("the response has begun: set its headers in on_response, on the head")
        if self.queue is None:
            self.queue = [(self.cursor, key, encoded)]
        else:
            self.queue.append((self.cursor, key, encoded))

    # -- what goes on, where a policy rewrote it. Matching and authorisation have been done on the original.

    @property
    def target(self) -> tuple[bytes, bytes, bytes | None]:
        """`target_path`, `target_query` and `target_host` at once."""
        path, query = self._target_path, self._target_query
        return self.raw_path if path is None else path, self.query if query is None else query, self._target_host

    @property
    def target_path(self) -> bytes:
        """The path the destination gets: that of the request unless a policy rewrote it."""
        return self.raw_path if self._target_path is None else self._target_path

    @property
    def target_query(self) -> bytes:
        """The query the destination gets, without its question mark."""
        return self.query if self._target_query is None else self._target_query

    @property
    def target_host(self) -> bytes | None:
        """The Host that a policy wants the destination to see, None where none does."""
        return self._target_host

    @property
    def rewritten(self) -> bool:
        """Whether path or query were rewritten."""
        return self._target_path is not None or self._target_query is not None

    def rewrite(self, *, path: bytes | None = None, query: bytes | None = None, host: str | None = None) -> None:
        """Send the request on under another path, query or Host. The path is made canonical again.

        Raises PathRefused when one of them has no one meaning: the request is then refused, never forwarded.
        """
        if path is not None:
            self._target_path = self.door.canonical_again(path, self.path_marks)
        if query is not None:
            self._target_query = self.door.checked_query(query)
        if host is not None:
            self._target_host = self.door.checked_host(host)

    # -- nested drivers: what an inner one learned belongs to the outer one's record too.

    def inherit(self, outer: Exchange) -> None:
        """Begin with what an outer driver of the same request already knows."""
        self.parent = outer
        self.identity = outer.identity
        self._request_id = outer._request_id
        self._client_ip = outer._client_ip
        if outer._facts is not None:
            self._facts = dict(outer._facts)

    def report(self) -> None:
        """Tell the outer driver what was learned here, so that its policies observe the same as when fused."""
        outer = self.parent
        if outer is None or outer.final:
            return
        outer.identity = self.identity
        outer._request_id = self._request_id
        outer.reason = self.reason
        outer.fault = self.fault
        outer.route = self.route or outer.route
        outer.backend = self.backend
        outer.attempts = self.attempts
        if self._facts is not None:
            outer.facts.update(self._facts)
        outer.report()
