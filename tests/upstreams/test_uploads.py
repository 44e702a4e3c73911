"""Uploads to real servers: of any size, with a length or in chunks, and refused before they are over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatekit.testing import call, http_scope

from .origins import Origin

pytestmark = pytest.mark.servers

PART = b"0123456789abcdef" * 4096
LENGTH = ("content-length", str(150 * len(PART)))


async def upload(count: int, *, more: bool = False) -> AsyncIterator[bytes]:
    """64 KiB, so many times. With `more` a client that then hangs on and sends nothing, for as long as it may."""
    for _ in range(count):
        yield PART
    if more:
        await asyncio.Event().wait()


@pytest.mark.parametrize("size", [0, 1, 1000, 65_536, 1_000_000])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_caddy_gets_every_byte(caddy: Origin, gateway: Any, size: int, framing: str) -> None:
    app = gateway(caddy.url("plain"))
    sent = (PART * 16)[:size]
    parts: Any = sent if framing == "length" else [sent[start : start + 7000] for start in range(0, size, 7000)]
    response = await call(app, "POST", "/echo", body=parts)
    assert response.status == 200
    assert response.body == sent


@pytest.mark.parametrize("listener", ["plain", "tls"])
async def test_nginx_counts_every_byte(nginx: Origin, gateway: Any, tls: Any, listener: str) -> None:
    app = gateway(nginx.url(listener), tls_context=lambda: tls)
    assert (await call(app, "PUT", "/echo", body=PART * 32)).body == b"%d" % (len(PART) * 32)
    assert (await call(app, "POST", "/echo", body=upload(32))).body == b"%d" % (len(PART) * 32)


@pytest.mark.parametrize("headers", [[LENGTH], []], ids=["length", "chunks"])
@pytest.mark.parametrize("more", [True, False], ids=["waiting", "hurrying"])
async def test_an_upload_that_is_too_large_is_refused_by_the_origin(
    origin: Origin, gateway: Any, headers: list[tuple[str, str]], more: bool
) -> None:
    """The answer comes while the client still has something to send, whether it waits or goes on sending.

    Caddy first reads 256 KiB of what it will not have.
    """
    app = gateway(origin.url("plain"))
    response = await call(app, "POST", "/limited", headers=headers, body=upload(12 if more else 150, more=more))
    assert (response.status, response.complete) == (413, True)
    assert response.header("content-type") != "application/problem+json"
    assert (await call(app, "GET", "/hello")).body == b"hello"


async def test_a_client_that_leaves_in_the_middle_of_an_upload(origin: Origin, gateway: Any) -> None:
    app = gateway(origin.url("plain"))
    said = [{"type": "http.request", "body": PART, "more_body": True}, {"type": "http.disconnect"}]
    heard: list[Any] = []

    async def receive() -> Any:
        return said.pop(0)

    async def send(message: Any) -> None:
        heard.append(message)

    scope = http_scope("POST", "/echo", headers=[("content-length", "100000")])
    await asyncio.wait_for(app(scope, receive, send), 5)
    assert (said, heard) == ([], [])
    assert (await call(app, "GET", "/hello")).body == b"hello"
