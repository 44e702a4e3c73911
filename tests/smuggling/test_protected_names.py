"""SE5: a name that the gateway speaks for never reaches the upstream in a client's words, however it is spelled.

Servers and frameworks take `X-Forwarded-For`, `X_Forwarded_For` and `X.Forwarded.For` for one name, so the gateway
does. The same requests go through the four ASGI servers and through a WSGI server.
"""

from __future__ import annotations

import asyncio
import re
from itertools import product
from uuid import uuid4

import pytest

from .client import PATIENCE, visit_all
from .servers import KEY
from .strict import Request
from .sweep import Stage

pytestmark = pytest.mark.servers

MARK = "6.6.6.6"
"""The client's words: an address, so that it could stand in any of these headers."""
SET = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "via", "x-request-id"]
"""What the gateway says itself, to every upstream."""
DROPPED = [
    "x-real-ip", "cf-connecting-ip", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-server",
    "x-forwarded-user", "x-forwarded-client-cert", "x-forwarded-anything", "keep-alive", "proxy-connection",
    "proxy-authorization", "proxy-authenticate", "trailer", "te", "http2-settings",
]  # fmt: skip
"""What goes no further than one hop, or that only a trusted peer may say."""
FRAMING = ["content-length", "transfer-encoding"]
"""What is derived anew. Only odd spellings are tried here: the right ones frame the request."""
BAD_NAMES = [
    b"x a", b"x\ta", b"x(a", b"x)a", b"x,a", b"x/a", b"x;a", b"x<a", b"x=a", b"x>a", b"x?a", b"x@a", b"x[a", b"x\\a",
    b"x]a", b"x{a", b"x}a", b'x"a', b"x\0a", b"x\x7fa", b"x\x1ba", b"x\x80a", b"x\xe9a", b"",
]  # fmt: skip
BAD_VALUES = [b"a\rb", b"a\0b", b"\0", b"a\r"]
"""A bare LF is not among them: RFC 9112 section 2.2 lets a server take it for the end of a line, and most do."""


def spellings(name: str) -> list[str]:
    """The name in upper case and title case, with every mixture of `-`, `_` and `.` in it."""
    words = name.split("-")
    joined = {
        "".join(word + mark for word, mark in zip(words, (*marks, ""), strict=True))
        for marks in product("-_.", repeat=len(words) - 1)
    }
    return sorted(spelled for one in joined for spelled in (one, one.upper(), one.title()))


def fold(name: str) -> str:
    return re.sub("[-_.]", "-", name.lower())


def send(stage: Stage, lines: list[bytes], path: str = "/n/") -> tuple[list[bytes], list[Request]]:
    """One request for each header line: what came back, and what of them reached the sink."""
    tag = uuid4().hex
    head = f"GET {path}{tag} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n".encode()
    visits = [([head + line + b"\r\n\r\n"], 0) for line in lines]
    got = asyncio.run(visit_all(stage.server.port, visits, quiet=PATIENCE))
    seen = [one for connection in stage.sink.connections for one in connection.requests if tag in one.target]
    return got, seen


def statuses(got: list[bytes]) -> set[bytes]:
    return {data[9:12] for data in got}


@pytest.mark.parametrize("name", [*SET, *DROPPED])
def test_se5_no_spelling_of_a_protected_name_passes(stage: Stage, name: str) -> None:
    lines = [f"{spelled}: {MARK}".encode() for spelled in spellings(name)]
    got, seen = send(stage, lines)
    # gunicorn refuses some of them itself: a spelling of TE among them.
    assert statuses(got) <= {b"200", b"400"}
    assert len(seen) == sum(data.startswith(b"HTTP/1.1 200") for data in got) > 0
    for request in seen:
        same = [pair for pair in request.headers if fold(pair[0]) == name]
        assert [key for key, _ in same] == ([name] if name in SET else [])
        assert MARK not in repr(request.headers)


@pytest.mark.parametrize("name", FRAMING)
def test_se5_no_odd_spelling_of_framing_passes(stage: Stage, name: str) -> None:
    lines = [f"{spelled}: 5".encode() for spelled in spellings(name) if "-" not in spelled]
    got, seen = send(stage, lines)
    assert statuses(got) <= {b"200", b"400"}
    assert len(seen) == sum(data.startswith(b"HTTP/1.1 200") for data in got) > 0
    assert not [pair for request in seen for pair in request.headers if fold(pair[0]) == name and pair[1] == "5"]


@pytest.mark.parametrize("keyed", [False, True], ids=["anonymous", "identified"])
def test_se5_no_spelling_of_an_identity_header_passes(stage: Stage, keyed: bool) -> None:
    key = f"\r\nx-api-key: {KEY}" if keyed else ""
    got, seen = send(stage, [f"{spelled}: root{key}".encode() for spelled in spellings("x-user-id")], "/i/")
    assert statuses(got) <= {b"200", b"400"}
    assert len(seen) == sum(data.startswith(b"HTTP/1.1 200") for data in got) > 0
    for request in seen:
        same = [pair for pair in request.headers if fold(pair[0]) == "x-user-id"]
        assert same == ([("x-user-id", "alice")] if keyed else [])
        assert request.all("x-api-key") == []


def test_se5_a_client_cannot_have_a_header_of_the_gateway_removed(stage: Stage) -> None:
    got, seen = send(stage, [f"connection: {name}".encode() for name in (*SET, "host", "X-Forwarded-For, Via")])
    assert statuses(got) == {b"200"}
    assert all(len(request.all(name)) == 1 for request in seen for name in (*SET, "host"))


def test_se5_names_outside_the_token_are_refused(stage: Stage) -> None:
    got, seen = send(stage, [name + b": b" for name in BAD_NAMES])
    assert (statuses(got), seen) == ({b"400"}, [])


def test_se5_values_with_cr_or_nul_are_refused(stage: Stage) -> None:
    got, seen = send(stage, [b"x-a: " + value for value in BAD_VALUES])
    assert (statuses(got), seen) == ({b"400"}, [])
