"""Reload in its parts: what is prepared, what is put in force, in which order, and what is let go afterwards."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from gatekit import (
    ConfigApplied,
    ConfigRefused,
    ConfigRejected,
    Event,
    Gateway,
    GatewayStarted,
    Placement,
    Ports,
    RateLimit,
    Route,
    Spec,
    Stage,
)
from gatekit.config.cluster import Cluster
from gatekit.testing import ManualClock, call, test_ports, websocket


async def answering(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def config(path: str) -> dict[str, Any]:
    return {"routes": [Route(path, to="app")], "clusters": {"app": Cluster(app=answering)}}


def made(path: str = "/a") -> tuple[Gateway, list[Event]]:
    gateway = Gateway(**config(path), ports=test_ports())
    heard: list[Event] = []
    for kind in (ConfigApplied, ConfigRejected):
        gateway.events.subscribe(kind, heard.append)
    return gateway, heard


async def test_what_is_prepared_is_not_in_force_until_it_is_activated() -> None:
    gateway, heard = made()
    prepared = gateway.prepare(config("/b"))
    assert (prepared.generation, gateway.generation) == (2, 1)
    assert (await call(gateway, "GET", "/b")).status == 404
    assert heard == []
    gateway.activate(prepared)
    assert (await call(gateway, "GET", "/b")).status == 200
    assert (await call(gateway, "GET", "/a")).status == 404
    assert heard == [ConfigApplied(2, prepared.digest)]


async def test_an_older_configuration_never_comes_back_by_itself() -> None:
    gateway, _ = made()
    first, second = gateway.prepare(config("/b")), gateway.prepare(config("/c"))
    gateway.activate(second)
    for late in (first, second):
        with pytest.raises(ConfigRefused, match="is not newer than 3"):
            gateway.activate(late)
    assert gateway.plan is second


async def test_numbers_may_be_given_and_go_on_from_there() -> None:
    gateway = Gateway(**config("/a"), generation=7)
    assert gateway.generation == 7
    assert gateway.prepare(config("/b"), generation=12).generation == 12
    assert gateway.apply(config("/c")).generation == 13


async def test_what_is_refused_while_it_is_prepared_is_told_and_changes_nothing() -> None:
    gateway, heard = made()
    with pytest.raises(ConfigRefused):
        gateway.prepare({"routes": [{"match": "/a", "to": "nowhere"}]})
    (event,) = heard
    assert isinstance(event, ConfigRejected)
    assert event.generation == gateway.generation == 1
    assert (await call(gateway, "GET", "/a")).status == 200


async def test_the_state_of_a_prepared_configuration_is_kept_until_it_is_dropped() -> None:
    """Another one may be put in force while it waits."""
    clock = ManualClock()
    gateway = Gateway(**config("/a"), ports=(ports := test_ports(clock=clock)))
    limited = {**config("/a"), "policies": [RateLimit("1/minute")]}
    prepared = gateway.prepare(limited, generation=9)
    gateway.activate(gateway.prepare(config("/b"), generation=5))
    assert len(ports.cells) == 1
    gateway.activate(prepared)
    assert [(await call(gateway, "GET", "/a")).status for _ in range(2)] == [200, 429]


class Meanwhile(Spec):
    """Does something while the configuration it stands in is compiled."""

    kind = "meanwhile"
    does: Any

    def placement(self) -> Placement:
        return Placement(Stage.OBSERVE)

    def bind_to(self, ports: Ports) -> Meanwhile:
        ports.cell("made first", dict)
        self.does()
        return self


async def test_the_state_of_what_is_being_compiled_is_kept() -> None:
    gateway = Gateway(**config("/a"), ports=(ports := test_ports()))
    other = gateway.prepare(config("/b"))
    compiled = gateway.prepare({**config("/c"), "policies": [Meanwhile(does=lambda: gateway.activate(other))]})
    assert gateway.plan is other
    gateway.tidy()
    assert compiled.used
    assert all(key in ports.cells for key in compiled.used)
    gateway.activate(compiled)
    gateway.tidy()
    assert all(key in ports.cells for key in compiled.used)


async def test_what_is_discarded_leaves_nothing() -> None:
    gateway = Gateway(**config("/a"), ports=(ports := test_ports()))
    prepared = gateway.prepare({**config("/b"), "policies": [RateLimit("1/minute")]})
    held = weakref.ref(prepared)
    gateway.discard(prepared)
    del prepared
    await turns()
    assert held() is None
    gateway.tidy()
    assert len(ports.cells) == 0
    assert gateway.generation == 1


async def test_a_reload_compiles_in_another_thread() -> None:
    gateway, _ = made()
    threads: list[threading.Thread] = []

    class Noting(dict[str, Any]):
        def items(self) -> Any:
            threads.append(threading.current_thread())
            return super().items()

    snapshot = await gateway.reload(Noting(config("/b")))
    assert gateway.plan is snapshot
    assert threads
    assert threading.main_thread() not in threads


async def test_reloads_at_once_leave_the_newest_in_force() -> None:
    gateway, heard = made()
    done = await asyncio.gather(*(gateway.reload(config(f"/{n}")) for n in range(8)), return_exceptions=True)
    assert gateway.generation == 9
    assert all(isinstance(one, ConfigRefused) or one.generation <= 9 for one in done)  # type: ignore[union-attr]
    assert [event.generation for event in heard if isinstance(event, ConfigApplied)] == sorted(
        {one.generation for one in done if not isinstance(one, BaseException)}
    )


async def test_a_websocket_goes_on_over_reloads_and_holds_no_old_generation() -> None:
    gateway, _ = made("/ws")
    first = weakref.ref(gateway.plan)
    async with websocket(gateway, "/ws") as session:
        await session.send("before")
        assert await session.receive() == "before"
        for number in range(3):
            gateway.apply(config(f"/{number}"))
        await turns()
        assert first() is None
        await session.send("after")
        assert await session.receive() == "after"


async def turns() -> None:
    """Let what is due be done."""
    gc.collect()
    for _ in range(3):
        turned = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turned.set_result, None)
        await turned


@pytest.mark.parametrize("behind", [None, answering], ids=["nothing behind", "an app that knows no lifespan"])
async def test_it_says_when_it_has_started(behind: Any) -> None:
    gateway = Gateway(**config("/a"), app=behind, ports=test_ports())
    heard: list[Event] = []
    gateway.events.subscribe(GatewayStarted, heard.append)
    asked: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    said: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    running = asyncio.create_task(gateway({"type": "lifespan"}, asked.get, said.put))
    await asked.put({"type": "lifespan.startup"})
    assert (await said.get())["type"] == "lifespan.startup.complete"
    await turns()
    assert heard == [GatewayStarted(1)]
    await asked.put({"type": "lifespan.shutdown"})
    assert (await said.get())["type"] == "lifespan.shutdown.complete"
    await running
