"""AZ7: the public corpus of the CEL specification (`tests/simple/testdata` of cel-spec), as far as it is of use here.

The corpus is not a part of this repository. `GATEKIT_CEL_SPEC` names a directory with its `*.textproto` files: a
checkout of cel-spec, or `features` of the source distribution of cel-python, which brings them along. What is about
protobuf messages, about extensions that are not switched on, or about environments that a gateway has not, is counted
as left out, by its reason; everything else must pass.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

cel: Any = import_module("cel_expr_python.cel")

CORPUS: Final = os.environ.get("GATEKIT_CEL_SPEC")

FILES: Final = {
    "basic", "comparisons", "conversions", "dynamic", "fields", "fp_math", "integer_math", "lists", "logic", "macros",
    "namespace", "parse", "plumbing", "string", "timestamps",
}  # fmt: skip
"""The files about the language itself. The others are about extensions (`*_ext`, `optionals`, `macros2`), protobuf
messages (`proto2`, `proto3`, `enums`, `wrappers`), or checkers' inner types (`type_deduction`, `unknowns`)."""

Message = dict[str, list[Any]]
"""A message in text format: field → its values in order."""


# -- the text format of protocol buffers, as far as the corpus uses it

_TOKEN = re.compile(
    r"""(?P<skip>[\s,;]+|\#[^\n]*)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<punct>[{}<>:\[\]])|(?P<word>[^\s{}<>:\[\],;"'\#]+)"""
)
_ESCAPE = re.compile(rb"""\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))""", re.DOTALL)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def unescaped(text: str) -> bytes:
    def one(found: re.Match[bytes]) -> bytes:
        octal, two, four, eight, letter = found.groups()
        if octal:
            return bytes([int(octal, 8) & 255])
        if two:
            return bytes([int(two, 16)])
        if four or eight:
            return chr(int(four or eight, 16)).encode("utf-8", "surrogatepass")
        return _LETTERS.get(letter, letter)

    return _ESCAPE.sub(one, text[1:-1].encode("utf-8"))


class Reader:
    """A recursive-descent reader of the text format."""

    def __init__(self, text: str) -> None:
        self.tokens = [
            (str(found.lastgroup), found.group()) for found in _TOKEN.finditer(text) if found.lastgroup != "skip"
        ]
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        found = self.peek()
        self.at += 1
        return found

    def message(self, close: str = "") -> Message:
        found: Message = {}
        while self.peek()[1] != close:
            name = self.name()
            if self.peek()[1] == ":":
                self.take()
            if self.peek() == ("punct", "["):
                self.take()
                while self.peek()[1] != "]":
                    found.setdefault(name, []).append(self.value())
                self.take()
            else:
                found.setdefault(name, []).append(self.value())
        self.take()
        return found

    def name(self) -> str:
        _, word = self.take()
        if word != "[":
            return word
        parts = []
        while (word := self.take()[1]) != "]":
            parts.append(word)
        return "[" + "".join(parts) + "]"

    def value(self) -> Any:
        kind, word = self.take()
        if word in ("{", "<"):
            return self.message("}" if word == "{" else ">")
        if kind != "text":
            return word
        data = unescaped(word)
        while self.peek()[0] == "text":
            data += unescaped(self.take()[1])
        return data


# -- the tests of the corpus


class Case(NamedTuple):
    name: str
    body: Message

    def one(self, field: str, default: Any = None) -> Any:
        return self.body.get(field, [default])[0]


class LeftOut(Exception):
    """Not about what a gateway can be asked."""


def cases(directory: Path) -> Iterator[Case]:
    for path in sorted(directory.glob("*.textproto")):
        if path.stem not in FILES:
            continue
        document = Reader(path.read_text("utf-8")).message()
        for section in document.get("section", []):
            for test in section.get("test", []):
                title = "/".join([path.stem, section["name"][0].decode(), test["name"][0].decode()])
                yield Case(title, test)


_PLAIN: Final = {
    "DYN": "DYN", "INT64": "INT", "UINT64": "UINT", "DOUBLE": "DOUBLE", "STRING": "STRING", "BYTES": "BYTES", "BOOL": "BOOL",
    "TIMESTAMP": "TIMESTAMP", "DURATION": "DURATION",
}  # fmt: skip


def type_of(written: Message) -> Any:
    """The type of a variable. Raises LeftOut."""
    if "primitive" in written or "well_known" in written:
        word = written.get("primitive", written.get("well_known", [""]))[0]
        if word in _PLAIN:
            return getattr(cel.Type, _PLAIN[word])
    if "dyn" in written:
        return cel.Type.DYN
    if "null" in written:
        return cel.Type.NULL
    if "list_type" in written:
        return cel.Type.List(type_of(written["list_type"][0]["elem_type"][0]))
    if "map_type" in written:
        inner = written["map_type"][0]
        return cel.Type.Map(type_of(inner["key_type"][0]), type_of(inner["value_type"][0]))
    raise LeftOut("a variable of a protobuf or abstract type")


def number(word: str) -> float:
    return float(word[:-1]) if re.fullmatch(r"[-+.0-9e]+f", word) else float(word)


def plain(written: Message) -> Any:
    """A value as Python has it, marked where Python has one type for two of CEL's. Raises LeftOut."""
    (field, (value,)), *_ = written.items()
    if field == "int64_value":
        return int(value, 0)
    if field == "uint64_value":
        return Unsigned(int(value, 0))
    if field == "double_value":
        return number(value)
    if field == "string_value":
        return value.decode("utf-8", "surrogatepass")
    if field == "bytes_value":
        return value
    if field == "bool_value":
        return value == "true"
    if field == "null_value":
        return None
    if field == "list_value":
        return [plain(one) for one in value.get("values", [])]
    if field == "map_value":
        return {plain(one["key"][0]): plain(one["value"][0]) for one in value.get("entries", [])}
    if field == "object_value":
        return well_known(value)
    if field == "type_value":
        return Kind(value.decode())
    raise LeftOut(f"a {field}")


class Kind(str):
    """The name of a type."""


_KINDS: Final = {
    "BOOL": "bool", "BYTES": "bytes", "DOUBLE": "double", "INT": "int", "LIST": "list", "MAP": "map", "NULL": "null_type",
    "STRING": "string", "TYPE": "type", "UINT": "uint", "DURATION": "google.protobuf.Duration",
    "TIMESTAMP": "google.protobuf.Timestamp",
}  # fmt: skip
"""Names of types, of the evaluator and of the language."""


class Unsigned(int):
    pass


def well_known(value: Message) -> Any:
    (name, (inner,)), *_ = value.items()
    seconds, nanos = int(inner.get("seconds", ["0"])[0]), int(inner.get("nanos", ["0"])[0])
    if nanos % 1000:
        raise LeftOut("nanoseconds, which Python's own times have not")
    try:
        if name.endswith("google.protobuf.Timestamp]"):
            start = datetime(1970, 1, 1, tzinfo=UTC)
            return start + timedelta(seconds=seconds, microseconds=nanos // 1000)
        if name.endswith("google.protobuf.Duration]"):
            return timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError:
        raise LeftOut("a time that Python has not") from None
    raise LeftOut("a protobuf message")


def settled(found: Any) -> Any:
    """The same with `bytes` for the mutable array that the package gives."""
    if isinstance(found, bytearray):
        return bytes(found)
    if isinstance(found, list):
        return [settled(one) for one in found]
    if isinstance(found, dict):
        return {key: settled(value) for key, value in found.items()}
    if isinstance(found, cel.Type):
        return Kind(_KINDS.get(found.name().partition("<")[0], found.name()))
    return found


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return isinstance(found, float) and (found == wanted or (math.isnan(found) and math.isnan(wanted)))
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict) and found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
        )
    kinds = {Unsigned: int}
    return type(found) is kinds.get(type(wanted), type(wanted)) and found == wanted


_MESSAGES = re.compile(r"TestAllTypes|google\.protobuf\.|google\.api|cel\.expr\.conformance|GlobalEnum|NestedEnum")


def check(case: Case) -> None:
    """Run one test. Raises AssertionError, or LeftOut with the reason."""
    text = case.one("expr").decode("utf-8", "surrogatepass")
    if _MESSAGES.search(text) or _MESSAGES.search(case.one("container", b"").decode()):
        raise LeftOut("protobuf messages")
    if "disable_macros" in case.body:
        raise LeftOut("without macros")
    variables = {}
    for declared in case.body.get("type_env", []):
        if "ident" not in declared:
            raise LeftOut("functions of its own")
        variables[declared["name"][0].decode()] = type_of(declared["ident"][0]["type"][0])
    data = {}
    for bound in case.body.get("bindings", []):
        value = bound["value"][0].get("value")
        if value is None:
            raise LeftOut("unknown values")
        data[bound["key"][0].decode()] = plain(value[0])
    if "disable_check" in case.body:
        raise LeftOut("without type check")
    wanted = plain(case.one("value")) if "value" in case.body else None
    if "typed_result" in case.body or "unknown" in case.body or "any_unknowns" in case.body:
        raise LeftOut("what is about the checker's types or unknown values")
    fails = "eval_error" in case.body or "any_eval_errors" in case.body
    container = case.one("container", b"").decode()
    kind, found = evaluated(text, variables, container, data)
    if fails:
        assert kind == "ERROR", (kind, found)
        return
    if "value" not in case.body:
        wanted = True
    assert same(found, wanted), (kind, found, wanted)
    assert (kind == "UINT") == isinstance(wanted, Unsigned) or isinstance(wanted, (list, dict))


def evaluated(text: str, variables: dict[str, Any], container: str, data: dict[str, Any]) -> tuple[str, Any]:
    """Type and value of an expression; one that is refused or raises has the type of an error."""
    try:
        result = cel.NewEnv(variables=variables, container=container).compile(text).eval(data=data)
    except RuntimeError as error:
        return "ERROR", str(error)
    return result.type().name(), settled(result.plain_value())


KNOWN: Final = {
    # Two keys that are equal numbers of different types: the evaluator keeps the first, where the specification has an
    # error. No condition here has reason to write such a map.
    "fields/qualified_identifier_resolution/map_value_repeat_key_heterogeneous",
}


def test_az7_the_public_corpus_passes() -> None:
    if CORPUS is None:
        pytest.skip("the corpus is not here: GATEKIT_CEL_SPEC names the directory of its *.textproto files")
    passed, left_out, failed = 0, Counter[str](), dict[str, str]()
    for case in cases(Path(CORPUS)):
        try:
            check(case)
        except LeftOut as reason:
            left_out[str(reason)] += 1
        except AssertionError as error:
            failed[case.name] = str(error)
        else:
            passed += 1
    assert failed.keys() == KNOWN, failed
    assert passed >= 850, left_out
