"""What a rule may ask besides host, path and method: headers, query, cookies, the client's address, a function.

Of a header, parameter or cookie that comes more than once the first value counts. Header names know no case, names of
parameters and cookies do. A negated predicate holds where the plain one does not, also because the value is absent.
A predicate sees the exchange and may not change it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Literal, Protocol, get_args, runtime_checkable
from urllib.parse import unquote_plus

from gatekit.core.exchange import Exchange
from gatekit.core.headers import encode_name
from gatekit.core.peers import parse_address
from gatekit.routing.regex import compile_regex
from gatekit.routing.sample import samples

Mode = Literal["exact", "prefix", "regex", "present", "absent"]
PredicateKind = Literal["header", "query", "cookie", "client", "custom"]
Test = Callable[[str | None], bool]

_NOT_VALUE: Final = "gatekit"


@runtime_checkable
class Predicate(Protocol):
    """One condition on a request. `kind` says where it counts in the order of rules, `name` is what it looks at."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> PredicateKind: ...

    def matches(self, exchange: Exchange) -> bool:
        """Whether it holds. Raising refuses the request (RouteFailed); it never falls through to another rule."""
        ...

    def describe(self) -> str:
        """The condition in words, as it stands in a sentence: `header x-tier is 'gold'`."""
        ...


class ValuePredicate(ABC):
    """A condition on one named value of the request, which may be absent. What header, query and cookie share."""

    __slots__ = ("_test", "mode", "name", "negate", "value")

    kind: PredicateKind

    def __init__(self, name: str, mode: Mode, value: str | None = None, negate: bool = False) -> None:
        """Raises ValueError on an unknown mode, a bad regex, or a value where the mode takes none."""
        if mode not in get_args(Mode):
            raise ValueError(f"unknown mode {mode!r}: use one of {', '.join(get_args(Mode))}")
        if (value is None) != (mode in ("present", "absent")):
            needs = "takes no value" if value is not None else "needs a value"
            raise ValueError(f"{self.kind} {name}: the mode {mode} {needs}")
        self.name = name
        self.mode: Mode = mode
        self.value = value
        self.negate = negate
        self._test = _tester(mode, value or "")

    @abstractmethod
    def read(self, exchange: Exchange) -> str | None:
        """The value this predicate looks at, None when the request has none."""

    def accepts(self, value: str | None) -> bool:
        """Whether the condition holds for that value."""
        return self._test(value) is not self.negate

    def matches(self, exchange: Exchange) -> bool:
        return self._test(self.read(exchange)) is not self.negate

    def describe(self) -> str:
        subject = f"{self.kind} {self.name}"
        no = "not " if self.negate else ""
        if self.mode in ("present", "absent"):
            return f"{subject} is {no}{self.mode}"
        if self.mode == "exact":
            return f"{subject} is {no}{self.value!r}"
        verb = "begins with" if self.mode == "prefix" else "matches"
        return f"{subject} {verb} {self.value!r}" if not self.negate else f"{subject} not: {verb} {self.value!r}"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for predicates that ask the same of the same value."""
        return (self.kind, self.name, self.mode, self.value, self.negate)

    @property
    def pinned(self) -> tuple[str, str, str] | None:
        """Kind, name and value where one value only can satisfy this, else None."""
        if self.mode == "exact" and not self.negate:
            return (self.kind, self.name, self.value or "")
        return None

    def witnesses(self) -> list[str | None]:
        """Values that may satisfy this (None: leave it out), the plainest first; ask `accepts` about each."""
        value = self.value or ""
        found: list[str | None]
        if self.mode == "exact":
            found = [value]
        elif self.mode == "prefix":
            found = [value, value + "x"]
        elif self.mode == "regex":
            found = list(samples(value))
        else:
            found = []
        return [candidate for candidate in (None, *found, _NOT_VALUE, "1", "") if self.accepts(candidate)]

    def implies(self, other: ValuePredicate) -> bool:
        """Whether this one holding means that `other` holds too. False where that cannot be told."""
        if self.key == other.key:
            return True
        if self.kind != other.kind or self.name != other.name:
            return False
        if self.pinned is not None:
            return other.accepts(self.value)
        if _absent(self):
            return other.accepts(None)
        if self.negate:
            return self.mode == "absent" and _present(other)
        if self.mode == "prefix" and other.mode == "prefix" and not other.negate:
            return (self.value or "").startswith(other.value or "")
        return _present(other)


def _present(predicate: ValuePredicate) -> bool:
    return predicate.mode == ("absent" if predicate.negate else "present")


def _absent(predicate: ValuePredicate) -> bool:
    return predicate.mode == ("present" if predicate.negate else "absent")


class HeaderMatch(ValuePredicate):
    """A request header. The value is compared as the text on the wire (Latin-1), outer white space cut by the server."""

    __slots__ = ("_raw",)

    kind: PredicateKind = "header"

    def __init__(self, name: str, mode: Mode, value: str | None = None, negate: bool = False) -> None:
        self._raw = encode_name(name)
        super().__init__(self._raw.decode("ascii"), mode, value, negate)

    def read(self, exchange: Exchange) -> str | None:
        return exchange.headers.get(self._raw)


class QueryMatch(ValuePredicate):
    """A parameter of the query, name and value decoded (`+` is a space, `%XX` UTF-8). Without `=` the value is empty."""

    __slots__ = ()

    kind: PredicateKind = "query"

    def read(self, exchange: Exchange) -> str | None:
        return query_values(exchange.query).get(self.name)


class CookieMatch(ValuePredicate):
    """A cookie. Read leniently: what is no `name=value` is skipped, quotes around a value are cut, nothing is decoded."""

    __slots__ = ()

    kind: PredicateKind = "cookie"

    def read(self, exchange: Exchange) -> str | None:
        lines = [value for name, value in exchange.headers.raw if name == b"cookie"]
        return cookie_values(b";".join(lines)).get(self.name) if lines else None


class ClientMatch:
    """The client's address (`exchange.client_ip`) lies in one of these networks. No address lies in none."""

    __slots__ = ("networks",)

    kind: PredicateKind = "client"
    name = "client"

    def __init__(self, cidrs: Iterable[str]) -> None:
        """Raises ValueError on what is no network or address, and when there is none."""
        self.networks: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(cidr, strict=False) for cidr in cidrs)
        if not self.networks:
            raise ValueError("name at least one network: an empty list would match nobody")

    def accepts(self, text: str | None) -> bool:
        """Whether that address lies in one of the networks."""
        address = None if text is None else parse_address(text)
        return address is not None and any(address in network for network in self.networks)

    def matches(self, exchange: Exchange) -> bool:
        return self.accepts(exchange.client_ip)

    def describe(self) -> str:
        return f"client address is in {', '.join(map(str, self.networks))}"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"

    def witnesses(self) -> list[str | None]:
        """An address of each network."""
        return [str(network.network_address) for network in self.networks]

    def implies(self, other: ClientMatch) -> bool:
        """Whether every address this accepts is accepted by `other`."""
        return all(any(_within(mine, its) for its in other.networks) for mine in self.networks)


class Custom:
    """A function of the exchange. It must be quick and pure: it runs whenever host, path and method fit.

    It also runs when a table is examined, on made-up requests.
    """

    __slots__ = ("function", "name")

    kind: PredicateKind = "custom"

    def __init__(self, name: str, function: Callable[[Exchange], bool]) -> None:
        self.name = name
        self.function = function

    def matches(self, exchange: Exchange) -> bool:
        return bool(self.function(exchange))

    def describe(self) -> str:
        return f"{self.name} holds"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


def implied(wanted: Predicate, by: Iterable[Predicate]) -> bool:
    """Whether one of `by` holding means that `wanted` holds. False where that cannot be told."""
    for one in by:
        if one is wanted:
            return True
        if isinstance(one, ValuePredicate):
            if isinstance(wanted, ValuePredicate) and one.implies(wanted):
                return True
        elif isinstance(one, ClientMatch):
            if isinstance(wanted, ClientMatch) and one.implies(wanted):
                return True
        elif isinstance(one, Custom) and isinstance(wanted, Custom) and one.function is wanted.function:
            return True
    return False


# A request's query or cookies are looked at by every rule of its path in turn: the last few are kept parsed.
@lru_cache(maxsize=8)
def query_values(query: bytes) -> Mapping[str, str]:
    """The first value of each parameter, decoded; escapes that are no UTF-8 become U+FFFD."""
    found: dict[str, str] = {}
    for part in query.decode("latin-1").split("&"):
        if part:
            name, _, value = part.partition("=")
            found.setdefault(unquote_plus(name), unquote_plus(value))
    return found


@lru_cache(maxsize=8)
def cookie_values(lines: bytes) -> Mapping[str, str]:
    """The first value of each cookie in the lines, joined by semicolons."""
    found: dict[str, str] = {}
    for part in lines.decode("latin-1").split(";"):
        name, equals, value = part.partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if equals and name:
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            found.setdefault(name, value)
    return found


def _within(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.subnet_of(other)
    return isinstance(other, IPv6Network) and one.subnet_of(other)


def _tester(mode: Mode, wanted: str) -> Test:
    if mode == "exact":
        return lambda value: value == wanted
    if mode == "prefix":
        return lambda value: value is not None and value.startswith(wanted)
    if mode == "regex":
        fullmatch = compile_regex(wanted).fullmatch
        return lambda value: value is not None and fullmatch(value) is not None
    if mode == "present":
        return lambda value: value is not None
    return lambda value: value is None
