"""Conditions written in CEL, the Common Expression Language: `claims.tenant == params.tenant && 'admin' in roles`.

Google's C++ implementation does the work (`cel-expr-python`, in `gatekit-asgi[cel]`). An expression is parsed and its
types are checked when the configuration is loaded, and it is refused when it could cost too much: what it costs is
reckoned from its syntax tree, at the most that a request can bring along. Only what it names is handed over, measured
first, so that no request can make it dear or bring the evaluator down.

An expression that fails (a claim that is not there, an index past the end) or that yields no boolean is untold: it
never allows. `has(claims.x)` asks whether there is such a claim. Regular expressions are RE2's, and fixed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gatekit.core.exchange import Exchange
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.ports import Clock, Ports
from gatekit.policies.authz.cel_tree import MAX_ITEMS, Names, Tree
from gatekit.policies.authz.rules import Verdict

MAX_LENGTH: Final = 4096
"""Characters of an expression."""
MAX_VALUES: Final = 2_048
"""Values that one evaluation gets to see in all, those within lists and maps included."""
MAX_TEXT: Final = 16_384
"""Characters and bytes of them in all."""
MAX_DEPTH: Final = 16
"""Levels of lists and maps in one another."""

_KEPT: Final = 256

_MISSING: Final = "an expression in CEL needs a package that is not installed: install gatekit-asgi[cel]"
_FINDING: Final = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): ([^\n]*)")


class Cel(BaseModel):
    """A condition that holds when an expression in CEL is true.

    It may use `claims`, `roles`, `scopes` and `identity` (`subject`, `issuer`, `tenant`, `client`, `scheme`,
    `authenticated`) of the caller, `params` of the route, `request.method`, `.scheme`, `.host`, `.path`, `.query` and
    `.headers` (names in lower case), `client_ip`, and `now`, a timestamp. What the caller has not is not there: `has()`
    tells. The functions and macros are those of the language itself, without extensions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    asks: ClassVar[bool] = False

    expression: str = Field(min_length=1, max_length=MAX_LENGTH)
    """The expression. A text alone stands for it."""

    @model_validator(mode="before")
    @classmethod
    def _text_alone(cls, value: Any) -> Any:
        return {"expression": value} if isinstance(value, str) else value

    @field_validator("expression")
    @classmethod
    def _compiles(cls, value: str) -> str:
        compiled(value)
        return value

    def bind_to(self, ports: Ports) -> BoundCel:
        return BoundCel(self.expression, ports)


def cel(expression: str) -> Cel:
    """A condition that an expression in CEL decides: `cel("claims.tenant == params.tenant")`."""
    return Cel(expression=expression)


class BoundCel:
    """An expression at work."""

    __slots__ = ("_clock", "_compiled", "_counts", "_text", "words")

    def __init__(self, text: str, ports: Ports) -> None:
        self._text = text
        self._compiled = compiled(text)
        self._clock = ports.clock if "now" in self._compiled.uses else None
        self._counts: Counter[Verdict] = Counter()
        shown = text if len(text) <= 120 else text[:119] + "…"
        self.words = f"the expression {shown} is true"

    def decide(self, exchange: Exchange) -> Verdict:
        try:
            verdict = self._compiled.evaluate(exchange, self._clock)
        except (RuntimeError, TooLarge):
            # What the evaluator says may repeat values of the request, so nobody is told.
            verdict = None
        self._counts[verdict] += 1
        return verdict

    def status(self) -> dict[str, object]:
        """How often it was true, false, and could not be told, since the process began."""
        counts = self._counts
        return {"expression": self._text, "true": counts[True], "false": counts[False], "untold": counts[None]}


class TooLarge(Exception):
    """A request brings more than an expression may see."""


# -- what an expression may use


class Seen(NamedTuple):
    """The subject of one evaluation."""

    exchange: Exchange
    identity: Identity
    clock: Clock | None


Source = Callable[[Seen, Names], Any]
"""Where a variable's value comes from. None stands for there being none: no variable may be that, so whatever uses it
fails."""


def _headers(seen: Seen, names: Names) -> dict[str, str]:
    """Request headers by name; several of one name are joined by commas (RFC 9110 section 5.3)."""
    found: dict[str, str] = {}
    for key, value in seen.exchange.headers.raw:
        name = key.decode("latin-1")
        if names is None or name in names:
            text = value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _who(seen: Seen, names: Names) -> dict[str, Any]:
    identity = seen.identity
    told = {
        "subject": identity.subject, "issuer": identity.issuer, "tenant": identity.tenant, "client": identity.client,
        "scheme": identity.scheme, "authenticated": identity.is_authenticated,
    }  # fmt: skip
    return {name: value for name, value in told.items() if value is not None}


def _members(of: Mapping[str, Any], names: Names) -> dict[str, Any]:
    return dict(of) if names is None else {name: of[name] for name in names if name in of}


def _now(seen: Seen, names: Names) -> Any:
    assert seen.clock is not None
    return _instant().eval(data={"seconds": int(seen.clock.wall())}).value()


_MAP_OF_ANY: Final = ("MAP", "STRING", "DYN")
_MAP_OF_TEXT: Final = ("MAP", "STRING", "STRING")
_TEXTS: Final = ("LIST", "STRING")

VARIABLES: Final[Mapping[str, tuple[tuple[str, ...], Source]]] = {
    "claims": (_MAP_OF_ANY, lambda seen, names: _members(seen.identity.claims, names)),
    "identity": (_MAP_OF_ANY, _who),
    "roles": (_TEXTS, lambda seen, names: sorted(seen.identity.roles)),
    "scopes": (_TEXTS, lambda seen, names: sorted(seen.identity.scopes)),
    "params": (_MAP_OF_TEXT, lambda seen, names: _members(seen.exchange.params, names)),
    "request.method": (("STRING",), lambda seen, names: seen.exchange.method),
    "request.scheme": (("STRING",), lambda seen, names: seen.exchange.scheme),
    "request.host": (("STRING",), lambda seen, names: seen.exchange.host),
    "request.path": (("STRING",), lambda seen, names: seen.exchange.path),
    "request.query": (("STRING",), lambda seen, names: seen.exchange.query.decode("latin-1")),
    "request.headers": (_MAP_OF_TEXT, _headers),
    "client_ip": (("STRING",), lambda seen, names: seen.exchange.client_ip),
    "now": (("TIMESTAMP",), _now),
}
"""Variable → its type, and where its value comes from."""

_MAPS: Final = frozenset(name for name, (kind, _) in VARIABLES.items() if kind[0] == "MAP")

# -- compiling


class Expression(Protocol):
    """What is used of the package's compiled expressions."""

    def eval(self, *, data: Mapping[str, Any]) -> Any: ...


class Compiled:
    """An expression, ready: checked, and with all that it uses known."""

    __slots__ = ("_bound", "_expression", "uses")

    def __init__(self, expression: Expression, uses: Mapping[str, Names]) -> None:
        self._expression = expression
        self.uses = uses
        self._bound = tuple((name, VARIABLES[name][1], names) for name, names in uses.items())

    def evaluate(self, exchange: Exchange, clock: Clock | None) -> Verdict:
        """Whether it is true; None where it yields no boolean. Raises RuntimeError where it fails, TooLarge."""
        seen = Seen(exchange, ANONYMOUS if exchange.identity is None else exchange.identity, clock)
        data = {name: source(seen, names) for name, source, names in self._bound}
        _measure(data)
        result = self._expression.eval(data=data).value()
        return result if result is True or result is False else None


@lru_cache(maxsize=_KEPT)
def compiled(text: str) -> Compiled:
    """The expression, compiled. Raises ValueError with what is wrong with it and where."""
    environment = _environment()
    try:
        expression = environment.compile(text)
    except RuntimeError as error:
        raise ValueError(_advice(str(error))) from None
    kind = expression.return_type().name()
    if kind not in ("BOOL", "DYN"):
        raise ValueError(f"an expression here is true or false, and this one is of type {kind.lower()}")
    return Compiled(expression, Tree(expression.serialize(), VARIABLES, _MAPS).uses)


@cache
def _package() -> Any:
    """Google's CEL. Raises ValueError where it is missing."""
    try:
        return import_module("cel_expr_python.cel")
    except ImportError:
        raise ValueError(_MISSING) from None


@cache
def _environment() -> Any:
    """The variables and their types: one for the process."""
    package = _package()
    types = package.Type
    makers = {"MAP": types.Map, "LIST": types.List}

    def type_of(words: tuple[str, ...]) -> Any:
        first, *rest = words
        return makers[first](*(getattr(types, word) for word in rest)) if rest else getattr(types, first)

    return package.NewEnv(variables={name: type_of(words) for name, (words, _) in VARIABLES.items()})


@cache
def _instant() -> Expression:
    """What makes a timestamp of seconds: the package's own, so that nothing here has to know of calendars."""
    package = _package()
    found: Expression = package.NewEnv(variables={"seconds": package.Type.INT}).compile("timestamp(seconds)")
    return found


def _advice(text: str) -> str:
    """What the parser or checker says, with line and column (both from 1), the first three of its findings."""
    found = [
        f"line {line}, column {column}: {what}" if int(line) > 0 else what
        for line, column, what in _FINDING.findall(text)
    ]
    return "; ".join(found[:3]) or text.removesuffix("]").partition(" [")[0].partition(": ")[2]


def _measure(data: Mapping[str, Any]) -> None:
    """Raises TooLarge. What is deeper than this goes would bring the evaluator down."""
    values = text = 0
    level: list[Any] = list(data.values())
    for _ in range(MAX_DEPTH):
        values += len(level)
        below: list[Any] = []
        for value in level:
            if isinstance(value, (str, bytes)):
                text += len(value)
            elif isinstance(value, (list, dict)):
                if len(value) > MAX_ITEMS:
                    raise TooLarge
                below += value
                if isinstance(value, dict):
                    below += value.values()
        if values > MAX_VALUES or text > MAX_TEXT:
            raise TooLarge
        if not below:
            return
        level = below
    raise TooLarge
