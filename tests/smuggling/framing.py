"""Payloads about where a request ends: Content-Length, Transfer-Encoding, both at once, chunks and trailers."""

from __future__ import annotations

from collections.abc import Iterator

from .payload import CODING, HIDDEN, HIDDEN_POST, LAST, Payload, asks, chunk, get, post, sized

# -- Content-Length and Transfer-Encoding at once, and each spelling of the latter

CODINGS = {
    "plain": b"transfer-encoding: chunked",
    "upper": b"TRANSFER-ENCODING: CHUNKED",
    "mixed-case": b"tRANSFER-eNCODING: cHuNkEd",
    "no-space": b"transfer-encoding:chunked",
    "two-spaces": b"transfer-encoding:  chunked",
    "tab": b"transfer-encoding:\tchunked",
    "vertical-tab": b"transfer-encoding:\x0bchunked",
    "form-feed": b"transfer-encoding: \x0cchunked",
    "non-breaking-space": b"transfer-encoding:\xa0chunked",
    "trailing-space": b"transfer-encoding: chunked ",
    "trailing-tab": b"transfer-encoding: chunked\t",
    "trailing-vertical-tab": b"transfer-encoding: chunked\x0b",
    "trailing-nul": b"transfer-encoding: chunked\x00",
    "leading-nul": b"transfer-encoding: \x00chunked",
    "trailing-cr": b"transfer-encoding: chunked\r",
    "trailing-comma": b"transfer-encoding: chunked,",
    "leading-comma": b"transfer-encoding: ,chunked",
    "semicolon": b"transfer-encoding: chunked;q=1",
    "then-identity": b"transfer-encoding: chunked, identity",
    "identity-then": b"transfer-encoding: identity, chunked",
    "gzip-then": b"transfer-encoding: gzip, chunked",
    "then-gzip": b"transfer-encoding: chunked, gzip",
    "identity": b"transfer-encoding: identity",
    "unknown": b"transfer-encoding: cow",
    "empty": b"transfer-encoding:",
    "x-prefix": b"transfer-encoding: xchunked",
    "suffix": b"transfer-encoding: chunkedx",
    "double-quoted": b'transfer-encoding: "chunked"',
    "single-quoted": b"transfer-encoding: 'chunked'",
    "twice-in-one": b"transfer-encoding: chunked, chunked",
    "two-lines": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    "two-lines-cow": b"transfer-encoding: chunked\r\ntransfer-encoding: cow",
    "two-lines-cow-first": b"transfer-encoding: cow\r\ntransfer-encoding: chunked",
    "two-lines-identity": b"transfer-encoding: identity\r\ntransfer-encoding: chunked",
    "folded": b"transfer-encoding:\r\n chunked",
    "folded-tab": b"transfer-encoding:\r\n\tchunked",
    "folded-after": b"transfer-encoding: chunked\r\n , identity",
    "fold-of-another": b"x-a: b\r\n transfer-encoding: chunked",
    "bare-lf-before": b"x-a: b\ntransfer-encoding: chunked",
    "bare-cr-before": b"x-a: b\rtransfer-encoding: chunked",
    "bare-lf-within": b"transfer-encoding: chunked\nx-a: b",
    "space-before-colon": b"transfer-encoding : chunked",
    "tab-before-colon": b"transfer-encoding\t: chunked",
    "leading-space": b" transfer-encoding: chunked",
    "underscore": b"transfer_encoding: chunked",
    "dot": b"transfer.encoding: chunked",
    "space-in-name": b"transfer encoding: chunked",
    "nul-in-name": b"transfer\x00-encoding: chunked",
    "non-ascii-name": b"transfer\xadencoding: chunked",
    "vertical-tab-name": b"\x0btransfer-encoding: chunked",
    "no-colon": b"transfer-encoding chunked",
    "escaped": b"transfer-encoding: chun%6bed",
    "content-encoding": b"content-encoding: chunked",
    "te": b"te: chunked",
}


def codings() -> Iterator[Payload]:
    """CL.TE, TE.CL and TE.TE: each spelling with a length and without one."""
    for id, line in CODINGS.items():
        # To whoever takes the length, all of it is content; to whoever takes the chunks, a request follows.
        hidden = LAST + HIDDEN
        yield Payload(f"cl-te-{id}", f"length over chunks, {id}", (post(sized(hidden), line, body=hidden),))
        # And the other way: the length ends within the first chunk.
        size = b"%x\r\n" % len(HIDDEN_POST)
        yield Payload(
            f"te-cl-{id}", f"chunks over a length, {id}",
            (post(line, b"content-length: %d" % len(size), body=size + HIDDEN_POST + b"\r\n0\r\n\r\n"),),
        )  # fmt: skip
        yield Payload(f"te-{id}", f"chunks without a length, {id}", (post(line, body=hidden),))


def bodies() -> Iterator[Payload]:
    """Content where some expect none, and none where some expect it."""
    body = LAST + HIDDEN
    whole = chunk(HIDDEN) + LAST
    yield Payload("te-0-options", "TE.0: chunks on OPTIONS", (post(CODING, body=whole, line=asks(b"OPTIONS")),))
    yield Payload("te-0-get", "TE.0: chunks on GET", (get(CODING, body=whole),))
    yield Payload("te-head", "chunks on HEAD", (post(CODING, body=body, line=asks(b"HEAD")),))
    yield Payload("te-http10", "chunks in HTTP/1.0", (post(CODING, body=body, line=asks(b"POST", b"HTTP/1.0")),))
    yield Payload(
        "te-http10-keep-alive", "chunks and a length in HTTP/1.0, kept alive",
        (post(CODING, b"connection: keep-alive", sized(body), body=body, line=asks(b"POST", b"HTTP/1.0")),),
    )  # fmt: skip
    for method in (b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE"):
        yield Payload(
            f"cl-0-{method.decode().lower()}", "CL.0: a request as content where many expect none",
            (post(sized(HIDDEN), body=HIDDEN, line=asks(method)),),
        )  # fmt: skip
    yield Payload(
        "cl-0-close", "CL.0 with Connection: close", (post(sized(HIDDEN), b"connection: close", body=HIDDEN),)
    )
    yield Payload("0-cl", "0.CL: a length that the first reader may hide", (get(b" content-length: 40", body=HIDDEN),))
    yield Payload("0-cl-expect", "0.CL through Expect", (get(b"expect: 100-continue", sized(HIDDEN), body=HIDDEN),))
    yield Payload("length-of-nothing", "a body after a length of 0", (post(b"content-length: 0", body=HIDDEN),))
    yield Payload("no-length", "a body without any framing", (post(body=HIDDEN),))
    yield Payload("length-too-short", "less content than declared", (post(b"content-length: 500", body=HIDDEN),))


# -- lengths

LENGTHS = {
    "equal-lines": b"content-length: 5\r\ncontent-length: 5",
    "different-lines": b"content-length: 5\r\ncontent-length: 0",
    "different-lines-reversed": b"content-length: 0\r\ncontent-length: 5",
    "equal-list": b"content-length: 5, 5",
    "equal-list-tight": b"content-length: 5,5",
    "different-list": b"content-length: 5, 0",
    "plus": b"content-length: +5",
    "minus": b"content-length: -1",
    "minus-zero": b"content-length: -0",
    "spaced": b"content-length: 5 5",
    "trailing-junk": b"content-length: 5x",
    "hex": b"content-length: 0x5",
    "octal": b"content-length: 05",
    "many-zeros": b"content-length: 00000000000000000000000000000005",
    "underscore": b"content-length: 1_0",
    "fraction": b"content-length: 5.0",
    "exponent": b"content-length: 5e0",
    "empty": b"content-length:",
    "blank": b"content-length:  ",
    "quoted": b'content-length: "5"',
    "vertical-tab": b"content-length: \x0b5",
    "trailing-vertical-tab": b"content-length: 5\x0b",
    "nul": b"content-length: 5\x00",
    "arabic-digits": "content-length: \u0665".encode(),
    "superscript": b"content-length: \xb2",
    "2-pow-32": b"content-length: 4294967301",
    "2-pow-63": b"content-length: 9223372036854775813",
    "2-pow-64": b"content-length: 18446744073709551621",
    "overlong": b"content-length: " + b"9" * 300,
    "5000-digits": b"content-length: " + b"0" * 4999 + b"5",
    "folded": b"content-length:\r\n 5",
    "folded-digit": b"content-length: 5\r\n 0",
    "semicolon": b"content-length: 5;x",
    "name-underscore": b"content_length: 5",
    "name-dot": b"content.length: 5",
    "name-space": b"content-length : 5",
    "name-plural": b"content-lengths: 5",
    "bare-lf": b"x-a: b\ncontent-length: 5",
    "bare-cr": b"x-a: b\rcontent-length: 5",
}


def lengths() -> Iterator[Payload]:
    for id, line in LENGTHS.items():
        yield Payload(f"length-{id}", f"Content-Length, {id}", (post(line, body=b"hello" + HIDDEN),))


# -- chunks

CHUNKS = {
    "leading-zeros": b"00005\r\nhello\r\n0\r\n\r\n",
    "many-zeros": b"0" * 40 + b"5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "leading-space": b" 5\r\nhello\r\n0\r\n\r\n",
    "trailing-space": b"5 \r\nhello\r\n0\r\n\r\n",
    "trailing-tab": b"5\t\r\nhello\r\n0\r\n\r\n",
    "comma": b"5,0\r\nhello\r\n0\r\n\r\n",
    "no-size": b"\r\nhello\r\n0\r\n\r\n",
    "not-hex": b"g\r\nhello\r\n0\r\n\r\n",
    "2-pow-32": b"100000005\r\nhello\r\n0\r\n\r\n",
    "2-pow-64": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "16-f": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "endless-size": b"f" * 4000 + b"\r\nhello\r\n0\r\n\r\n",
    "extension": b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "extension-name": b"5;a\r\nhello\r\n0\r\n\r\n",
    "extension-empty": b"5;\r\nhello\r\n0\r\n\r\n",
    "extension-quoted": b'5;a="b;c"\r\nhello\r\n0\r\n\r\n',
    "extension-quoted-crlf": b'5;a="\r\nhello\r\n0\r\n\r\n' + HIDDEN + b'"\r\n',
    "extension-bare-lf": b"5;a\nhello\r\n0\r\n\r\n" + HIDDEN,
    "extension-bare-cr": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "extension-nul": b"5;a\x00b\r\nhello\r\n0\r\n\r\n",
    "extension-long": b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
    "extension-on-last": b"5\r\nhello\r\n0;a=b\r\n\r\n",
    "extension-space": b"5 ; a = b\r\nhello\r\n0\r\n\r\n",
    "bare-lf-size": b"5\nhello\r\n0\r\n\r\n",
    "bare-lf-data": b"5\r\nhello\n0\r\n\r\n",
    "bare-lf-all": b"5\nhello\n0\n\n",
    "bare-lf-last": b"5\r\nhello\r\n0\n\r\n",
    "bare-cr-size": b"5\rhello\r\n0\r\n\r\n",
    "no-crlf-after-data": b"5\r\nhello0\r\n\r\n",
    "two-more-after-data": b"5\r\nhelloXX\r\n0\r\n\r\n",
    "two-instead-of-crlf": b"5\r\nhelloXX0\r\n\r\n" + HIDDEN,
    "longer-than-size": b"3\r\nhello\r\n0\r\n\r\n",
    "shorter-than-size": b"10\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "no-last": b"5\r\nhello\r\n",
    "no-final-crlf": b"5\r\nhello\r\n0\r\n" + HIDDEN,
    "double-zero": b"5\r\nhello\r\n00\r\n\r\n",
    "zero-then-more": b"0\r\n\r\n" + chunk(HIDDEN) + LAST,
    "nul-size": b"\x005\r\nhello\r\n0\r\n\r\n",
    "utf16-size": b"5\x00\r\nhello\r\n0\r\n\r\n",
}
TRAILERS = {
    "plain": b"x-trailed: 1",
    "length": b"content-length: 5",
    "coding": b"transfer-encoding: chunked",
    "host": b"host: evil.test",
    "authorization": b"authorization: Basic eDp5",
    "forwarded-for": b"x-forwarded-for: 192.0.2.66",
    "connection": b"connection: x-keep",
    "te": b"te: trailers",
    "bare-lf": b"x-trailed: 1\nx-more: 2",
    "bare-cr": b"x-trailed: 1\rx-more: 2",
    "nul": b"x-trailed: 1\x00",
    "folded": b"x-trailed: 1\r\n 2",
    "bad-name": b"x trailed: 1",
    "no-colon": b"x-trailed",
    "request-line": b"GET /h/##### HTTP/1.1",
}


def chunks() -> Iterator[Payload]:
    for id, body in CHUNKS.items():
        yield Payload(f"chunk-{id}", f"chunks, {id}", (post(CODING, body=body),))
    for id, line in TRAILERS.items():
        head = post(b"transfer-encoding: chunked", b"x-keep: 1", b"trailer: x-trailed")
        body = b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n"
        yield Payload(f"trailer-{id}", f"trailers, {id}", (head + body,))
        yield Payload(f"late-trailer-{id}", f"trailers that come late, {id}", (head, body))
    many = b"".join(b"x-trailed-%d: %b\r\n" % (number, b"y" * 100) for number in range(400))
    yield Payload("trailer-many", "40 KiB of trailers", (post(CODING, body=b"0\r\n" + many + b"\r\n"),))


def early() -> Iterator[Payload]:
    """The upstream answers at the head; what the client then sends of its body must not precede the next request."""
    line = b"POST /e/##### HTTP/1.1"
    rest = HIDDEN.replace(b"/h/", b"/e/")
    for id, about, parts in (
        ("none", "no content comes", (post(b"content-length: 100", line=line),)),
        ("half", "half of the content comes", (post(b"content-length: 100", body=b"x" * 50, line=line),)),
        ("rest", "the rest comes later", (post(b"content-length: 100", line=line), b"x" * (100 - len(rest)) + rest)),
        ("chunks", "the chunks come later", (post(CODING, line=line), chunk(rest) + LAST)),
        ("half-a-chunk", "half of a chunk comes", (post(CODING, body=b"64\r\nhello", line=line),)),
    ):  # fmt: skip
        yield Payload(f"early-{id}", f"answered early, {about}", parts, 1)
