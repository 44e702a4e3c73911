"""The ports of a running process: its clock, its randomness, its locks. Tests bring their own instead."""

from __future__ import annotations

import random
import secrets
import threading
import time

from gatekit.core.events import Events
from gatekit.core.ports import Cells, Ports


class SystemClock:
    """The process's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


class SystemRandom:
    """`random` for spreading load, `token` from the operating system for what nobody may guess."""

    random = staticmethod(random.random)
    token = staticmethod(secrets.token_bytes)


def system_ports(*, events: Events | None = None, cells: Cells | None = None) -> Ports:
    """Ports for production: real time and randomness, in-memory state, locks that threads may contend for."""
    return Ports(clock=SystemClock(), random=SystemRandom(), events=events, cells=cells, lock=threading.Lock)
