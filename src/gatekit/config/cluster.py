"""`Cluster`: where requests go, as somebody asks for it, and the model that all of the configuration is made of.

The descriptions of the fields are the reference documentation. Used at load time only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, PrivateAttr, field_validator, model_validator
from pydantic_core import CoreSchema, PydanticOmit

from gatekit.config.endpoints import parse_endpoint
from gatekit.core.plan import Endpoint
from gatekit.core.units import Duration


class PythonOnly:
    """Marks a field that has no form in a document."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        raise PydanticOmit


def one_or_many(value: object) -> object:
    """One value where a list of them is meant."""
    return value if isinstance(value, (list, tuple, set, frozenset)) else (value,)


class Model(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


class Tls(Model):
    """How https endpoints are spoken to. Files are PEM, read when the configuration is put in force."""

    ca: Annotated[str, Field(min_length=1)] | None = None
    """The file of the authorities that certificates must be signed by. Without it, the system's trust store."""
    cert: Annotated[str, Field(min_length=1)] | None = None
    """The file of the gateway's own certificate and its chain, for endpoints that ask for one (mTLS)."""
    key: Annotated[str, Field(min_length=1)] | None = None
    """The file of its private key, where that is not in `cert`."""
    server_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")] | None = None
    """The name that is sent (SNI) and that the certificate must be for. Without it, the host of the URL."""
    verify: bool = True
    """Whether the certificate is checked. Switched off, anybody can stand in for the endpoint: for trials only."""

    @model_validator(mode="after")
    def _key_with_cert(self) -> Self:
        if self.key is not None and self.cert is None:
            raise ValueError("key is the private key of cert: give both")
        return self


class Cluster(Model):
    """Where requests go: endpoints of one service, or an app in this process.

    Either `urls` or `app` is given. With one URL, requests may be carried by an httpx `transport` instead of the pool.
    """

    urls: tuple[str, ...] = ()
    """The endpoints: `http://host:port`, `https://host:port` or `unix:/path/of.sock`, without path, query or user.
    In Python they may be given by position."""
    app: Annotated[Any, PythonOnly] = None
    """An ASGI or WSGI application in this process. In Python only."""
    transport: Annotated[Any, PythonOnly] = None
    """An `httpx.AsyncBaseTransport` that carries the requests to the one URL, for HTTP/2, proxies, and the like:
    `httpx.AsyncHTTPTransport(http2=True)`. In Python only."""
    interface: Annotated[Literal["asgi", "wsgi"] | None, PythonOnly] = None
    """What `app` speaks, where it cannot be told from its signature. In Python only."""
    balance: str = "round_robin"
    """How an endpoint is chosen: `round_robin`, `random`, `least_requests`, or a rule that a package adds."""
    host_header: Literal["endpoint", "client"] = "endpoint"
    """The Host that an endpoint sees: its own address, or the one the client asked for."""
    connect_timeout: Duration = 2.0
    """The longest time to make a connection."""
    timeout: Duration = 15.0
    """The longest time from the request to the head of the response. Bodies are under `idle_timeout`."""
    idle_timeout: Duration = 60.0
    """The longest silence within a body or an event stream."""
    total_timeout: Duration | None = None
    """The longest time from the request to the last byte of the response, event streams included. None by default. For
    `urls` that the pool serves. The time of an upload counts, and a response is cut at the end of it; the upload itself
    is bounded by `idle_timeout` and `min_body_rate`."""
    websocket_idle_timeout: Duration = 300.0
    """The longest silence within a WebSocket. Pings of either side end a silence."""
    keepalive: Duration = 15.0
    """How long an idle connection is kept. It should be less than the endpoint's own setting."""
    max_connection_age: Duration = 300.0
    """How long a connection is used again at most, so that changes in DNS are followed."""
    max_connections: Annotated[int, Field(ge=1, le=65535)] = 512
    """The most connections to one endpoint, for each event loop; requests beyond wait in a queue."""
    max_waiting: Annotated[int, Field(ge=0, le=1_000_000)] = 1024
    """The most requests that wait for a connection of one endpoint; more are answered with 503."""
    max_wait: Duration = 5.0
    """The longest that one of them waits, before it is answered with 503."""
    max_websockets: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    """The most WebSockets to one endpoint, beside `max_connections`; more are answered with 503."""
    tls: Tls | None = None
    """How https endpoints are spoken to: authorities, a client certificate, the name to check."""
    tls_context: Annotated[Callable[[], Any] | None, PythonOnly] = None
    """Makes the `ssl.SSLContext` for https endpoints, for what `tls` has no setting for. In Python only."""

    _endpoints: tuple[Endpoint, ...] = PrivateAttr(default=())

    def __init__(self, /, *urls: str, **fields: Any) -> None:
        if urls:
            if "urls" in fields:
                raise TypeError("Cluster got urls twice, by position and by name")
            fields["urls"] = urls
        super().__init__(**fields)

    @field_validator("urls", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return one_or_many(value)

    @field_validator("urls", mode="after")
    @classmethod
    def _readable(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        seen: set[str] = set()
        for place, url in enumerate(urls):
            try:
                key = parse_endpoint(url).key
            except ValueError as error:
                raise ValueError(f"URL {place + 1} of {len(urls)}: {error}") from None
            if key in seen:
                raise ValueError(f"URL {place + 1} of {len(urls)} names the same endpoint as one before it")
            seen.add(key)
        return urls

    @field_validator("tls_context", mode="before")
    @classmethod
    def _factory(cls, value: object) -> object:
        if value is not None and not callable(value):
            raise ValueError("give a function that makes the context, not the context: lambda: context")
        return value

    @field_validator("app", mode="after")
    @classmethod
    def _callable(cls, app: Any) -> Any:
        if app is not None and not callable(app):
            raise ValueError("an app is an ASGI or WSGI application object, which only Python can name")
        return app

    @model_validator(mode="after")
    def _one_destination(self) -> Self:
        if bool(self.urls) == (self.app is not None):
            found = "both" if self.urls else "neither"
            raise ValueError(f"a cluster has either urls or an app; here: {found}")
        if self.transport is not None and len(self.urls) != 1:
            # Without it, requests would go wherever their Host header says: an open proxy.
            raise ValueError("a transport carries requests to exactly one URL: give it too")
        if self.tls is not None and self.tls_context is not None:
            raise ValueError("tls and tls_context both say how to speak TLS: keep one")
        if self.interface is not None and self.app is None:
            raise ValueError("interface says what an app speaks, and this cluster has no app")
        if self.app is not None and self.interface is None and app_interface(self.app) is None:
            raise ValueError('whether this app speaks ASGI or WSGI cannot be seen: add interface="asgi" or "wsgi"')
        self._endpoints = tuple(parse_endpoint(url) for url in self.urls)
        return self

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints that `urls` names."""
        return self._endpoints

    @property
    def app_interface(self) -> Literal["asgi", "wsgi"]:
        """What `app` speaks, as stated or as its signature tells."""
        return self.interface or app_interface(self.app) or "asgi"


def app_interface(app: Any) -> Literal["asgi", "wsgi"] | None:
    """ASGI for a coroutine function or three parameters, WSGI for two, None where that cannot be seen."""
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None)):  # noqa: B004
        return "asgi"
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return None
    needed = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
              and one.default is one.empty]  # fmt: skip
    return {2: "wsgi", 3: "asgi"}.get(len(needed))  # type: ignore[return-value]
