"""HTTP/2 connections in the clear, written by hand: what a client may put in them and no HTTP/1.1 request can hold.

Headers are literals without compression. Sources: RFC 9113 sections 3.4, 4.1, 6 and 8.2, RFC 7541 section 6.2.2.
"""

from __future__ import annotations

Field = tuple[bytes, bytes]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _integer(value: int) -> bytes:
    """An integer with a prefix of seven bits."""
    if value < 127:
        return bytes((value,))
    out, value = b"\x7f", value - 127
    while value >= 128:
        out, value = out + bytes((value % 128 + 128,)), value // 128
    return out + bytes((value,))


def block(fields: list[Field]) -> bytes:
    return b"".join(b"\0" + _integer(len(name)) + name + _integer(len(value)) + value for name, value in fields)


def connection(fields: list[Field], body: bytes = b"", trailers: list[Field] | None = None) -> bytes:
    """One request on stream 1, all at once."""
    ends = not body and trailers is None
    out = PREFACE + frame(4, 0, 0) + frame(1, 5 if ends else 4, 1, block(fields))
    if body:
        out += frame(0, 0 if trailers is not None else 1, 1, body)
    if trailers is not None:
        out += frame(1, 5, 1, block(trailers))
    return out


def http2(path: bytes, hidden: bytes) -> dict[str, bytes]:
    """Connections by id; `hidden` is a request to hide in content."""

    def request(*fields: Field, method: bytes = b"POST", target: bytes = path, scheme: bytes = b"http") -> list[Field]:
        pseudo = [(b":method", method), (b":path", target), (b":scheme", scheme), (b":authority", b"a.test")]
        return [*pseudo, *fields]

    length = b"%d" % len(hidden)
    return {
        "preface": PREFACE,
        "preface-then-http1": PREFACE + hidden,
        "get": connection(request(method=b"GET")),
        "post": connection(request((b"content-length", b"5")), b"hello"),
        "post-no-length": connection(request(), b"hello"),
        "get-content": connection(request(method=b"GET"), hidden),
        "cl-zero": connection(request((b"content-length", b"0")), hidden),
        "cl-zero-get": connection(request((b"content-length", b"0"), method=b"GET"), hidden),
        "cl-short": connection(request((b"content-length", b"3")), hidden),
        "cl-long": connection(request((b"content-length", b"500")), hidden),
        "cl-twice": connection(request((b"content-length", length), (b"content-length", b"0")), hidden),
        "cl-sign": connection(request((b"content-length", b"+" + length)), hidden),
        "te": connection(request((b"transfer-encoding", b"chunked")), b"0\r\n\r\n" + hidden),
        "te-trailing-space": connection(request((b"transfer-encoding ", b"chunked")), b"0\r\n\r\n" + hidden),
        "te-upper": connection(request((b"Transfer-Encoding", b"chunked")), b"0\r\n\r\n" + hidden),
        "te-underscore": connection(request((b"transfer_encoding", b"chunked")), b"0\r\n\r\n" + hidden),
        "connection": connection(request((b"connection", b"content-length")), hidden),
        "crlf-value": connection(request((b"x-a", b"b\r\ntransfer-encoding: chunked")), b"0\r\n\r\n" + hidden),
        "lf-value": connection(request((b"x-a", b"b\ntransfer-encoding: chunked")), b"0\r\n\r\n" + hidden),
        "nul-value": connection(request((b"x-a", b"b\0c"))),
        "colon-name": connection(request((b"transfer-encoding: chunked\r\nx-a", b"b")), b"0\r\n\r\n" + hidden),
        "space-name": connection(request((b"x a", b"b"))),
        "space-value": connection(request((b"x-a", b" b "))),
        "method-line": connection(request(method=b"GET /h/##### HTTP/1.1\r\nhost: a.test\r\n\r\nGET")),
        "method-space": connection(request(method=b"GET /h/#####")),
        "path-line": connection(request(method=b"GET", target=path + b" HTTP/1.1\r\nx-a: b")),
        "path-space": connection(request(method=b"GET", target=path + b" /h/#####")),
        "path-hash": connection(request(method=b"GET", target=path + b"#x")),
        "path-absolute": connection(request(method=b"GET", target=b"http://evil.test" + path)),
        "path-empty": connection(request(method=b"GET", target=b"")),
        "path-asterisk": connection(request(method=b"OPTIONS", target=b"*")),
        "scheme-line": connection(request(method=b"GET", scheme=b"http://evil.test/h/#####?")),
        "host-too": connection(request((b"host", b"evil.test"))),
        "authority-twice": connection([*request(), (b":authority", b"evil.test")]),
        "authority-crlf": connection(
            [(b":method", b"GET"), (b":path", path), (b":scheme", b"http"), (b":authority", b"a.test\r\nx-a: b")]
        ),
        "no-authority": connection([(b":method", b"GET"), (b":path", path), (b":scheme", b"http")]),
        "host-only": connection([(b":method", b"GET"), (b":path", path), (b":scheme", b"http"), (b"host", b"a.test")]),
        "path-twice": connection([*request(), (b":path", b"/h/#####")]),
        "pseudo-after": connection([*request()[1:], (b"x-a", b"b"), request()[0]]),
        "connect": connection([(b":method", b"CONNECT"), (b":authority", b"a.test:80")], hidden),
        "connect-path": connection(request(method=b"CONNECT"), hidden),
        "trailers": connection(request(), b"hello", [(b"x-trailed", b"1")]),
        "trailers-length": connection(request(), b"hello", [(b"content-length", b"0"), (b"host", b"evil.test")]),
    }
