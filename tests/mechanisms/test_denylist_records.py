"""One revocation: what may be revoked, and its strict form as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.mechanisms.revocation import (
    KINDS,
    MAX_JSON,
    MAX_TIME,
    MAX_VALUE,
    MAX_WHY,
    Revocation,
    RevocationRefused,
    name_of,
    parted,
    read_revocation,
    restoration,
    revocation,
)

NOW = 1_700_000_000.25
DIGEST = "0123456789abcdef" * 2

GOOD: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({"jti": "a"}, ("jti", "a", None, None)),
    ({"sub": "a", "iss": "i"}, ("sub", "a", "i", None)),
    ({"sid": "a"}, ("sid", "a", None, None)),
    ({"client_id": "a", "issued_before": 5}, ("client_id", "a", None, 5)),
    ({"tenant": "a", "issued_before": 5.01}, ("tenant", "a", None, 6)),
    ({"iss": "i", "issued_before": NOW}, ("iss", "i", None, 1_700_000_001)),
    ({"everything": True, "issued_before": 5}, ("all", None, None, 5)),
    ({"everything": False, "jti": "a"}, ("jti", "a", None, None)),
]


@pytest.mark.parametrize(("words", "fields"), GOOD, ids=[str(words) for words, _ in GOOD])
def test_what_may_be_revoked(words: dict[str, Any], fields: tuple[Any, ...]) -> None:
    record = revocation(NOW, **words, until=NOW + 10.1, why="w")
    assert (record.kind, record.value, record.iss, record.before) == fields
    assert (record.until, record.at, record.why, record.restored) == (1_700_000_011, 1_700_000_000, "w", False)
    back = restoration(NOW, **words)
    assert back.restored
    assert back.name == record.name
    assert read_revocation(record.as_json()) == record
    assert read_revocation(back.as_json().encode()) == back


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "one thing"),
    ({"everything": False}, "one thing"),
    ({"jti": "a", "sub": "b"}, "one thing"),
    ({"jti": "a", "everything": True}, "one thing"),
    ({"jti": ""}, "text of 1 to 1024"),
    ({"jti": 7}, "text of 1 to 1024"),
    ({"jti": "x" * (MAX_VALUE + 1)}, "text of 1 to 1024"),
    ({"jti": "a", "iss": ""}, "iss is text of 1 to 1024"),
    ({"jti": "a", "issued_before": 5}, "jti is revoked as a whole"),
    ({"sid": "a", "issued_before": 5}, "sid is revoked as a whole"),
    ({"iss": "a"}, "as of a time"),
    ({"everything": True}, "as of a time"),
    ({"everything": True, "iss": "i", "issued_before": 5}, "neither a value nor an issuer"),
    ({"sub": "a", "issued_before": "now"}, "issued_before is a number"),
    ({"sub": "a", "issued_before": True}, "issued_before is a number"),
    ({"sub": "a", "issued_before": float("nan")}, "issued_before is a number"),
    ({"sub": "a", "issued_before": -1}, "before is a whole number"),
    ({"sub": "a", "until": float("inf")}, "until is a number"),
    ({"sub": "a", "until": MAX_TIME + 1}, "until is a whole number"),
    ({"sub": "a", "until": NOW - 1}, "over already"),
    ({"sub": "a", "why": "x" * (MAX_WHY + 1)}, "why is text"),
    ({"sub": "a", "why": 5}, "why is text"),
]


@pytest.mark.parametrize(("words", "why"), BAD, ids=[str(words)[:60] for words, _ in BAD])
def test_what_may_not_be_revoked(words: dict[str, Any], why: str) -> None:
    with pytest.raises(RevocationRefused, match=why):
        revocation(NOW, **{"until": NOW + 60, **words})


def test_no_end_must_be_said() -> None:
    assert revocation(NOW, jti="a", until=None).until is None
    with pytest.raises(KeyError, match="until"):
        revocation(NOW, jti="a")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "[]", "7", "null", '"a"', "{", "{}", '{"kind":"jti","value":"a"}', '{"value":"a","at":1}',
        '{"kind":"jti","value":"a","at":1,"more":1}', '{"kind":"jti","value":"a","value":"b","at":1}',
        '{"kind":"jti","value":"a","at":1.0}', '{"kind":"jti","value":"a","at":NaN}', '{"kind":"jti","value":"a","at":1e3}',
        '{"kind":"jti","value":"a","at":true}', '{"kind":"jti","value":"a","at":null}', '{"kind":"jti","value":"a","at":-1}',
        '{"kind":"jti","value":"a","at":' + "9" * 5000 + "}", '{"kind":"jti","value":7,"at":1}', '{"kind":"jti","at":1}',
        '{"kind":"none","value":"a","at":1}', '{"kind":["jti"],"value":"a","at":1}', '{"kind":{},"value":"a","at":1}',
        '{"kind":"jti","value":"a","at":1,"until":"1"}', '{"kind":"jti","value":"a","at":1,"restored":1}',
        '{"kind":"jti","value":"a","at":1,"restored":"true"}', '{"kind":"jti","value":"a","at":1,"why":null}',
        '{"kind":"jti","value":"a","at":1,"iss":["i"]}', '{"kind":"iss","value":"a","iss":"i","before":1,"at":1}',
        '{"kind":"all","value":"a","before":1,"at":1}', '{"kind":"all","at":1}', '{"kind":"jti","digest":"a","at":1}',
        f'{{"kind":"jti","digest":"{DIGEST}","value":"a","at":1}}', f'{{"kind":"jti","digest":"{DIGEST}","iss":"a","at":1}}',
        f'{{"kind":"jti","digest":"{DIGEST.upper()}","at":1}}', f'{{"kind":"jti","digest":"@@{DIGEST}","at":1}}',
        '{"kind":"jti","digest":7,"at":1}', f'{{"kind":"iss","digest":"@{DIGEST}","before":1,"at":1}}',
        f'{{"kind":"all","digest":"{DIGEST}","before":1,"at":1}}', "[" * 100_000, "[" * 20_000,
        '{"kind":"jti","value":"' + "a" * MAX_JSON + '","at":1}', '\ufeff{"kind":"jti","value":"a","at":1}',
    ],
    ids=lambda text: text[:50] or "empty",
)  # fmt: skip
def test_what_is_no_revocation_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(RevocationRefused) as caught:
        read_revocation(text)
    assert len(str(caught.value)) < 120
    assert DIGEST not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(RevocationRefused):
        read_revocation(text.encode())


def test_bytes_that_are_no_utf_8_are_refused() -> None:
    with pytest.raises(RevocationRefused, match="not JSON"):
        read_revocation(b'{"kind":"jti","value":"\xff","at":1}')
    with pytest.raises(RevocationRefused, match="not JSON"):
        read_revocation('{"kind":"jti","value":"a","at":1}'.encode("utf-16"))


TEXT = st.text(min_size=1, max_size=40) | st.sampled_from(["\ud800", "é", "x" * MAX_VALUE, "😀" * MAX_VALUE])
TIME = st.integers(0, MAX_TIME)


@st.composite
def records(draw: st.DrawFn) -> Revocation:
    kind = draw(st.sampled_from(KINDS))
    value = None if kind == "all" else draw(TEXT)
    iss = None if kind in ("all", "iss") else draw(st.none() | TEXT)
    before = draw(TIME) if kind in ("all", "iss") else None if kind in ("jti", "sid") else draw(st.none() | TIME)
    return Revocation(
        kind,
        value,
        iss,
        draw(st.none() | TIME),
        before,
        draw(TIME),
        draw(st.text(max_size=MAX_WHY)),
        draw(st.booleans()),
    )


@given(records())
def test_the_json_form_gives_the_same_again(record: Revocation) -> None:
    text = record.as_json()
    assert "\n" not in text
    assert text.isascii()
    assert len(text) <= MAX_JSON
    assert read_revocation(text) == record
    assert read_revocation(text.encode()) == record
    assert json.loads(text)["at"] == record.at


@given(records())
def test_without_its_text_it_is_the_same_entry(record: Revocation) -> None:
    kind, scoped, digest = parted(record.key)
    assert kind == record.kind
    assert scoped == (record.iss is not None)
    bare = Revocation(kind, until=record.until, before=record.before, digest=f"{'@' if scoped else ''}{digest}")
    assert bare.key == record.key
    assert bare.name == record.name == name_of(record.key, record.before)
    assert read_revocation(bare.as_json()) == bare


@given(st.lists(records(), max_size=30))
def test_two_have_one_name_only_if_they_are_about_the_same(found: list[Revocation]) -> None:
    said = {(record.kind, record.value, record.iss, record.before) for record in found}
    assert len({record.name for record in found}) == len(said)


def test_a_value_is_in_no_name() -> None:
    assert "ann" not in Revocation("sub", "ann@example.com", "issuer").name
