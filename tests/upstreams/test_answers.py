"""What real nginx and Caddy answer reaches the client as they meant it: over TCP, over TLS and over a Unix socket."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from gatekit import Gateway
from gatekit.testing import TestResponse, call

from .origins import Files, Origin

pytestmark = pytest.mark.servers

UNIX_HOST = ("host", "unix.test")
"""Caddy tells its listeners apart by Host; over the socket the gateway passes on what the client asked for."""


async def get(way: Gateway, target: str, method: str = "GET", **headers: str) -> TestResponse:
    given = [UNIX_HOST, *((name.replace("_", "-"), value) for name, value in headers.items())]
    return await call(way, method, target, headers=given)


async def test_get(way: Gateway) -> None:
    for _ in range(3):
        response = await get(way, "/hello")
        assert (response.status, response.body, response.header("content-length")) == (200, b"hello", "5")


async def test_head_has_the_length_and_no_body(way: Gateway, files: Files) -> None:
    for name in ("small.txt", "big.bin"):
        response = await get(way, f"/files/{name}", "HEAD")
        assert (response.status, response.body) == (200, b"")
        assert response.header("content-length") == str(len(files.bodies[name]))
    assert (await get(way, "/hello")).body == b"hello"


async def test_204_has_neither_body_nor_length(way: Gateway) -> None:
    for _ in range(2):
        response = await get(way, "/empty")
        assert (response.status, response.body, response.header("content-length")) == (204, b"", None)
    assert (await get(way, "/hello")).body == b"hello"


async def test_304_keeps_its_etag(way: Gateway) -> None:
    etag = (await get(way, "/files/small.txt")).header("etag")
    assert etag
    for _ in range(2):
        response = await get(way, "/files/small.txt", if_none_match=etag)
        assert (response.status, response.body, response.header("etag")) == (304, b"", etag)
    assert (await get(way, "/files/small.txt", if_none_match='"another"')).body == b"small"


async def test_404_is_the_origins_own(way: Gateway) -> None:
    response = await get(way, "/files/nothing.txt")
    assert response.status == 404
    assert response.header("content-type") != "application/problem+json"


async def test_a_large_file_arrives_whole(way: Gateway, files: Files) -> None:
    response = await get(way, "/files/big.bin")
    assert response.header("content-length") == str(len(files.bodies["big.bin"]))
    assert len(response.parts) > 1
    assert response.body == files.bodies["big.bin"]


async def test_a_compressed_answer_in_chunks_arrives_as_it_was(way: Gateway, files: Files) -> None:
    response = await get(way, "/files/long.txt", accept_encoding="gzip")
    assert response.header("content-encoding") == "gzip"
    assert response.header("content-length") is None
    assert response.header("transfer-encoding") is None
    assert response.header("vary") == "Accept-Encoding"
    assert gzip.decompress(response.body) == files.bodies["long.txt"]
    assert (await get(way, "/files/long.txt")).body == files.bodies["long.txt"]


@pytest.mark.parametrize(
    ("asked", "start", "end"), [("bytes=0-9", 0, 10), ("bytes=1000-200999", 1000, 201_000), ("bytes=-7", -7, None)]
)
async def test_a_range_is_answered_with_206(
    way: Gateway, files: Files, asked: str, start: int, end: int | None
) -> None:
    response = await get(way, "/files/big.bin", range=asked)
    whole = files.bodies["big.bin"]
    assert (response.status, response.body) == (206, whole[start:end])
    first = start % len(whole)
    assert response.header("content-range") == f"bytes {first}-{first + len(response.body) - 1}/{len(whole)}"


async def test_several_ranges_come_as_one_body(way: Gateway) -> None:
    response = await get(way, "/files/big.bin", range="bytes=0-3,10-13")
    assert response.status == 206
    assert (response.header("content-type") or "").startswith("multipart/byteranges")
    assert b"\x00\x01\x02\x03" in response.body
    assert b"\x0a\x0b\x0c\x0d" in response.body


async def test_a_range_outside_of_the_file_is_416(way: Gateway, files: Files) -> None:
    response = await get(way, "/files/small.txt", range="bytes=100-")
    assert (response.status, response.header("content-range")) == (416, "bytes */5")


async def test_many_at_once(way: Gateway, files: Files) -> None:
    wanted: list[tuple[str, bytes]] = [("/hello", b"hello"), ("/files/big.bin", files.bodies["big.bin"])]
    found = await asyncio.gather(*(get(way, target) for target, _ in wanted * 10))
    assert [response.body for response in found] == [body for _, body in wanted * 10]


async def test_a_client_that_leaves_takes_nobody_with_it(way: Gateway, files: Files) -> None:
    for _ in range(3):
        response = await call(way, "GET", "/files/big.bin", headers=[UNIX_HOST], disconnect_after=2)
        assert not response.complete
        assert (await get(way, "/hello")).body == b"hello"
    assert (await get(way, "/files/big.bin")).body == files.bodies["big.bin"]


async def test_a_body_that_ends_with_the_connection(nginx: Origin, gateway: Any, files: Files) -> None:
    """nginx without chunks has no other way to end an answer whose length it does not know."""
    way = gateway(nginx.url("plain"))
    for _ in range(2):
        response = await get(way, "/until-closed/long.txt", accept_encoding="gzip")
        assert (response.status, response.header("content-length")) == (200, None)
        assert gzip.decompress(response.body) == files.bodies["long.txt"]


async def test_no_answer_at_all_is_502(nginx: Origin, gateway: Any) -> None:
    way = gateway(nginx.url("plain"))
    response = await get(way, "/nothing")
    assert (response.status, response.json()["code"]) == (502, "upstream.closed")
    assert (await get(way, "/hello")).body == b"hello"


@pytest.mark.parametrize(("host_header", "seen"), [("endpoint", None), ("client", "shop.test")])
async def test_the_origin_sees_the_host_it_is_meant_to(
    nginx: Origin, gateway: Any, host_header: str, seen: str | None
) -> None:
    way = gateway(nginx.url("plain"), host_header=host_header)
    response = await call(way, "GET", "/hello", headers=[("host", "shop.test")])
    assert response.header("x-host") == (seen or f"127.0.0.1:{nginx.ports['plain']}")


async def test_a_redirect_is_passed_on(way: Gateway) -> None:
    response = await get(way, "/moved")
    assert (response.status, response.header("location")) == (302, "/hello")


async def test_a_redirect_names_the_host_that_the_client_asked_for(nginx: Origin, gateway: Any) -> None:
    """nginx makes Location absolute from the Host it got: that of the client, where the cluster passes it on."""
    way = gateway(nginx.url("plain"), host_header="client")
    response = await call(way, "GET", "/moved-away", headers=[("host", "shop.test")])
    assert (response.status, response.header("location")) == (302, "http://shop.test/hello")
