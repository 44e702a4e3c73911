"""HTTP/2 to a real server, by way of an httpx transport."""

from __future__ import annotations

import ssl
from typing import Any

import httpx
import pytest

from gatekit.testing import call

from .origins import Files, Origin

pytestmark = pytest.mark.servers


class Noting(httpx.AsyncHTTPTransport):
    """Notes which version of HTTP each answer came by."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(http2=True, verify=tls)
        self.versions: list[bytes] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        self.versions.append(response.extensions["http_version"])
        return response


async def test_requests_both_ways(caddy: Origin, gateway: Any, tls: ssl.SSLContext, files: Files) -> None:
    transport = Noting(tls)
    app = gateway(caddy.url("tls"), transport=transport)
    assert (await call(app, "GET", "/hello")).body == b"hello"
    head = await call(app, "HEAD", "/files/small.txt")
    assert (head.status, head.body, head.header("content-length")) == (200, b"", "5")
    assert (await call(app, "GET", "/empty")).status == 204
    big = await call(app, "GET", "/files/big.bin")
    assert big.body == bytes(range(256)) * 16_384
    upload = bytes(range(256)) * 1_024
    for body in (upload, [upload[:100_000], upload[100_000:]]):
        echoed = await call(app, "POST", "/echo", body=body)
        assert (echoed.status, echoed.body) == (200, upload)
    assert set(transport.versions) == {b"HTTP/2"}
    assert len(transport.versions) == 6
    await transport.aclose()
