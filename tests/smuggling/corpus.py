"""Requests that two readers of HTTP could read differently, as bytes with an id and what each is about.

Sources: RFC 9112 and RFC 9110, the published classes of request smuggling (CL.TE, TE.CL, TE.TE, CL.0, TE.0, 0.CL, h2c
upgrade, H2.CL, H2.TE) and the oddities that they are built from. All bytes here are our own.

Here are the requests in order, and the list of all; the rest is in `framing`, `heads` and `frames`.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import framing, heads
from .frames import http2
from .payload import CHUNKED, CODING, HIDDEN, LAST, PATH, Payload, asks, bare, chunk, get, post, sized


def in_order() -> Iterator[Payload]:
    """They show that the way to the upstream is open."""
    big = b"x" * 200_000
    for id, about, data, answers in (
        ("get", "GET", get(), 1),
        ("head", "HEAD", post(line=asks(b"HEAD")), 1),
        ("post-length", "POST with Content-Length", post(b"content-length: 5", body=b"hello"), 1),
        ("post-empty", "POST with a length of nothing", post(b"content-length: 0"), 1),
        ("post-chunked", "POST in chunks", post(CODING, body=CHUNKED), 1),
        ("post-big", "a body larger than any buffer", post(sized(big), body=big), 1),
        ("post-many-chunks", "a body in many chunks", post(CODING, body=chunk(b"ab") * 500 + LAST), 1),
        ("put-hidden", "a request as content", post(sized(HIDDEN), body=HIDDEN, line=asks(b"PUT")), 1),
        ("chunked-hidden", "a request as content of a chunk", post(CODING, body=chunk(HIDDEN) + LAST), 1),
        ("delete-body", "DELETE with content", post(sized(b"hello"), body=b"hello", line=asks(b"DELETE")), 1),
        ("pipelined", "two requests at once", get() + HIDDEN, 2),
        ("pipelined-bodies", "three requests at once, two with content",
         post(b"content-length: 5", body=b"hello") + post(CODING, body=CHUNKED) + HIDDEN, 3),
        ("query", "a query with marks", post(line=b"GET " + PATH + b"?a=1&b=%20%0d%0a&c=/../?x HTTP/1.1"), 1),
        ("case", "names in odd case",
         bare(asks(b"POST"), b"hOsT: a.test", b"CoNtEnT-LeNgTh: 2", body=b"ok"), 1),
    ):  # fmt: skip
        yield Payload(f"ok-{id}", about, (data,), answers)


def corpus() -> list[Payload]:
    """Every payload; ids are unique."""
    made = [
        *in_order(),
        *framing.codings(),
        *framing.bodies(),
        *framing.lengths(),
        *framing.chunks(),
        *framing.early(),
        *heads.lines(),
        *heads.request_lines(),
        *heads.hops(),
    ]
    made += [Payload(f"h2-{id}", f"HTTP/2 in the clear, {id}", (data,)) for id, data in http2(PATH, HIDDEN).items()]
    return made
