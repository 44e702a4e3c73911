"""Development mode: a reload whenever the configuration, or the code of a gateway in Python, changes on disk."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gatekit.serving.settings import BadSettings, Settings


async def watch_target(settings: Settings, reload: Callable[[], Awaitable[Any]]) -> None:
    """Watch until cancelled. Raises BadSettings where there is nothing to watch, or nothing to watch with."""
    try:
        from watchfiles import PythonFilter, awatch
    except ImportError:
        raise BadSettings("--dev watches files with watchfiles: pip install 'gatekit-asgi[server]'") from None
    if settings.module is not None:
        async for _ in awatch(Path.cwd(), watch_filter=PythonFilter(), step=100):
            await reload()
        return
    path = watched(settings.target)
    # The directory: an editor that replaces the file would leave us watching the old one.
    async for changes in awatch(path.parent, recursive=False, watch_filter=None, step=100):
        if any(Path(changed).name == path.name for _, changed in changes):
            await reload()


def watched(target: str) -> Path:
    """The file behind the target. Raises BadSettings where it is none."""
    path = Path(os.path.abspath(target.removeprefix("file://")))
    if not path.is_file():
        raise BadSettings(f"--dev watches a file, and {target} is none")
    return path
