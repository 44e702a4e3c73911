"""The process of `gatekit run`, in this one: from its sockets to the banner, and to the exit. Its workers are real."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from tests.serving.conftest import Pair

from gatekit.errors import ConfigRefused
from gatekit.serving import process as process_module
from gatekit.serving import run as run_module
from gatekit.serving.channel import PeerGone
from gatekit.serving.process import WorkerProcess, file_limit, processors
from gatekit.serving.run import run
from gatekit.serving.settings import TOKEN, BadSettings, Settings, TlsFiles
from gatekit.serving.supervisor import Supervisor

BOUND = 20.0


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process is left as it was: its logging, its limits, its signals."""
    monkeypatch.setattr(run_module, "set_up", lambda *asked: None)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def settings(target: str | Path, **fields: Any) -> Settings:
    return Settings(str(target), **{"port": 0, "admin": "127.0.0.1:0", "grace": 0.0, "timeout": 1.0, **fields})


def until_served(asked: Settings, look: Callable[[list[str]], None] = lambda said: None) -> list[str]:
    """Run until the banner is out, look, and stop; what was said. The exit must be clean."""
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "SIGTERM drains" in line:
            look(said)
            signal.raise_signal(signal.SIGTERM)

    assert run(asked, say) == 0
    return said


@pytest.mark.servers
def test_it_serves_says_so_and_stops_when_told(config: Path) -> None:
    said = "\n".join(until_served(settings(config)))
    assert f"serves {config}" in said
    assert "listening  http://127.0.0.1:" in said
    assert "admin      http://127.0.0.1:" in said
    assert "routes: 2, clusters: 1" in said


@pytest.mark.servers
def test_files_of_sockets_are_there_while_it_runs_and_gone_after(config: Path, tmp_path: Path) -> None:
    public, admin = tmp_path / "a.sock", tmp_path / "admin.sock"

    def look(said: list[str]) -> None:
        assert public.is_socket()
        assert admin.is_socket()
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(public)), timeout=BOUND) as client:
            assert client.get("http://localhost/hello").text == "hi"

    until_served(settings(config, uds=str(public), admin=f"unix:{admin}"), look)
    assert not public.exists()
    assert not admin.exists()


@pytest.mark.servers
def test_a_socket_that_was_handed_over_is_said(config: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as theirs:
        port = theirs.getsockname()[1]
        said = until_served(settings(config, fd=theirs.dup().detach(), admin=None))
    assert any(f"http://127.0.0.1:{port}" in line for line in said)


@pytest.mark.servers
def test_development_mode_watches(config: Path) -> None:
    said = until_served(settings(config, dev=True))
    assert "SIGHUP reloads, and so does a change of the file" in said[-1]


def test_told_while_it_starts_it_leaves_without_having_served(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    async def start(supervisor: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("start")

    monkeypatch.setattr(Supervisor, "start", start)
    assert run(settings(config), _nothing) == 0
    assert ended == ["start"]


def _nothing(line: str) -> None:
    raise AssertionError(f"nothing serves, and it says {line!r}")


def test_a_configuration_that_cannot_be_ends_it_and_its_admin_listener(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("surplus: 1\n")
    admin = tmp_path / "admin.sock"
    with pytest.raises(ConfigRefused):
        run(settings(file, uds=str(tmp_path / "a.sock"), admin=f"unix:{admin}"), _nothing)
    assert not admin.exists()
    assert not (tmp_path / "a.sock").exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"server": "apache"}, "no server"),
        ({"dev": True}, "--dev watches a file"),
        ({"host": "192.0.2.1"}, "cannot listen"),
    ],
    ids=["server", "nothing to watch", "address"],
)
def test_what_cannot_be_is_said_before_anything_starts(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettings, match=said):
        run(settings("nowhere.yaml", **fields), _nothing)


def test_certificate_files_that_cannot_be_used_leave_nothing(config: Path, pair: Pair) -> None:
    pair.key.unlink()
    with pytest.raises(OSError, match="No such file"):
        run(settings(config, tls=TlsFiles(str(pair.cert), str(pair.key))), _nothing)


# -- a worker as the supervisor sees it


class Process:
    """A process that has started, as asyncio gives one."""

    def __init__(self, *, stdin: object = None) -> None:
        self.stdin = stdin
        self.pid = 4711
        self.returncode: int | None = None
        self.killed = 0
        self.ended = asyncio.Event()

    def kill(self) -> None:
        self.killed += 1
        if self.killed > 1:
            raise ProcessLookupError
        self.ended.set()

    async def wait(self) -> int:
        await self.ended.wait()
        return -9


async def test_what_was_not_started_answers_nothing_and_has_no_end() -> None:
    worker = WorkerProcess(1)
    assert (worker.pid, await worker.wait()) == (-1, -1)
    with pytest.raises(PeerGone, match="not started"):
        await worker.ask("ping")
    worker.kill()
    await worker.end(0.0)
    assert worker.leaving


async def test_one_that_has_ended_is_killed_without_a_word() -> None:
    worker = WorkerProcess(1)
    process: Any = Process()
    worker._process = process
    worker.kill()
    worker.kill()
    assert process.killed == 2


async def test_one_that_does_not_leave_is_killed() -> None:
    worker = WorkerProcess(1)
    process: Any = Process()
    worker._process = process
    await asyncio.wait_for(worker.end(BOUND), BOUND)
    assert process.killed == 1


async def test_one_that_ends_before_it_read_its_orders_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, content: bytes) -> None:
            raise BrokenPipeError

        def close(self) -> None:
            pass

    made: list[dict[str, Any]] = []

    async def start(*command: str, **options: Any) -> Process:
        made.append({"command": command, **options})
        process = Process(stdin=Closed())
        process.ended.set()
        return process

    monkeypatch.setenv(TOKEN, "not for workers at all")
    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    worker = WorkerProcess(1)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        await worker.start(Settings("gateway.yaml", admin_token="0123456789abcdef"), listening, 1, None)
        assert await asyncio.wait_for(worker.until_ready(BOUND), BOUND) is False
        await worker.end(0.0)
    [asked] = made
    assert TOKEN not in asked["env"]
    assert asked["env"]["GATEKIT_PROCESSES"] == "1"
    assert listening.fileno() == -1
    assert asked["process_group"] == 0


@pytest.mark.servers
async def test_a_real_one_starts_answers_and_ends() -> None:
    document = {"origin": "test", "data": {"routes": []}, "revision": "r1"}
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        listening.setblocking(False)
        worker = WorkerProcess(1)
        await worker.start(Settings("gateway.yaml", timeout=0.0), listening, 3, document)
        assert await worker.until_ready(BOUND)
        assert worker.ready is not None
        assert worker.ready["generation"] == 3
        assert (await worker.ask("status"))["generation"] == 3
        await worker.end(BOUND)
        assert await worker.wait() == 0


@pytest.mark.servers
@pytest.mark.parametrize(
    ("target", "document", "said"),
    [
        ("gateway.yaml", {"origin": "t", "data": {"routes": [{"match": "/a", "to": "x"}]}, "revision": "r"}, "refused"),
        ("no_such_module:gateway", None, "failed"),
    ],
    ids=["refused", "failed"],
)
async def test_a_real_one_that_cannot_start_says_why(target: str, document: Any, said: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        worker = WorkerProcess(1)
        await worker.start(Settings(target), listening, 1, document)
        assert not await worker.until_ready(BOUND)
        assert getattr(worker, said)
        assert await asyncio.wait_for(worker.wait(), BOUND) == 1
        await worker.end(0.0)


def test_the_limit_on_open_files_is_raised_as_far_as_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda what: (10, 20))
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: asked.append(limits))
    assert file_limit() == 20
    assert asked == [(20, 20)]

    def refused(what: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refused)
    assert file_limit() == 10
    monkeypatch.setattr(resource, "getrlimit", lambda what: (20, 20))
    assert file_limit() == 20
    monkeypatch.undo()


def test_the_processors_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "os", SimpleNamespace(sched_getaffinity=lambda pid: {0, 3}))
    assert processors() == 2
    monkeypatch.setattr(process_module, "os", SimpleNamespace(cpu_count=lambda: 5))
    assert processors() == 5
    monkeypatch.setattr(process_module, "os", SimpleNamespace(cpu_count=lambda: None))
    assert processors() == 1
