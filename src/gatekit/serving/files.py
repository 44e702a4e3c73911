"""Development mode: a reload whenever the configuration, or the code of a gateway in Python, changes on disk."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from gatekit.serving.settings import BadSettings, Settings

Reload = Callable[[], Awaitable[Any]]
Watch = Callable[[Reload], Coroutine[Any, Any, None]]
"""Calls a reload for every change, until it is cancelled."""


def watcher(settings: Settings) -> Watch:
    """What watches the target. Raises BadSettings where there is nothing to watch, or nothing to watch with."""
    try:
        import watchfiles  # noqa: F401 - asked for here, so that it is missed before anything has started
    except ImportError:
        raise BadSettings("--dev watches files with watchfiles: pip install 'gatekit-asgi[server]'") from None
    if settings.module is not None:
        return watch_code
    return partial(watch_file, watched(settings.target))


async def watch_code(reload: Reload) -> None:
    """Reload whenever a Python file below this folder changes."""
    from watchfiles import PythonFilter, awatch

    async for _ in awatch(Path.cwd(), watch_filter=PythonFilter(), step=100):
        await reload()


async def watch_file(path: Path, reload: Reload) -> None:
    """Reload whenever the file changes. What is watched is its folder: an editor may put another file in its place."""
    from watchfiles import awatch

    async for changes in awatch(path.parent, recursive=False, watch_filter=None, step=100):
        if any(Path(changed).name == path.name for _, changed in changes):
            await reload()


def watched(target: str) -> Path:
    """The file behind the target. Raises BadSettings where it is none."""
    path = Path(os.path.abspath(target.removeprefix("file://")))
    if not path.is_file():
        raise BadSettings(f"--dev watches a file, and {target} is none")
    return path
