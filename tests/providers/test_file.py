"""Reading documents: plain data with lines, and every way in which a file can be refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.plan import Document
from gatekit.errors import ConfigRefused, Problem
from gatekit.providers import file
from gatekit.providers.file import parse_text, read_document


def refused(text: str, origin: str = "gw.yaml") -> list[Problem]:
    with pytest.raises(ConfigRefused) as caught:
        parse_text(text, origin)
    return list(caught.value.problems)


def test_yaml_is_read_with_the_line_of_every_entry() -> None:
    document = parse_text(
        "# a comment\nroutes:\n  - match: /a\n    to: x\n  - match: /b\nclusters: {x: {urls: [http://a]}}\n"
    )
    assert document.data == {
        "routes": [{"match": "/a", "to": "x"}, {"match": "/b"}], "clusters": {"x": {"urls": ["http://a"]}},
    }  # fmt: skip
    assert document.lines["routes"] == 2
    assert document.lines["routes[0]"] == 3
    assert document.lines["routes[0].to"] == 4
    assert document.lines["routes[1].match"] == 5
    assert document.lines["clusters.x.urls[0]"] == 6
    assert len(document.revision) == 16


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("true", True), ("False", False),
        ("null", None), ("~", None), ("", None), ("yes", "yes"), ("on", "on"), ("NO", "NO"), ("10:30", "10:30"),
        ("2026-01-01", "2026-01-01"), ("'12'", "12"), ('"true"', "true"), ("!!str 12", "12"), ("! 12", "12"),
        (".inf", ".inf"), ("0x10", "0x10"), ("1" * 30, "1" * 30),
    ],
)  # fmt: skip
def test_words_are_read_as_in_yaml_1_2(text: str, value: object) -> None:
    assert parse_text(f"a: {text}").data == {"a": value}


def test_json_gives_the_same_document_with_lines_and_may_be_indented_by_tabs() -> None:
    document = parse_text('{\n\t"routes": [\n\t\t{"match": "/a", "priority": 3}\n\t]\n}', "gw.json")
    assert document.data == {"routes": [{"match": "/a", "priority": 3}]}
    assert document.lines["routes[0].match"] == 3


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [", None, "is not YAML"),
        ("a:\n\t- b", 2, "is not YAML"),
        ("a: 1\nb: 2\na: 3", 3, "'a' is given twice; first in line 1"),
        ("a: 1\n---\nb: 2", 2, "second document"),
        ("a: !!python/object:os.system x", 1, "the tag !!python/object:os.system is not taken here"),
        ("a: !!set {x: null}", 1, "the tag !!set"),
        ("a: !mine [x]", 1, "the tag !mine"),
        ("a: *b", 1, "the alias *b stands for nothing"),
        ("a: &b [*b]", 1, "the alias *b stands for nothing"),
        ("x: 1\n? [a, b]\n: 2", 2, "a key of a mapping is text"),
        ("", None, "is empty"),
        ("# nothing", None, "is empty"),
        ("- a", None, "is not a mapping"),
        ("a: 1\n<<: 3", None, "<< takes a mapping"),
        ("a: \x01", None, "character"),
    ],
)
def test_what_is_wrong_with_yaml_is_said_with_its_line(text: str, line: int | None, words: str) -> None:
    found = refused(text)
    assert words in str(found[0])
    assert found[0].source == "gw.yaml"
    if line is not None:
        assert found[0].line == line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1,}', "is not JSON"),
        ("a: 1", "is not JSON"),
        ('{"a": NaN}', "is not JSON"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "is not a mapping"),
    ],
)
def test_what_is_wrong_with_json_is_said(text: str, words: str) -> None:
    assert words in str(refused(text, "gw.json")[0])


def test_every_finding_of_a_document_is_kept() -> None:
    found = refused("a: 1\na: 2\nb: !x 1\nc: *d")
    assert [problem.line for problem in found] == [2, 3, 4]


def test_an_alias_is_followed_and_a_merge_key_does_not_override() -> None:
    document = parse_text("base: &b {x: 1, y: 2}\na: {<<: *b, x: 3}\nc: *b\nd: {<<: [*b, {z: 4}]}")
    assert document.data["a"] == {"x": 3, "y": 2}
    assert document.data["c"] == {"x": 1, "y": 2}
    assert document.data["d"] == {"x": 1, "y": 2, "z": 4}


def test_aliases_cannot_multiply_without_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "entries, aliases followed" in str(refused("\n".join(lines))[0])


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000 + "a", "{a: " * 100_000])
def test_nesting_has_an_end(text: str) -> None:
    # Newer releases of libyaml have a limit of their own and come first, in their own words.
    assert re.search("nested more than|maximum nesting depth", str(refused(text)[0]))


def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(file, "MAX_BYTES", 10)
    path = tmp_path / "gw.yaml"
    path.write_text("a: 123456789")
    with pytest.raises(ConfigRefused, match="is larger than 10 bytes"):
        read_document(path)


def test_a_file_is_read_whatever_its_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "gw.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9")
    document = read_document(path)
    assert document == Document(str(path), {"a": "é"}, document.revision, {"a": 1})


def test_a_file_that_is_not_there_or_not_text_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefused, match=r"none\.yaml: document: cannot be read: No such file"):
        read_document(tmp_path / "none.yaml")
    path = tmp_path / "gw.yaml"
    path.write_bytes(b"a: 1\nb: \xff\xfe")
    with pytest.raises(ConfigRefused, match=r"gw\.yaml:2: document: is not UTF-8"):
        read_document(path)


@settings(max_examples=150, deadline=None)
@given(
    st.text(st.sampled_from("ab:-[]{}&*!<\"'#,|>?% \n\t1.~\x00é"), max_size=60), st.sampled_from(["gw.yaml", "gw.json"])
)
def test_whatever_the_text_it_is_a_document_or_refused(text: str, origin: str) -> None:
    try:
        document = parse_text(text, origin)
    except ConfigRefused:
        return
    assert isinstance(document.data, dict)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9) | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc é", max_size=3), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abcd", min_size=1, max_size=3), _JSON, max_size=4))
def test_json_comes_back_as_it_was_written(data: dict[str, object]) -> None:
    assert parse_text(json.dumps(data, indent=1), "gw.json").data == data
