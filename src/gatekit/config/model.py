"""The configuration as somebody asks for it: `Cluster`, `Route`, `GatewayConfig`. Used at load time only.

These models look at one entry at a time: is each value what it should be? What entries mean for each other (names,
order, reachability) is in `findings`. The descriptions of the fields are the reference documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gatekit.config.cluster import Cluster, Model, PythonOnly, one_or_many
from gatekit.config.matches import Destinations, Value, ValueMatch, split_match
from gatekit.config.places import Places
from gatekit.core.exchange import Exchange
from gatekit.core.paths import MARKS
from gatekit.core.peers import Trust
from gatekit.core.policy import Spec
from gatekit.core.units import Size
from gatekit.errors import Problem
from gatekit.routing.hosts import parse_host
from gatekit.routing.matcher import Rule
from gatekit.routing.pattern import parse_path
from gatekit.routing.predicates import ClientMatch, CookieMatch, Custom, HeaderMatch, QueryMatch

T = TypeVar("T")

Predicate = Callable[[Exchange], bool]
"""A matcher of your own: says whether the route takes the request. It must be quick, pure, and must not raise."""


def _spec(value: object) -> object:
    """A policy in Python is a spec; what is often written instead gets a sentence of its own."""
    if isinstance(value, Spec):
        return value
    if isinstance(value, type):
        name = value.__name__
        if issubclass(value, Spec):
            raise ValueError(f"{name} is a class: write {name}(...)")
        raise ValueError(f"{value.__module__}.{name} is no policy: policies are specs such as gatekit.RateLimit(...)")
    raise ValueError("a policy is a spec such as gatekit.RateLimit(...); a middleware or an application is none")


Policy = Annotated[Spec, BeforeValidator(_spec)]
Oddity = Literal["encoded_slash", "backslash", "semicolon", "double_encoding"]


class Route(Model):
    """Which requests, and what becomes of them: `Route("GET /v1/orders/{id}", to="orders")`."""

    match: Annotated[str, Field(min_length=1, max_length=4096)]
    """`[METHOD[,METHOD]] PATH`. The path is exact (`/health`), a template (`/orders/{id}`, `/files/{rest:path}`), a
    segment prefix (`/admin/*`) or an RE2 regex (`~/v[0-9]+/.*`)."""
    to: Destinations = ()
    """The cluster that answers, or several with their weights: `orders`, `{blue: 90, green: 10}`. A route whose policy
    answers (`redirect`, `respond`) needs none."""
    policies: tuple[Policy, ...] = ()
    """Policies of this route, beside those of the gateway."""
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """What logs, metrics and kept state call the route. Without it, its hosts and its match."""
    hosts: tuple[str, ...] = ()
    """Hosts it is for: `shop.example`, `*.shop.example`, with a port if only that one is meant. None means any."""
    methods: tuple[str, ...] = ()
    """Methods, where `match` names none."""
    headers: Mapping[str, Value] = Field(default_factory=dict)
    """Request headers that must match, all of them: `{x-tier: gold}`, `{x-tier: {prefix: g}}`, `{x-debug: {absent: true}}`."""
    query: Mapping[str, Value] = Field(default_factory=dict)
    """Query parameters that must match, all of them, in the same forms."""
    cookies: Mapping[str, Value] = Field(default_factory=dict)
    """Cookies that must match, all of them, in the same forms."""
    client: tuple[str, ...] = ()
    """Networks of which the client must be in one: `10.0.0.0/8`."""
    when: Annotated[tuple[Predicate, ...], PythonOnly] = ()
    """Matchers of your own, functions of the exchange. One that raises refuses the request. In Python only."""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    """Goes before everything else in the order of routes: the greatest is asked first."""
    allow: tuple[Oddity, ...] = ()
    """Oddities of a path that this route takes and others refuse with 400."""
    max_body: Size | Literal["unlimited"] | None = None
    """The most bytes of a request's body, counted as they come; more are answered with 413. Without it, the gateway's."""

    def __init__(self, match: Any = None, /, **fields: Any) -> None:
        if match is not None:
            if "match" in fields:
                raise TypeError("Route got match twice, by position and by name")
            fields["match"] = match
        super().__init__(**fields)

    @field_validator("hosts", "methods", "client", "when", "allow", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return one_or_many(value)

    @field_validator("match", mode="after")
    @classmethod
    def _readable(cls, match: str) -> str:
        parse_path(split_match(match)[1])
        return match

    @field_validator("hosts", mode="after")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            parse_host(host)
        return hosts

    @field_validator("headers", "query", "cookies", mode="after")
    @classmethod
    def _match_values(cls, matches: Mapping[str, ValueMatch], info: ValidationInfo) -> Mapping[str, ValueMatch]:
        make = _MATCHERS[str(info.field_name)]
        for name, match in matches.items():
            try:
                make(name, match.mode, match.value, negate=match.negate)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return matches

    @field_validator("client", mode="after")
    @classmethod
    def _are_networks(cls, client: tuple[str, ...]) -> tuple[str, ...]:
        ClientMatch(client)
        return client

    @model_validator(mode="after")
    def _methods_once(self) -> Self:
        if self.methods and split_match(self.match)[0]:
            raise ValueError("the methods are given twice, in match and in methods: keep one")
        return self

    @property
    def id(self) -> str:
        """The name, or what stands for it."""
        return self.name or " ".join((self.match, *(f"host {host}" for host in self.hosts)))

    @property
    def path(self) -> str:
        """The path part of `match`."""
        return split_match(self.match)[1]

    def rule(self, value: T) -> Rule[T]:
        """What the router matches by, leading to `value`."""
        methods, path = split_match(self.match)
        predicates = [
            make(name, match.mode, match.value, negate=match.negate)
            for field, make in _MATCHERS.items()
            for name, match in getattr(self, field).items()
        ]
        if self.client:
            predicates.append(ClientMatch(self.client))
        predicates += [Custom(getattr(one, "__qualname__", type(one).__qualname__), one) for one in self.when]
        return Rule(
            self.id,
            value,
            parse_path(path),
            hosts=tuple(parse_host(host) for host in self.hosts),
            methods=methods or frozenset(method.upper() for method in self.methods),
            predicates=tuple(predicates),
            priority=self.priority,
        )


_MATCHERS: Mapping[str, Callable[..., Any]] = {"headers": HeaderMatch, "query": QueryMatch, "cookies": CookieMatch}

ClusterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]


class GatewayConfig(Model):
    """A whole gateway. `gatekit.Gateway` takes the same fields by name."""

    policies: tuple[Policy, ...] = ()
    """Policies that every request runs, those that no route matches too. They are sorted by stage."""
    routes: tuple[Route, ...] = ()
    """The routes. The most specific match wins, not the first (see the page on routing)."""
    clusters: Mapping[ClusterName, Cluster] = Field(default_factory=dict)
    """The clusters, by the name that routes call them by."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose forwarding headers are believed, and `unix` for peers on a Unix socket. None by default."""
    client_ip_header: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """The header in which the trusted proxies tell the client's address, in place of X-Forwarded-For: `cf-connecting-ip`.
    It is removed from what anybody else sends. Where a trusted proxy does not send it once with one address, the proxy
    itself counts as the client."""
    client_cert_header: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """The header in which the trusted proxies tell the client's certificate, which they must have verified:
    `x-forwarded-client-cert` (Envoy), `client-cert` (RFC 9440), `x-ssl-client-cert` or `ssl-client-cert` (PEM in
    percent-encoding, with `…-verify: SUCCESS` beside it). None by default: then certificates are known only from the
    server's own TLS. From anybody else, and in any other of these headers, nothing is believed."""
    max_headers: Annotated[int, Field(ge=1, le=10_000)] = 100
    """The most header lines of a request; more are answered with 431."""
    max_header_bytes: Annotated[int, Field(ge=256, le=1 << 20)] = 32 * 1024
    """The most bytes of a request's header lines together; more are answered with 431."""
    max_target: Annotated[int, Field(ge=64, le=1 << 20)] = 8 * 1024
    """The most bytes of path and query; more are answered with 414."""
    max_body: Size | Literal["unlimited"] = 10 * 1024 * 1024
    """The most bytes of a request's body, counted as they come; more are answered with 413. A route may have its own."""
    min_body_rate: Annotated[float, Field(ge=0, le=1 << 30)] = 240.0
    """The fewest bytes a second that a client must send of its body on average, after the first five seconds; one that
    is slower is answered with 408. 0 waits as long as `idle_timeout` allows between two parts."""
    merge_slashes: bool = True
    """Whether doubled slashes in a path are made one."""
    allow: tuple[Oddity, ...] = ()
    """Oddities of a path that every route takes; any other is answered with 400."""

    if TYPE_CHECKING:
        # Lists, texts and mappings are taken for what they stand for; the fields are typed as what they become.
        def __init__(self, /, **fields: Any) -> None: ...

    _places: Places = PrivateAttr(default_factory=Places)
    _warnings: tuple[Problem, ...] | None = PrivateAttr(default=None)

    @field_validator("trusted_proxies", "allow", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return one_or_many(value)

    @field_validator("trusted_proxies", mode="after")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        Trust(networks)
        return networks

    @field_validator("client_ip_header", mode="after")
    @classmethod
    def _tells_an_address(cls, header: str | None, info: ValidationInfo) -> str | None:
        # Networks that were refused are missing here, and have a finding of their own.
        if header is None or "trusted_proxies" not in info.data:
            return header
        Trust(info.data["trusted_proxies"], header)
        return header.lower()

    @field_validator("client_cert_header", mode="after")
    @classmethod
    def _tells_a_certificate(cls, header: str | None, info: ValidationInfo) -> str | None:
        if header is None or "trusted_proxies" not in info.data:
            return header
        Trust(info.data["trusted_proxies"], None, header)
        return header.lower()

    @property
    def places(self) -> Places:
        """Where in which document each entry was written."""
        return self._places

    @property
    def warnings(self) -> tuple[Problem, ...] | None:
        """What was found doubtful when the documents were read; None for a configuration that was not examined yet."""
        return self._warnings

    def examined(self, places: Places, warnings: Iterable[Problem]) -> Self:
        """The same configuration with what is known of where it was written and what was found."""
        self._places = places
        self._warnings = tuple(warnings)
        return self


def limit(size: int | Literal["unlimited"]) -> int | None:
    """The number of bytes, None for any number."""
    return None if size == "unlimited" else size


def marks(allow: Sequence[str]) -> int:
    """The bits of `core.paths` for these oddities."""
    found = 0
    for name in allow:
        found |= MARKS[name]
    return found
