"""Revocations where they are used: a service with `Authn(revocations=…)`, under ASGI and under WSGI."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekit import Authn, api_keys, asgi, wsgi
from gatekit.gateway.loop_thread import SHARED
from gatekit.testing import call, call_wsgi

from .scene import opened

pytestmark = pytest.mark.servers

KEYS = {name: f"{name:a<40}" for name in ("gone", "goes", "stays")}
URLS = ["redis", "file"]


@pytest.fixture
def url(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> str:
    return redis_url if request.param == "redis" else f"file://{tmp_path}/revoked.jsonl"


@pytest.fixture
def loop_thread() -> Iterator[None]:
    yield
    SHARED.stop()


async def revoke(url: str, client: str) -> None:
    store = opened(url)
    await store.revoke(client_id=client, until=time.time() + 600)
    if url.startswith("redis"):
        await store.aclose()


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def wsgi_app(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"ok"]


@pytest.mark.parametrize("url", URLS, indirect=True)
async def test_an10_the_first_request_under_asgi_knows_it_and_a_later_one_within_a_second(url: str) -> None:
    await revoke(url, "gone")
    service = asgi.Policies(app, Authn(api_keys(KEYS), revocations=url))

    async def status(name: str) -> int | None:
        return (await call(service, "GET", "/", headers={"x-api-key": KEYS[name]})).status

    assert await status("gone") == 401
    assert await status("goes") == 200
    await revoke(url, "goes")
    begun = time.monotonic()
    while await status("goes") == 200:
        assert time.monotonic() - begun <= 1.0
        turn = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.005, turn.set_result, None)
        await turn
    assert await status("stays") == 200
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.mark.parametrize("url", URLS, indirect=True)
@pytest.mark.usefixtures("loop_thread")
def test_an10_the_first_request_under_wsgi_knows_it_and_a_later_one_within_a_second(url: str) -> None:
    asyncio.run(revoke(url, "gone"))
    service = wsgi.Policies(wsgi_app, Authn(api_keys(KEYS), revocations=url))

    def status(name: str) -> int | None:
        return call_wsgi(service, "GET", "/", headers={"x-api-key": KEYS[name]}).status

    assert status("gone") == 401
    assert status("goes") == 200
    asyncio.run(revoke(url, "goes"))
    begun = time.monotonic()
    while status("goes") == 200:
        assert time.monotonic() - begun <= 1.0
    assert status("stays") == 200
