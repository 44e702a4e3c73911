"""The in-process upstream, over real sockets: what it sees, what it answers, what it breaks off."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest
import trustme

from gatekit.testing import Answer, Seen, Upstream


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def test_it_records_raw_and_parsed(client: httpx.AsyncClient) -> None:
    async with Upstream() as up:
        answer = await client.post(f"{up.url}/a%20b?q=1", content=b"hello", headers={"X-Y": "z"})
        assert (answer.status_code, answer.content) == (200, b"ok")
        seen = up.last
        assert (seen.method, seen.path, seen.query, seen.body, seen.connection) == (
            "POST",
            "/a%20b",
            "q=1",
            b"hello",
            1,
        )
        assert seen.raw.startswith(b"POST /a%20b?q=1 HTTP/1.1\r\n")
        assert seen.raw.endswith(b"\r\n\r\nhello")
        assert seen.headers.get("x-y") == "z"


async def test_answers_come_in_order_over_one_connection(client: httpx.AsyncClient) -> None:
    async with Upstream(Answer(201, body=b"1"), lambda seen: Answer(202, body=seen.path.encode())) as up:
        answers = [await client.get(f"{up.url}/{number}") for number in range(3)]
        assert [(one.status_code, one.text) for one in answers] == [(201, "1"), (202, "/1"), (202, "/2")]
        assert (up.connections, up.open_connections) == (1, 1)
        up.script(Answer(204), Answer(200, close=True))
        assert (await client.get(up.url)).status_code == 204
        assert (await client.get(up.url)).status_code == 200
        await up.wait_for(lambda up: up.open_connections == 0)


async def test_an_async_script_a_chunked_request_and_a_head(client: httpx.AsyncClient) -> None:
    async def script(seen: Seen) -> Answer:
        return Answer(200, {"x": "1"}, body=seen.body)

    async def parts() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"cd"

    async with Upstream(script) as up:
        assert (await client.post(up.url, content=parts())).content == b"abcd"
        head = await client.head(up.url)
        assert (head.status_code, head.headers["x"], head.content) == (200, "1", b"")


async def test_chunks_pass_one_by_one_and_trailers_follow() -> None:
    gate = asyncio.Semaphore(0)
    async with Upstream(
        Answer(chunks=[b"1", b"2"], chunk_gate=gate, trailers={"x-end": "1"}, informational=(103,))
    ) as up:
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        first = await reader.readuntil(b"1\r\n1\r\n")
        assert first.startswith(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n")
        gate.release()
        assert (await reader.read()).endswith(b"1\r\n2\r\n0\r\nx-end: 1\r\n\r\n")
        writer.close()
        await writer.wait_closed()


async def test_it_waits_hangs_truncates_and_drops(client: httpx.AsyncClient) -> None:
    gate = asyncio.Event()
    async with Upstream(Answer(gate=gate)) as up:
        waiting = asyncio.create_task(client.get(up.url))
        await up.wait_for(lambda up: bool(up.requests))
        assert not waiting.done()
        gate.set()
        assert (await waiting).status_code == 200

        up.script(Answer(body=b"x" * 100, truncate_after=120))
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(up.url)

        up.script(Answer(raw=b"nonsense\r\n\r\n", close=True))
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(up.url)

        up.script(Answer(hang=True))
        hanging = asyncio.create_task(client.get(up.url))
        seen = len(up.requests)
        await up.wait_for(lambda up: len(up.requests) > seen)
        up.drop_connections()
        with pytest.raises(httpx.TransportError):
            await hanging


async def test_a_client_that_leaves_is_counted(client: httpx.AsyncClient) -> None:
    async with Upstream(Answer(hang=True)) as up:
        task = asyncio.create_task(client.get(up.url))
        await up.wait_for(lambda up: bool(up.requests))
        task.cancel()
        await up.wait_for(lambda up: up.aborted == 1 and up.open_connections == 0)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_it_goes_on_after_expect_and_ends_on_half_a_request() -> None:
    async with Upstream() as up:
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert b"200 OK" in await reader.readuntil(b"ok")
        writer.write(b"GET / HT")
        writer.close()
        await writer.wait_closed()
        await up.wait_for(lambda up: up.open_connections == 0)
        assert len(up.requests) == 1


async def test_tls() -> None:
    authority = trustme.CA()
    server, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(trusting)
    async with Upstream(tls=server) as up, httpx.AsyncClient(verify=trusting, trust_env=False) as client:
        assert up.url.startswith("https://")
        assert (await client.get(up.url)).text == "ok"
