"""The reload measurement in small: no request fails or sees two configurations. Delays are for the bench to tell."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.processes import need_module, started

ROOT = Path(__file__).parents[2]
ROUTES = 300
RATE = 200.0
SECONDS = 1.0


@pytest.fixture
def reload(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    spec = importlib.util.spec_from_file_location("bench_reload", ROOT / "bench" / "reload.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.servers
@pytest.mark.parametrize("server", ["uvicorn", "granian"])
async def test_no_request_fails_or_sees_two_configurations(reload: ModuleType, server: str) -> None:
    need_module(server)
    scene = reload.serving(server, ROUTES)
    served = await asyncio.to_thread(started, server, scene.__enter__)
    try:
        for what in ("swaps?50", "reloads"):
            seen, told = await reload.window(served, ROUTES, RATE, SECONDS, what)
            assert (seen.failed, seen.mixed) == (0, 0), (what, seen.statuses, served.tail())
            assert len(seen.delays) >= RATE * SECONDS
            assert told["done"] >= 2
            assert seen.versions >= 2
    finally:
        await asyncio.to_thread(scene.__exit__, None, None, None)


def test_what_a_window_saw_is_counted(reload: ModuleType) -> None:
    seen = reload.Seen([0.001, 0.002, 0.003, 0.1], {200: 2, 204: 1, 404: 1, 0: 2}, mixed=0, versions=1)
    assert seen.failed == 3
    assert [seen.delay(share) for share in (0.0, 0.5, 0.99, 1.0)] == [0.001, 0.003, 0.1, 0.1]


@pytest.mark.parametrize(
    ("answer", "failed", "mixed"),
    [
        pytest.param("200 OK\r\nX-Gateway: 7\r\nx-route: 7\r\nContent-Length: 2\r\n\r\nok", 0, 0, id="good"),
        pytest.param("200 OK\r\nx-gateway: 7\r\nx-route: 8\r\ncontent-length: 0\r\n\r\n", 0, 1, id="two versions"),
        pytest.param("200 OK\r\ncontent-length: 0\r\n\r\n", 0, 1, id="no version"),
        pytest.param("503 No\r\nx-gateway: 7\r\nx-route: 7\r\ncontent-length: 0\r\n\r\n", 1, 0, id="not 2xx"),
        pytest.param("200 OK\r\ncontent-length: 2\r\n\r\n", 1, 0, id="cut"),
    ],
)
async def test_every_answer_is_looked_at(reload: ModuleType, answer: str, failed: int, mixed: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(f"HTTP/1.1 {answer}".encode())
                if failed and "503" not in answer:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        seen = await asyncio.wait_for(reload.Load(port, 10, 20.0).run(0.2), 20)
    total = sum(seen.statuses.values())
    assert total >= 4
    assert (seen.failed, seen.mixed) == (failed * total, mixed * total)
