"""URLs of Redis: each scheme and what is shown of it, what is refused without being repeated, and slots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.clients.redis_urls import (
    MAX_SEEDS,
    SLOTS,
    Credentials,
    Place,
    RedisUrl,
    one_slot_of,
    read_redis_url,
    slot_of,
)

NOBODY = Credentials(None, None)


@pytest.mark.parametrize(
    ("text", "kind", "tls", "places", "database", "shown"),
    [
        ("redis://h", "server", False, [("h", 6379)], 0, "redis://h:6379/0"),
        ("REDISS://H:1/12", "server", True, [("h", 1)], 12, "rediss://h:1/12"),
        ("redis://[::1]", "server", False, [("::1", 6379)], 0, "redis://[::1]:6379/0"),
        ("redis://u:hunter2@[FE80::1]:7", "server", False, [("fe80::1", 7)], 0, "redis://[fe80::1]:7/0"),
        ("redis+cluster://h", "cluster", False, [("h", 6379)], 0, "redis+cluster://h:6379"),
        ("redis+cluster://h:1,i:2,[::1]:3", "cluster", False, [("h", 1), ("i", 2), ("::1", 3)], 0,
         "redis+cluster://h:1,i:2,[::1]:3"),
        ("rediss+cluster://u:hunter2@h,i/", "cluster", True, [("h", 6379), ("i", 6379)], 0,
         "rediss+cluster://h:6379,i:6379"),
        ("redis+cluster://h:1,h:1,h:2/0", "cluster", False, [("h", 1), ("h", 2)], 0, "redis+cluster://h:1,h:2"),
        ("redis+sentinel://h/mymaster", "sentinel", False, [("h", 26379)], 0, "redis+sentinel://h:26379/mymaster?db=0"),
        ("rediss+sentinel://:hunter2@h,i:7/My.one?db=3", "sentinel", True, [("h", 26379), ("i", 7)], 3,
         "rediss+sentinel://h:26379,i:7/My.one?db=3"),
    ],
)  # fmt: skip
def test_each_scheme_and_what_is_shown_of_it(
    text: str, kind: str, tls: bool, places: list[tuple[str, int]], database: int, shown: str
) -> None:
    url = read_redis_url(text)
    assert (url.kind, url.tls, url.places, url.database) == (kind, tls, tuple(Place(*one) for one in places), database)
    assert url.shown == shown
    assert "hunter2" not in repr(url)


@pytest.mark.parametrize(
    ("text", "credentials"),
    [
        ("redis://h", NOBODY),
        ("redis://@h", NOBODY),
        ("redis://:@h", NOBODY),
        ("redis://u@h", Credentials("u", None)),
        ("redis://:p@h", Credentials(None, "p")),
        ("redis://u:p:q@h", Credentials("u", "p:q")),
        ("redis://u:p@q@h", Credentials("u", "p@q")),
        ("redis://u%3A:%40%2F%3F%23%2C@h", Credentials("u:", "@/?#,")),
        ("redis+cluster://u:p,q@h,i", Credentials("u", "p,q")),
        ("redis+sentinel://u:p@h,i/m", Credentials("u", "p")),
    ],
)
def test_credentials_are_read_and_are_in_no_repr(text: str, credentials: Credentials) -> None:
    assert read_redis_url(text).credentials == credentials
    assert repr(credentials) == "Credentials(…)"


def test_credentials_for_sentinels_are_no_options() -> None:
    text = "redis+sentinel://u:p@h/m?sentinel_user=s&sentinel_password=hunter2&timeout=0.1&word=w"
    url = read_redis_url(text, ("word",))
    assert url.sentinel == Credentials("s", "hunter2")
    assert url.credentials == Credentials("u", "p")
    assert url.options == {"timeout": "0.1", "word": "w"}
    assert "hunter2" not in repr(url)
    assert read_redis_url("redis+sentinel://u:p@h/m").sentinel == NOBODY


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0.7), ("?timeout=0.005", 0.005), ("?timeout=0.025", 0.025), ("?timeout=5", 5.0), ("?timeout=5.000", 5.0)],
)
def test_a_bound_for_questions(text: str, seconds: float) -> None:
    assert read_redis_url(f"redis+cluster://h{text}", timeout=0.7).timeout == seconds


@pytest.mark.parametrize("text", ["", "0", "0.004", "5.001", "6", "1e-1", "nan", "inf", "-1", "%201", "0.0251"])
def test_a_bound_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"timeout is a number of seconds from 0\.005 to 5"):
        read_redis_url(f"redis://h?timeout={text}")


@pytest.mark.parametrize(
    "text",
    [
        "", "hunter2", "redis", "redis:", "http://h", "redis+other://hunter2", "redis://", "redis://h,i", "redis://h,",
        "redis://h/x", "redis://h/10000", "redis://h/1/2", "redis://h#hunter2", "redis://h/0;hunter2", "redis://h?x=hunter2",
        "redis://h:0", "redis://h:65536", "redis://h:hunter2", "redis://h:", "redis://[::1", "redis://[::1]x", "redis://[hunter2]",
        "redis://[1:2]", "redis://[::ffff:1.2.3.4.5]", "redis://h u", "redis://h\n", "redis://h\x00", "redis://h\\u", "redis://h%41",
        "redis://h?ca=x", "redis://h?db=1", "redis://h?sentinel_password=hunter2", "redis://h?timeout=1&timeout=1",
        "redis+cluster://", "redis+cluster://h,,i", "redis+cluster://[::1],[1:2]", "redis+cluster://,h", "redis+cluster://h/1", "redis+cluster://h?db=0",
        "redis+cluster://hunter2@h,x@i,h:x", "redis+sentinel://h", "redis+sentinel://h/", "redis+sentinel://h/m/1",
        "redis+sentinel://h/hunter 2", "redis+sentinel://h/m%6D", "redis+sentinel://h/m?db=hunter2", "redis+sentinel://h/m?db=",
        "redis+sentinel://h/m?db=10000", "redis+sentinel://h/m?ca=/x", "redis+sentinel://h/m?db=1&db=1",
        "redis+cluster://" + ",".join(f"h{number}" for number in range(MAX_SEEDS + 1)),
    ],
)  # fmt: skip
def test_what_is_no_such_url_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"URL") as caught:
        read_redis_url(text)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_an_error_says_what_the_url_of_its_kind_is_like() -> None:
    for text, like in (
        ("redis+cluster://h/1", r"redis\+cluster://host1:6379,host2:6379"),
        ("redis+sentinel://h", r"redis\+sentinel://host1:26379,host2:26379/mymaster\?db=0"),
        ("rediss://h/x", r"redis://host:6379/0"),
    ):
        with pytest.raises(ValueError, match=like):
            read_redis_url(text)


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_is_refused(text: str) -> None:
    for begin in ("", "redis://", "redis+cluster://", "redis+sentinel://h,"):
        try:
            url = read_redis_url(begin + text)
        except ValueError:
            continue
        assert 1 <= len(url.places) <= MAX_SEEDS
        assert all(one.host and 0 < one.port < 65536 for one in url.places)


names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True)
places = st.lists(st.builds(Place, names | st.just("::1"), st.integers(1, 65535)), min_size=1, max_size=5, unique=True)


@given(places, st.sampled_from(["redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel"]))
def test_what_is_shown_is_a_url_of_the_same(found: list[Place], scheme: str) -> None:
    text = f"{scheme}://user:secret@{','.join(map(str, found))}{'/m?db=2' if 'sentinel' in scheme else ''}"
    url = read_redis_url(text)
    again = read_redis_url(url.shown)

    def told(one: RedisUrl) -> tuple[object, ...]:
        return (one.kind, one.tls, one.places, one.database, one.master, one.shown)

    assert told(again) == told(url)
    assert url.places == tuple(found)


# -- slots


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        ("123456789", 12739),
        ("foo", 12182),
        ("{foo}", 12182),
        ("a{foo}b", 12182),
        ("{foo}{bar}", 12182),
        ("", 0),
        ("foo{}{bar}", 8363),
        ("foo{{bar}}zap", 4015),
        ("a{b", 13340),
    ],
)
def test_a_key_has_the_slot_of_its_hash_tag(key: str, slot: int) -> None:
    assert slot_of(key) == slot_of(key.encode()) == slot


@given(st.text(alphabet="{}ab\xe9", max_size=12) | st.text(max_size=20))
def test_slots_are_those_that_redis_py_knows(key: str) -> None:
    crc = pytest.importorskip("redis.crc")
    raw = key.encode("utf-8", "replace")
    assert slot_of(raw) == crc.key_slot(raw)
    assert 0 <= slot_of(raw) < SLOTS


def test_keys_of_one_slot_have_one() -> None:
    assert one_slot_of([]) is None
    assert one_slot_of(["foo"]) == 12182
    assert one_slot_of(["foo", "a{foo}", "{foo}b"]) == 12182


def test_keys_of_several_slots_are_refused_without_being_repeated() -> None:
    with pytest.raises(ValueError, match=r"slots 12182 and 5061 of the cluster.*hash tag") as caught:
        one_slot_of(["foo", "bar"])
    assert "foo" not in str(caught.value)
