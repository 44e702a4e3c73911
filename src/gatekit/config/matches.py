"""How the matchers of a route are written, and the predicates of the router they stand for.

Raises ValueError with a sentence. The router's own words (what is a header name, what is a regex) stay in
`gatekit.routing`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

Mode = Literal["exact", "prefix", "regex", "present", "absent"]

_METHODS = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*(?:,[A-Za-z]+(?:-[A-Za-z]+)*)*")
_TEXT_MODES = ("exact", "prefix", "regex")
_FORMS = (
    "a value is text, or one of {exact: ...}, {prefix: ...}, {regex: ...}, {present: true}, {absent: true}, {not: ...}"
)


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """What the value of a header, query parameter or cookie must be."""

    mode: Mode
    value: str | None = None
    negate: bool = False

    def __str__(self) -> str:
        text = self.mode if self.value is None else f"{self.mode} {self.value!r}"
        return f"not {text}" if self.negate else text


def value_match(value: Any) -> ValueMatch:
    """From the short form: `gold`, `{"prefix": "g"}`, `{"present": true}`, `{"not": {"regex": "..."}}`."""
    if isinstance(value, ValueMatch):
        return value
    if isinstance(value, str):
        return ValueMatch("exact", value)
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(_FORMS)
    ((mode, inner),) = value.items()
    if mode == "not":
        if isinstance(inner, Mapping) and "not" in inner:
            raise ValueError("a not within a not says nothing: leave both out")
        found = value_match(inner)
        return ValueMatch(found.mode, found.value, negate=True)
    if mode in ("exact", "prefix", "regex"):
        if not isinstance(inner, str):
            raise ValueError(f"{mode} takes text: put a number in quotation marks")
        return ValueMatch(mode, inner)
    if mode in ("present", "absent"):
        if inner is not True:
            raise ValueError(f"{mode} is true, or left out")
        return ValueMatch(mode)
    raise ValueError(_FORMS)


def _form(mode: str, kind: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {mode: kind}, "required": [mode], "additionalProperties": False}


_PLAIN: list[dict[str, Any]] = [
    {"type": "string"},
    *(_form(mode, {"type": "string"}) for mode in _TEXT_MODES),
    _form("present", {"const": True}),
    _form("absent", {"const": True}),
]

Value = Annotated[
    ValueMatch,
    BeforeValidator(value_match),
    WithJsonSchema({"oneOf": [*_PLAIN, _form("not", {"oneOf": _PLAIN})]}),
]


def split_match(text: str) -> tuple[frozenset[str], str]:
    """The methods (none for all) and the path of `GET,HEAD /v1/orders/{id}`."""
    first, space, rest = text.strip().partition(" ")
    if space and _METHODS.fullmatch(first):
        return frozenset(first.upper().split(",")), rest.strip()
    return frozenset(), text.strip()


def destinations(value: Any) -> tuple[tuple[str, int], ...]:
    """From a name, a mapping of names to weights, or a list of pairs."""
    if value is None:
        return ()
    if isinstance(value, str):
        return ((value, 1),)
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, (list, tuple)) or not pairs:
        raise ValueError(
            "a destination is the name of a cluster, or clusters with their weights: {blue: 90, green: 10}"
        )
    found: dict[str, int] = {}
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError("each destination of a split is the name of a cluster and its weight")
        name, weight = pair
        if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= 1_000_000:
            raise ValueError(f"the weight of {name!r} is a whole number from 0 to 1000000")
        if name in found:
            raise ValueError(f"{name!r} is given twice in one split")
        found[name] = weight
    return tuple(found.items())


_WEIGHT = {"type": "integer", "minimum": 0, "maximum": 1_000_000}

Destinations = Annotated[
    tuple[tuple[str, int], ...],
    BeforeValidator(destinations),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "string"},
                {"type": "object", "additionalProperties": _WEIGHT, "minProperties": 1},
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "array",
                        "prefixItems": [{"type": "string"}, _WEIGHT],
                        "minItems": 2,
                        "maxItems": 2,
                    },
                },
                {"type": "null"},
            ]
        }
    ),
]

__all__ = ["Destinations", "Mode", "Value", "ValueMatch", "destinations", "split_match", "value_match"]
