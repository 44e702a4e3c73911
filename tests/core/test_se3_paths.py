"""SE3: one canonical form, whatever was sent. Envoy's published vectors, and very many random paths.

Envoy keeps some paths that have two readings and prefixes those without a slash; here both are refused, so that no
reader behind the gateway can take them for something else. Where Envoy has a result, ours is the same or a refusal.
"""

from __future__ import annotations

import os
import random

import pytest

from gatekit.core.paths import PathRefused, canonical

NORMALISED = [
    ("/xyz", "/xyz"),
    ("/x/y/z", "/x/y/z"),
    ("/a/b/../c", "/a/c"),
    ("/a/b/./c", "/a/b/c"),
    ("/a/b/../../../../c", "/c"),
    ("/a/b/%2E%2E/c", "/a/c"),
    ("/a/b/%2e%2e/c", "/a/c"),
    ("/a/b/%2E./c", "/a/c"),
    ("/a/b/%2E/c", "/a/b/c"),
    ("/../a/b", "/a/b"),
    ("/./a/b", "/a/b"),
    ("/A/B/C", "/A/B/C"),
    ("/a//b/c", "/a/b/c"),
    ("/a//b/c/", "/a/b/c/"),
    ("/a", "/a"),
    ("//a/b/c", "/a/b/c"),
    ("/a/b/c//", "/a/b/c/"),
    ("/a///b/c", "/a/b/c"),
    ("/a////b/c", "/a/b/c"),
    ("//a/", "/a/"),
]
"""Envoy's path_utility tests: what is sent, what is meant."""
REFUSED = [
    ("/xyz/.%00../abc", "NUL"),
    ("/xyz/%00.%00./abc", "NUL"),
    ("/xyz/AAAAA%%0000/abc", "percent"),
    ("a/b/../c", "slash"),
    ("..", "slash"),
    ("/a/..\\c", "separator"),
    ("/%c0%af", "UTF-8"),
    ("", "slash"),
    ("a//b/c", "slash"),
]
"""Envoy refuses the first three too, and takes the others for something."""
MARKED = ["/%5c%25", "/a/%2F%2f/c"]
"""Envoy leaves these as they are; here a route has to allow them."""


@pytest.mark.parametrize(("raw", "meant"), NORMALISED)
def test_se3_what_envoy_normalises(raw: str, meant: str) -> None:
    found = canonical(raw.encode())
    assert (found.path, found.raw, found.marks) == (meant, meant.encode(), 0)


@pytest.mark.parametrize(("raw", "why"), REFUSED)
def test_se3_what_has_no_one_meaning(raw: str, why: str) -> None:
    with pytest.raises(PathRefused, match=why):
        canonical(raw.encode())


@pytest.mark.parametrize("raw", MARKED)
def test_se3_what_a_route_must_allow(raw: str) -> None:
    assert canonical(raw.encode()).marks


PIECES = [
    b"/", b"//", b".", b"..", b"%2e", b"%2E%2e", b"%2f", b"%5c", b"\\", b";", b"%3b", b"%25", b"%252e", b"%25%32%65",
    b"%00", b"%", b"%4", b"%c3%a9", b"%c0%af", b"%ff", b"a", b"B", b"0", b"-", b"_", b"~", b":", b"@", b"!", b"*", b",",
    b" ", b"?", b"#", b"\x7f", b"\xc3\xa9", b"\x80", b"%2F..", b"..;", b"%09", b"+", b"%2B", b"^", b"|", b"%7C", b"[",
]  # fmt: skip


def test_se3_canonicalising_again_changes_nothing() -> None:
    """For 30,000 random paths, or as many as GATEKIT_FUZZ says."""
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    passed = 0
    for _ in range(int(os.environ.get("GATEKIT_FUZZ", "30000"))):
        raw = b"/" + b"".join(dice.choices(PIECES, k=dice.randrange(1, 9)))
        merge = dice.random() < 0.5
        try:
            once = canonical(raw, merge_slashes=merge)
        except PathRefused:
            continue
        passed += 1
        again = canonical(once.raw, merge_slashes=merge)
        assert (again.path, again.raw) == (once.path, once.raw), (seed, raw, once, again)
        segments = once.path.split("/")
        assert "." not in segments, (seed, raw)
        assert ".." not in segments, (seed, raw)
        assert not merge or "" not in segments[1:-1], (seed, raw)
    assert passed > 0
