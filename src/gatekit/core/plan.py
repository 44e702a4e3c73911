"""Plans: what configuration is compiled to. Immutable, built once a generation, read by drivers and the upstream side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import ssl

    from gatekit.core.destination import Destination
    from gatekit.core.door import Door
    from gatekit.core.exchange import Exchange
    from gatekit.core.pipeline import Pipeline
    from gatekit.core.verdict import Reply


@dataclass(frozen=True, slots=True)
class Document:
    """One configuration document: where it came from, which revision it is, and what it says.

    `lines` maps dotted paths to line numbers (from 1) where the source has lines.
    """

    origin: str
    data: Mapping[str, Any]
    revision: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a cluster. `key` is its identity: state such as health and in-flight counts is kept under it."""

    host: str
    port: int
    tls: bool = False
    uds: str | None = None
    weight: int = 1

    @property
    def key(self) -> str:
        if self.uds is not None:
            return f"unix:{self.uds}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @property
    def authority(self) -> str:
        """The Host for this endpoint, the default port left out (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsPlan:
    """How to speak TLS to https endpoints: paths of PEM files. Without `ca` the system's trust store counts."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """A set of endpoints, or one app or transport, and how to talk to them. Durations are seconds.

    `host_header`: `endpoint` sends the endpoint's own authority, `client` the one the client asked for. `timeout` ends
    at the response head, `total_timeout`, if there is one, at the last byte; `idle_timeout` is the longest silence in a body, `websocket_idle_timeout` in a WebSocket.
    `max_connections` and `max_websockets` hold for each endpoint, `max_waiting` and `max_wait` for the queue before it.
    """

    name: str
    endpoints: tuple[Endpoint, ...] = ()
    app: Any = None
    app_interface: Literal["asgi", "wsgi"] = "asgi"
    transport: Any = None
    balance: str = "round_robin"
    host_header: Literal["endpoint", "client"] = "endpoint"
    connect_timeout: float = 2.0
    timeout: float = 15.0
    idle_timeout: float = 60.0
    total_timeout: float | None = None
    keepalive: float = 15.0
    max_connection_age: float = 300.0
    max_connections: int = 512
    max_waiting: int = 1024
    max_wait: float = 5.0
    websocket_idle_timeout: float = 300.0
    max_websockets: int = 10_000
    tls: TlsPlan | None = None
    tls_context: Callable[[], ssl.SSLContext] | None = None


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """Several destinations and the share of requests each gets: weight / sum of weights. Weight 0 gets exactly none."""

    name: str
    parts: tuple[tuple[Destination, int], ...]


class RoutePlan:
    """One compiled route: its name, the template that telemetry may show, and the pipeline its requests run.

    `refusal` is the answer of a route that has no destination, for requests that no policy of it answered; `max_body`
    the most bytes of body that a request may have, None for any number.
    """

    __slots__ = ("allowed_marks", "id", "max_body", "pipeline", "refusal", "template")

    def __init__(
        self,
        id: str,
        template: str,
        pipeline: Pipeline,
        *,
        allowed_marks: int = 0,
        refusal: Reply | None = None,
        max_body: int | None = None,
    ) -> None:
        self.id = id
        self.template = template
        self.pipeline = pipeline
        self.allowed_marks = allowed_marks
        self.refusal = refusal
        self.max_body = max_body

    def __repr__(self) -> str:
        return f"RoutePlan({self.id!r})"


class Plan(Protocol):
    """What a driver asks, once for each request and for one generation: which pipeline is it?"""

    generation: int
    door: Door

    def admit(self, exchange: Exchange, raw_path: bytes, query: bytes) -> Pipeline:
        """Take the request through the door and match it. Sets `route`, `params`, or `refusal` on the exchange."""
        ...


class FixedPlan:
    """The plan of a middleware: one pipeline for whatever comes, in front of the app behind it."""

    __slots__ = ("door", "generation", "pipeline")

    def __init__(self, door: Door, pipeline: Pipeline, generation: int = 1) -> None:
        self.door = door
        self.pipeline = pipeline
        self.generation = generation

    def admit(self, exchange: Exchange, raw_path: bytes, query: bytes) -> Pipeline:
        """Through the door; a request it refuses still runs the policies, and is then answered with the refusal."""
        door = self.door
        refusal = door.admit(exchange, raw_path, query) or door.odd_path(exchange)
        if refusal is None and door.max_body is not None and exchange.body.length != 0:
            refusal = door.limit_body(exchange, door.max_body)
        exchange.refusal = refusal
        return self.pipeline
