"""A drain as clients see it, through real servers: nobody is refused, streams end well, the late are cut and know it.

Each test has a server of its own: a drain is never taken back. Times are short, the order of things is what counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.processes import Process, free_port, need_module, started
from tests.streaming.conftest import SERVING
from tests.streaming.process import HERE, SERVERS, Server
from tests.streaming.scene import Scene, Upstreams
from tests.streaming.sockets import Sockets
from tests.streaming.wire import PATIENCE, Truncated, Wire, pause
from websockets.asyncio.client import connect

pytestmark = pytest.mark.servers

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
COMMENT = b": the gateway is restarting\n\n"


class Draining(Server):
    """A served gateway that can be drained."""

    def __init__(self, name: str, upstreams: Any, folder: Path) -> None:
        self.port = free_port()
        addresses = {f"GATEKIT_{key}": url for key, url in upstreams.items()}
        path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        command = [one.format(port=self.port).replace("gateway_app", "drain_app") for one in SERVERS[name]]
        Process.__init__(
            self, name, [sys.executable, "-m", *command], folder / f"{name}.log", cwd=HERE,
            env={**os.environ, **addresses, "PYTHONPATH": path, "GATEKIT_DIES_WITH_PARENT": "1"},
        )  # fmt: skip
        self.pid = self.wait_for(self._says_who_it_is)


@pytest.fixture(params=SERVING)
def scene(request: pytest.FixtureRequest, upstreams: Upstreams, tmp_path: Path) -> Iterator[Scene]:
    need_module(SERVERS[request.param][0])
    server = started(request.param, lambda: Draining(request.param, upstreams.urls, tmp_path))
    made = Scene(server, upstreams, "drain")
    yield made
    made.close()
    server.stop()


async def drain(scene: Scene, grace: float, timeout: float) -> asyncio.Task[dict[str, Any]]:
    """A drain that has begun; the task has its report."""
    wire = await scene.client()
    await wire.send(scene.request(f"GET /.drain?{grace}&{timeout}"))
    body = wire.parts(await wire.head())
    await read(body, b" ")

    async def report() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(b"".join([part async for part in body]))
        return found

    return asyncio.create_task(report())


async def asked(scene: Scene, path: str, *, client: Wire | None = None) -> tuple[Wire, Wire]:
    """A request under way: its client, and the upstream that has got it."""
    client = client or await scene.client()
    await client.send(scene.request(f"GET {path}"))
    upstream = await scene.wide.accept()
    await upstream.head()
    return client, upstream


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def read(body: AsyncIterator[bytes], expected: bytes) -> None:
    """What comes next, in however many parts."""
    got = b""
    while len(got) < len(expected):
        got += await anext(body)
    assert got == expected


async def whole(upstream: Wire, body: bytes) -> None:
    await upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


async def test_websockets_are_closed_with_1012_on_both_sides(scene: Scene) -> None:
    async with Sockets(scene, 8) as sockets:
        report = await drain(scene, 0.2, 2.0)
        async with asyncio.timeout(PATIENCE):
            for client, upstream in sockets.pairs:
                await client.wait_closed()
                await upstream.wait_closed()
                assert (client.close_code, client.close_reason) == (1012, "the gateway is restarting")
                assert upstream.close_code == 1012
        told = await report
    assert (told["cut"], told["ended"], told["active"]) == (0, 8, 0)
    assert told["seconds"] < 2.2
    ends = await scene.ends(8)
    assert ends == [[101, "nobody", "gateway.draining", True]] * 8
    assert "Traceback" not in scene.log


async def test_an_embedded_apps_websocket_is_closed_with_1012(scene: Scene) -> None:
    async with connect(
        f"ws://127.0.0.1:{scene.server.port}/.own", additional_headers={"x-key": scene.key}, proxy=None,
        compression=None, ping_interval=None, open_timeout=PATIENCE,
    ) as client:  # fmt: skip
        report = await drain(scene, 0.1, 1.0)
        async with asyncio.timeout(PATIENCE):
            await client.wait_closed()
        assert client.close_code == 1012
        told = await report
    assert (told["cut"], told["ended"], told["active"]) == (0, 1, 0)
    assert "Traceback" not in scene.log


async def test_an_embedded_apps_response_runs_on_and_is_cut(scene: Scene) -> None:
    """Event streams too: what stands in the app's own process can end them better itself."""
    client = await scene.client()
    await client.send(scene.request("GET /.own"))
    body = client.parts(await client.head())
    await read(body, b"data: 1\n\n")
    report = await drain(scene, 0.1, 0.4)
    with pytest.raises(Truncated):
        await anext(body)
    told = await report
    assert (told["cut"], told["ended"], told["active"]) == (1, 0, 0)
    assert await scene.ends(1) == [[200, "gateway", "gateway.draining", False]]


@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n", b"\r\r"], ids=["LF", "CRLF", "CR"])
async def test_an_event_stream_gets_a_comment_and_a_clean_end(scene: Scene, ending: bytes) -> None:
    client, upstream = await asked(scene, "/events")
    await upstream.send(STREAM)
    body = client.parts(await client.head())
    # One end of line in a chunk of its own, and the one that makes the boundary in another, when it is time to go.
    halves = ending[: len(ending) // 2], ending[len(ending) // 2 :]
    for part in (b"data: 1" + ending, b"data: 2", halves[0]):
        await upstream.send(chunk(part))
        await read(body, part)
    report = await drain(scene, 0.0, 3.0)
    # Its moment is somewhere in the first half.
    await pause(1.6)
    await upstream.send(chunk(halves[1]))
    await read(body, halves[1])
    assert b"".join([part async for part in body]) == COMMENT
    await upstream.gone()
    told = await report
    assert (told["cut"], told["ended"], told["active"]) == (0, 1, 0)
    assert await scene.ends(1) == [[200, "nobody", "gateway.draining", True]]
    assert "Traceback" not in scene.log


async def test_an_idle_event_stream_is_ended_without_a_word_of_its_upstream(scene: Scene) -> None:
    client, upstream = await asked(scene, "/events")
    await upstream.send(STREAM)
    body = client.parts(await client.head())
    report = await drain(scene, 0.1, 2.0)
    assert b"".join([part async for part in body]) == COMMENT
    await upstream.gone()
    assert (await report)["ended"] == 1


async def test_a_stream_inside_an_event_is_cut_and_not_ended(scene: Scene) -> None:
    client, upstream = await asked(scene, "/events")
    await upstream.send(STREAM)
    body = client.parts(await client.head())
    await upstream.send(chunk(b"data: half an\n"))
    await read(body, b"data: half an\n")
    report = await drain(scene, 0.1, 0.4)
    with pytest.raises(Truncated):
        await anext(body)
    await upstream.gone()
    assert (await report)["cut"] == 1
    assert await scene.ends(1) == [[200, "gateway", "gateway.draining", False]]


async def test_a_slow_response_finishes_whole_and_a_longer_one_is_cut(scene: Scene) -> None:
    slow, slow_upstream = await asked(scene, "/slow")
    long, long_upstream = await asked(scene, "/long")
    await long_upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart")
    head = await long.head()
    silent, silent_upstream = await asked(scene, "/silent")
    report = await drain(scene, 0.1, 1.5)
    await whole(slow_upstream, b"all of it")
    assert await slow.body(await slow.head()) == b"all of it"
    with pytest.raises(Truncated):
        await long.body(head)
    refused = await silent.head()
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nconnection: close\r\n" in refused.lower()
    assert json.loads(await silent.body(refused))["code"] == "gateway.draining"
    assert await silent.rest() == b""
    for upstream in (long_upstream, silent_upstream):
        await upstream.gone()
    told = await report
    assert (told["cut"], told["ended"], told["active"]) == (2, 0, 0)
    assert sorted(await scene.ends(3)) == [
        [200, "gateway", "gateway.draining", False],
        [200, "nobody", None, True],
        [503, "gateway", "gateway.draining", True],
    ]


async def test_a_keep_alive_client_is_told_to_go_and_the_server_closes(scene: Scene) -> None:
    """Before the drain a connection is kept. Once the grace is over every response closes its own, and new connections
    are still taken."""
    held, held_upstream = await asked(scene, "/held")
    client, upstream = await asked(scene, "/first")
    await whole(upstream, b"first")
    head = await client.head()
    assert b"connection: close" not in head.lower()
    assert await client.body(head) == b"first"
    report = await drain(scene, 0.0, 10.0)
    for wire in (client, await scene.client(), await scene.client()):
        # The gateway still has its connection to the upstream.
        await wire.send(scene.request("GET /more"))
        await upstream.head()
        await whole(upstream, b"more")
        head = await wire.head()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in head.lower()
        assert await wire.body(head) == b"more"
        assert await wire.rest() == b""
    await whole(held_upstream, b"held")
    assert await held.body(await held.head()) == b"held"
    told = await report
    assert (told["cut"], told["ended"]) == (0, 0)
    assert told["seconds"] < 10.0
