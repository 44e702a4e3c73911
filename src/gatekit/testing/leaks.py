"""What a gateway may have left behind: threads, tasks and sockets of ours that outlive what they were made for."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Iterable
from types import CodeType
from typing import Any

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_KIT = os.path.dirname(os.path.abspath(__file__)) + os.sep


def open_sockets() -> set[tuple[str, str]]:
    """Every socket this process has open: its descriptor and its inode. Empty where there is no /proc."""
    found: set[tuple[str, str]] = set()
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return found
    for name in names:
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add((name, target))
    return found


def threads_of_ours() -> set[threading.Thread]:
    """The threads gatekit started, by their names."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("gatekit")}


def tasks_of_ours(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    """The unfinished tasks of a loop whose code is gatekit's (the test kit's own servers left out)."""
    return [task for task in asyncio.all_tasks(loop) if _is_ours(_code(task))]


def transports_of_ours(descriptors: Iterable[str]) -> list[object]:
    """The open transports over these sockets whose protocol is gatekit's."""
    wanted = {int(name) for name in descriptors}
    found: list[object] = []
    # Looking at every object takes tens of milliseconds, so only when there is something to find. By type, not by
    # isinstance, which would ask proxies of objects that are gone.
    for thing in gc.get_objects() if wanted else ():
        if issubclass(type(thing), asyncio.Transport) and not thing.is_closing():
            sock = thing.get_extra_info("socket")
            protocol = type(thing.get_protocol()).__module__
            if (
                sock is not None
                and sock.fileno() in wanted
                and protocol.startswith("gatekit.")
                and not protocol.startswith("gatekit.testing")
            ):
                found.append(thing)
    return found


def _code(task: asyncio.Task[Any]) -> CodeType | None:
    code = getattr(task.get_coro(), "cr_code", None)
    return code if isinstance(code, CodeType) else None


def _is_ours(code: CodeType | None) -> bool:
    return code is not None and code.co_filename.startswith(_OURS) and not code.co_filename.startswith(_KIT)
