"""What a supervisor changes: a configuration, workers or certificates, for all of its workers or for none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.serving.fakes import BOUND, GONE, Scene, Source, at_work, turned

from gatekit.errors import ConfigRefused, Problem
from gatekit.serving import supervisor as supervisor_module
from gatekit.serving.settings import TlsFiles

REFUSED = {"problems": [{"path": "routes[0]", "message": "cannot be", "severity": "error"}]}


# -- a new configuration


async def test_all_prepare_before_any_puts_it_in_force(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    supervisor = await scene.started(3)
    scene.next = Source("r2", ["gateway.yaml:3: mind this"])
    assert await scene.reload() == {"generation": 2, "revision": "r2", "workers": 3}
    told = [entry.partition(".")[2] for entry in scene.staff.log]
    assert told == ["prepare"] * 3 + ["activate"] * 3
    assert (supervisor.generation, (await supervisor.status())["revision"]) == (2, "r2")
    assert "mind this" in caplog.text


async def test_when_one_refuses_nobody_changes(scene: Scene) -> None:
    scene.staff.plans[2] = {"prepare": REFUSED}
    supervisor = await scene.started(3)
    scene.next = Source("r2")
    refused = await scene.reload()
    assert refused["generation"] == 1
    assert "cannot be" in refused["refused"][0]
    assert scene.staff.told("activate") == []
    assert sorted(scene.staff.told("discard")) == [1, 2, 3]
    assert scene.staff.told("kill") == []
    status = await supervisor.status()
    assert (status["generation"], status["revision"], status["pending"]) == (1, "r1", None)
    assert status["refused"] == {"at": 1_700_000_000.0, "problems": refused["refused"]}


async def test_when_one_breaks_nobody_changes(scene: Scene) -> None:
    scene.staff.plans[1] = {"prepare": {"error": "MemoryError: "}}
    supervisor = await scene.started(2)
    assert (await scene.reload())["refused"] == ["MemoryError: "]
    assert scene.staff.told("activate") == []
    assert supervisor.generation == 1


async def test_who_is_gone_while_it_is_tried_is_replaced_and_the_others_go_on(scene: Scene) -> None:
    scene.staff.plans[1] = {"prepare": GONE, "lived": 60.0}
    supervisor = await scene.started(2)
    assert (await scene.reload())["generation"] == 2
    await scene.until(lambda: supervisor.restarts == 1, "it is replaced")
    assert supervisor.workers[1].ready == {"generation": 2}, "its successor begins with what is in force"


async def test_when_all_are_gone_nothing_is_in_force_that_nobody_tried(scene: Scene) -> None:
    scene.staff.plans[1] = {"prepare": GONE, "lived": 60.0}
    supervisor = await scene.started()
    assert (await scene.reload())["refused"] == ["no worker could try it"]
    assert supervisor.generation == 1


@pytest.mark.parametrize("answer", [GONE, {"error": "nothing was prepared"}], ids=["gone", "error"])
async def test_who_does_not_put_it_in_force_is_replaced(scene: Scene, answer: Any) -> None:
    scene.staff.plans[2] = {"activate": answer, "lived": 60.0}
    supervisor = await scene.started(2)
    assert (await scene.reload())["generation"] == 2
    await scene.until(lambda: supervisor.restarts == 1, "it is replaced")
    assert scene.staff.told("kill") == [2]
    assert supervisor.workers[2].ready == {"generation": 2}


async def test_what_cannot_be_read_changes_nothing_until_it_can(scene: Scene) -> None:
    supervisor = await scene.started()
    scene.next = ConfigRefused([Problem("", "no such file", source="gateway.yaml")])
    assert (await scene.reload())["refused"] == [str(scene.next.problems[0])]
    scene.next = OSError("the disk is gone")
    assert (await scene.reload())["refused"] == ["the disk is gone"]
    assert scene.staff.log == []
    scene.next = Source("r3")
    assert (await scene.reload())["generation"] == 2
    assert (await supervisor.status())["refused"] is None


async def test_reloads_come_one_after_the_other(scene: Scene) -> None:
    gate = asyncio.Event()
    scene.staff.plans[1] = {"prepare": gate}
    supervisor = await scene.started()
    first, second = (asyncio.create_task(supervisor.reload()) for _ in range(2))
    await scene.until(lambda: scene.staff.told("prepare"), "the first is tried")
    assert (await supervisor.status())["pending"] == {"generation": 2, "revision": "r1"}
    gate.set()
    answers = await asyncio.wait_for(asyncio.gather(first, second), BOUND)
    assert [answer["generation"] for answer in answers] == [2, 3]


# -- a gateway in Python: other workers


async def test_a_gateway_in_python_is_loaded_by_new_workers_before_the_old_ones_leave(scene: Scene) -> None:
    supervisor = await scene.started(2, "shop:gateway")
    assert await scene.reload() == {"replaced": 2, "workers": 2}
    await scene.until(lambda: scene.staff.told("end") == [1, 2], "the old ones end")
    log = scene.staff.log
    assert log.index("4.start") < log.index("1.drain") < log.index("1.end")
    assert at_work(supervisor) == set(scene.staff.made[2:])
    assert supervisor.restarts == 0


async def test_when_a_new_one_does_not_start_the_old_ones_stay(scene: Scene) -> None:
    scene.staff.plans[4] = {"start": "failed"}
    supervisor = await scene.started(2, "shop:gateway")
    assert (await scene.reload())["refused"] == ["no module named shop"]
    assert at_work(supervisor) == set(scene.staff.made[:2])
    assert scene.staff.told("drain") == []
    assert not any(worker.leaving for worker in scene.staff.made[:2])
    assert scene.staff.made[2].gone


async def test_one_that_dies_while_it_is_being_replaced_leaves_no_third(scene: Scene) -> None:
    gate = asyncio.Event()
    scene.staff.plans[2] = {"start": gate}
    supervisor = await scene.started(1, "shop:gateway")
    reloading = asyncio.create_task(supervisor.reload())
    await scene.until(lambda: len(scene.staff.made) == 2, "its successor starts")
    scene.staff.made[0].dies(1)
    gate.set()
    await asyncio.wait_for(reloading, BOUND)
    await scene.until(lambda: at_work(supervisor) == {scene.staff.made[1]}, "the successor serves")
    for _ in range(50):
        await turned()
    assert len(scene.staff.made) == 2


# -- certificates


class Certificates:
    """Files that are as the test says."""

    changed: str | None = None
    broken: OSError | None = None

    def __init__(self, files: TlsFiles) -> None:
        pass

    def check(self) -> None:
        if self.broken is not None:
            raise self.broken

    def change(self) -> str | None:
        return self.changed

    def taken(self) -> None:
        type(self).changed = None


@pytest.fixture
def certificates(monkeypatch: pytest.MonkeyPatch) -> type[Certificates]:
    own = type("Own", (Certificates,), {})
    monkeypatch.setattr(supervisor_module, "Certificates", own)
    return own


TLS: dict[str, Any] = {"tls": TlsFiles("cert.pem", "key.pem")}


async def test_unchanged_files_are_nobodys_business(scene: Scene, certificates: type[Certificates]) -> None:
    await scene.started(2, **TLS)
    assert (await scene.reload())["generation"] == 2
    assert scene.staff.told("renew") == []


async def test_renewed_files_are_taken_in_place(scene: Scene, certificates: type[Certificates]) -> None:
    supervisor = await scene.started(2, **TLS)
    certificates.changed = "certificate"
    await scene.reload()
    assert sorted(scene.staff.told("renew")) == [1, 2]
    assert at_work(supervisor) == set(scene.staff.made)


@pytest.mark.parametrize("change", ["certificate", "authorities"])
async def test_where_they_cannot_be_taken_in_place_the_workers_are_replaced(
    scene: Scene, certificates: type[Certificates], change: str
) -> None:
    for number in (1, 2):
        scene.staff.plans[number] = {"renew": {"error": "OSError: reads certificates once"}}
    supervisor = await scene.started(2, **TLS)
    certificates.changed = change
    await scene.reload()
    assert at_work(supervisor) == set(scene.staff.made[2:])
    assert sorted(scene.staff.told("renew")) == ([] if change == "authorities" else [1, 2])


async def test_a_renewal_that_failed_is_tried_again(scene: Scene, certificates: type[Certificates]) -> None:
    supervisor = await scene.started(**TLS)
    (old,) = scene.staff.made
    certificates.changed = "authorities"
    scene.staff.plans[2] = {"start": "failed"}
    (refused,) = (await scene.reload())["refused"]
    assert refused.startswith("the renewed certificate is not in use, what else is new is: ")
    assert (supervisor.generation, at_work(supervisor)) == (2, {old})
    assert (await scene.reload())["generation"] == 3
    assert at_work(supervisor) == {scene.staff.made[2]}


async def test_files_that_cannot_be_used_change_nothing(scene: Scene, certificates: type[Certificates]) -> None:
    supervisor = await scene.started(**TLS)
    certificates.broken = OSError("no such file")
    refused = await scene.reload()
    assert refused["refused"] == ["the certificate files cannot be used, those in use stay: no such file"]
    assert scene.staff.log == []
    assert supervisor.generation == 1
