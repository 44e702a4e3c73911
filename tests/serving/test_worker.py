"""A worker in this process: what it answers, how it ends, which Gateway a target names. Its server is a fake or a real one."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import trustme
from tests.serving.conftest import Pair

from gatekit.serving import worker as worker_module
from gatekit.serving.channel import Channel, PeerGone
from gatekit.serving.listen import listen_tcp
from gatekit.serving.servers import SERVERS
from gatekit.serving.settings import Settings, TlsFiles
from gatekit.serving.worker import Worker, local_state, main

BOUND = 20.0
DOCUMENT: dict[str, Any] = {
    "origin": "test", "data": {"routes": [{"match": "/a", "policies": [{"respond": {"status": 204}}]}]}, "revision": "r1",
}  # fmt: skip
BAD = {"origin": "test", "data": {"routes": [{"match": "/a", "to": "nobody"}]}, "revision": "r2"}


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    """A worker freezes what is there when it starts: that would hide it from the collector for all tests that follow."""
    yield
    gc.unfreeze()


class Fake:
    """A server that serves nothing and does what the test says. `mode`: how it behaves when told to stop."""

    name = "fake"
    protocols = "none"
    mode = "stops"

    def __init__(self, app: Any, sock: socket.socket, settings: Settings) -> None:
        self.app = app
        self.done = asyncio.Event()
        self.told: list[str] = []

    async def serve(self) -> None:
        if self.mode == "breaks":
            raise OSError("the port is gone")
        if self.mode == "ends":
            return
        to_app: asyncio.Queue[Any] = asyncio.Queue()
        from_app: asyncio.Queue[Any] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        task = asyncio.create_task(self.app(scope, to_app.get, from_app.put))
        await to_app.put({"type": "lifespan.startup"})
        assert (await from_app.get())["type"] == "lifespan.startup.complete"
        try:
            await self.done.wait()
        finally:
            await to_app.put({"type": "lifespan.shutdown"})
            await task

    async def stop_accepting(self) -> None:
        self.told.append("stop_accepting")

    def stop(self) -> None:
        self.told.append("stop")
        if self.mode != "hangs":
            self.done.set()

    def renew(self) -> None:
        if self.mode == "cannot renew":
            raise OSError("reads certificates once")
        self.told.append("renew")


class Scene:
    """A worker that runs, and the supervisor's end of its channel."""

    def __init__(self, worker: Worker, supervisor: Channel, running: asyncio.Task[int]) -> None:
        self.worker = worker
        self.supervisor = supervisor
        self.running = running
        self.heard: dict[str, Mapping[str, Any]] = {}
        self.said = asyncio.Event()

    async def ask(self, what: str, **about: Any) -> Mapping[str, Any]:
        return await self.supervisor.ask(what, timeout=BOUND, **about)

    async def until_said(self) -> dict[str, Mapping[str, Any]]:
        await asyncio.wait_for(self.said.wait(), BOUND)
        return self.heard

    async def ended(self) -> int:
        return await asyncio.wait_for(self.running, BOUND)

    @property
    def server(self) -> Any:
        return self.worker._server


@asynccontextmanager
async def scene(settings: Settings, document: Mapping[str, Any] | None = DOCUMENT) -> AsyncIterator[Scene]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with closing(listen_tcp("127.0.0.1", 0, 16)) as listening:
        found: list[Scene] = []

        async def hear(what: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
            found[0].heard[what] = about
            found[0].said.set()
            return {}

        supervisor = Channel(ours, hear)
        await supervisor.open()
        worker = Worker(settings, listening, theirs)
        found.append(Scene(worker, supervisor, asyncio.create_task(worker.run(7, document))))
        try:
            yield found[0]
        finally:
            await supervisor.close()
            await asyncio.wait_for(supervisor.closed.wait(), BOUND)
            # A worker without its supervisor ends.
            await asyncio.wait_for(found[0].running, BOUND)
            await asyncio.wait_for(worker.channel.closed.wait(), BOUND)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that take the fake server."""
    monkeypatch.setattr(worker_module, "server_named", lambda name: type("Own", (Fake,), {"mode": name}))
    monkeypatch.setattr(worker_module, "SETTLING", 0.0)
    monkeypatch.setattr(worker_module, "STOPPING", 0.05)
    return Settings("gateway.yaml", server="stops", timeout=0.0, grace=0.0)


def with_server(settings: Settings, mode: str) -> Settings:
    return Settings.from_json(settings.to_json().replace('"server": "stops"', f'"server": "{mode}"'))


async def test_it_tells_when_it_serves_and_what(fake: Settings) -> None:
    async with scene(fake) as one:
        assert (await one.until_said())["ready"] == {
            "generation": 7,
            "digest": one.worker._gateway.plan.digest if one.worker._gateway else None,
            "routes": 1,
            "clusters": 0,
            "server": "fake",
            "protocols": "none",
            "warnings": [],
            "local": [],
        }
        assert await one.ask("ping") == {}
        assert (await one.ask("status"))["generation"] == 7
        assert await one.ask("renew") == {}
        assert await one.ask("dance") == {"error": "a worker does not know 'dance'"}
        assert await one.ask("stop") == {}
        assert await one.ended() == 0
        assert one.server.told == ["renew", "stop_accepting", "stop"]


async def test_a_configuration_is_prepared_put_in_force_or_discarded(fake: Settings) -> None:
    async with scene(fake) as one:
        await one.until_said()
        assert await one.ask("activate") == {"error": "nothing was prepared"}
        prepared = await one.ask("prepare", document=DOCUMENT, generation=8)
        assert prepared["generation"] == 8
        assert (await one.ask("status"))["generation"] == 7, "prepared is not in force"
        assert await one.ask("discard") == {}
        assert await one.ask("activate") == {"error": "nothing was prepared"}
        await one.ask("prepare", document=DOCUMENT, generation=9)
        assert (await one.ask("activate"))["generation"] == 9
        assert (await one.ask("status"))["generation"] == 9
        refused = await one.ask("prepare", document=BAD, generation=10)
        assert "nobody" in refused["problems"][0]["message"]
        assert (await one.ask("status"))["generation"] == 9
        await one.ask("prepare", document=DOCUMENT, generation=3)
        assert "ConfigRefused" in (await one.ask("activate"))["error"], "an older one never comes back"


async def test_a_drain_is_answered_when_it_is_over(fake: Settings) -> None:
    async with scene(fake) as one:
        await one.until_said()
        answer = await one.ask("drain", grace=0.0, limit=0.0)
        assert (answer["cut"], answer["ended"]) == (0, 0)
        assert one.server.told == ["stop_accepting"]
        assert (await one.ask("status"))["draining"] is True


async def test_what_cannot_be_is_refused_with_every_finding(fake: Settings) -> None:
    async with scene(fake, BAD) as one:
        assert await one.ended() == 1
        [problem] = (await one.until_said())["refused"]["problems"]
        assert set(problem) == {"path", "message", "severity"}
        assert "nobody" in problem["message"]


async def test_what_fails_is_said(fake: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with scene(
        Settings.from_json(fake.to_json().replace("gateway.yaml", "no_such_module_here:gateway")), None
    ) as one:
        assert await one.ended() == 1
        assert (await one.until_said())["failed"] == {"message": "No module named 'no_such_module_here'"}


async def test_before_it_has_a_gateway_it_says_so(fake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    going = asyncio.Event()

    async def to_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        await going.wait()
        return function(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    async with scene(fake) as one:
        assert await one.ask("ping") == {}
        assert await one.ask("status") == {"error": "not started yet"}
        assert await one.ask("stop") == {"error": "not started yet"}
        going.set()
        await one.until_said()


@pytest.mark.parametrize(("mode", "code"), [("breaks", 1), ("ends", 1)])
async def test_a_server_that_ends_by_itself_is_a_failure(fake: Settings, mode: str, code: int) -> None:
    async with scene(with_server(fake, mode)) as one:
        assert await one.ended() == code


async def test_a_server_that_does_not_stop_is_cut(fake: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async with scene(with_server(fake, "hangs")) as one:
        await one.until_said()
        await one.ask("stop")
        assert await one.ended() == 0
    assert "connections were left open" in caplog.text


async def test_a_server_that_cannot_renew_says_so(fake: Settings) -> None:
    async with scene(with_server(fake, "cannot renew")) as one:
        await one.until_said()
        assert await one.ask("renew") == {"error": "OSError: reads certificates once"}


async def test_without_its_supervisor_it_drains_and_ends(fake: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async with scene(fake) as one:
        await one.until_said()
        await one.supervisor.close()
        assert await one.ended() == 0
        assert one.worker._gateway is not None
        assert one.worker._gateway.draining
    assert "the supervisor is gone" in caplog.text


@pytest.mark.parametrize("server", SERVERS)
async def test_a_real_server_serves_and_stops(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "SETTLING", 0.05)
    async with scene(Settings("gateway.yaml", server=server, timeout=1.0)) as one:
        assert (await one.until_said())["ready"]["server"] == server
        port = one.worker._listening.getsockname()[1]
        async with httpx.AsyncClient(trust_env=False, timeout=BOUND) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/a")).status_code == 204
            assert (await client.get(f"http://127.0.0.1:{port}/b")).status_code == 404
        assert "error" not in await one.ask("drain", grace=0.0, limit=0.0)
        assert await one.ask("stop") == {}
        assert await one.ended() == 0
        with pytest.raises(PeerGone):
            await one.ask("ping")


@pytest.mark.parametrize(("server", "renews"), [("granian", False), ("uvicorn", True)])
async def test_a_real_server_with_certificates_renews_them_or_says_that_it_cannot(
    server: str, renews: bool, pair: Pair, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "SETTLING", 0.05)
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    tls = TlsFiles(str(pair.cert), str(pair.key), str(tmp_path / "clients.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    authority.issue_cert("ann@clients.example").configure_cert(context)
    async with scene(Settings("gateway.yaml", server=server, timeout=1.0, tls=tls)) as one:
        await one.until_said()
        port = one.worker._listening.getsockname()[1]
        pair.put(authority)
        assert await one.ask("renew") == ({} if renews else {"error": "OSError: granian reads certificates once"})
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=BOUND) as client:
            assert (await client.get(f"https://127.0.0.1:{port}/a")).status_code == 204
        pair.cert.write_text("nonsense")
        if renews:
            assert "SSL" in (await one.ask("renew"))["error"]
        assert await one.ask("stop") == {}
        assert await one.ended() == 0


# -- what a worker keeps for itself


def test_what_each_worker_has_of_its_own_is_said_once() -> None:
    def spec(kind: str, keeps: str | None) -> Any:
        return SimpleNamespace(kind=kind, keeps=keeps)

    route = SimpleNamespace(policies=[spec("rate_limit", "counters"), spec("authn", "verified tokens")])
    plan: Any = SimpleNamespace(
        config=SimpleNamespace(policies=[spec("rate_limit", "counters"), spec("cors", None)], routes=[route, route])
    )
    assert local_state(plan) == ["authn: verified tokens", "rate_limit: counters"]


# -- the process


def test_the_process_reads_its_orders_and_obeys_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    asked: list[Any] = []

    async def serve(listening: socket.socket, control: socket.socket, orders: Mapping[str, Any]) -> int:
        asked.append((listening.fileno(), control.fileno(), orders["worker"]))
        assert [signal.getsignal(one) for one in before] == [signal.SIG_IGN] * 3
        assert not listening.getblocking()
        listening.close()
        control.close()
        return 5

    orders = {"worker": 3, "settings": Settings("a.yaml").to_json(), "generation": 1, "document": None}
    monkeypatch.setattr(worker_module, "_serve", serve)
    monkeypatch.setattr(worker_module, "set_up", lambda *asked_for: asked.append(asked_for))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(json.dumps(orders).encode())))
    one, other = socket.socketpair()
    with closing(listen_tcp("127.0.0.1", 0, 16)) as listening:
        numbers = listening.dup().detach(), other.detach()
        try:
            assert main(*numbers) == 5
        finally:
            one.close()
            for name, action in before.items():
                signal.signal(name, action)
    assert asked == [("worker-3", "text", "info"), (*numbers, 3)]


async def test_its_orders_make_a_worker(fake: Settings) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with closing(listen_tcp("127.0.0.1", 0, 16)) as listening:
        ours.close()
        orders = {"settings": fake.to_json(), "generation": 1, "document": DOCUMENT}
        assert await asyncio.wait_for(worker_module._serve(listening, theirs, orders), BOUND) == 0


def test_without_uvloop_it_is_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert worker_module._loop_factory() is None
    monkeypatch.setitem(sys.modules, "uvloop", SimpleNamespace(new_event_loop="made"))
    assert worker_module._loop_factory() == "made"
