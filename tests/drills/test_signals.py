"""What `gatekit run` does when it is told to stop, in every way in which that comes, and when it cannot start."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.processes import Instance, Place

from .backend import LONG
from .load import pause, until
from .single import CONFIG, HERE, single

pytestmark = pytest.mark.servers

NOBODY = CONFIG.format(mark="a", url="http://127.0.0.1:9")


@pytest.fixture(params=["granian", "uvicorn"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def to_all(instance: Instance, number: signal.Signals) -> None:
    """What systemd does: every process of the unit gets the signal."""
    for pid in [instance.pid, *instance.workers()]:
        os.kill(pid, number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_every_process_drains(server: str, number: signal.Signals, tmp_path: Path) -> None:
    async with single(server, tmp_path, "--workers", "2", "--grace", "0.5", "--timeout", "10") as scene:
        short = scene.load(200).start()
        long = scene.load(10, path="/long", expected=LONG).start()
        await pause(1.0)
        to_all(scene.instance, number)
        await pause(0.3)
        # Within the grace, all goes on.
        await short.stop()
        await long.stop()
        assert (short.tally.whole, short.tally.lost) == (True, []), short.tally.told()
        assert (long.tally.whole, long.tally.lost) == (True, []), long.tally.told()
        assert await asyncio.to_thread(scene.instance.process.wait, 10) == 0
        assert scene.instance.left() == []
        assert "Traceback" not in scene.instance.tail()


async def test_readiness_fails_at_once_and_liveness_does_not(server: str, tmp_path: Path) -> None:
    async with single(server, tmp_path, "--grace", "1") as scene:
        load = scene.load(100).start()
        scene.instance.tell(signal.SIGTERM)
        assert await until(0.5, lambda: scene.instance.asked("GET", "/ready")[0] == 503)
        assert scene.instance.asked("GET", "/live")[0] == 200
        await pause(0.5)
        await load.stop()
        assert (load.tally.whole, load.tally.lost) == (True, []), load.tally.told()
        # The longer it drains, the more responses close their connections.
        assert 0 < load.tally.closing < load.tally.sent
        assert await asyncio.to_thread(scene.instance.process.wait, 10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(server: str, number: signal.Signals, tmp_path: Path) -> None:
    async with single(server, tmp_path, "--workers", "2", "--grace", "30", "--timeout", "30") as scene:
        late = scene.load(10, path="/late").start()
        await pause(0.5)
        loop = asyncio.get_running_loop()
        scene.instance.tell(number)
        assert await until(5, lambda: not scene.instance.ready())
        began = loop.time()
        scene.instance.tell(number)
        late.hold()
        assert await asyncio.to_thread(scene.instance.process.wait, 10) == 0
        assert loop.time() - began < 5
        assert scene.instance.left() == []
        await late.stop(patience=5)
        # What had not begun is told so.
        assert late.tally.statuses[503] > 0


@pytest.mark.parametrize("worker", [False, True], ids=["no worker yet", "a worker that starts"])
async def test_a_signal_before_it_is_ready_ends_it(server: str, worker: bool, tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(NOBODY)
    instance = Instance(str(config), tmp_path, Place.free(), "--workers", "2", server=server)
    try:
        assert await until(10, lambda: _handles(instance.pid, signal.SIGTERM))
        if worker:
            assert await until(10, instance.workers)
        assert not instance.ready()
        instance.tell(signal.SIGTERM)
        assert await asyncio.to_thread(instance.process.wait, 10) == 0, instance.tail()
        assert instance.left() == []
        assert "Traceback" not in instance.tail()
    finally:
        instance.stop()


def _handles(pid: int, number: signal.Signals) -> bool:
    """Whether that process takes this signal itself."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


def broken_certificate(folder: Path, place: Place) -> list[str]:
    (folder / "cert.pem").write_text("no certificate\n")
    return ["--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "cert.pem")]


def missing_certificate(folder: Path, place: Place) -> list[str]:
    return ["--tls-cert", str(folder / "none.pem"), "--tls-key", str(folder / "none.pem")]


def short_token(folder: Path, place: Place) -> list[str]:
    (folder / "token").write_text("short")
    return ["--admin-token-file", str(folder / "token")]


def unknown_server(folder: Path, place: Place) -> list[str]:
    return ["--server", "apache"]


CANNOT: list[tuple[Callable[[Path, Place], list[str]] | None, str, str]] = [
    (None, NOBODY, "cannot listen on 127.0.0.1 port"),
    (broken_certificate, NOBODY, "gatekit run: "),
    (missing_certificate, NOBODY, "gatekit run: "),
    (short_token, NOBODY, "16 characters"),
    (unknown_server, NOBODY, "there is no server 'apache'"),
    (None, "routes: [{match: /*, to: nowhere}]\n", "gateway.yaml:1: routes[0].to: there is no cluster 'nowhere'"),
    (None, "routes: [\n", "gateway.yaml"),
]
"""Options, configuration, and what the sentence says. The first finds its port in use."""


@pytest.mark.parametrize(
    ("options", "text", "sentence"),
    CANNOT,
    ids=["port", "broken certificate", "no certificate", "token", "server", "refused", "no YAML"],
)
def test_what_cannot_start_says_why_and_leaves_nothing(
    options: Callable[[Path, Place], list[str]] | None, text: str, sentence: str, server: str, tmp_path: Path
) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(text)
    place = Place.free()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", place.port))
        if sentence.startswith("cannot listen"):
            taken.listen()
        else:
            taken.close()
        instance = Instance(
            str(config), tmp_path, place, "--workers", "2", *(options(tmp_path, place) if options else ()),
            server=server,
        )  # fmt: skip
        try:
            assert instance.process.wait(20) == 1, instance.tail()
            assert sentence in instance.tail()
            assert "Traceback" not in instance.tail()
            assert instance.left() == []
        finally:
            instance.stop()


@pytest.mark.parametrize(
    ("target", "sentence"),
    [("target:none", "none"), ("nothing_like_it:gateway", "nothing_like_it"), ("target:blocked", "missing")],
    ids=["attribute", "module", "another thing"],
)
def test_a_gateway_in_python_that_is_none(target: str, sentence: str, server: str, tmp_path: Path) -> None:
    instance = Instance(
        target, tmp_path, Place.free(), server=server, cwd=HERE, env={"DRILL_BACKEND": "http://127.0.0.1:9"}
    )
    try:
        assert instance.process.wait(20) == 1, instance.tail()
        assert sentence in instance.tail()
        assert "Traceback" not in instance.tail()
    finally:
        instance.stop()
