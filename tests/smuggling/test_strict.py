"""The strict reader against what it must take and what it must refuse: the other tests are worth what it is worth."""

from __future__ import annotations

import pytest

from .strict import Malformed, Request, take

HOST = b"host: a.test\r\n"
TAKEN = {
    "get": (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", b""),
    "options": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", b""),
    "length": (b"POST /a?b HTTP/1.1\r\n" + HOST + b"content-length: 2\r\n\r\nok", b"ok"),
    "empty": (b"POST /a HTTP/1.1\r\n" + HOST + b"content-length: 0\r\n\r\n", b""),
    "chunks": (
        b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n1\r\no\r\na\r\n1234567890\r\n0\r\n\r\n",
        b"o1234567890",
    ),
    "white-space": (b"GET /%20a HTTP/1.1\r\nhost:\ta.test:80 \r\nx-a:\r\n\r\n", b""),
}  # fmt: skip
REFUSED = {
    "two-spaces": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "old-version": b"GET / HTTP/1.0\r\n" + HOST + b"\r\n",
    "bad-method": b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "fragment": b"GET /#a HTTP/1.1\r\n" + HOST + b"\r\n",
    "bad-escape": b"GET /%zz HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute": b"GET http://a.test/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    "connect": b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n",
    "no-host": b"GET / HTTP/1.1\r\nx-a: b\r\n\r\n",
    "two-hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "odd-host": b"GET / HTTP/1.1\r\nhost: a@b\r\n\r\n",
    "lf-only": b"GET / HTTP/1.1\nhost: a.test\n\n\r\n\r\n",
    "bare-lf": b"GET / HTTP/1.1\r\n" + HOST + b"x-a: b\nx-c: d\r\n\r\n",
    "bare-cr": b"GET / HTTP/1.1\r\n" + HOST + b"x-a: b\rc\r\n\r\n",
    "nul": b"GET / HTTP/1.1\r\n" + HOST + b"x-a: b\0\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\n" + HOST + b"x-a: b\r\n c\r\n\r\n",
    "space-before-colon": b"GET / HTTP/1.1\r\n" + HOST + b"x-a : b\r\n\r\n",
    "no-colon": b"GET / HTTP/1.1\r\n" + HOST + b"x-a\r\n\r\n",
    "empty-name": b"GET / HTTP/1.1\r\n" + HOST + b": b\r\n\r\n",
    "name": b"GET / HTTP/1.1\r\n" + HOST + b"x(a): b\r\n\r\n",
    "both-framings": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    "two-lengths": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 5\r\ncontent-length: 5\r\n\r\n",
    "signed-length": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: +5\r\n\r\n",
    "octal-length": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 05\r\n\r\n",
    "overflowing-length": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 18446744073709551621\r\n\r\n",
    "coding-case": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: Chunked\r\n\r\n",
    "coding-list": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: gzip, chunked\r\n\r\n",
    "chunk-sign": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n+1\r\n",
    "chunk-zeros": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n01\r\n",
    "chunk-extension": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n1;a\r\n",
    "chunk-lf": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n1\no\r\n0\r\n\r\n",
    "chunk-no-crlf": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n1\r\nooo",
    "chunk-size-without-end": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n1234567890",
    "trailers": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n0\r\nx-a: b\r\n\r\n",
}


@pytest.mark.parametrize("id", TAKEN)
def test_a_request_is_taken_once_it_is_whole(id: str) -> None:
    data, body = TAKEN[id]
    found = take(data + b"GET /next")
    assert found is not None
    request, rest = found
    assert (request.body, rest) == (body, b"GET /next")
    assert all(take(data[:end]) is None for end in range(len(data)))


@pytest.mark.parametrize("id", REFUSED)
def test_what_has_no_one_reading_is_refused(id: str) -> None:
    with pytest.raises(Malformed):
        take(REFUSED[id])


def test_headers_keep_their_order_and_lose_their_white_space() -> None:
    found = take(b"GET /a HTTP/1.1\r\nHost: a.test\r\nX-A: \t b c\t \r\nx-a:d\r\n\r\n")
    assert found == (Request("GET", "/a", [("host", "a.test"), ("x-a", "b c"), ("x-a", "d")], b""), b"")
    assert found[0].all("x-a") == ["b c", "d"]
