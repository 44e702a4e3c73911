"""Development mode: which file is watched, and that a change of it reloads."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from gatekit.serving.files import watched, watcher
from gatekit.serving.settings import BadSettings, Settings

BOUND = 20.0


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_the_file_behind_the_target_is_watched(tmp_path: Path, prefix: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.touch()
    assert watched(f"{prefix}{file}") == file


@pytest.mark.parametrize("target", ["https://config.example/a", "nowhere.yaml", ".", "etcd://127.0.0.1/gateway"])
def test_what_is_no_file_cannot_be_watched(target: str) -> None:
    with pytest.raises(BadSettings, match=r"--dev watches a file, and .+ is none"):
        watched(target)


def test_without_the_library_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(BadSettings, match="watches files with watchfiles"):
        watcher(Settings("gateway.yaml"))


async def watching(monkeypatch: pytest.MonkeyPatch, settings: Settings, *changes: Iterable[str]) -> tuple[Any, int]:
    """What was watched, and how many reloads these changes were."""
    asked: list[Any] = []
    reloads: list[None] = []

    async def awatch(path: Path, **options: Any) -> Any:
        asked.append((path, options.get("recursive", True)))
        for change in changes:
            yield {(watchfiles.Change.modified, name) for name in change}

    async def reload() -> None:
        reloads.append(None)

    monkeypatch.setattr(watchfiles, "awatch", awatch)
    await asyncio.wait_for(watcher(settings)(reload), BOUND)
    return asked, len(reloads)


async def test_only_the_file_itself_reloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.touch()
    changes = [{f"{file}.swp"}, {f"{file}", f"{file}~"}, {str(tmp_path / "other.yaml")}, {str(file)}]
    asked, reloads = await watching(monkeypatch, Settings(str(file)), *changes)
    assert asked == [(tmp_path, False)]
    assert reloads == 2


async def test_a_gateway_in_python_reloads_with_any_code_below(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    asked, reloads = await watching(monkeypatch, Settings("shop:gateway"), {"shop.py"}, {"lib/more.py"})
    assert asked == [(tmp_path, True)]
    assert reloads == 2


@pytest.mark.parametrize("how", ["in place", "replaced"])
async def test_a_change_on_disk_reloads(tmp_path: Path, how: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("a: 0\n")
    reloaded = asyncio.Event()

    async def reload() -> None:
        reloaded.set()

    task = asyncio.create_task(watcher(Settings(str(file)))(reload))
    try:
        for number in range(1, 3):
            reloaded.clear()
            # The watch may not be there yet, and nothing tells when it is: the change is made again until it is seen.
            for _ in range(40):
                if how == "replaced":
                    other = tmp_path / "new"
                    other.write_text(f"a: {number}\n")
                    other.replace(file)
                else:
                    file.write_text(f"a: {number}\n")
                try:
                    await asyncio.wait_for(reloaded.wait(), 0.5)
                    break
                except TimeoutError:
                    assert not task.done()
            assert reloaded.is_set()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
