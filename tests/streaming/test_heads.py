"""What belongs to one hop stays there: Expect and 1xx, 101, Connection, and the lengths of bodies that are not sent."""

from __future__ import annotations

import pytest
from tests.streaming.scene import Scene
from tests.streaming.wire import Wire

pytestmark = pytest.mark.servers

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
UPLOAD = ("content-length: 5", "expect: 100-continue")


async def asked(scene: Scene, line: str, *fields: str) -> tuple[Wire, Wire, bytes]:
    """A client that has sent a request without a body, the upstream that has its head, and that head."""
    client = await scene.client()
    await client.send(scene.request(line, *fields))
    upstream = await scene.wide.accept()
    return client, upstream, (await upstream.head()).lower()


# -- Expect: 100-continue (RFC 9110 section 10.1.1)


async def test_100_comes_when_the_request_is_forwarded(scene: Scene) -> None:
    client = await scene.client()
    await client.send(scene.request("POST /expecting", *UPLOAD))
    assert await client.head() == CONTINUE
    upstream = await scene.wide.accept()
    await client.send(b"hello")
    head = await upstream.head()
    assert b"\r\nexpect:" not in head.lower()
    assert await upstream.body(head) == b"hello"
    await upstream.send(OK)
    assert await client.body(await client.head()) == b"ok"


async def test_the_upstreams_own_100_is_no_second_one(scene: Scene) -> None:
    client = await scene.client()
    await client.send(scene.request("POST /expecting", *UPLOAD))
    upstream = await scene.wide.accept()
    head = await upstream.head()
    await upstream.send(CONTINUE)
    assert await client.head() == CONTINUE
    await client.send(b"hello")
    assert await upstream.body(head) == b"hello"
    await upstream.send(OK)
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("path", "status"), [("/refused/x", 403), ("/dead/x", 502)], ids=["a policy refuses", "nobody listens"]
)
async def test_who_is_not_forwarded_is_not_told_to_go_on(scene: Scene, path: str, status: int) -> None:
    client = await scene.client()
    await client.send(scene.request(f"POST {path}", *UPLOAD))
    assert (await client.head()).startswith(b"HTTP/1.1 %d " % status)


# -- 1xx of the upstream (RFC 9110 section 15.2)


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n" * 3 + b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["100", "102", "103", "several"],
)
async def test_interim_responses_end_here(scene: Scene, interim: bytes) -> None:
    client, upstream, _ = await asked(scene, "GET /interim")
    await upstream.send(interim)
    await upstream.send(OK)
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"link:" not in head.lower()
    assert await client.body(head) == b"ok"
    await _serves_again(scene, client, upstream)


async def test_101_that_nobody_asked_for_is_a_bad_gateway(scene: Scene) -> None:
    client, upstream, head = await asked(scene, "GET /switching")
    assert b"\r\nupgrade:" not in head
    await upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: any\r\nconnection: upgrade\r\n\r\nsmuggled")
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 502 ")
    assert b"smuggled" not in await client.body(head)
    await upstream.gone()
    assert await scene.ends(1) == [[502, "upstream", "upstream.bad_response", True]]


# -- Connection (RFC 9110 section 7.6.1)


async def test_a_client_that_closes_does_not_close_the_upstream(scene: Scene) -> None:
    client, upstream, head = await asked(scene, "GET /once", "connection: close")
    assert b"\r\nconnection:" not in head
    await upstream.send(OK)
    head = await client.head()
    assert b"\r\nconnection: close\r\n" in head.lower()
    assert await client.body(head) == b"ok"
    assert await client.rest() == b""
    await _serves_again(scene, await scene.client(), upstream)


async def test_an_upstream_that_closes_does_not_close_the_client(scene: Scene) -> None:
    client, upstream, _ = await asked(scene, "GET /once")
    await upstream.send(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    head = await client.head()
    assert b"connection: close" not in head.lower()
    assert await client.body(head) == b"ok"
    await upstream.gone()
    await client.send(scene.request("GET /next"))
    upstream = await scene.wide.accept()
    assert (await upstream.head()).startswith(b"GET /next ")
    await upstream.send(OK)
    assert await client.body(await client.head()) == b"ok"


# -- bodies that are not sent (RFC 9110 sections 8.6 and 9.3.2, RFC 9112 section 6.3)


@pytest.mark.parametrize(
    ("method", "answer", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n", b"1234"),
        ("HEAD", b"HTTP/1.1 404 Not Found\r\ncontent-length: 7\r\n\r\n", b"7"),
        ("HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", None),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n", None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", None),
        ("HEAD", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", None),
        ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n", None),
    ],
    ids=["HEAD", "HEAD of 404", "HEAD of chunked", "204", "304", "304 with a length", "HEAD of 304", "DELETE 204"],
)  # fmt: skip
async def test_no_body_follows(scene: Scene, method: str, answer: bytes, length: bytes | None) -> None:
    client, upstream, head = await asked(scene, f"{method} /bodiless")
    assert head.startswith(method.lower().encode() + b" /bodiless ")
    await upstream.send(answer)
    head = await client.head()
    assert head.split(b" ", 2)[1] == answer.split(b" ", 2)[1]
    assert b"transfer-encoding" not in head.lower() or method == "HEAD"
    if length is not None:
        assert b"\r\ncontent-length: %b\r\n" % length in head.lower()
    # Whatever followed the head would be taken for the head of the next response.
    await _serves_again(scene, client, upstream)


async def _serves_again(scene: Scene, client: Wire, upstream: Wire) -> None:
    """Both connections are good for another request."""
    await client.send(scene.request("GET /again"))
    assert (await upstream.head()).startswith(b"GET /again ")
    await upstream.send(OK)
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert await client.body(head) == b"ok"
