"""Trailers of an upstream's response travel on where the server can send them and the client said that it takes them.

Of the servers here only Hypercorn has `http.response.trailers` in its scope, and only over HTTP/2 and HTTP/3: that is
where they are seen to arrive, over HTTP/2 without TLS. uvicorn and granian do not offer it, nor does Hypercorn over
HTTP/1.1: there the trailers are dropped and the body still ends as a whole one.
"""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
import pytest
from tests.streaming.scene import Scene
from tests.streaming.wire import Wire

pytestmark = pytest.mark.servers

ANSWER = b"HTTP/1.1 200 OK\r\ntrailer: x-sum, x-more\r\ntransfer-encoding: chunked\r\n\r\n"
BODY = b"5\r\nhello\r\n"
# A cookie may not be set in a trailer (RFC 9110 section 6.5.1).
TRAILERS = b"0\r\nx-sum: 907060870\r\nset-cookie: a=b\r\nX-More: yes\r\n\r\n"


async def answered(scene: Scene) -> None:
    """The upstream's part."""
    upstream = await scene.wide.accept()
    await upstream.head()
    await upstream.send(ANSWER + BODY)
    await upstream.send(TRAILERS)


async def exchange(scene: Scene, client: Wire, *fields: tuple[str, str]) -> tuple[dict[str, str], bytes, list[str]]:
    """A request over HTTP/2 with prior knowledge (RFC 9113 section 3.3): response head, body, trailer lines."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration())
    connection.initiate_connection()
    request = [(":method", "GET"), (":scheme", "http"), (":authority", "shop.test"), (":path", "/trailing")]
    connection.send_headers(1, [*request, ("x-key", scene.key), *fields], end_stream=True)
    await client.send(connection.data_to_send())
    await answered(scene)
    head: dict[str, str] = {}
    body = b""
    trailers: list[str] = []
    while data := await client.take():
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                head = dict(lines(event))
            elif isinstance(event, h2.events.DataReceived):
                body += event.data or b""
            elif isinstance(event, h2.events.TrailersReceived):
                trailers = [": ".join(line) for line in lines(event)]
            elif isinstance(event, h2.events.StreamEnded):
                return head, body, trailers
        await client.send(connection.data_to_send())
    raise AssertionError("the stream did not end")


def lines(event: h2.events.ResponseReceived | h2.events.TrailersReceived) -> list[tuple[str, str]]:
    return [(text(name), text(value)) for name, value in event.headers or ()]


def text(value: bytes | str) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


async def test_they_arrive_over_http_2(hypercorn: Scene) -> None:
    head, body, trailers = await exchange(hypercorn, await hypercorn.client(), ("te", "trailers"))
    assert (head[":status"], body) == ("200", b"hello")
    assert trailers == ["x-sum: 907060870", "x-more: yes"]
    assert await hypercorn.ends(1) == [[200, "nobody", None, True]]


async def test_a_client_that_did_not_ask_gets_none(hypercorn: Scene) -> None:
    head, body, trailers = await exchange(hypercorn, await hypercorn.client())
    assert (head[":status"], body, trailers) == ("200", b"hello", [])


async def test_they_are_dropped_over_http_1(scene: Scene) -> None:
    await dropped(scene)


async def test_they_are_dropped_over_http_1_behind_hypercorn(hypercorn: Scene) -> None:
    await dropped(hypercorn)


async def dropped(scene: Scene) -> None:
    client = await scene.client()
    await client.send(scene.request("GET /trailing", "te: trailers", "connection: te"))
    await answered(scene)
    head = (await client.head()).lower()
    assert b"\r\ntrailer:" not in head
    # granian, which has the whole body at once, says how long it is.
    if b"\r\ncontent-length: 5\r\n" in head:
        assert await client.body(head) == b"hello"
    else:
        assert await client.until(b"\r\n0\r\n\r\n") == b"5\r\nhello\r\n0\r\n\r\n"
    assert await scene.ends(1) == [[200, "nobody", None, True]]
