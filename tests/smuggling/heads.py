"""Payloads about the head of a request: lines and names, request line and Host, what belongs to one hop, upgrades."""

from __future__ import annotations

from collections.abc import Iterator

from .payload import HIDDEN, PATH, Payload, asks, bare, get, post, sized

# -- lines and names

LINES = {
    "folded": b"x-a: b\r\n c",
    "folded-first": b" x-a: b",
    "folded-tab": b"x-a: b\r\n\tx-b: c",
    "folded-host": b"x-a: b\r\n host: evil.test",
    "bare-cr": b"x-a: b\rx-b: c",
    "bare-lf": b"x-a: b\nx-b: c",
    "bare-lf-end": b"x-a: b\n\nGET /h/##### HTTP/1.1\nhost: a.test\n",
    "cr-cr-lf": b"x-a: b\r",
    "lf-cr": b"x-a: b\n\rx-b: c",
    "nul-value": b"x-a: b\x00c",
    "nul-name": b"x\x00a: b",
    "nul-line": b"\x00",
    "escape-value": b"x-a: b\x1b[2Jc",
    "delete-value": b"x-a: b\x7fc",
    "backspace-value": b"x-a: b\x08c",
    "latin1-value": b"x-a: \xe9\xff\x80",
    "utf8-value": "x-a: \u2028\u010d\u010a".encode(),
    "no-colon": b"x-a",
    "empty-name": b": b",
    "space-name": b"x a: b",
    "space-before-colon": b"x-a : b",
    "tab-name": b"x\ta: b",
    "paren-name": b"x(a): b",
    "quote-name": b'"x-a": b',
    "slash-name": b"x/a: b",
    "at-name": b"x@a: b",
    "brace-name": b"{x-a}: b",
    "comma-name": b"x,a: b",
    "semicolon-name": b"x;a: b",
    "pseudo-name": b":authority: evil.test",
    "pseudo-path": b":path: /h/#####",
    "latin1-name": b"x-\xe9: b",
    "kelvin-name": "x-\u212aey: b".encode(),
    "empty-value": b"x-a:",
    "long-value": b"x-a: " + b"b" * 7000,
    "request-line": b"GET /h/##### HTTP/1.1",
    "encoded-crlf": b"x-a: b%0d%0ax-b: c",
    "escaped-crlf": b"x-a: b\\r\\nx-b: c",
    "ogonek-crlf": "x-a: b\u560d\u560ax-b: c".encode(),
}


def lines() -> Iterator[Payload]:
    for id, line in LINES.items():
        yield Payload(f"line-{id}", f"header line, {id}", (get(line),))
    yield Payload("line-lf-only", "LF alone ends every line", (get(b"x-a: b").replace(b"\r\n", b"\n"),))
    yield Payload("line-cr-only", "CR alone ends every line", (get(b"x-a: b").replace(b"\r\n", b"\r"),))
    yield Payload("line-leading-crlf", "empty lines before the request", (b"\r\n\r\n" + get(),))
    yield Payload("line-leading-space", "a space before the request line", (b" " + get(),))
    yield Payload("line-space-after-first", "white space line after the request line", (
        b"GET " + PATH + b" HTTP/1.1\r\n \r\nhost: a.test\r\n\r\n",))  # fmt: skip
    yield Payload("line-byte-order-mark", "a byte order mark", (b"\xef\xbb\xbf" + get(),))
    yield Payload("count-101", "more than 100 headers", (get(*(b"x-%d: y" % number for number in range(101))),))
    yield Payload("count-1000", "a thousand headers", (get(*(b"x-%d: y" % number for number in range(1000))),))
    yield Payload(
        "size-40k", "40 KiB of headers", (get(*(b"x-%d: %b" % (number, b"y" * 1000) for number in range(40))),)
    )
    yield Payload("size-one-70k", "one header of 70 KiB", (get(b"x-a: " + b"y" * 70_000),))
    yield Payload("size-name-40k", "a name of 40 KiB", (get(b"x" * 40_000 + b": y"),))
    yield Payload(
        "size-target-9k", "a target of 9 KiB", (post(line=b"GET " + PATH + b"?" + b"y" * 9000 + b" HTTP/1.1"),)
    )
    yield Payload("size-method", "a method of 40 letters", (post(line=asks(b"M" * 40)),))
    yield Payload("size-same-name", "one name ninety times", (get(*[b"x-a: y"] * 90),))


# -- request line and Host

REQUEST_LINES = {
    "two-spaces": b"GET  /p/##### HTTP/1.1",
    "two-spaces-version": b"GET /p/#####  HTTP/1.1",
    "tabs": b"GET\t/p/#####\tHTTP/1.1",
    "vertical-tab": b"GET\x0b/p/##### HTTP/1.1",
    "trailing-space": b"GET /p/##### HTTP/1.1 ",
    "space-in-target": b"GET /p/##### /h/##### HTTP/1.1",
    "version-in-target": b"GET /p/##### HTTP/1.1 HTTP/1.1",
    "lower-method": b"get /p/##### HTTP/1.1",
    "mixed-method": b"GeT /p/##### HTTP/1.1",
    "unknown-method": b"BREW /p/##### HTTP/1.1",
    "odd-method": b"G*T.#$ /p/##### HTTP/1.1",
    "bad-method": b"GE(T /p/##### HTTP/1.1",
    "method-colon": b"GET: /p/##### HTTP/1.1",
    "method-like-header": b"host:a.test /p/##### HTTP/1.1",
    "empty-method": b" /p/##### HTTP/1.1",
    "nul-path": b"GET /p/#####\x00x HTTP/1.1",
    "encoded-nul": b"GET /p/#####%00 HTTP/1.1",
    "encoded-crlf": b"GET /p/#####%20HTTP/1.1%0d%0ax-a:%20b HTTP/1.1",
    "encoded-crlf-query": b"GET /p/#####?a=%0d%0ax-a:%20b HTTP/1.1",
    "bare-cr": b"GET /p/#####\r HTTP/1.1",
    "bare-lf": b"GET /p/#####\n HTTP/1.1",
    "hash": b"GET /p/######x HTTP/1.1",
    "hash-query": b"GET /p/#####?a#b HTTP/1.1",
    "latin1": b"GET /p/#####/\xe9 HTTP/1.1",
    "utf8": "GET /p/#####/\u00e9 HTTP/1.1".encode(),
    "utf8-query": "GET /p/#####?\u00e9 HTTP/1.1".encode(),
    "quotes-query": b"GET /p/#####?\"<>\\^`{|}' HTTP/1.1",
    "quotes": b'GET /p/#####/"<>^`{|} HTTP/1.1',
    "dots": b"GET /p/x/../#####/./a HTTP/1.1",
    "encoded-dots": b"GET /p/x/%2e%2e/##### HTTP/1.1",
    "encoded-slash": b"GET /p%2f##### HTTP/1.1",
    "backslash": b"GET /p\\##### HTTP/1.1",
    "two-slashes": b"GET //evil.test/p/##### HTTP/1.1",
    "no-slash": b"GET p/##### HTTP/1.1",
    "question-only": b"GET ?p/##### HTTP/1.1",
    "absolute": b"GET http://a.test/p/##### HTTP/1.1",
    "absolute-other-host": b"GET http://evil.test/p/##### HTTP/1.1",
    "absolute-userinfo": b"GET http://a.test@evil.test/p/##### HTTP/1.1",
    "absolute-port": b"GET http://a.test:81/p/##### HTTP/1.1",
    "absolute-ftp": b"GET ftp://a.test/p/##### HTTP/1.1",
    "absolute-no-path": b"GET http://a.test?/p/##### HTTP/1.1",
    "absolute-file": b"GET file:///p/##### HTTP/1.1",
    "authority": b"GET a.test:80 HTTP/1.1",
    "connect": b"CONNECT a.test:80 HTTP/1.1",
    "connect-path": b"CONNECT /p/##### HTTP/1.1",
    "asterisk": b"OPTIONS * HTTP/1.1",
    "asterisk-get": b"GET * HTTP/1.1",
    "http09": b"GET /p/#####",
    "http09-host": b"GET /p/##### HTTP/0.9",
    "http10": b"GET /p/##### HTTP/1.0",
    "http12": b"GET /p/##### HTTP/1.2",
    "http20": b"GET /p/##### HTTP/2.0",
    "http-lower": b"GET /p/##### http/1.1",
    "http-three": b"GET /p/##### HTTP/1.1.1",
    "http-zero": b"GET /p/##### HTTP/01.1",
    "http-sign": b"GET /p/##### HTTP/1.+1",
    "http-word": b"GET /p/##### HTTP/1.1x",
    "icap": b"GET /p/##### ICAP/1.0",
    "rtsp": b"GET /p/##### RTSP/1.0",
    "source": b"SOURCE /p/##### ICE/1.0",
    "response": b"HTTP/1.1 200 OK",
}
HOSTS = {
    "none": (),
    "empty": (b"host:",),
    "two": (b"host: a.test", b"host: evil.test"),
    "two-equal": (b"host: a.test", b"host: a.test"),
    "two-folded": (b"host: a.test", b" host: evil.test"),
    "list": (b"host: a.test, evil.test",),
    "userinfo": (b"host: a.test@evil.test",),
    "port": (b"host: a.test:81",),
    "port-empty": (b"host: a.test:",),
    "port-words": (b"host: a.test:evil.test",),
    "port-huge": (b"host: a.test:99999999",),
    "port-sign": (b"host: a.test:+80",),
    "path": (b"host: a.test/h/#####",),
    "query": (b"host: a.test?x",),
    "hash": (b"host: a.test#x",),
    "spaces": (b"host: a.test evil.test",),
    "underscore": (b"host: a_b.test",),
    "name-underscore": (b"host: a.test", b"ho_st: evil.test"),
    "space-before-colon": (b"host : evil.test", b"host: a.test"),
    "forwarded": (b"host: a.test", b"x-forwarded-host: evil.test", b"x-host: evil.test"),
    "quote": (b'host: "a.test"',),
    "latin1": (b"host: \xe9.test",),
    "trailing-dot": (b"host: a.test.",),
    "ipv6": (b"host: [::1]:80",),
    "ipv6-bad": (b"host: [::1",),
    "crlf-encoded": (b"host: a.test%0d%0ax-a: b",),
    "nul": (b"host: a.test\x00.evil.test",),
    "semicolon": (b"host: a.test;evil.test",),
}


def request_lines() -> Iterator[Payload]:
    for id, line in REQUEST_LINES.items():
        yield Payload(f"target-{id}", f"request line, {id}", (post(b"referer: http://a.test" + PATH, line=line),))
    for id, given in HOSTS.items():
        yield Payload(f"host-{id}", f"Host, {id}", (bare(asks(b"GET"), *given),))
    yield Payload("host-none-http10", "no Host in HTTP/1.0", (bare(asks(b"GET", b"HTTP/1.0")),))


# -- what belongs to one hop, upgrades, Expect

HOPS = {
    "length": (b"connection: content-length", b"content-length: 5"),
    "length-close": (b"connection: close, content-length", b"content-length: 5"),
    "coding": (b"connection: transfer-encoding", b"content-length: 5"),
    "host": (b"connection: host", b"content-length: 5"),
    "authorization": (b"connection: authorization", b"authorization: Basic eDp5", b"content-length: 5"),
    "forwarding": (b"connection: transfer-encoding, x-forwarded-for", b"content-length: 5"),
    "all-of-ours": (
        b"connection: x-forwarded-for, x-forwarded-host, x-forwarded-proto, forwarded, via, x-request-id, host",
        b"content-length: 5",
    ),
    "own": (b"connection: x-a", b"x-a: b", b"content-length: 5"),
    "cookie": (b"connection: cookie", b"cookie: a=b", b"content-length: 5"),
    "two-lines": (b"connection: x-a", b"connection: x-b", b"x-a: 1", b"x-b: 2", b"content-length: 5"),
    "odd": (b'connection: "x-a", ,;x-b', b"x-a: 1", b"content-length: 5"),
    "proxy-connection": (b"proxy-connection: keep-alive", b"content-length: 5"),
    "keep-alive": (b"keep-alive: timeout=5", b"connection: keep-alive", b"content-length: 5"),
    "underscore": (b"proxy_connection: x", b"keep_alive: y", b"content-length: 5"),
    "te": (b"te: trailers, chunked", b"connection: te", b"content-length: 5"),
    "te-grpc": (b"te: trailers", b"connection: te", b"content-type: application/grpc", b"content-length: 5"),
    "trailer": (b"trailer: content-length", b"content-length: 5"),
    "proxy-authorization": (b"proxy-authorization: Basic eDp5", b"content-length: 5"),
}
UPGRADES = {
    "h2c": (b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAAP__"),
    "h2c-no-connection": (b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAAP__"),
    "h2c-only-upgrade": (b"connection: upgrade", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAAP__"),
    "h2c-bad-settings": (b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: ????"),
    "unknown": (b"connection: upgrade", b"upgrade: cow"),
    "tls": (b"connection: upgrade", b"upgrade: TLS/1.0"),
    "websocket": (
        b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 13",
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "websocket-bad-version": (
        b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 777",
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "websocket-no-key": (b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 13"),
}  # fmt: skip
EXPECTS = {
    "continue": b"expect: 100-continue",
    "upper": b"expect: 100-CONTINUE",
    "twice": b"expect: 100-continue\r\nexpect: 100-continue",
    "list": b"expect: 100-continue, 100-continue",
    "unknown": b"expect: cow",
    "junk": b"expect: y 100-continue",
    "empty": b"expect:",
    "underscore": b"ex_pect: 100-continue",
}


def hops() -> Iterator[Payload]:
    for id, given in HOPS.items():
        yield Payload(f"hop-{id}", f"Connection, {id}", (post(*given, body=b"hello") + HIDDEN,))
    for id, given in UPGRADES.items():
        yield Payload(f"upgrade-{id}", f"Upgrade, {id}", (get(*given, body=HIDDEN),))
        yield Payload(f"upgrade-body-{id}", f"Upgrade with content, {id}", (post(*given, sized(HIDDEN), body=HIDDEN),))
    for id, line in EXPECTS.items():
        yield Payload(f"expect-{id}", f"Expect, {id}", (post(line, b"content-length: 5", body=b"hello" + HIDDEN),))
        yield Payload(
            f"expect-late-{id}", f"Expect, content later, {id}", (post(line, b"content-length: 5"), b"hello" + HIDDEN)
        )
    answer = b"HTTP/1.1 100 Continue\r\n\r\n"
    yield Payload("content-like-100", "content that looks like 100 Continue", (post(sized(answer), body=answer),))
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    yield Payload("content-like-200", "content that looks like an answer", (post(sized(answer), body=answer),))
    yield Payload(
        "content-like-200-after", "an answer where a request belongs", (post(b"content-length: 0", body=answer),)
    )
