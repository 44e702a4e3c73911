"""The syntax tree of a CEL expression: what it uses, and what it may cost.

The evaluator gives a checked expression as a protocol buffer (`cel.expr.CheckedExpr` of cel-spec, checked.proto and
syntax.proto). The few fields that matter are read here from its encoding, so that no protobuf library is needed.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any, Final

from gatekit.routing.regex import compile_regex

MAX_COST: Final = 200_000
"""Steps that one evaluation may take at most, as reckoned beforehand. One is some 50 ns: 10 ms in all."""
MAX_ITEMS: Final = 256
"""Members of one list or map that an expression gets to see. A request with more is untold."""

MAX_ROUNDS: Final = 10_000
"""Rounds of all loops of one evaluation: past that the evaluator gives up."""

IDENTITY: Final = frozenset({"subject", "issuer", "tenant", "client", "scheme", "authenticated"})
"""What `identity` may have."""

_STEPS: Final = {
    b"_+_": 500,
    b"contains": 300,
    b"string": 300,
    b"bytes": 300,
    b"size": 200,
    b"@in": 100,
    b"timestamp": 50,
    b"duration": 50,
}
"""Steps of calls that look at all of a text or list, where that is of the greatest length."""
_INSTRUCTION: Final = 20
"""Steps for each instruction of a regular expression, since it is compiled anew each time."""

_CHECKED, _EXPR, _STRING = 2, 4, 6
_CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 3, 4, 5, 6, 7, 8, 9

Names = frozenset[str] | None
"""The members of a map that an expression names; None where it may look at any."""


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: number, and an int or bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            size, at = _varint(data, at)
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _only(data: bytes, number: int) -> bytes:
    return next((value for found, value in fields(data) if found == number), b"")


def _all(data: bytes, number: int) -> list[bytes]:
    return [value for found, value in fields(data) if found == number]


class Tree:
    """What there is to know of a syntax tree: what it uses, and that it is not too dear. Raises ValueError if it is."""

    def __init__(self, serialized: bytes, variables: Container[str], maps: Container[str]) -> None:
        """`variables` are those there are, `maps` the ones among them that have members."""
        self.uses: dict[str, Names] = {}
        self._variables = variables
        self._maps = maps
        self._cost = 0
        self._rounds = 0
        self._walk(_only(_only(serialized, _CHECKED), _EXPR), 1)
        if self._cost > MAX_COST or self._rounds > MAX_ROUNDS:
            raise ValueError(
                f"the expression may take {self._cost} steps in {self._rounds} rounds of its loops, of at most {MAX_COST} and "
                f"{MAX_ROUNDS}: a loop over what a request brings counts {MAX_ITEMS} times, and loops within loops multiply. "
                "Write fewer of them, or shorter regular expressions"
            )

    def _walk(self, node: bytes, times: int) -> None:
        self._cost += times
        kind, inner = next(((number, value) for number, value in fields(node) if number >= _CONST), (0, b""))
        if kind == _IDENT:
            self._use(_only(inner, 1).decode("utf-8"), None)
        elif kind == _SELECT:
            self._member(_only(inner, 1), _only(inner, 2), times)
        elif kind == _CALL:
            self._call(inner, times)
        elif kind == _LIST:
            for element in _all(inner, 1):
                self._walk(element, times)
        elif kind == _STRUCT:
            self._struct(inner, times)
        elif kind == _COMPREHENSION:
            self._loop(inner, times)

    def _call(self, call: bytes, times: int) -> None:
        name = _only(call, 2)
        parts = [*_all(call, 1), *_all(call, 3)]
        if name == b"_[_]" and (key := _text(parts[1])) is not None:
            self._member(parts[0], key, times)
            return
        if name == b"@in" and (key := _text(parts[0])) is not None:
            self._member(parts[1], key, times)
            return
        if name == b"matches":
            pattern = _text(parts[1])
            if pattern is None:
                raise ValueError("the regular expression of matches() is written down in the expression, as one text")
            self._cost += times * _INSTRUCTION * compile_regex(pattern.decode("utf-8")).programsize
        self._cost += times * _STEPS.get(name, 0)
        for part in parts:
            self._walk(part, times)

    def _struct(self, struct: bytes, times: int) -> None:
        if _only(struct, 1):
            raise ValueError("there are no protobuf messages here")
        for entry in _all(struct, 2):
            self._walk(_only(entry, 3), times)
            self._walk(_only(entry, 4), times)

    def _loop(self, loop: bytes, times: int) -> None:
        """A macro such as all() or exists(): its range and start once, what is in it for each item."""
        around = _only(loop, 2)
        written = _only(around, _LIST)
        # Lists that are joined are longer than those a request brings. To count one + too many does no harm.
        items = len(_all(written, 1)) if written else MAX_ITEMS * (1 + around.count(b"_+_"))
        self._rounds += times * items
        self._walk(around, times)
        self._walk(_only(loop, 4), times)
        for number in (5, 6):
            self._walk(_only(loop, number), times * items)
        self._walk(_only(loop, 7), times)

    def _member(self, of: bytes, key: bytes, times: int) -> None:
        """A member of a map by its name: of a variable, only that one is then needed."""
        variable = _only(_only(of, _IDENT), 1).decode("utf-8")
        if variable not in self._maps:
            self._walk(of, times)
            return
        self._cost += times
        name = key.decode("utf-8")
        if variable == "identity" and name not in IDENTITY:
            raise ValueError(f"identity has no {name!r}: it has {', '.join(sorted(IDENTITY))}")
        if variable == "request.headers" and name != name.lower():
            raise ValueError(f"names of headers are in lower case: write {name.lower()!r}")
        self._use(variable, frozenset({name}))

    def _use(self, variable: str, names: Names) -> None:
        if variable in self._variables:
            before = self.uses.get(variable, frozenset())
            self.uses[variable] = None if before is None or names is None else before | names


def _text(node: bytes) -> bytes | None:
    """The text that a node is, None where it is anything else."""
    return next((value for number, value in fields(_only(node, _CONST)) if number == _STRING), None)
