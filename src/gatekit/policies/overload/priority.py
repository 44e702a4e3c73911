"""How important a request is: said by the configuration, or by a peer that is trusted to say so, and by nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_network
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import Field, field_validator, model_validator

from gatekit.core.exchange import Exchange
from gatekit.core.headers import encode_name, fold
from gatekit.core.peers import Trust, parse_address
from gatekit.core.policy import Placement, Spec, Stage
from gatekit.core.ports import Ports
from gatekit.policies.overload.levels import PRIORITY, RANKS, Level

_REMEMBERED: Final = 4096
_ADDRESS_FREE: Final = "unix"


class Priority(Spec):
    """Says how important a request is, for `Overload` to go by: `critical`, `default`, `sheddable` or `bulk`.

    What a trusted peer says in the header counts first, then the route, then the client's network, then `level`. On a
    route, a policy of its own stands in place of the gateway's.
    """

    kind: ClassVar[str] = "priority"
    status: ClassVar[str] = "preview"
    positional: ClassVar[tuple[str, ...]] = ("level",)

    level: Level = "default"
    """What a request is of which nothing else is said."""
    routes: Mapping[str, Level] = Field(default_factory=dict)
    """Levels of routes, by their names."""
    clients: Mapping[str, Level] = Field(default_factory=dict)
    """Levels of clients, by their network (`10.0.0.0/8`); the smallest that a client is in counts."""
    from_header: str | None = None
    """A request header that tells the level. It counts only from `trusted` peers, where it is there once with one of the
    four words; from anybody else it is removed."""
    trusted: Sequence[str] = ()
    """The networks of the peers whose header is believed, in CIDR notation; `unix` for a Unix socket."""

    if TYPE_CHECKING:
        # Type checkers know nothing of `positional`.
        def __init__(
            self,
            level: Level = "default",
            *,
            routes: Mapping[str, Level] | None = None,
            clients: Mapping[str, Level] | None = None,
            from_header: str | None = None,
            trusted: Sequence[str] = (),
        ) -> None: ...

    @field_validator("clients")
    @classmethod
    def _are_networks(cls, value: Mapping[str, Level]) -> Mapping[str, Level]:
        for text in value:
            _network(text)
        return value

    @field_validator("trusted")
    @classmethod
    def _are_peers(cls, value: Sequence[str]) -> tuple[str, ...]:
        for text in value:
            if text != _ADDRESS_FREE:
                _network(text)
        return tuple(value)

    @field_validator("from_header")
    @classmethod
    def _is_header(cls, value: str | None) -> str | None:
        return None if value is None else encode_name(value).decode("ascii")

    @model_validator(mode="after")
    def _believes_somebody(self) -> Priority:
        if self.from_header is not None and not self.trusted:
            raise ValueError(
                f"{self.from_header} is believed from nobody: name the networks of the peers that set it in trusted, for "
                "from anybody else it would let clients choose how important they are"
            )
        if self.trusted and self.from_header is None:
            raise ValueError("trusted peers have nothing to say it in: name the header in from_header")
        return self

    def placement(self) -> Placement:
        return Placement(Stage.PRIORITY, provides=frozenset({PRIORITY}))

    def over(self, outer: Priority) -> Priority:
        return self

    def bind_to(self, ports: Ports) -> PriorityPolicy:
        return PriorityPolicy(self)


class PriorityPolicy:
    """`Priority` at work."""

    __slots__ = ("_client", "_folded", "_header", "_level", "_routes", "_trusts")

    def __init__(self, spec: Priority) -> None:
        self._level = spec.level
        self._routes = dict(spec.routes)
        self._client = _levels(spec.clients) if spec.clients else None
        self._header = None if spec.from_header is None else spec.from_header.encode("ascii")
        self._folded = b"" if self._header is None else fold(self._header)
        self._trusts = lru_cache(maxsize=_REMEMBERED)(Trust(spec.trusted).trusts)

    def decide(self, exchange: Exchange) -> None:
        exchange.facts[PRIORITY] = (self._told(exchange) if self._header is not None else None) or self._known(exchange)

    def explain(self, exchange: Exchange) -> Iterable[str]:
        return (
            f"{self._known(exchange)}, as long as no trusted peer says otherwise"
            if self._header
            else self._known(exchange),
        )

    def _told(self, exchange: Exchange) -> str | None:
        """What a trusted peer says."""
        header, headers = self._header, exchange.headers
        assert header is not None
        if not self._trusts(exchange.peer):
            if any(fold(name) == self._folded for name, _ in headers.raw):
                headers.remove_folded(header)
            return None
        said = headers.get_all(header)
        return said[0] if len(said) == 1 and said[0] in RANKS else None

    def _known(self, exchange: Exchange) -> str:
        """What the configuration says."""
        if self._routes and exchange.route is not None:
            level = self._routes.get(exchange.route.id)
            if level is not None:
                return level
        if self._client is not None:
            address = exchange.client_ip
            found = None if address is None else self._client(address)
            if found is not None:
                return found
        return self._level


def _network(text: str) -> None:
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network: write it as in 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7") from None


def _levels(clients: Mapping[str, Level]) -> Callable[[str], Level | None]:
    """The level of an address: that of the smallest network that it lies in."""
    networks = sorted(
        ((ip_network(text, strict=False), level) for text, level in clients.items()), key=lambda one: -one[0].prefixlen
    )

    @lru_cache(maxsize=_REMEMBERED)
    def level_of(text: str) -> Level | None:
        address = parse_address(text)
        if address is None:
            return None
        return next((level for network, level in networks if address in network), None)

    return level_of
