"""Header lists: reading by name, changing without touching what belongs to somebody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.core import headers as headers_module
from gatekit.core.head import ResponseHead
from gatekit.core.headers import Headers, RawHeaders, Shape, encode_name, encode_value, fold, shape_of

PAIRS: RawHeaders = [(b"accept", b"a"), (b"cookie", b"x=1"), (b"accept", b"b"), (b"x.user_id", b"eve")]


@pytest.mark.parametrize("name", ["X-Id", b"X-ID", "x-id"])
def test_a_name_is_encoded_in_lower_case(name: str | bytes) -> None:
    assert encode_name(name) == b"x-id"


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ä", "a\n", "日", b"\xe4", "(x)"])
def test_what_is_no_header_name(name: str | bytes) -> None:
    with pytest.raises(ValueError, match="not a header name"):
        encode_name(name)


@pytest.mark.parametrize(
    ("value", "raw"), [("a", b"a"), (" a b\t", b"a b"), ("é", b"\xe9"), (b"\xff", b"\xff"), ("", b"")]
)
def test_a_value_is_encoded_as_on_the_wire(value: str | bytes, raw: bytes) -> None:
    assert encode_value(value) == raw


@pytest.mark.parametrize("value", ["a\r\nset-cookie: x", "a\n", "\0", b"a\rb", "日"])
def test_a_value_that_may_not_be_sent(value: str | bytes) -> None:
    with pytest.raises(ValueError, match="a header value"):
        encode_value(value)


@pytest.mark.parametrize("name", [b"X-User-Id", b"x_user_id", b"x.user-id", b"X-USER.ID"])
def test_spellings_that_fold_into_one(name: bytes) -> None:
    assert fold(name) == b"x-user-id"


def test_reading() -> None:
    headers = Headers(list(PAIRS))
    assert headers.get("Accept") == "a"
    assert headers.get(b"accept") == "a"
    assert headers.get("missing") is None
    assert headers.get_bytes(b"cookie") == b"x=1"
    assert headers.get_all("ACCEPT") == ["a", "b"]
    assert headers.get_all(b"accept") == ["a", "b"]
    assert "Accept" in headers
    assert b"accept" in headers
    assert "nothing" not in headers
    assert list(headers) == PAIRS
    assert len(headers) == 4
    assert len(Headers()) == 0


def test_changing() -> None:
    headers = Headers(list(PAIRS))
    headers.set("Accept", "c")
    assert headers.get_all("accept") == ["c"]
    headers.append("accept", "d")
    assert headers.get_all("accept") == ["c", "d"]
    headers.remove("accept")
    headers.remove("was-never-there")
    assert "accept" not in headers
    headers.remove_folded("X-User-ID")
    assert headers.raw == [(b"cookie", b"x=1")]


@pytest.mark.parametrize("change", ["set", "append"])
def test_a_bad_change_changes_nothing(change: str) -> None:
    headers = Headers(list(PAIRS))
    for name, value in (("a b", "x"), ("a", "x\ny")):
        with pytest.raises(ValueError, match="header"):
            getattr(headers, change)(name, value)
    assert headers.raw == PAIRS


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "append", "remove", "remove_folded"]), st.sampled_from(["accept", "x_a", "x-a"])
        ),
        max_size=6,
    )
)
def test_a_shared_list_is_never_changed(changes: list[tuple[str, str]]) -> None:
    servers: RawHeaders = [*PAIRS, (b"x-a", b"1")]
    before = list(servers)
    shared, own = Headers(servers, shared=True), Headers(list(servers))
    for what, name in changes:
        for headers in (shared, own):
            getattr(headers, what)(*((name, "v") if what in ("set", "append") else (name,)))
    assert servers == before
    assert shared.raw == own.raw


def test_an_own_list_is_appended_to_in_place() -> None:
    raw: RawHeaders = []
    Headers(raw).append("a", "b")
    assert raw == [(b"a", b"b")]


@pytest.mark.parametrize(
    ("content_type", "stream"),
    [("text/event-stream", True), ("Text/Event-Stream; charset=utf-8", True), ("text/plain", False), (None, False)],
)
def test_event_streams_are_told_by_their_type(content_type: str | None, stream: bool) -> None:
    head = ResponseHead(200)
    if content_type is not None:
        head.set("content-type", content_type)
    assert head.is_event_stream is stream


@pytest.mark.parametrize(
    ("status", "body"), [(101, False), (200, True), (204, False), (205, False), (304, False), (404, True)]
)
def test_which_statuses_have_a_body(status: int, body: bool) -> None:
    assert ResponseHead(status, [(b"a", b"b")]).has_body is body


def test_a_name_that_no_header_can_have_is_not_there() -> None:
    headers = Headers([(b"a", b"b")])
    assert headers.get("日") is None
    assert headers.get_all("日") == []
    assert "日" not in headers


# -- the shape of a list


@pytest.mark.parametrize(
    ("names", "good", "host", "lengths", "coded"),
    [
        ([], True, -1, (), False),
        ([b"host"], True, 0, (), False),
        ([b"a", b"host", b"content-length"], True, 1, (2,), False),
        ([b"host", b"host"], True, -1, (), False),
        ([b"host", b"content-length", b"content-length", b"transfer-encoding"], True, 0, (1, 2), True),
        ([b"host", b"a b"], False, 0, (), False),
        ([b"host", b""], False, 0, (), False),
        ([b"host", b"a\nb"], False, 0, (), False),
    ],
)
def test_what_names_tell_by_themselves(
    names: list[bytes], good: bool, host: int, lengths: tuple[int, ...], coded: bool
) -> None:
    raw: RawHeaders = [(name, b"%d" % place) for place, name in enumerate(names)]
    shape = shape_of(raw)
    assert (shape.good, shape.host, shape.lengths, shape.coded) == (good, host, lengths, coded)
    assert shape.size == sum(map(len, names))
    assert shape_of([(name, b"other") for name in names]) is shape


def test_the_shapes_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[bytes, ...], Shape] = {}
    monkeypatch.setattr(headers_module, "_shapes", kept)
    monkeypatch.setattr(headers_module, "_SHAPES_KEPT", 3)
    for number in range(9):
        shape_of([(b"x-%d" % number, b"")])
        assert 0 < len(kept) <= 3
    shape_of([(b"x" * 3000, b"")])
    assert len(kept) <= 3
    assert (b"x" * 3000,) not in kept
