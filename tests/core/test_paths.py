"""RT6, SE3: one reading for every path, or none. Vectors of Envoy's path utility, of RFC 3986, and of known bypasses."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatekit.core.paths import (
    BACKSLASH,
    DOUBLE_ENCODING,
    ENCODED_SLASH,
    MARKS,
    SEMICOLON,
    CanonicalPath,
    PathRefused,
    canonical,
    check_query,
    encode,
)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        # RFC 3986 section 5.4, as paths
        ("/b/c/./g", "/b/c/g"),
        ("/b/c/.", "/b/c/"),
        ("/b/c/./", "/b/c/"),
        ("/b/c/..", "/b/"),
        ("/b/c/../", "/b/"),
        ("/b/c/../g", "/b/g"),
        ("/b/c/../..", "/"),
        ("/b/c/../../g", "/g"),
        ("/b/c/../../../g", "/g"),
        ("/./g", "/g"),
        ("/../g", "/g"),
        ("/b/g.", "/b/g."),
        ("/b/.g", "/b/.g"),
        ("/b/g..", "/b/g.."),
        ("/b/..g", "/b/..g"),
        ("/b/...", "/b/..."),
        ("/b/./../g", "/g"),
        ("/b/./g/.", "/b/g/"),
        ("/b/g/../h", "/b/h"),
        # Envoy: canonical path
        ("/", "/"),
        ("/.", "/"),
        ("/..", "/"),
        ("/a/b/../c", "/a/c"),
        ("/a/../../c", "/c"),
        ("/.hidden/x", "/.hidden/x"),
        ("/a%20b/c", "/a b/c"),
        # Envoy: merged slashes
        ("/a//b/c", "/a/b/c"),
        ("////a//b/c", "/a/b/c"),
        ("/a/b/c//", "/a/b/c/"),
        ("//", "/"),
        ("/a/b///", "/a/b/"),
        ("/a//../b", "/b"),
        # escaped dots are dots
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/%2e/b", "/a/b"),
        ("/%2e%2e/%2e%2e/etc/passwd", "/etc/passwd"),
        ("/a/%2e%2e", "/"),
        # escapes of what needs none, lower-case digits, what must be escaped
        ("/%61dmin", "/admin"),
        ("/%7euser", "/~user"),
        ("/caf%c3%a9", "/café"),
        ("/100%25", "/100%"),
        ("/%25zz", "/%zz"),
        ("/%3F%23", "/?#"),
        ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
        ("/%22%3C%3E", '/"<>'),
        ("*", "*"),
    ],
)
def test_rt6_one_path_for_all_spellings(raw: str, path: str) -> None:
    found = canonical(raw.encode())
    assert (found.path, found.marks) == (path, 0)


@pytest.mark.parametrize(
    ("raw", "wire"),
    [
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/café", "/caf%C3%A9"),
        ("/%61%2D%7e", "/a-~"),
        ("/%20%3f%23%25", "/%20%3F%23%25"),
        ("/a|b{c}^`", "/a%7Cb%7Bc%7D%5E%60"),
        ("/plain/path.html", "/plain/path.html"),
        ("/a%2fb%5c", "/a%2Fb%5C"),
        ("/a\\b", "/a%5Cb"),
        ("/a;b%3bc", "/a;b%3Bc"),
        ("/%252e", "/%252e"),
    ],
)
def test_what_is_forwarded(raw: str, wire: str) -> None:
    assert canonical(raw.encode()).raw == wire.encode()


@pytest.mark.parametrize(
    ("raw", "path", "marks"),
    [
        ("/a%2Fb", "/a%2Fb", ENCODED_SLASH),
        ("/a%2fb", "/a%2Fb", ENCODED_SLASH),
        ("/a\\b", "/a%5Cb", BACKSLASH),
        ("/a%5cb", "/a%5Cb", BACKSLASH),
        ("/a;v=1/b", "/a;v=1/b", SEMICOLON),
        ("/a%3bv=1", "/a%3Bv=1", SEMICOLON),
        ("/%252e%252e/x", "/%252e%252e/x", DOUBLE_ENCODING),
        ("/%2525", "/%2525", DOUBLE_ENCODING),
        ("/%25%32%65", "/%252e", DOUBLE_ENCODING),
        ("/%252f;\\%2f", "/%252f;%5C%2F", DOUBLE_ENCODING | SEMICOLON | BACKSLASH | ENCODED_SLASH),
        ("/x/a%2fy/../z", "/x/z", ENCODED_SLASH),
    ],
)
def test_se3_oddities_stay_escaped_and_are_marked(raw: str, path: str, marks: int) -> None:
    found = canonical(raw.encode())
    assert (found.path, found.marks) == (path, marks)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "does not start with a slash"),
        (b"admin", "does not start with a slash"),
        (b"http://evil/", "does not start with a slash"),
        (b"**", "does not start with a slash"),
        (b"/files/..%2f..%2fadmin", "a dot segment stands beside an escape"),
        (b"/files/a%5c..", "a dot segment stands beside an escape"),
        (b"/%00", "NUL"),
        (b"/a\x00b", "must be escaped"),
        (b"/a b", "must be escaped"),
        (b"/a\tb", "must be escaped"),
        (b"/a\r\nb", "must be escaped"),
        (b"/a\n", "must be escaped"),
        (b"/a\x7f", "must be escaped"),
        (b"/a#b", "must be escaped"),
        (b"/a?b", "must be escaped"),
        (b"/%", "no two hex digits"),
        (b"/%2", "no two hex digits"),
        (b"/%zz", "no two hex digits"),
        (b"/%2z", "no two hex digits"),
        (b"/%u002e", "no two hex digits"),
        (b"/%c0%af", "not UTF-8"),
        (b"/%c0%ae%c0%ae/", "not UTF-8"),
        (b"/\xff", "not UTF-8"),
        (b"/%ed%a0%80", "not UTF-8"),
        (b"/..;/admin", "a dot segment stands beside an escape"),
        (b"/.;x/admin", "a dot segment stands beside an escape"),
        (b"/%2e%2e;x/admin", "a dot segment stands beside an escape"),
        (b"/a/..%3bx/admin", "a dot segment stands beside an escape"),
    ],
)
def test_se3_what_has_no_one_meaning_is_refused_and_not_repeated(raw: bytes, why: str) -> None:
    with pytest.raises(PathRefused, match=why) as caught:
        canonical(raw)
    assert "admin" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "path"),
    [("/a//b", "/a//b"), ("//", "//"), ("//a", "//a"), ("/a//../b", "/a/b"), ("/a/b/", "/a/b/"), ("/a/./b", "/a/b")],
)
def test_slashes_can_be_left_doubled(raw: str, path: str) -> None:
    assert canonical(raw.encode(), merge_slashes=False).path == path


PIECES = [
    b"/", b"//", b"a", b"B", b".", b"..", b"%2e", b"%2E", b"%2f", b"%2F", b"%5c", b"\\", b";", b"%3b", b"%25", b"%",
    b"2", b"e", b"f", b"%41", b"%7e", b"%c3%a9", b"\xc3\xa9", b"%20", b"%23", b"%3f", b"%00", b"%ff", b":", b"~", b"|",
]  # fmt: skip
raw_paths = st.lists(st.sampled_from(PIECES), max_size=14).map(lambda pieces: b"/" + b"".join(pieces))


@given(st.one_of(raw_paths, st.binary(max_size=12).map(lambda raw: b"/" + raw)), st.booleans())
@example(b"/%25%32%65", True)
@example(b"/a/%2e%2e;", True)
@settings(max_examples=600, deadline=None)
def test_rt6_canonicalising_again_changes_nothing(raw: bytes, merge: bool) -> None:
    try:
        found = canonical(raw, merge_slashes=merge)
    except PathRefused:
        return
    again = canonical(found.raw, merge_slashes=merge)
    assert (again.path, again.raw) == (found.path, found.raw)
    # A segment that `..` took away leaves its mark: whoever reads it as two segments arrives elsewhere.
    assert again.marks & ~found.marks == 0
    assert again.marks == found.marks or b".." in unquote_to_bytes(raw)
    assert found.raw.isascii()
    assert found.raw.startswith(b"/")
    segments = found.path.split("/")[1:]
    assert not {".", ".."} & set(segments)
    if merge:
        assert "" not in segments[:-1]
    if not found.marks:
        assert unquote_to_bytes(found.raw).decode() == found.path


@given(st.text(st.characters(exclude_characters="\0\\;/", exclude_categories=["Cs"]), min_size=1, max_size=8))
def test_a_path_we_write_is_read_as_we_meant_it(segment: str) -> None:
    found = canonical(encode(f"/x/{segment}"))
    if segment not in (".", "..") and not found.marks:
        assert found.path == f"/x/{segment}"


def test_marks_have_names() -> None:
    assert sorted(MARKS.values()) == [1, 2, 4, 8]
    assert CanonicalPath("/", b"/", 0) == canonical(b"/")


@pytest.mark.parametrize(
    ("query", "sent"), [(b"a=b&c=%20", b"a=b&c=%20"), (b"", b""), (b"q=\xc3\xa9", b"q=%C3%A9"), (b"q=[1]|", b"q=[1]|")]
)
def test_queries_that_go_on(query: bytes, sent: bytes) -> None:
    assert check_query(query) == sent


@pytest.mark.parametrize("query", [b"a b", b"a#b", b"a\n", b"\x00", b"\x7f", b"a\tb"])
def test_queries_that_do_not(query: bytes) -> None:
    with pytest.raises(PathRefused, match="query"):
        check_query(query)
