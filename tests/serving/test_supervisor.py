"""The supervisor over workers that are no processes: who is started, replaced, told and ended, in which order. What it changes is in test_changes."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from tests.serving.fakes import BOUND, GONE, Scene, at_work, pauses, turned

from gatekit.errors import ConfigRefused, Problem
from gatekit.serving.channel import PeerGone
from gatekit.serving.run import on_signals
from gatekit.serving.settings import Settings
from gatekit.serving.supervisor import NotStarted, Supervisor

# -- start


async def test_the_first_worker_serves_before_the_others_are_started(scene: Scene) -> None:
    gate = asyncio.Event()
    scene.staff.plans[1] = {"start": gate}
    supervisor = scene.make(workers=3)
    scene.staff.plans[3] = {"start": (last := asyncio.Event())}
    assert supervisor.ready() == "starting"
    starting = asyncio.create_task(supervisor.start())
    await scene.until(lambda: scene.staff.made, "one is started")
    assert len(scene.staff.made) == 1
    gate.set()
    await scene.until(lambda: len(scene.staff.made) == 3, "the others are started")
    assert supervisor.ready() == "starting"
    last.set()
    await asyncio.wait_for(starting, BOUND)
    assert sorted(supervisor.workers) == [1, 2, 3]
    assert supervisor.ready() is None


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("refused", ConfigRefused, "cannot be"),
        ("failed", NotStarted, "no module named shop"),
        ("silent", NotStarted, "worker 1 did not start; its log says why"),
        (OSError("no more processes"), OSError, "no more processes"),
    ],
    ids=["refused", "failed", "silent", "not even begun"],
)
async def test_a_worker_that_does_not_start_ends_the_start(
    scene: Scene, how: Any, error: type[Exception], said: str
) -> None:
    scene.staff.plans[1] = {"start": how}
    supervisor = scene.make(workers=2)
    with pytest.raises(error, match=said):
        await asyncio.wait_for(supervisor.start(), BOUND)
    assert len(scene.staff.made) == 1
    assert scene.staff.made[0].gone


async def test_what_a_gateway_in_python_refuses_is_said_without_a_line(scene: Scene) -> None:
    scene.staff.plans[1] = {"start": "refused"}
    with pytest.raises(ConfigRefused) as refused:
        await asyncio.wait_for(scene.make("shop:gateway").start(), BOUND)
    assert refused.value.problems == (Problem("routes[0]", "cannot be"),)


async def test_one_of_several_that_does_not_start_takes_the_others_with_it(scene: Scene) -> None:
    scene.staff.plans[3] = {"start": "failed"}
    supervisor = scene.make(workers=3)
    with pytest.raises(NotStarted):
        await asyncio.wait_for(supervisor.start(), BOUND)
    assert all(worker.gone for worker in scene.staff.made)


async def test_a_configuration_that_cannot_be_starts_nobody(scene: Scene) -> None:
    scene.next = ConfigRefused([Problem("routes", "no")])
    with pytest.raises(ConfigRefused):
        await asyncio.wait_for(scene.make().start(), BOUND)
    assert scene.staff.made == []


# -- deaths


async def test_a_worker_that_dies_is_replaced_at_once(scene: Scene) -> None:
    scene.staff.plans[1] = {"lived": 3600.0}
    supervisor = await scene.started(2)
    scene.staff.made[0].dies(-11)
    await scene.until(lambda: supervisor.restarts == 1, "it is replaced")
    assert supervisor.pauses == []
    assert at_work(supervisor) == {scene.staff.made[1], scene.staff.made[2]}
    assert supervisor.ready() is None


async def test_workers_that_die_at_once_are_started_more_and_more_slowly(scene: Scene) -> None:
    supervisor = await scene.started()
    supervisor.go_on.release()  # The pings have their own pause.
    for number in range(8):
        scene.staff.made[number].dies(1)
        if number:
            await scene.until(lambda wanted=number: len(pauses(supervisor)) == wanted, "it pauses")  # type: ignore[misc]
            assert len(scene.staff.made) == number + 1, "nobody is started before the pause is over"
            supervisor.go_on.release()
            supervisor.go_on.release()
        await scene.until(lambda wanted=number: supervisor.restarts == wanted + 1, "it is replaced")  # type: ignore[misc]
    assert pauses(supervisor) == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


async def test_a_long_life_ends_the_slowness(scene: Scene) -> None:
    scene.staff.plans[2] = {"lived": 11.0}
    supervisor = await scene.started()
    scene.staff.made[0].dies(1)
    await scene.until(lambda: supervisor.restarts == 1, "it is replaced")
    for number in (1, 2):
        scene.staff.made[number].dies(1)
        await scene.until(lambda wanted=number: supervisor.restarts == wanted + 1, "it is replaced")  # type: ignore[misc]
    assert pauses(supervisor) == []


async def test_a_successor_that_does_not_start_is_tried_again(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    for number in (2, 3):
        scene.staff.plans[number] = {"start": "failed"}
    supervisor = await scene.started()
    scene.staff.made[0].dies(1)
    for count in (1, 2):
        await scene.until(lambda wanted=count: len(pauses(supervisor)) == wanted, "it pauses")  # type: ignore[misc]
        assert supervisor.ready() == "no worker serves"
        supervisor.go_on.release()
        supervisor.go_on.release()
    await scene.until(lambda: supervisor.restarts == 1, "it is replaced")
    assert pauses(supervisor) == [2.0, 4.0]
    assert supervisor.ready() is None
    assert caplog.text.count("worker 1 cannot be started again: no module named shop") == 2


async def test_nobody_is_started_again_for_a_drain(scene: Scene) -> None:
    scene.staff.plans[2] = {"start": "failed"}
    supervisor = await scene.started()
    scene.staff.made[0].dies(1)
    await scene.until(lambda: pauses(supervisor) == [2.0], "it pauses")
    await asyncio.wait_for(supervisor.drain(), BOUND)
    for _ in range(2):
        supervisor.go_on.release()
    for _ in range(20):
        await turned()
    assert len(scene.staff.made) == 2


async def test_who_does_not_answer_a_ping_is_ended_and_replaced(scene: Scene) -> None:
    scene.staff.plans[1] = {"ping": PeerGone("no answer"), "lived": 60.0}
    supervisor = await scene.started(2)
    supervisor.go_on.release()
    await scene.until(lambda: supervisor.restarts == 1, "it is replaced")
    assert scene.staff.told("kill") == [1]
    assert sorted(scene.staff.told("ping")) == [1, 2]


# -- the end


async def test_a_drain_adds_up_and_is_joined(scene: Scene) -> None:
    scene.staff.plans[1] = {"drain": {"cut": 2, "ended": 1}}
    scene.staff.plans[2] = {"drain": {"cut": 1, "ended": 4}}
    scene.staff.plans[3] = {"drain": GONE}
    supervisor = await scene.started(3)
    both = await asyncio.wait_for(asyncio.gather(supervisor.drain(), supervisor.drain()), BOUND)
    assert list(both) == [{"drained": True, "cut": 3, "ended": 5}] * 2
    assert sorted(scene.staff.told("drain")) == [1, 2, 3]
    assert supervisor.ready() == "draining"
    assert (await scene.reload())["refused"] == ["draining: nothing is changed any more"]
    assert (await supervisor.status())["draining"] is True


async def test_whoever_asks_twice_ends_the_drain(scene: Scene) -> None:
    gate = asyncio.Event()
    scene.staff.plans[1] = {"drain": gate}
    supervisor = await scene.started()
    draining = asyncio.create_task(supervisor.drain())
    await scene.until(lambda: scene.staff.told("drain"), "it is told to drain")
    supervisor.hurry()
    await scene.until(lambda: len(scene.staff.told("drain")) == 2, "it is told to make haste")
    gate.set()
    assert (await asyncio.wait_for(draining, BOUND))["drained"] is True


async def test_who_waits_for_a_drain_may_leave(scene: Scene) -> None:
    gate = asyncio.Event()
    scene.staff.plans[1] = {"drain": gate}
    supervisor = await scene.started()
    waiting = asyncio.create_task(supervisor.drain())
    await scene.until(lambda: scene.staff.told("drain"), "it is told to drain")
    waiting.cancel()
    gate.set()
    assert (await asyncio.wait_for(supervisor.drain(), BOUND))["drained"] is True


async def test_a_worker_that_dies_while_draining_is_not_replaced(scene: Scene) -> None:
    supervisor = await scene.started(2)
    await asyncio.wait_for(supervisor.drain(), BOUND)
    scene.staff.made[0].dies(-9)
    await asyncio.wait_for(supervisor.stop(), BOUND)
    assert len(scene.staff.made) == 2


async def test_a_worker_that_does_not_answer_is_told_as_such(scene: Scene) -> None:
    scene.staff.plans[1] = {"status": {"generation": 1}}
    scene.staff.plans[2] = {"status": GONE}
    supervisor = await scene.started(2)
    assert (await supervisor.status())["workers"] == [
        {"worker": 1, "pid": 1001, "ready": True, "generation": 1},
        {"worker": 2, "pid": 1002, "ready": False, "error": "the other process is gone"},
    ]


# -- pauses and signals


async def test_a_pause_ends_by_itself_or_when_somebody_hurries() -> None:
    nowhere: Any = None
    supervisor = Supervisor(Settings("gateway.yaml"), nowhere)
    await asyncio.wait_for(supervisor._pause(0.0), BOUND)
    supervisor.hurry()
    await asyncio.wait_for(supervisor._pause(3600.0), BOUND)


class Asked:
    """What the signals ask of a supervisor."""

    def __init__(self) -> None:
        self.hurried = 0
        self.reloaded = asyncio.Event()

    def hurry(self) -> None:
        self.hurried += 1

    async def reload(self) -> None:
        self.reloaded.set()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_signals_reload_stop_and_hurry(stop: signal.Signals) -> None:
    loop = asyncio.get_running_loop()
    asked: Any = Asked()
    told = on_signals(asked, loop)
    try:
        signal.raise_signal(signal.SIGHUP)
        await asyncio.wait_for(asked.reloaded.wait(), BOUND)
        assert not told.is_set()
        signal.raise_signal(stop)
        await asyncio.wait_for(told.wait(), BOUND)
        assert asked.hurried == 0
        signal.raise_signal(stop)
        while not asked.hurried:
            await asyncio.wait_for(turned(), BOUND)
    finally:
        for one in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(one)
