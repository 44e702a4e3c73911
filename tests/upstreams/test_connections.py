"""Connections to real servers: kept as long as both want it, given up when the server does, and no request lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatekit.testing import call

from .origins import Origin

pytestmark = pytest.mark.servers


async def test_one_connection_serves_many_requests(nginx: Origin, gateway: Any) -> None:
    app = gateway(nginx.url("plain"))
    found = [await call(app, "GET", "/hello") for _ in range(50)]
    assert [int(response.header("x-requests") or 0) for response in found] == list(range(1, 51))
    assert len({response.header("x-connection") for response in found}) == 1


async def test_caddy_keeps_its_connection_too(caddy: Origin, gateway: Any) -> None:
    app = gateway(caddy.url("plain"))
    found = [await call(app, "GET", "/hello") for _ in range(50)]
    assert len({response.header("x-connection") for response in found}) == 1


@pytest.mark.parametrize("target", ["/empty", "/files/big.bin", "/files/nothing.txt", "/moved"])
async def test_whatever_was_answered_the_connection_is_kept(nginx: Origin, gateway: Any, target: str) -> None:
    app = gateway(nginx.url("plain"))
    for method in ("GET", "HEAD", "GET"):
        await call(app, method, target)
    response = await call(app, "GET", "/hello")
    assert response.header("x-requests") == "4"


async def test_an_upload_leaves_the_connection_usable(nginx: Origin, gateway: Any) -> None:
    app = gateway(nginx.url("plain"))
    assert (await call(app, "POST", "/echo", body=b"x" * 100_000)).body == b"100000"
    assert (await call(app, "POST", "/echo", body=[b"x" * 50_000] * 2)).body == b"100000"
    assert (await call(app, "GET", "/hello")).header("x-requests") == "3"


async def test_a_server_that_closes_after_three_requests_loses_none(nginx: Origin, gateway: Any) -> None:
    app = gateway(nginx.url("thrice"))
    found = [await call(app, "GET", "/hello") for _ in range(50)]
    assert {response.status for response in found} == {200}
    assert [int(response.header("x-requests") or 0) for response in found] == ([1, 2, 3] * 17)[:50]


async def test_a_server_that_closes_after_three_requests_loses_no_upload(nginx: Origin, gateway: Any) -> None:
    app = gateway(nginx.url("thrice"))
    for number in range(50):
        body: Any = b"x" * number if number % 2 else [b"x" * number, b"y"]
        response = await call(app, "POST", "/echo", body=body)
        assert (response.status, response.body) == (200, b"%d" % (number if number % 2 else number + 1))


async def test_many_at_once_and_a_server_that_keeps_closing(nginx: Origin, gateway: Any) -> None:
    app = gateway(nginx.url("thrice"), max_connections=4)
    found = await asyncio.gather(*(call(app, "GET", "/hello") for _ in range(100)))
    assert [(response.status, response.body) for response in found] == [(200, b"hello")] * 100


async def test_a_server_that_hardly_keeps_a_connection_loses_none(nginx: Origin, gateway: Any) -> None:
    """nginx closes after two milliseconds of silence: now and then, while a request is on its way."""
    app = gateway(nginx.url("hasty"))
    loop = asyncio.get_running_loop()
    turned = asyncio.Event()
    for number in range(100):
        response = await call(app, "GET", "/hello")
        assert (response.status, response.body) == (200, b"hello")
        # From no pause to four milliseconds, so that some requests meet the close on its way.
        turned.clear()
        loop.call_later(number % 40 / 10_000, turned.set)
        await asyncio.wait_for(turned.wait(), 1)


async def test_the_gateway_closes_first_where_it_is_told_to(nginx: Origin, gateway: Any) -> None:
    app = gateway(nginx.url("plain"), keepalive=0.000001)
    found = [await call(app, "GET", "/hello") for _ in range(5)]
    assert [response.header("x-requests") for response in found] == ["1"] * 5
