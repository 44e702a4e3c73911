"""The list of what is revoked: exact, bounded, quick to ask, and forgetful in time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.mechanisms import denylist as module
from gatekit.mechanisms.denylist import LEEWAY, PARTS, Denylist, DenylistFull, Entry, ends, is_over
from gatekit.mechanisms.revocation import KINDS, MAX_VALUE, Revocation, digest_of

NOW = 1_700_000_000


class Wall:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def listed(wall: Wall) -> Denylist:
    return Denylist(wall)


def one(kind: str, value: str | None = "v", **given: Any) -> Revocation:
    return Revocation(kind, value, **{"until": NOW + 600, **given})


# -- what is revoked


@pytest.mark.parametrize("kind", ["jti", "sub", "sid", "client_id", "tenant"])
def test_an10_what_has_the_claim_is_revoked_and_nothing_else(listed: Denylist, kind: str) -> None:
    listed.add(one(kind, "v"))
    assert listed.revoked({kind: "v"}) == kind
    assert listed.revoked({kind: "v", "iss": "a", "iat": NOW}) == kind
    assert listed.revoked({kind: "V"}) is None
    assert listed.revoked({kind: "v "}) is None
    assert listed.revoked({other: "v" for other in KINDS if other != kind}) is None
    assert listed.revoked({}) is None


@pytest.mark.parametrize("kind", ["jti", "sub", "sid", "client_id", "tenant"])
def test_within_an_issuer_another_issuers_are_not_meant(listed: Denylist, kind: str) -> None:
    listed.add(one(kind, "v", iss="a"))
    assert listed.revoked({kind: "v", "iss": "a"}) == kind
    assert listed.revoked({kind: "v", "iss": "b"}) is None
    assert listed.revoked({kind: "v"}) is None
    assert listed.revoked({kind: "v", "iss": 7}) is None


def test_no_issuer_and_value_are_taken_for_another_pair(listed: Denylist) -> None:
    listed.add(one("sub", "bc", iss="a"))
    assert listed.revoked({"sub": "c", "iss": "ab"}) is None
    assert listed.revoked({"sub": "1:abc"}) is None
    listed.add(one("sub", "1:xy"))
    assert listed.revoked({"sub": "y", "iss": "x"}) is None


@pytest.mark.parametrize("value", [7, None, True, ["v"], {"v": 1}, b"v", 1.5], ids=repr)
def test_what_is_not_text_never_matches(listed: Denylist, value: object) -> None:
    for kind in ("jti", "sub", "sid", "client_id", "tenant"):
        listed.add(one(kind, str(value)))
        assert listed.revoked({kind: value}) is None


@pytest.mark.parametrize("text", ["é", "e\u0301", "\ud800", "😀", "\0", "x" * MAX_VALUE], ids=ascii)
def test_text_is_compared_exactly_whatever_is_in_it(listed: Denylist, text: str) -> None:
    assert listed.revoked({"sub": text}) is None
    listed.add(one("sub", text))
    assert listed.revoked({"sub": text}) == "sub"
    assert listed.revoked({"sub": text + "x"}) is None
    assert listed.revoked({"sub": "é" if text != "é" else "e\u0301"}) is None


def test_a_value_longer_than_any_that_can_be_revoked_is_not_even_hashed(
    listed: Denylist, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed.add(one("sub", iss="a"))
    monkeypatch.setattr(module, "digest_of", None)
    assert listed.revoked({"sub": "x" * (MAX_VALUE + 1)}) is None
    assert listed.revoked({"sub": "v", "iss": "x" * (MAX_VALUE + 1)}) is None


BEFORE: list[tuple[dict[str, Any], bool]] = [
    ({"iat": NOW - 1}, True),
    ({"iat": NOW}, False),
    ({"iat": NOW + 1}, False),
    ({"iat": NOW - 0.001}, True),
    ({"iat": -1}, True),
    ({"iat": 10**400}, False),
    ({}, True),
    ({"iat": None}, True),
    ({"iat": str(NOW + 1)}, True),
    ({"iat": True}, True),
    ({"iat": math.nan}, True),
    ({"iat": math.inf}, True),
    ({"iat": -math.inf}, True),
]


@pytest.mark.parametrize(("claims", "revoked"), BEFORE, ids=[repr(claims)[:30] for claims, _ in BEFORE])
@pytest.mark.parametrize(
    "record",
    [
        one("sub", before=NOW), one("client_id", before=NOW), one("tenant", before=NOW), one("iss", before=NOW),
        one("all", None, before=NOW), one("sub", iss="v", before=NOW),
    ],
    ids=lambda record: f"{record.kind}{'@' if record.iss else ''}",
)  # fmt: skip
def test_an10_issued_before_means_before_or_nobody_knows_when(
    listed: Denylist, record: Revocation, claims: Mapping[str, Any], revoked: bool
) -> None:
    listed.add(record)
    who = dict.fromkeys(KINDS, "v")
    assert listed.revoked({**who, **claims}) == ("issued_before" if revoked else None)
    assert (listed.revoked({"jti": "other", **claims}) is not None) == (record.kind == "all" and revoked)


def test_what_is_revoked_as_a_whole_is_so_whenever_it_says_it_was_issued(listed: Denylist) -> None:
    listed.add(one("sub"))
    for claims, _ in BEFORE:
        assert listed.revoked({"sub": "v", **claims}) == "sub"


def test_several_times_for_one_subject_are_all_in_force(listed: Denylist, wall: Wall) -> None:
    listed.add(one("sub", before=NOW - 100, until=NOW + 900))
    listed.add(one("sub", before=NOW, until=NOW + 300))
    assert len(listed) == 2
    assert listed.revoked({"sub": "v", "iat": NOW - 1}) == "issued_before"
    assert listed.revoked({"sub": "v", "iat": NOW - 101}) == "issued_before"
    wall.now = NOW + 300 + LEEWAY
    assert listed.revoked({"sub": "v", "iat": NOW - 1}) is None
    assert listed.revoked({"sub": "v", "iat": NOW - 101}) == "issued_before"
    listed.add(one("sub", until=NOW + 900))
    assert listed.revoked({"sub": "v", "iat": NOW + 5}) == "sub"


def test_the_same_thing_again_counts_once_and_for_the_longer_time(listed: Denylist, wall: Wall) -> None:
    assert listed.add(one("jti", until=NOW + 300))
    assert not listed.add(one("jti", until=NOW + 300))
    assert not listed.add(one("jti", until=NOW + 200))
    assert listed.add(one("jti", until=NOW + 400))
    assert len(listed) == 1
    wall.now = NOW + 400 + LEEWAY - 0.5
    assert listed.revoked({"jti": "v"}) == "jti"
    wall.now += 0.5
    assert listed.revoked({"jti": "v"}) is None
    swept(listed)
    assert len(listed) == 0


def test_what_ends_never_again_after_that(listed: Denylist, wall: Wall) -> None:
    listed.add(one("jti", until=NOW + 300))
    listed.add(one("jti", until=None))
    wall.now = NOW + 10**9
    assert swept(listed) == 1
    assert listed.revoked({"jti": "v"}) == "jti"
    assert not listed.add(one("jti", until=NOW + 2 * 10**9))


# -- the end of an entry


def test_an10_an_entry_outlives_its_token_by_the_longest_leeway(listed: Denylist, wall: Wall) -> None:
    """A gateway may take a token for `LEEWAY` after its `exp`: until then it must still be known as revoked."""
    listed.add(one("jti", until=NOW + 60))
    wall.now = NOW + 60 + LEEWAY - 0.01
    assert listed.revoked({"jti": "v"}) == "jti"
    wall.now = NOW + 60 + LEEWAY
    assert listed.revoked({"jti": "v"}) is None


def test_what_has_ended_is_not_taken_in(listed: Denylist) -> None:
    assert not listed.add(one("jti", until=NOW - LEEWAY))
    assert listed.add(one("jti", until=NOW - LEEWAY + 1))
    assert len(listed) == 1


def swept(listed: Denylist) -> int:
    """Go through the whole list once; how many calls that took."""
    calls = 1
    while listed.expire():
        calls += 1
    return calls


def test_ended_entries_are_taken_out_in_slices(listed: Denylist, wall: Wall) -> None:
    for number in range(6000):
        listed.put(Entry(number << 8, math.inf, NOW + 60))
        listed.put(Entry(number, math.inf, NOW + 60))
    listed.add(one("jti", "stays", until=NOW + 10_000))
    sizes = [len(listed)]
    assert sizes[0] > 11_900
    assert swept(listed) >= 5
    assert len(listed) == sizes[0]
    wall.now = NOW + 1000
    while listed.expire():
        sizes.append(len(listed))
    assert max(before - after for before, after in itertools.pairwise(sizes)) <= 2500
    assert len(listed) == 1
    assert listed.revoked({"jti": "stays"}) == "jti"


def test_of_one_part_not_too_many_are_taken_out_at_once(listed: Denylist, wall: Wall) -> None:
    for number in range(1000):
        listed.put(Entry(number << 8, math.inf, NOW + 60))
    wall.now = NOW + 1000
    left = []
    while listed.expire(1):
        left.append(len(listed))
    assert left[:4] == [750, 500, 250, 0]


def test_a_list_that_nobody_tends_shrinks_as_it_is_added_to(listed: Denylist, wall: Wall) -> None:
    for number in range(20_000):
        listed.add(one("jti", str(number), until=NOW + 60))
    wall.now = NOW + 1000
    for number in range(20_000):
        listed.add(one("jti", f"new {number}", until=NOW + 5000))
    assert len(listed) < 24_000


def test_whoever_calls_it_a_little_at_a_time_comes_round(listed: Denylist, wall: Wall) -> None:
    for number in range(300):
        listed.add(one("jti", str(number), until=NOW + 60))
    wall.now = NOW + 1000
    calls = 1
    while listed.expire(1):
        calls += 1
    assert calls == PARTS
    assert len(listed) == 0


def test_of_a_key_with_several_entries_those_go_that_have_ended(listed: Denylist, wall: Wall) -> None:
    for number in range(4):
        listed.add(one("sub", before=NOW - number, until=NOW + 1000 * (number + 1)))
    assert len(listed) == 4
    for left in (3, 2, 1, 0):
        wall.now += 1000 if left < 3 else 2000
        swept(listed)
        assert len(listed) == left
    assert listed.revoked({"sub": "v"}) is None


def test_a_clock_that_is_put_back_brings_no_harm(listed: Denylist, wall: Wall) -> None:
    listed.add(one("jti", until=NOW + 60))
    wall.now = NOW - 10_000
    assert listed.revoked({"jti": "v"}) == "jti"
    assert swept(listed) == 1


def test_what_was_extended_is_not_taken_out_at_its_first_end(listed: Denylist, wall: Wall) -> None:
    listed.add(one("jti", until=NOW + 60))
    listed.add(one("jti", until=NOW + 6000))
    listed.add(one("sub", until=NOW + 60))
    listed.add(one("sub", until=NOW + 6000))
    listed.add(one("sub", before=NOW, until=NOW + 6000))
    wall.now = NOW + 2000
    swept(listed)
    assert listed.revoked({"jti": "v"}) == "jti"
    assert listed.revoked({"sub": "v"}) == "sub"
    assert len(listed) == 3


# -- taking back


def test_one_revocation_is_taken_back_and_others_of_the_same_stay(listed: Denylist) -> None:
    for record in (one("sub"), one("sub", before=NOW), one("sub", before=NOW - 50), one("sub", iss="a")):
        listed.add(record)
    assert listed.remove(one("sub", until=None))
    assert listed.revoked({"sub": "v", "iat": NOW}) is None
    assert listed.remove(one("sub", before=NOW))
    assert listed.revoked({"sub": "v", "iat": NOW - 1}) is None
    assert listed.revoked({"sub": "v", "iat": NOW - 51}) == "issued_before"
    assert listed.remove(one("sub", before=NOW - 50))
    assert listed.revoked({"sub": "v"}) is None
    assert listed.revoked({"sub": "v", "iss": "a"}) == "sub"
    assert not listed.remove(one("sub"))
    assert not listed.remove(one("sub", "never"))
    assert listed.remove(one("sub", iss="a"))
    assert len(listed) == 0


def test_what_was_taken_back_can_be_revoked_again(listed: Denylist, wall: Wall) -> None:
    listed.add(one("jti", until=NOW + 60))
    listed.remove(one("jti"))
    listed.add(one("jti", until=NOW + 6000))
    wall.now = NOW + 2000
    swept(listed)
    assert listed.revoked({"jti": "v"}) == "jti"


# -- bounds


def test_a_full_list_refuses_loudly_and_keeps_what_it_has(wall: Wall) -> None:
    listed = Denylist(wall, max_entries=2)
    listed.add(one("jti", "a"))
    listed.add(one("sub", before=NOW))
    with pytest.raises(DenylistFull, match="2 things are revoked, which is all there is room for"):
        listed.add(one("jti", "b"))
    with pytest.raises(DenylistFull):
        listed.add(one("sub", before=NOW - 1))
    assert len(listed) == 2
    assert listed.revoked({"jti": "b"}) is None
    assert listed.add(one("jti", "a", until=NOW + 601))
    wall.now = NOW + 10_000
    assert listed.add(one("jti", "b", until=NOW + 20_000))


def test_an_entry_that_is_left_out_revokes_everything_for_its_time(wall: Wall) -> None:
    listed = Denylist(wall, max_entries=1)
    listed.add(one("jti", "a", until=NOW + 100))
    assert not listed.full
    listed.leave_out(one("jti", "b", until=NOW + 50))
    listed.leave_out(one("jti", "c", until=NOW + 500))
    assert listed.full
    assert listed.revoked({"jti": "a"}) == "jti"
    assert listed.revoked({"jti": "d"}) == "list_full"
    assert listed.revoked({}) == "list_full"
    wall.now = NOW + 100 + 2 * LEEWAY
    swept(listed)
    assert len(listed) == 0
    assert listed.revoked({}) == "list_full"
    wall.now = NOW + 500 + LEEWAY
    assert listed.revoked({}) is None
    assert not listed.full
    assert listed.add(one("jti", "e", until=NOW + 10_000))
    assert listed.revoked({"jti": "x"}) is None


def test_the_parts_hold_every_entry_once_and_make_the_same_list_again(listed: Denylist, wall: Wall) -> None:
    records = [one("jti", str(number), until=NOW + 60 + number) for number in range(600)]
    records += [one("sub", before=NOW, until=None), one("sub", before=NOW - 9), one("all", None, before=7)]
    for record in records:
        listed.add(record)
    parts = [listed.part(number) for number in range(PARTS)]
    entries = [entry for part in parts for entry in part]
    assert len(entries) == len(set(entries)) == len(records) == len(listed)
    assert {(entry.key, entry.before, entry.until) for entry in entries} == {
        (record.key, math.inf if record.before is None else record.before, ends(record)) for record in records
    }
    again = Denylist(wall)
    for entry in entries:
        again.put(entry)
    assert all(again.revoked({"jti": record.value}) == "jti" for record in records[:600])
    assert [again.part(number) for number in range(PARTS)] == parts


def test_equal_ends_are_one_object_as_long_as_there_are_not_too_many(
    listed: Denylist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARED", 3)
    for number in range(10):
        listed.add(one("jti", str(number), until=NOW + 60 + number // 2))
    assert len(listed) == 10
    assert all(listed.revoked({"jti": str(number)}) for number in range(10))


@pytest.mark.parametrize(
    ("record", "end", "over"),
    [
        (one("jti", until=None), math.inf, False),
        (one("jti", until=NOW - LEEWAY), NOW - LEEWAY, True),
        (one("jti", until=NOW - LEEWAY + 1), NOW - LEEWAY + 1, False),
    ],
    ids=["never", "over", "in the leeway"],
)
def test_when_a_revocation_is_over(record: Revocation, end: float, over: bool) -> None:
    assert ends(record) == end
    assert is_over(record, NOW) is over


# -- against the plain meaning

VALUES = ["a", "b", "1:ab", ""]
TIMES = st.integers(NOW - 400, NOW + 900)


@st.composite
def records(draw: st.DrawFn) -> Revocation:
    kind = draw(st.sampled_from(KINDS))
    value = None if kind == "all" else draw(st.sampled_from(VALUES[:3]))
    iss = draw(st.sampled_from([None, "a", "b"])) if kind not in ("iss", "all") else None
    dated = kind in ("iss", "all") or (kind in ("sub", "client_id", "tenant") and draw(st.booleans()))
    until = draw(st.none() | TIMES)
    return Revocation(kind, value, iss, until, draw(TIMES) if dated else None)


CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        **{kind: st.sampled_from([*VALUES, 7]) for kind in ("jti", "sub", "sid", "client_id", "tenant", "iss")},
        "iat": TIMES | st.sampled_from([None, math.nan, "x", True]),
    },
)
STEPS = st.lists(
    st.tuples(st.just("add"), records())
    | st.tuples(st.just("remove"), records())
    | st.tuples(st.just("remove nth"), st.integers(0, 9))
    | st.tuples(st.just("pass"), st.integers(0, 700))
    | st.tuples(st.just("expire"), st.integers(1, 5))
    | st.tuples(st.just("ask"), CLAIMS),
    max_size=40,
)


def meant(records: Iterable[Revocation], claims: Mapping[str, Any], now: float) -> bool:
    """Whether any of these is about a credential with these claims, read as plainly as it is said."""
    iat: Any = claims.get("iat")
    for record in records:
        if is_over(record, now):
            continue
        if record.kind != "all" and claims.get(record.kind) != record.value:
            continue
        if record.iss is not None and claims.get("iss") != record.iss:
            continue
        undated = type(iat) not in (int, float) or iat != iat
        if record.before is None or undated or iat < record.before:
            return True
    return False


@given(STEPS)
@settings(max_examples=400, deadline=None)
def test_an10_it_equals_a_plain_list_through_any_history(steps: list[tuple[str, Any]]) -> None:
    wall = Wall()
    listed = Denylist(wall)
    plain: list[Revocation] = []
    for step, what in steps:
        if step == "add":
            listed.add(what)
            plain.append(what)
        elif step.startswith("remove"):
            gone = what if step == "remove" else (plain[what] if what < len(plain) else None)
            if gone is not None:
                listed.remove(gone)
                plain = [record for record in plain if record.name != gone.name]
        elif step == "pass":
            wall.now += what
        elif step == "expire":
            listed.expire(what)
        else:
            assert (listed.revoked(what) is not None) == meant(plain, what, wall.now)
    for claims in ({}, {"sub": "a"}, {"sub": "b", "iss": "a", "iat": NOW}, {"iss": "b", "client_id": "1:ab"}):
        assert (listed.revoked(claims) is not None) == meant(plain, claims, wall.now)
    assert len(listed) >= len({record.name for record in plain if not is_over(record, wall.now)})
    assert sum(len(listed.part(number)) for number in range(PARTS)) == len(listed)
    wall.now += 10_000
    # Twice, as a pass may have been under way.
    swept(listed)
    swept(listed)
    assert len(listed) == len({record.name for record in plain if record.until is None})


# -- what it costs


def test_only_kinds_that_are_there_are_looked_up(listed: Denylist, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    def counted(text: str) -> bytes:
        looked_up.append(text)
        return digest_of(text)

    monkeypatch.setattr(module, "digest_of", counted)
    claims = {"jti": "j", "sub": "s", "sid": "d", "client_id": "c", "tenant": "t", "iss": "i"}
    listed.add(one("jti"))
    listed.add(one("sub", "s", iss="x"))
    assert listed.revoked(claims) is None
    assert looked_up == ["j", "1:is"]
    listed.remove(one("sub", "s", iss="x"))
    looked_up.clear()
    assert listed.revoked(claims) is None
    assert looked_up == ["j"]
