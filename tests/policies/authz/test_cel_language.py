"""AZ7: the language, section by section of its definition (doc/langdef.md of cel-spec), as a condition sees it.

This table is our own. It is what holds in every run; the public corpus, where it is at hand, is run by
test_cel_corpus.py. What must be an error is written as `untold`, what the type checker must refuse as `refused`.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gatekit.core.identity import Identity
from gatekit.policies.authz.cel import Cel
from gatekit.testing import request, test_ports

CLAIMS: dict[str, Any] = {
    "text": "text", "empty": "", "one": 1, "minus": -1, "half": 0.5, "yes": True, "no": False, "nil": None,
    "list": [1, 2, 3], "names": ["a", "b"], "none": [], "map": {"a": 1, "b": {"c": "d"}}, "nested": [[1], [2, 3]],
    "big": 9223372036854775807, "unicode": "héllo😀", "when": "2024-02-29T12:30:45Z",
}  # fmt: skip

TRUE: dict[str, list[str]] = {
    "Values": [
        "claims.nil == null", "type(claims.one) == int", "type(claims.half) == double", "type(claims.yes) == bool",
        "type(claims.text) == string", "type(claims.list) == list", "type(claims.map) == map", "type(claims.nil) == null_type",
        "type(1u) == uint", "type(b'') == bytes", "type(type(1)) == type", "type(duration('1s')) != type(now)",
    ],
    "Syntax": [
        "1 + 2 * 3 == 7", "(1 + 2) * 3 == 9", "10 - 4 - 3 == 3", "-claims.minus == 1", "!!claims.yes",
        "claims.no ? false : true ? true : false", "0x1F == 31", "-0x10 == -16", "1e3 == 1000.0", ".5 == claims.half",
        "'a' + \"b\" == 'ab'", "'''a\nb''' == 'a\\nb'", "r'\\d' == '\\\\d'", "'\\x41\\u0042\\U00000043\\104' == 'ABCD'",
        "b'\\xff' == b'\\377'", "[1, 2,] == [1, 2]", "{'a': 1,}['a'] == 1", "true // a comment\n && true",
        "claims.`text` == 'text'", "'é' == '\\u00e9'",
    ],
    "Gradual type checking": ["dyn(1) == 1", "dyn('a') != 1", "dyn([1, 'a']).size() == 2", "claims.one == 1.0", "claims.text != 1"],
    "Logical operators": [
        "true || claims.missing", "claims.missing || true", "!(false && claims.missing)", "!(claims.missing && false)",
        "1 / 0 == 1 || true", "!(1 / 0 == 1 && false)", "claims.yes ? true : claims.missing", "claims.no ? claims.missing : true",
    ],
    "Equality and ordering": [
        "dyn(1) == 1.0", "dyn(1) == 1u", "dyn(1.0) == 1u", "dyn(0.1) != 0", "'a' < 'b'", "'B' < 'a'", "'' < 'a'", "b'a' < b'b'", "false < true",
        "dyn(1) < 2.5", "dyn(-1) < 1u", "claims.half < claims.one", "[1, [2]] == [1.0, [2u]]", "[1] != [1, 1]", "{'a': 1} == {'a': dyn(1.0)}",
        "{'a': 1} != {'a': 2}", "claims.nil != 0", "claims.nil != ''", "claims.nil != false", "0.0 == -0.0",
        "!(0.0 / 0.0 == 0.0 / 0.0)", "timestamp('2024-01-01T00:00:00Z') < timestamp('2024-01-01T00:00:01+00:00')",
        "timestamp('2024-01-01T01:00:00+01:00') == timestamp('2024-01-01T00:00:00Z')", "duration('90s') == duration('1.5m')",
        "duration('-1s') < duration('0')", "claims.map == {'a': 1, 'b': {'c': 'd'}}", "type(1) != type('')",
    ],
    "Field selection": [
        "claims.map.a == 1", "claims.map.b.c == 'd'", "claims['map']['b']['c'] == 'd'", "claims.list[0] == 1",
        "claims.list[claims.one] == 2", "claims.nested[1][1] == 3", "{1: 'a', true: 'b', 'c': 'd'}[true] == 'b'",
        "{1u: 'a'}[dyn(1)] == 'a'", "claims.list[1u] == 2",
    ],
    "Membership": [
        "1 in claims.list", "1.0 in claims.list", "!(4 in claims.list)", "'a' in claims.map", "!('z' in claims.map)",
        "!(1 in claims.none)", "'1' in ['1'] && !(1 in dyn(['1']))", "[1] in claims.nested",
    ],
    "Macros": [
        "has(claims.text)", "has(claims.nil)", "!has(claims.missing)", "has(claims.map.b.c)", "!has(claims.map.z)",
        "claims.list.all(x, x > 0)", "!claims.list.all(x, x > 1)", "claims.none.all(x, false)", "claims.list.exists(x, x == 3)",
        "!claims.none.exists(x, true)", "claims.list.exists_one(x, x > 2)", "!claims.list.exists_one(x, x > 1)",
        "claims.list.map(x, x * 2) == [2, 4, 6]", "claims.list.filter(x, x % 2 == 1) == [1, 3]",
        "claims.list.map(x, x > 1, x * 10) == [20, 30]", "claims.map.all(k, k in ['a', 'b'])", "claims.map.exists(k, k == 'b')",
        "claims.nested.exists(l, [1, 2].exists(y, y in l))", "[1, 0].exists(x, 2 / x == 2)", "!([0, 1].all(x, 2 / x == 1))",
        "[0, 1].exists(x, 1 / x == 1)",
    ],
    "Arithmetic": [
        "7 / 2 == 3", "-7 / 2 == -3", "7 % 3 == 1", "-7 % 3 == -1", "7.0 / 2.0 == 3.5", "1.0 / 0.0 > claims.big", "2u * 3u == 6u",
        "1 - 2 == -1", "claims.one + 1 == 2", "9223372036854775806 + 1 == claims.big", "-9223372036854775808 < 0",
        "18446744073709551615u > 0u", "[1] + [2] == [1, 2]", "b'a' + b'b' == b'ab'", "now + duration('1s') > now",
        "now - now == duration('0s')", "duration('1h') - duration('1m') == duration('59m')",
    ],
    "Strings": [
        "size('') == 0", "'héllo😀'.size() == 6", "size(claims.unicode) == 6", "size(b'h\\xc3\\xa9') == 3", "'abc'.contains('b')",
        "'abc'.contains('')", "!'abc'.contains('d')", "'abc'.startsWith('ab') && 'abc'.endsWith('bc')", "!'abc'.startsWith('b')",
        "'abc'.matches('b')", "!'abc'.matches('^b')", "'abc'.matches('^[a-c]{3}$')", "matches('abc', 'c$')", "''.matches('^$')",
        "'HÉLLO'.matches('(?i)héllo')", "'a\\nb'.matches('a.b') == false", "size(claims.list) == 3", "claims.map.size() == 2",
    ],
    "Conversions": [
        "int('42') == 42", "int(-1.9) == -1", "int(1u) == 1", "uint(1) == 1u", "double('1.5') == 1.5", "double(2) == 2.0",
        "string(42) == '42'", "string(true) == 'true'", "string(b'abc') == 'abc'", "bytes('é') == b'\\xc3\\xa9'", "bool('true')",
        "!bool('false')", "string(1.5) == '1.5'", "int(timestamp('1970-01-01T00:01:00Z')) == 60", "timestamp(60) > timestamp(0)",
        "string(timestamp('2024-02-29T00:00:00Z')) == '2024-02-29T00:00:00Z'", "string(duration('90s')) == '90s'",
    ],
    "Timestamps and durations": [
        "timestamp(claims.when).getFullYear() == 2024", "timestamp(claims.when).getMonth() == 1",
        "timestamp(claims.when).getDate() == 29", "timestamp(claims.when).getDayOfMonth() == 28",
        "timestamp(claims.when).getDayOfYear() == 59", "timestamp(claims.when).getDayOfWeek() == 4",
        "timestamp(claims.when).getHours() == 12", "timestamp(claims.when).getMinutes() == 30",
        "timestamp(claims.when).getSeconds() == 45", "timestamp(claims.when).getHours('+02:00') == 14",
        "timestamp(claims.when).getHours('Europe/Zurich') == 13", "duration('3730s').getHours() == 1",
        "duration('3730s').getMinutes() == 62", "duration('1.5s').getMilliseconds() == 500", "duration('1h2m3s').getSeconds() == 3723",
        "timestamp('2024-12-31T23:59:59Z') + duration('1s') == timestamp('2025-01-01T00:00:00Z')",
    ],
}  # fmt: skip

UNTOLD: dict[str, list[str]] = {
    "Runtime errors": [
        "claims.missing == 1", "claims.map.z == 1", "claims.text.z == 1", "has(claims.missing.z)", "claims.list[3] == 1",
        "claims.list[-1] == 1", "claims.list[0.5] == 1", "claims.map[1] == 1", "{'a': 1}['b'] == 1",
        "1 / 0 == 1", "1 % 0 == 1", "1u / 0u == 1u", "claims.big + 1 > 0", "-9223372036854775808 - 1 < 0", "claims.big * 2 > 0",
        "-(-9223372036854775808) > 0", "0u - 1u > 0u", "18446744073709551615u + 1u > 0u",
        "int('x') == 0", "int('1.5') == 1", "int(1e30) == 0", "uint(claims.minus) == 0u", "double('x') == 0.0",
        "bool('x')", "string(b'\\xff') == ''", "timestamp('yesterday') > now", "timestamp('2024-02-30T00:00:00Z') > now",
        "duration('1') > duration('1s')", "timestamp(claims.when).getHours('Nowhere/Else') == 1",
        "timestamp('9999-12-31T23:59:59Z') + duration('1s') > now", "claims.text < 1", "claims.text + 1 == 2", "claims.yes + 1 == 2",
        "-claims.text == 'x'", "!claims.one", "claims.one && true", "claims.text || false", "claims.one ? true : false",
        "claims.list.all(x, x.missing)", "claims.one.all(x, true)", "claims.text.exists(x, true)", "1 in claims.one",
        "claims.list.contains('1')", "claims.one.size() == 1", "claims.missing || false", "claims.missing && true",
        "{dyn('a'): 1, 'a': 2} == {}", "[1, 2].exists_one(x, 1 / (x - 1) == 1)",
    ],
    "No boolean": ["claims.one", "claims.text", "claims.nil", "claims.list", "dyn(1)", "claims.yes ? dyn(1) : dyn(2)"],
}  # fmt: skip

REFUSED: dict[str, list[str]] = {
    "Syntax": [
        "", " ", "1 +", "(1", "a b", "'a", "'a\nb'", "1 == 1 == ", "&& true", "true &", "true and true", "x = 1", "if", "true;", "08x",
        "'\\z'", "1.", "{a}", "[1", "claims.", "claims..a", "package", "while(true)", "99999999999999999999", "#", "'\\ud800' == ''",
    ],
    "Type checking": [
        "1 == 'a'", "1 + 'a' == 1", "1 + 1.0 == 2.0", "1 + 1u == 2u", "'a' < 1", "!1", "1 == 1.0", "1 < 2.5", "1.0 == 1u", "1 && true", "true ? 1 : 'a'", "roles + 1 == 1",
        "size(1) == 1", "'a'.matches(1)", "unknown", "unknown(1)", "'a'.upper() == 'A'", "-'a' == ''", "roles[true] == 'a'",
        "1 in 1", "timestamp(true) == now", "request", "request.body == ''", "1.all(x, true)", "roles.all(1, true)", "has(roles)",
        "1", "'true'", "[true]", "null", "now", "1.0", "duration('1s')", "roles.map(r, true)",
    ],
    "Not switched on": [
        "optional.of(true).value()", "claims.?text.hasValue()", "math.greatest(1, 2) == 2", "'a,b'.split(',').size() == 2",
        "cel.bind(x, true, x)", "sets.contains([1], [1])", "base64.encode(b'a') == ''", "strings.quote('a') == ''",
        "[1].sort() == [1]", "regex.extract('a', 'a') == ''", "google.protobuf.BoolValue{value: true}",
    ],
}  # fmt: skip

EXCHANGE = request(identity=Identity("ann", claims=CLAIMS, roles=frozenset({"admin"}), scheme="jwt"))


def rows(table: dict[str, list[str]]) -> list[Any]:
    return [
        pytest.param(text, id=f"{section.lower().replace(' ', '-')}-{place}")
        for section, texts in table.items()
        for place, text in enumerate(texts)
    ]


def verdict(text: str) -> bool | None:
    return Cel(expression=text).bind_to(test_ports()).decide(EXCHANGE)


@pytest.mark.parametrize("text", rows(TRUE))
def test_az7_it_is_true(text: str) -> None:
    assert verdict(text) is True


@pytest.mark.parametrize("text", rows(UNTOLD))
def test_az7_an_error_is_untold(text: str) -> None:
    assert verdict(text) is None


@pytest.mark.parametrize("text", rows(REFUSED))
def test_az7_it_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Cel(expression=text)
